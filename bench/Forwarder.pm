# Forwarder: a socket before a server's socket, that counts what goes through.
package Forwarder;
use strict;
use warnings;
use IO::Socket::UNIX;
use IO::Select;
use POSIX ();

# listens as a server of that port in dir, forwards to the socket given
sub new
{
	my ($class, $dir, $port, $to) = @_;
	my $self = bless { dir => $dir, port => $port, counter => "$dir/counted" }, $class;
	mkdir $dir;
	my $listen = IO::Socket::UNIX->new(Type => SOCK_STREAM(), Local => "$dir/.s.PGSQL.$port", Listen => 16) or die "$dir: $!";
	$self->{pid} = fork // die;
	return $self if $self->{pid};
	$SIG{TERM} = sub { POSIX::_exit(0) };
	eval { _serve($listen, $to, $self->{counter}) };
	warn $@ if $@;
	POSIX::_exit(0);
}

# bytes that the server has sent through us until now
sub sent
{
	my ($self) = @_;
	open my $f, '<', $self->{counter} or return 0;
	return 0 + (<$f> // 0);
}

sub stop { my ($self) = @_; kill 'TERM', $self->{pid}; waitpid $self->{pid}, 0; return; }

sub _serve
{
	my ($listen, $to, $counter) = @_;
	my $select = IO::Select->new($listen);
	my (%other, %is_server);
	my ($sent, $told) = (0, -1);
	while (1)
	{
		my @ready = $select->can_read(0.05);
		if (!@ready && $sent != $told)
		{
			open my $f, '>', "$counter.new" or die;
			print $f $sent;
			close $f;
			rename "$counter.new", $counter;
			$told = $sent;
		}
		for my $socket (@ready)
		{
			if ($socket == $listen)
			{
				my $client = $listen->accept or next;
				my $server = IO::Socket::UNIX->new(Type => SOCK_STREAM(), Peer => $to) or do { close $client; next };
				@other{ $client, $server } = ($server, $client);
				$is_server{$server} = 1;
				$select->add($client, $server);
				next;
			}
			my $n = sysread $socket, my $data, 65536;
			if (!$n)
			{
				my $peer = $other{$socket};
				$select->remove($socket, $peer);
				delete @other{ $socket, $peer };
				close $_ for $socket, $peer;
				last;
			}
			$sent += $n if $is_server{$socket};
			for (my $done = 0; $done < $n;)
			{
				my $w = syswrite($other{$socket}, $data, $n - $done, $done) // last;
				$done += $w;
			}
		}
	}
	return;
}

1;
