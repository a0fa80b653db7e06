# What verification costs: rows per second, bytes, and what a workload loses.
#
#	bench/run verify				ROWS=10000000 for the big table of the promise
#
# Processor time is what is measured where it can be (the machine may be busy);
# the loss of a workload is the median of rounds with and without a verifier,
# in turn.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use BenchPair;
use Time::HiRes qw(time);

$| = 1;
my $rows = $ENV{ROWS} || 100000 * $ENV{SCALE};
my $seconds = $ENV{SECONDS_EACH};
my $rounds = $ENV{ROUNDS};

sub median { my @s = sort { $a <=> $b } @_; return @s % 2 ? $s[ @s / 2 ] : ($s[ @s / 2 - 1 ] + $s[ @s / 2 ]) / 2; }
sub show { my ($what, $figure) = @_; printf "%-64s %s\n", $what, $figure; return; }

my $pair = BenchPair->new('ferry', conf => "ferry.verify_interval = 0\nferry.verify_deep_interval = 0");
$pair->make_tables($ENV{SCALE});
$pair->link;
my ($a, $b) = ($pair->source, $pair->target);
$a->do("INSERT INTO bulk SELECT i, i, 'row ' || i, i, now() FROM generate_series(1, $rows) i");
$pair->wait_caught_up;
$_->do('VACUUM ANALYZE bulk') for $a, $b;

# processor time of one scan in a backend
sub cpu_s
{
	my ($pid) = @_;
	open my $f, '<', "/proc/$pid/stat" or die;
	my @x = split ' ', (<$f> =~ s/.*\)//r);
	return ($x[11] + $x[12]) / 100;
}
for my $kind ([ 'shallow', 'false' ], [ 'deep', 'true' ])
{
	my ($pid) = $b->selectrow_array('SELECT pg_backend_pid()');
	my $before = cpu_s($pid);
	$b->do("SELECT ferry._verify_scan('public', 'bulk', '\\x000102030405060708090a0b0c0d0e0f', '{a,b,c,d}', "
		  . "'{$kind->[1],$kind->[1],$kind->[1],$kind->[1]}', '\\x00', 4, false)") for 1 .. 3;
	show("$kind->[0] scan, rows per second of processor time", sprintf "%.0f", 3 * $rows / (cpu_s($pid) - $before));
}

sub verify
{
	my ($deep) = @_;
	return $b->selectrow_hashref("SELECT differing, repaired, bytes, ranges, rows_compared / extract(epoch FROM duration) AS rate, error FROM ferry.verify('bulk', deep => $deep)");
}
for my $deep ('false', 'true')
{
	my @r = map { verify($deep) } 1 .. 3;
	show(($deep eq 'true' ? 'deep' : 'shallow') . ' comparison of equal tables, rows/s, both sides at once',
		sprintf '%.0f', median(map { $_->{rate} } @r));
	show('  bytes exchanged', $r[0]{bytes});
}

$b->do("SET session_replication_role = replica");
$b->do("DELETE FROM bulk WHERE id IN (SELECT i * ($rows / 100) FROM generate_series(1, 100) i)");
$b->do("SET session_replication_role = origin");
my $r = verify('false');
die $r->{error} if $r->{error};
show("with $r->{differing} differing rows of $rows: repaired", $r->{repaired});
show('  bytes exchanged', $r->{bytes});
show('  fingerprints compared', $r->{ranges});

# --- what a workload loses ---

# Both nodes share this machine, so that the workload meets the scans of both sides:
# the verifier at the one, the session that serves it at the other, where pgbench
# runs.  Verifications follow each other at once, at the pace of the default
# settings, which is the worst that a schedule can do.
my (%tps, @ratio);
for my $round (1 .. $rounds)
{
	my %this;
	for my $with ($round % 2 ? (0, 1) : (1, 0))
	{
		$b->do('ALTER SYSTEM SET ferry.verify_interval = ' . ($with ? 1 : 0));
		$b->do('SELECT pg_reload_conf()');
		# until one is at work, or none; of small tables one is gone before it is seen
		for (1 .. 100)
		{
			my ($n) = $b->selectrow_array("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'ferry verifier'");
			last if $with ? $n : !$n;
			select undef, undef, undef, 0.1;
		}
		$this{$with} = $pair->pgbench("-M prepared -N -c 2 -T $seconds");
		push @{ $tps{$with} }, $this{$with};
	}
	push @ratio, $this{1} / $this{0};
}
$b->do('ALTER SYSTEM SET ferry.verify_interval = 0');
$b->do('SELECT pg_reload_conf()');
if ($rounds)
{
	show('pgbench -N -c 2 at the peer, transactions/s without', sprintf '%.0f', median(@{ $tps{0} }));
	show('  beside verifications without end', sprintf '%.0f', median(@{ $tps{1} }));
	show('  loss, median of ' . @ratio . ' rounds in turn (each: ' . join(', ', map { sprintf '%.1f', 100 * (1 - $_) } @ratio) . ')',
		sprintf '%.1f %%', 100 * (1 - median(@ratio)));
}
$pair->wait_caught_up;
my ($divergences) = $b->selectrow_array('SELECT sum(divergences) FROM ferry.verification');
my ($bad) = $b->selectrow_array("SELECT string_agg(error, ', ') FROM ferry.verification");
show('divergences found in all', $divergences . ($bad ? " ($bad)" : ''));
$pair->stop;
