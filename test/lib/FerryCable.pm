# FerryCable: a network cable in user space between a node and a server.
#
#	my $cable = FerryCable->new($server);	a TCP port that leads to its socket
#	$cable->dsn('postgres')					how to connect through it
#	$cable->freeze; $cable->thaw;			nothing moves, no connection breaks
#	$cable->cut; $cable->mend;				connections break, new ones are refused
#	$cable->cut_after($n)					every connection breaks after about n bytes
#	FerryCable->new($server, rate => $n)	at most about n bytes a second in all
package FerryCable;
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;

sub new
{
	my ($class, $server, %o) = @_;
	my $listener = IO::Socket::INET->new(Listen => 16, LocalAddr => '127.0.0.1', ReuseAddr => 1)
	  or die "could not listen: $!";
	my $self = bless { port => $listener->sockport, server => $server, budget => $o{cut_after}, rate => $o{rate} }, $class;
	$self->_start($listener);
	return $self;
}

sub dsn { my ($self, $db) = @_; return "host=127.0.0.1 port=$self->{port} dbname=$db"; }

sub _start
{
	my ($self, $listener) = @_;
	my $path = $self->{server}->host . '/.s.PGSQL.' . $self->{server}->port;
	my $pid = fork // die "could not fork: $!";
	if ($pid == 0)
	{
		$SIG{TERM} = 'DEFAULT';
		eval { _carry($listener, $path, $self->{budget}, $self->{rate}) };
		require POSIX;
		POSIX::_exit(0);
	}
	close $listener;
	$self->{pid} = $pid;
	return;
}

# the process that is the cable
sub _carry
{
	my ($listener, $path, $budget, $rate) = @_;
	my $select = IO::Select->new($listener);
	my (%other, %left);
	while (1)
	{
		for my $s ($select->can_read)
		{
			if ($s == $listener)
			{
				my $near = $listener->accept or next;
				my $far = IO::Socket::UNIX->new(Peer => $path);
				if (!$far) { close $near; next; }
				@other{ $near, $far } = ($far, $near);
				$left{$near} = $left{$far} = defined $budget ? int(rand(2 * $budget)) : 1e18;
				$select->add($near, $far);
				next;
			}
			my $o = $other{$s} or next;
			my $n = sysread($s, my $data, 16384);
			if ($n) { $left{$s} -= $n; }
			select(undef, undef, undef, $n / $rate) if $n && $rate;
			if (!$n || $left{$s} < 0 || !_write_all($o, $data))
			{
				$select->remove($s, $o);
				delete @other{ $s, $o };
				close $_ for $s, $o;
			}
		}
	}
}

sub _write_all
{
	my ($socket, $data) = @_;
	local $SIG{PIPE} = 'IGNORE';
	while (length $data)
	{
		my $n = syswrite($socket, $data) // return 0;
		substr($data, 0, $n) = '';
	}
	return 1;
}

sub freeze { my ($self) = @_; kill 'STOP', $self->{pid}; return; }
sub thaw { my ($self) = @_; kill 'CONT', $self->{pid}; return; }

sub cut
{
	my ($self) = @_;
	return if !$self->{pid};
	kill 'KILL', $self->{pid};
	waitpid $self->{pid}, 0;
	$self->{pid} = undef;
	return;
}

sub mend
{
	my ($self) = @_;
	my $listener = IO::Socket::INET->new(Listen => 16, LocalAddr => '127.0.0.1', LocalPort => $self->{port}, ReuseAddr => 1)
	  or die "could not listen again: $!";
	$self->_start($listener);
	return;
}

sub cut_after
{
	my ($self, $bytes) = @_;
	$self->cut;
	$self->{budget} = $bytes;
	$self->mend;
	return;
}

sub DESTROY { my ($self) = @_; local ($?, $!); $self->cut; return; }

1;
