# BenchMesh: some nodes of ferry, linked each with each; in one server or each in its own.
package BenchMesh;
use strict;
use warnings;
use BenchPair;
use DBI;
use Time::HiRes qw(time usleep);

my $next_port = 57800;
my $count = 0;

sub run { my ($cmd) = @_; system($cmd) == 0 or die "failed: $cmd"; return; }

# n nodes, dealt out to so many servers (default: one each) or as place says; node i is
# the database "n<i>"
sub new
{
	my ($class, $n, %o) = @_;
	my $self = bless { n => $n, dir => "$ENV{WORK}/mesh" . ++$count, servers => $o{servers} // $n, place => $o{place} }, $class;
	mkdir $self->{dir};
	my $workers = 16 + $n * ($n + 2);
	for my $s (1 .. $self->{servers})
	{
		my $data = "$self->{dir}/s$s";
		my $port = $self->{ports}[ $s - 1 ] = $next_port++;
		run("initdb -D $data -A trust -N --no-locale -E UTF8 >/dev/null");
		open my $f, '>>', "$data/postgresql.conf" or die;
		print $f <<EOC;
port = $port
listen_addresses = ''
unix_socket_directories = '$self->{dir}'
wal_level = logical
shared_preload_libraries = 'ferry'
fsync = $ENV{FSYNC}
shared_buffers = 1GB
max_wal_size = 8GB
checkpoint_timeout = 1h
autovacuum = off
max_worker_processes = $workers
max_replication_slots = $workers
max_wal_senders = $workers
max_connections = 200
ferry.verify_interval = 0
EOC
		print $f "output_plugin_libraries = 'pgoutput, ferry'\n"
		  if system("postgres -D $data -C output_plugin_libraries >/dev/null 2>&1") == 0;
		close $f;
		run("pg_ctl -D $data -l $data.log -w start >/dev/null");
	}
	for my $i (1 .. $n)
	{
		run("createdb -h $self->{dir} -p " . $self->port($i) . " n$i");
		$self->{dbh}[$i] = DBI->connect("dbi:Pg:" . join(';', split(/ /, $self->dsn($i))), $ENV{USER}, '',
			{ RaiseError => 1, PrintError => 0, AutoCommit => 1, PrintWarn => 0 });
		$self->{dbh}[$i]->do('SET client_min_messages = error');
		$self->{dbh}[$i]->do('CREATE EXTENSION ferry');
		$self->{dbh}[$i]->do("SELECT ferry.create_node('n$i', ?)", undef, $self->dsn($i));
	}
	return $self;
}

sub port { my ($self, $i) = @_; return $self->{ports}[ ($self->{place} ? $self->{place}->($i) : $i - 1) % $self->{servers} ]; }
sub dsn { my ($self, $i) = @_; return "host=$self->{dir} port=" . $self->port($i) . " dbname=n$i"; }
sub dbh { my ($self, $i) = @_; return $self->{dbh}[$i]; }
sub each_do { my ($self, $sql) = @_; $self->dbh($_)->do($sql) for 1 .. $self->{n}; return; }

# the same statements everywhere, then all tables that they made under ferry
sub make_tables
{
	my ($self, @sql) = @_;
	$self->each_do($_) for @sql;
	$self->each_do("SELECT ferry.add_table(c.oid) FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace ORDER BY c.relname");
	return;
}

# each with each, or all with the first, which hands on
sub link
{
	my ($self, %o) = @_;
	for my $i (1 .. $self->{n})
	{
		for my $peer (grep { $_ != $i && (!$o{star} || $i == 1 || $_ == 1) } 1 .. $self->{n})
		{
			$self->dbh($i)->do("SELECT ferry.add_peer('n$peer', ?, forward => ?)", undef, $self->dsn($peer),
				$o{star} && $peer == 1 ? 'all' : 'local');
		}
	}
	$self->until($_, "SELECT bool_and(state = 'streaming') FROM ferry.lag") for 1 .. $self->{n};
	$self->settle;
	return;
}

sub until
{
	my ($self, $i, $sql) = @_;
	my $end = time + 600;
	while (!($self->dbh($i)->selectrow_array($sql))[0])
	{
		die "waited too long for: $sql" if time > $end;
		usleep(2000);
	}
	return;
}

sub pause
{
	my ($self) = @_;
	$self->each_do('SELECT ferry.pause_peer(name) FROM ferry.peers');
	$self->until($_, 'SELECT NOT bool_or(active) FROM pg_replication_slots') for 1 .. $self->{n};
	return;
}

sub resume { my ($self) = @_; $self->each_do('SELECT ferry.resume_peer(name) FROM ferry.peers'); return; }

# until every node holds what every node has written
sub settle
{
	my ($self) = @_;
	my @tokens = map { ($self->dbh($_)->selectrow_array('SELECT ferry.token()'))[0] } 1 .. $self->{n};
	for my $i (1 .. $self->{n})
	{
		for (@tokens) { $self->until($i, "SELECT ferry.wait_for('$_', '10 s')") if $_; }
	}
	return;
}

# processor time so far, in us, of the links of all nodes and of those that send to them; or of one node
sub cpu_us
{
	my ($self, $only) = @_;
	my $sum = 0;
	for my $i ($only // (1 .. $self->{n}))
	{
		my ($id, $links) = $self->dbh($i)->selectrow_array('SELECT lpad(to_hex(node_id), 8, \'0\'), (SELECT array_agg(pid) FROM ferry.lag) FROM ferry.nodes WHERE is_local');
		my %senders = map { ($_ => 1) } map { @{ $self->dbh($_)->selectcol_arrayref("SELECT active_pid FROM pg_replication_slots
			WHERE active AND slot_name LIKE 'ferry\\_%\\_$id'") } } grep { $_ != $i } 1 .. $self->{n};
		$sum += 1e6 * BenchPair::own_cpu($_) for @$links, keys %senders;
	}
	return $sum;
}

# all tables of all nodes are the same
sub check_equal
{
	my ($self) = @_;
	my $tables = $self->dbh(1)->selectcol_arrayref('SELECT relation::text FROM ferry.tables');
	for my $t (@$tables)
	{
		my @sums = map { $self->dbh($_)->selectrow_array("SELECT count(*) || ' ' || coalesce(sum(hashtextextended(r::text, 0)::numeric), 0) FROM $t r") } 1 .. $self->{n};
		die "table $t differs: @sums" if grep { $_ ne $sums[0] } @sums;
	}
	return;
}

sub stop
{
	my ($self) = @_;
	$_->disconnect for grep { $_ } @{ $self->{dbh} };
	run("pg_ctl -D $self->{dir}/s$_ -m immediate stop >/dev/null") for 1 .. $self->{servers};
	run("rm -rf $self->{dir}");
	return;
}

1;
