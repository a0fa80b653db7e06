# Three nodes, all writing, each in a server of its own and linked each with each:
# does every node's apply keep up with the sum of the others, at the rate at which
# one built-in subscriber does?  (bench/run mesh)
#
# What gathers while the links are paused is caught up with at once on all three:
# a node's rate is what the two others had written, by the time until all hold all.
# The machine's cores are shared by 3 servers here, by 2 with the subscriber.
# Then all write at full speed for a while with the links on.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use BenchMesh;
use BenchPair;
use Time::HiRes qw(time);

$| = 1;
my $txns = 10000 * $ENV{SCALE};
sub spread { my @s = sort { $a <=> $b } @_; return sprintf '%.0f (%.0f-%.0f)', BenchPair::median(@s), $s[0], $s[-1]; }

sub pgbench
{
	my ($mesh, $i, $options) = @_;
	my $pid = fork // die;
	return $pid if $pid;
	$_->{InactiveDestroy} = 1 for grep { $_ } @{ $mesh->{dbh} };
	exec "pgbench -n -N -M prepared $options -h $mesh->{dir} -p " . $mesh->port($i) . " n$i >$mesh->{dir}/out$i 2>&1";
}

# all nodes at once; gives their transactions per second
sub write_everywhere
{
	my ($mesh, $options) = @_;
	my @pids = map { pgbench($mesh, $_, $options) } 1 .. $mesh->{n};
	waitpid $_, 0 for @pids;
	return map { open my $f, '<', "$mesh->{dir}/out$_" or die; (join('', <$f>) =~ /^tps = ([0-9.]+)/m)[0] // die 'pgbench gave no figure' } 1 .. $mesh->{n};
}

sub builtin
{
	my $pair = BenchPair->new('builtin');
	$pair->make_tables($ENV{SCALE});
	$pair->link;
	$pair->off;
	$pair->pgbench("-N -M prepared -c 2 -j 2 -t " . $txns / 2);
	$pair->on;
	my $start = time;
	$pair->wait_caught_up;
	my $rate = $txns / (time - $start);
	$pair->check_equal;
	$pair->stop;
	return $rate;
}

my (%rate, @live, @lag);
for my $round (1 .. $ENV{ROUNDS})
{
	push @{ $rate{builtin} }, builtin();

	my $mesh = BenchMesh->new(3);
	for my $i (1 .. 3)
	{
		BenchMesh::run("pgbench -i -q -I dt -h $mesh->{dir} -p " . $mesh->port($i) . " n$i >/dev/null 2>&1");
		$mesh->dbh($i)->do('ALTER TABLE pgbench_history ADD COLUMN hid uuid DEFAULT gen_random_uuid() PRIMARY KEY');
		BenchMesh::run("pgbench -i -q -I p -h $mesh->{dir} -p " . $mesh->port($i) . " n$i >/dev/null 2>&1");
	}
	$mesh->make_tables;
	$mesh->link;
	BenchMesh::run("pgbench -i -q -I g -s $ENV{SCALE} -h $mesh->{dir} -p " . $mesh->port(1) . " n1 >/dev/null 2>&1");
	$mesh->settle;
	$mesh->each_do('VACUUM ANALYZE');
	$mesh->each_do('CHECKPOINT');

	$mesh->pause;
	write_everywhere($mesh, "-c 2 -t " . $txns / 2);
	$mesh->resume;
	my $start = time;
	$mesh->settle;
	push @{ $rate{mesh} }, 2 * $txns / (time - $start);
	$mesh->check_equal;

	push @live, write_everywhere($mesh, "-c 1 -T $ENV{SECONDS_EACH}");
	$start = time;
	$mesh->settle;
	push @lag, 1000 * (time - $start);
	$mesh->check_equal;
	$mesh->stop;
	printf STDERR "# round %d: one built-in subscriber %.0f, each of three nodes %.0f transactions/s\n", $round, $rate{builtin}[-1], $rate{mesh}[-1];
}
printf "medians of %d rounds (least-most), fsync %s\n\n", $ENV{ROUNDS}, $ENV{FSYNC};
printf "%-72s %s\n", 'catch-up, one built-in subscriber, transactions/s', spread(@{ $rate{builtin} });
printf "%-72s %s x%.2f\n", 'catch-up, each of three nodes, of the two others\' transactions/s', spread(@{ $rate{mesh} }),
  BenchPair::median(@{ $rate{mesh} }) / BenchPair::median(@{ $rate{builtin} });
printf "%-72s %s\n", 'live, one client on each of three nodes, transactions/s of a node', spread(@live);
printf "%-72s %s\n", 'live, until all hold all after the last commit, ms', spread(@lag);
