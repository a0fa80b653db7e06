# The benchmark proper; bench/run sets up what it needs and calls it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use BenchPair;
use Time::HiRes qw(time usleep);

$| = 1;
my $rounds = $ENV{ROUNDS};
my $scale = $ENV{SCALE};
my @systems = split ' ', $ENV{SYSTEMS};
my %part = map { $_ => 1 } split ' ', $ENV{PARTS};
my $txns = 10000 * $scale;
my $rows = 50000 * $scale;

# $result{what}{system} = [ figures ]; higher is better unless named "us"
my (%result, @order);

sub note_figure
{
	my ($what, $system, $figure) = @_;
	push @order, $what if !$result{$what};
	push @{ $result{$what}{$system} }, $figure;
	printf STDERR "# %-10s %-44s %12.0f\n", $system, $what, $figure;
	return;
}

sub median { my @s = sort { $a <=> $b } @_; return @s % 2 ? $s[ @s / 2 ] : ($s[ @s / 2 - 1 ] + $s[ @s / 2 ]) / 2; }

# --- parts ---

my @bulk = (
	[ 'catch-up, COPY, rows/s', sub { $_[0]->copy_bulk($rows) } ],
	[ 'catch-up, bulk update, rows/s', sub { $_[0]->source->do('UPDATE bulk SET a = a + 1') } ],
	[ 'catch-up, bulk delete, rows/s', sub { $_[0]->source->do('DELETE FROM bulk') } ]);

# what gathers while the link is off is timed when it is on again
sub catchup
{
	my ($system) = @_;
	my $pair = BenchPair->new($system);
	$pair->make_tables($scale);
	$pair->link;

	my $timed = sub {
		my ($what, $n, $work) = @_;
		$pair->off;
		$work->($pair);
		$pair->on;
		my $start = time;
		$pair->wait_caught_up;
		note_figure($what, $system, $n / (time - $start));
		$pair->check_equal;
	};
	$timed->('catch-up, simple-update transactions/s', $txns, sub { $pair->pgbench("-N -M prepared -c 2 -j 2 -t " . $txns / 2) });
	$timed->($_->[0], $rows, $_->[1]) for @bulk;
	$pair->stop;
	return;
}

# from the commit here to the row there
sub latency
{
	my ($system) = @_;
	my $pair = BenchPair->new($system);
	$pair->make_tables(1);
	$pair->link;
	for my $load (0, 1)
	{
		my $pid = $load ? $pair->start_pgbench('-N -M prepared -c 1 -R 500 -T 8') : undef;
		usleep(1_000_000);
		my @us = map { usleep(5000 + rand 5000); $pair->probe($_ + 1000 * $load) } 1 .. 300;
		waitpid $pid, 0 if $pid;
		my @sorted = sort { $a <=> $b } @us;
		my $name = $load ? 'under 500 transactions/s' : 'idle';
		note_figure("commit to visible, $name, p50, us", $system, $sorted[150]);
		note_figure("commit to visible, $name, p99, us", $system, $sorted[296]);
	}
	$pair->wait_caught_up;
	$pair->check_equal;
	$pair->stop;
	return;
}

# the price that writers pay, without a link: ferry against nothing
sub write_path
{
	my ($system) = @_;
	my $pair = BenchPair->new($system, single => 1);
	$pair->make_tables($scale);
	$pair->pgbench('-N -M prepared -c 2 -j 2 -T 2');
	for my $kind ([ 'simple update', '-N' ], [ 'tpcb-like', '' ])
	{
		note_figure("write path, $kind->[0], transactions/s", $system, $pair->pgbench("$kind->[1] -M prepared -c 2 -j 2 -T 10"));
	}
	my $start = time;
	$pair->copy_bulk(2 * $rows);
	note_figure('write path, COPY, rows/s', $system, 2 * $rows / (time - $start));
	$start = time;
	$pair->source->do('UPDATE bulk SET a = a + 1');
	note_figure('write path, bulk update, rows/s', $system, 2 * $rows / (time - $start));
	$pair->stop;
	return;
}

for my $round (1 .. $rounds)
{
	print STDERR "# round $round of $rounds\n";
	if ($part{catchup}) { catchup($_) for @systems; }
	if ($part{latency}) { latency($_) for @systems; }
	if ($part{write}) { write_path($_) for 'none', grep { $_ eq 'ferry' } @systems; }
}

# --- the table ---

my ($version) = BenchPair::version() =~ /(\S+ \S+)/;
my $cpu = `sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1`;
chomp $cpu;
my $cores = `nproc`;
chomp $cores;
printf "%s, %s, %d cores, scale %d, fsync %s, medians of %d rounds (least-most); x: ratio to the first\n\n",
  $version, $cpu, $cores, $scale, $ENV{FSYNC}, $rounds;
for my $what (@order)
{
	my @line;
	my $base;
	for my $system (grep { $result{$what}{$_} } 'none', @systems)
	{
		my @f = @{ $result{$what}{$system} };
		my @s = sort { $a <=> $b } @f;
		my $m = median(@f);
		$base //= $m;
		push @line, sprintf('%s %.0f (%.0f-%.0f) x%.2f', $system, $m, $s[0], $s[-1], $m / $base);
	}
	printf "%-46s %s\n", $what, join(' | ', @line);
}
