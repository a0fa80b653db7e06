# What joining costs: see bench/join, which calls this.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use BenchPair;
use Time::HiRes qw(time usleep);

$| = 1;
my ($rows, $rounds) = @ENV{qw(ROWS ROUNDS)};
my @systems = split ' ', $ENV{SYSTEMS};
my (%result, @order);

sub note_figure
{
	my ($what, $system, $figure) = @_;
	push @order, $what if !$result{$what};
	push @{ $result{$what}{$system} }, $figure;
	printf STDERR "# %s, %s: %.2f\n", $what, $system, $figure;
	return;
}

# --- memory of the servers' processes: the most that any of them had of its own ---

# a process beside us looks until it is told to stop, then says what it saw
sub watch_memory
{
	my ($pair) = @_;
	my @masters = map { _first_line("$pair->{dir}/$_/postmaster.pid") } sort keys %{ $pair->{port} };
	pipe my $read, my $write or die;
	my $pid = fork // die;
	if ($pid)
	{
		close $write;
		return sub { kill 'TERM', $pid; my $said = join '', <$read>; waitpid $pid, 0; return $said; };
	}
	$_->{InactiveDestroy} = 1 for values %{ $pair->{dbh} };
	close $read;
	my ($most, $go_on) = (0, 1);
	local $SIG{TERM} = sub { $go_on = 0; };
	while ($go_on)
	{
		for my $child (map { split ' ', _first_line("/proc/$_/task/$_/children") } @masters)
		{
			my $mb = BenchPair::own_memory($child);
			$most = $mb if $mb > $most;
		}
		usleep(100_000);
	}
	print $write $most;
	close $write;
	require POSIX;
	POSIX::_exit(0);
}
sub _whole { my ($file) = @_; open my $f, '<', $file or return ''; local $/; return <$f> // ''; }
sub _first_line { my ($file) = @_; my ($line) = split /\n/, _whole($file); return $line // ''; }

# --- processor time of a whole server: its living processes, and those that have ended, but not our own session, which looks on ---

sub server_cpu
{
	my ($pair, $side) = @_;
	my $master = _first_line("$pair->{dir}/$side/postmaster.pid");
	my $total = 0;
	for my $pid ($master, grep { $_ != $pair->{dbh}{$side}{pg_pid} } split ' ', _first_line("/proc/$master/task/$master/children"))
	{
		my @x = split ' ', (_first_line("/proc/$pid/stat") =~ s/.*\)//r);
		$total += $x[$_] for 11 .. ($pid == $master ? 14 : 12);
	}
	return $total / 100;
}

# --- tables ---

sub make
{
	my ($pair, $ntables) = @_;
	my @t = map { "bulk$_" } 1 .. $ntables;
	for my $side (sort keys %{ $pair->{port} })
	{
		my $d = $pair->{dbh}{$side};
		if ($pair->{system} eq 'ferry')
		{
			$d->do('CREATE EXTENSION ferry');
			$d->do("SELECT ferry.create_node('$side', ?)", undef, $pair->dsn($side));
		}
		for my $t (@t, 'busy')
		{
			$d->do("CREATE TABLE $t (id bigint PRIMARY KEY, a int, b text, c numeric, d timestamptz)");
			$d->do("SELECT ferry.add_table('$t')") if $pair->{system} eq 'ferry';
		}
	}
	my $s = $pair->source;
	my $each = int($rows / $ntables);
	$s->do("INSERT INTO $_ SELECT i, i, 'row ' || md5(i::text), i * 1.01, '2026-01-01'::timestamptz + i * interval '1 s' FROM generate_series(1, $each) i") for @t;
	$s->do('INSERT INTO busy SELECT i, 0 FROM generate_series(1, 1000) i');
	$s->do('VACUUM ANALYZE');
	$_->do('CHECKPOINT') for values %{ $pair->{dbh} };
	return @t;
}

sub check_equal
{
	my ($pair, @t) = @_;
	for my $t (@t)
	{
		my ($x, $y) = map { ($_->selectrow_array("SELECT count(*) || ' ' || coalesce(sum(hashtextextended(r::text, 0)::numeric), 0) FROM (SELECT id, a, b, c, d FROM $t) r"))[0] }
		  $pair->source, $pair->target;
		die "$pair->{system}: table $t differs: $x, $y" if $x ne $y;
	}
	return;
}

sub until_true
{
	my ($dbh, $sql) = @_;
	usleep(50_000) until ($dbh->selectrow_array($sql))[0];	# looking costs the server time, too
	return;
}

# --- the runs ---

sub start_join
{
	my ($pair, @t) = @_;
	my ($a, $b) = ($pair->source, $pair->target);
	if ($pair->{system} eq 'ferry')
	{
		$b->do('SELECT ferry.join(?)', undef, $pair->dsn('a'));
		return;
	}
	$a->do('CREATE PUBLICATION p FOR TABLE ' . join(', ', @t, 'busy'));
	$b->do("CREATE SUBSCRIPTION s CONNECTION '" . $pair->dsn('a') . "' PUBLICATION p WITH (binary = true)");
	return;
}

my %is_done = (
	ferry => "SELECT count(*) FILTER (WHERE state = 'done') = count(*) AND (SELECT state = 'streaming' FROM ferry.lag) FROM ferry.progress",
	builtin => "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel");

sub busy_script
{
	my $file = "$ENV{WORK}/busy.sql";
	open my $f, '>', $file or die;
	print $f "\\set id random(1, 1000)\nUPDATE busy SET a = a + 1 WHERE id = :id;\n";
	close $f;
	return $file;
}

sub join_once
{
	my ($system, $ntables) = @_;
	my $what = "join, $rows rows in $ntables table" . ($ntables > 1 ? 's' : '');
	my $pair = BenchPair->new($system, conf => $system eq 'ferry' ? "ferry.verify_interval = 0\nferry.verify_deep_interval = 0\nferry.copy_workers = $ENV{COPY_WORKERS}" : '');
	my @t = make($pair, $ntables);
	my $load = $ENV{LOAD} ? $pair->start_pgbench('-c 2 -T 3600 -f ' . busy_script()) : undef;
	my $memory = watch_memory($pair);
	my %cpu = map { $_ => server_cpu($pair, $_) } qw(a b);
	my $start = time;
	start_join($pair, @t);
	until_true($pair->target, $is_done{$system});
	my $took = time - $start;
	note_figure("$what, s", $system, $took);
	note_figure("$what, rows/s", $system, $rows / $took);
	note_figure("$what, processor time at the source, us/row", $system, (server_cpu($pair, 'a') - $cpu{a}) / $rows * 1e6);
	note_figure("$what, processor time at the target, us/row", $system, (server_cpu($pair, 'b') - $cpu{b}) / $rows * 1e6);
	note_figure("$what, most memory of a process, MB", $system, $memory->());
	if ($load) { kill 'INT', $load; waitpid $load, 0; }
	check_equal($pair, @t);
	my ($there, $here) = map { ($_->selectrow_array("SELECT sum(pg_indexes_size(oid)) FROM pg_class WHERE relname IN ('" . join("', '", @t) . "')"))[0] } $pair->source, $pair->target;
	note_figure("$what, index at the target against the source's", $system, $here / $there);
	delta($pair, $took, @t) if $system eq 'ferry' && $ntables == 1;
	$pair->stop;
	return;
}

# the target is away, its slot is lost, 1 % of the rows change: beside copying it all
sub delta
{
	my ($pair, $whole, $t) = @_;
	my ($a, $b) = ($pair->source, $pair->target);
	$a->do("SELECT ferry.wait_for_peers('60 s')");

	# what the target holds is on record by then
	usleep(1_000_000);
	$b->do("SELECT ferry.pause_peer('a')");
	until_true($a, "SELECT count(*) = 0 FROM pg_replication_slots WHERE active AND slot_name = (SELECT format('ferry_%s_%s', lpad(to_hex(n.node_id), 8, '0'), lpad(to_hex(p.node_id), 8, '0')) FROM ferry.local_node n, ferry.peer p)");
	$a->do("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active");
	$a->do("UPDATE $t SET a = a + 1 WHERE id % 100 = 0");
	my $memory = watch_memory($pair);
	my $start = time;
	$b->do("SELECT ferry.resume_peer('a')");
	until_true($b, "SELECT state = 'streaming' FROM ferry.lag");
	my $took = time - $start;
	my ($copied, $bytes) = $b->selectrow_array("SELECT sum(rows), sum(bytes) FROM ferry.progress");
	note_figure("1 % of $rows rows changed, catch-up by delta, s", 'ferry', $took);
	note_figure('  against the whole copy', 'ferry', $took / $whole);
	note_figure('  rows that crossed the wire', 'ferry', $copied);
	note_figure('  MB that crossed the wire', 'ferry', $bytes / 1048576);
	note_figure('  most memory of a process, MB', 'ferry', $memory->());
	check_equal($pair, $t);
	return;
}

for my $round (1 .. $rounds)
{
	print STDERR "# round $round of $rounds\n";
	for my $ntables (split ' ', $ENV{TABLES}) { join_once($_, $ntables) for @systems; }
}

my ($version) = BenchPair::version() =~ /(\S+ \S+)/;
printf "%s, fsync %s, medians of %d rounds (least-most); x: ratio to the first\n\n", $version, $ENV{FSYNC}, $rounds;
for my $what (@order)
{
	my ($base, @line);
	for my $system (grep { $result{$what}{$_} } @systems)
	{
		my @s = sort { $a <=> $b } @{ $result{$what}{$system} };
		$base //= BenchPair::median(@s);
		push @line, sprintf('%s %.4g (%.4g-%.4g) x%.2f', $system, BenchPair::median(@s), $s[0], $s[-1], $base ? BenchPair::median(@s) / $base : 0);
	}
	printf "%-58s %s\n", $what, join(' | ', @line);
}
