# What verification costs: rows per second, memory, bytes, and what a workload loses.
#
#	bench/run verify				ROWS=10000000 for the big table of the promise
#	ROUNDS=20						times SECONDS_EACH: how long it is watched what a workload loses
#	PARTS=loss						only that
#
# Processor time is what is measured where it can be (the machine may be busy);
# the loss of a workload is the median of many short windows with and without a
# verifier, in turn.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use BenchPair;
use DBD::Pg ':async';
use List::Util qw(sum);
use Time::HiRes qw(time usleep);

$| = 1;
my $rows = $ENV{ROWS} || 100000 * $ENV{SCALE};
my $rounds = $ENV{ROUNDS};

sub sorted { return sort { $a <=> $b } @_; }
sub show { my ($what, $figure) = @_; printf "%-64s %s\n", $what, $figure; return; }
sub until_true { my ($dbh, $sql) = @_; usleep(50_000) until ($dbh->selectrow_array($sql))[0]; return; }

my $pair = BenchPair->new('ferry', conf => "ferry.verify_interval = 0\nferry.verify_deep_interval = 0");
$pair->make_tables($ENV{SCALE});
$pair->link;
my ($a, $b) = ($pair->source, $pair->target);
$a->do("INSERT INTO bulk SELECT i, i, 'row ' || i, i, now() FROM generate_series(1, $rows) i");
$pair->wait_caught_up;
# of tables whose first copy goes on nothing is called missing
until_true($b, 'SELECT NOT bool_or(is_new) FROM ferry.registered_table');
$_->do('VACUUM ANALYZE bulk') for $a, $b;
show('rows of the table', "$rows, " . $b->selectrow_array("SELECT pg_size_pretty(pg_relation_size('bulk'))"));

my $all = $ENV{PARTS} ne 'loss';

# --- one scan in a backend ---

# as deep a tree as a comparison has
my $depth = 1;
$depth++ while $rows / 256 > 16**$depth;
for my $kind ($all ? ([ 'shallow', 'false' ], [ 'deep', 'true' ]) : ())
{
	my ($pid) = $b->selectrow_array('SELECT pg_backend_pid()');
	my $before = BenchPair::own_cpu($pid);
	$b->do("SELECT ferry._verify_scan('public', 'bulk', '\\x000102030405060708090a0b0c0d0e0f', '{a,b,c,d}', "
		  . "'{$kind->[1],$kind->[1],$kind->[1],$kind->[1]}', '\\x00', $depth, false)") for 1 .. 3;
	show("$kind->[0] scan, rows per second of processor time", sprintf '%.0f', 3 * $rows / (BenchPair::own_cpu($pid) - $before));
}

# --- comparisons ---

my $verifier = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'ferry verifier'";
my $server = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsender' AND query LIKE '%\\_verify%'";

# ferry.verify, and what its two processes took at most: memory, and processor time
sub verify
{
	my ($deep) = @_;
	my $sth = $b->prepare("SELECT differing, repaired, undecided, bytes, ranges, rows_compared / extract(epoch FROM duration) AS rate, error "
		  . "FROM ferry.verify('bulk', deep => $deep)", { pg_async => PG_ASYNC });
	my $other = $b->clone;
	my (%pid, %mb, %cpu);
	$sth->execute;
	until ($sth->pg_ready)
	{
		($pid{verifier}) = $other->selectrow_array($verifier) if !$pid{verifier};
		($pid{server}) = $a->selectrow_array($server) if !$pid{server};
		for my $who (grep { $pid{$_} } keys %pid)
		{
			my ($mb, $cpu) = (BenchPair::own_memory($pid{$who}), BenchPair::own_cpu($pid{$who}));
			$mb{$who} = $mb if $mb > ($mb{$who} // 0);
			$cpu{$who} = $cpu if $cpu;
		}
		usleep(10_000);
	}
	$sth->pg_result;
	my $r = $sth->fetchrow_hashref;
	$other->disconnect;
	die $r->{error} if $r->{error};
	return { %$r, mb => \%mb, cpu => ($cpu{verifier} // 0) + ($cpu{server} // 0) };
}
sub show_memory { my ($r) = @_; show("  most memory of its own: $_, MB", sprintf '%.1f', $r->{mb}{$_} // 0) for qw(verifier server); return; }

for my $deep ($all ? ('false', 'true') : ())
{
	my @r = map { verify($deep) } 1 .. 3;
	my $kind = $deep eq 'true' ? 'deep' : 'shallow';
	show("$kind comparison of equal tables, rows/s, both sides at once", sprintf '%.0f', BenchPair::median(map { $_->{rate} } @r));
	show('  rows per second of processor time of both processes', sprintf '%.0f', BenchPair::median(map { 2 * $rows / ($_->{cpu} || 0.01) } @r));
	show('  bytes exchanged', $r[0]{bytes});
	show_memory($r[0]);
}

for my $n ($all ? (100, $rows / 100) : ())
{
	$b->do("SET session_replication_role = replica");
	$b->do("DELETE FROM bulk WHERE id IN (SELECT i * ($rows / $n) FROM generate_series(1, $n) i)");
	$b->do("SET session_replication_role = origin");
	my $r = verify('false');
	show("with $r->{differing} rows of $rows missing: repaired", $r->{repaired});
	show('  bytes exchanged', $r->{bytes});
	show('  fingerprints compared', $r->{ranges});
	show('  rows compared per second', sprintf '%.0f', $r->{rate});
	show_memory($r);
}

# --- by schedule: what nobody has touched is not read again ---

# rows that are not visible to all, or that an index may still point to, are nobody's to skip
$_->do('VACUUM (INDEX_CLEANUP on) bulk') for $a, $b;
$b->do($_) for 'ALTER SYSTEM SET ferry.verify_interval = 1', 'SELECT pg_reload_conf()';
my $last = "FROM ferry.verification WHERE relation = 'bulk'::regclass";
for my $what ($all ? ('first', 'next') : ())
{
	my ($before) = $b->selectrow_array('SELECT clock_timestamp()');
	until_true($b, "SELECT coalesce(last_run > '$before', false) $last");
	show("$what run by schedule: seconds, rows not read, bytes", join(', ', $b->selectrow_array("SELECT extract(epoch FROM duration), rows_known, bytes $last")));
}
$b->do($_) for 'ALTER SYSTEM SET ferry.verify_interval = 0', 'SELECT pg_reload_conf()';
until_true($b, "SELECT NOT EXISTS ($verifier)");

# --- what a workload loses ---

# Both nodes share this machine, so that the workload meets the scans of both sides:
# the verifier at the one, the session that serves it at the other, where pgbench
# runs.  Verifications follow each other at once, at the pace of the default
# settings, which is the worst that a schedule can do.
#
# The machine's other work comes and goes by the second, so with and without are
# compared in windows of a fraction of that: the two processes are stopped for
# every other window, by a signal.
my $window_us = 200_000;

# those that are at the big table now
sub at_work
{
	my ($v) = $b->selectrow_array("$verifier AND query LIKE '%\"bulk\"%'") or return;
	my ($s) = $a->selectrow_array("$server AND state = 'active'") or return;
	return ($v, $s);
}
# transactions in one window
sub window
{
	my $count = "SELECT last_value FROM pgbench_history_hid_seq";
	usleep(20_000);
	my ($before) = $a->selectrow_array($count);
	my $start = time;
	usleep($window_us);
	my ($after) = $a->selectrow_array($count);
	return ($after - $before) / (time - $start);
}
if ($rounds)
{
	my (%tps, @loss, %share);
	# with rows changed all over the table, so that nothing of it is known
	$a->do("UPDATE bulk SET a = a + 1 WHERE id % 10000 = 1");
	$pair->wait_caught_up;
	$b->do($_) for 'ALTER SYSTEM SET ferry.verify_interval = 1', 'SELECT pg_reload_conf()';
	my $seconds = $rounds * $ENV{SECONDS_EACH};
	my $end = time + $seconds;
	my $load = $pair->start_pgbench("-M prepared -N -c 2 -T " . ($seconds + 5));
	usleep(3_000_000);
	while (time < $end)
	{
		my @pids = at_work() or usleep(10_000), next;
		my %this;
		for my $with (@loss % 2 ? (1, 0) : (0, 1))
		{
			kill $with ? 'CONT' : 'STOP', @pids;
			my ($cpu, $t) = (sum(map { BenchPair::own_cpu($_) } @pids), time);
			$this{$with} = window();
			$cpu = sum(map { BenchPair::own_cpu($_) } @pids) - $cpu;
			push @{ $share{$with} }, $cpu / (time - $t);
		}
		kill 'CONT', @pids;
		# unless it came to its end meanwhile
		next if join(' ', @pids) ne join(' ', at_work()) || !$this{0};
		push @{ $tps{$_} }, $this{$_} for 0, 1;
		push @loss, 100 * (1 - $this{1} / $this{0});
	}
	waitpid $load, 0;
	$b->do($_) for 'ALTER SYSTEM SET ferry.verify_interval = 0', 'SELECT pg_reload_conf()';
	# a scan is over before it is met where the table is small
	die "no scan was long enough to be met: give it more ROWS\n" if !@loss;
	show('  processor time of the two processes, of one core', sprintf '%.1f %% (stopped: %.1f %%)', map { 100 * sum(@{ $share{$_} }) / @{ $share{$_} } } 1, 0);
	my @sorted = sorted(@loss);
	my ($n, $off) = (scalar @loss, sqrt(@loss));
	show('pgbench -N -c 2 at the peer, transactions/s without', sprintf '%.0f', BenchPair::median(@{ $tps{0} }));
	show('  beside verifications without end', sprintf '%.0f', BenchPair::median(@{ $tps{1} }));
	show("  loss, median of $n pairs of windows", sprintf '%.1f %% (95 %%: %.1f to %.1f; by sums: %.1f)', BenchPair::median(@loss),
		$sorted[ ($n - 1.96 * $off) / 2 ], $sorted[ ($n + 1.96 * $off) / 2 ], 100 * (1 - sum(@{ $tps{1} }) / sum(@{ $tps{0} })));
}
$pair->wait_caught_up;
my ($divergences) = $b->selectrow_array('SELECT sum(divergences) FROM ferry.verification');
my ($bad) = $b->selectrow_array("SELECT string_agg(error, ', ') FROM ferry.verification");
show('divergences found in all', $divergences . ($bad ? " ($bad)" : ''));
$pair->stop;
