# The benchmark proper; bench/run sets up what it needs and calls it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use BenchPair;
use POSIX ();
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

sub shown { my ($f) = @_; return sprintf $f < 100 ? '%.2f' : '%.0f', $f; }

sub note_figure
{
	my ($what, $system, $figure) = @_;
	push @order, $what if !$result{$what};
	push @{ $result{$what}{$system} }, $figure;
	printf STDERR "# %-10s %-50s %12s\n", $system, $what, shown($figure);
	return;
}

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
		my @pids = $pair->pids;
		my @before = map { 1e6 * BenchPair::own_cpu($_) } @pids;
		$pair->wait_caught_up;
		my $end = time;
		my @used = map { 1e6 * BenchPair::own_cpu($pids[$_]) - $before[$_] } 0, 1;
		note_figure($what, $system, $n / ($end - $start));
		(my $name = $what) =~ s/^catch-up, (.*?)s?\/s$/cpu, $1/;
		note_figure("$name, receiver, us", $system, $used[1] / $n);
		note_figure("$name, sender, us", $system, $used[0] / $n);
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
	my $probes = 1500;
	my $pair = BenchPair->new($system);
	$pair->make_tables(1);
	$pair->link;
	for my $load (0, 1)
	{
		my $pid = $load ? $pair->start_pgbench('-N -M prepared -c 1 -R 500 -T 16') : undef;
		usleep(1_000_000);
		my @us = map { usleep(5000 + rand 5000); $pair->probe($_ + $probes * $load) } 1 .. $probes;
		waitpid $pid, 0 if $pid;
		my @sorted = sort { $a <=> $b } @us;
		my $name = $load ? 'under 500 transactions/s' : 'idle';
		note_figure("commit to visible, $name, p50, us", $system, $sorted[ $probes * 0.5 ]);
		note_figure("commit to visible, $name, p99, us", $system, $sorted[ $probes * 0.99 ]);
	}
	$pair->wait_caught_up;
	$pair->check_equal;
	$pair->stop;
	return;
}

# what decoding alone allows: pgoutput's messages, thrown away
sub limit
{
	my $pair = BenchPair->new('none', single => 1);
	$pair->make_tables($scale);
	my $s = $pair->source;
	$s->do('CREATE PUBLICATION p FOR ALL TABLES');
	my $timed = sub {
		my ($what, $n, $work) = @_;
		$s->do("SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
		$work->($pair);
		my ($end) = $s->selectrow_array('SELECT pg_current_wal_flush_lsn()');
		my $start = time;
		BenchPair::run("pg_recvlogical -d '" . $pair->dsn('a') . "' -S s --start -f /dev/null --endpos=$end"
			. " -o proto_version=1 -o publication_names=p -o binary=true >/dev/null 2>&1");
		note_figure($what, 'decoded', $n / (time - $start));
		$s->do("SELECT pg_drop_replication_slot('s')");
	};
	$timed->('catch-up, simple-update transactions/s', $txns, sub { $pair->pgbench("-N -M prepared -c 2 -j 2 -t " . $txns / 2) });
	$timed->($_->[0], $rows, $_->[1]) for @bulk;
	$pair->stop;
	return;
}

# the source at full speed, the link on
sub live
{
	my ($system) = @_;
	my $pair = BenchPair->new($system);
	$pair->make_tables($scale);
	$pair->link;
	my $pid = $pair->start_pgbench('-N -M prepared -c 2 -j 2 -T 10');
	my $end = time + 9;
	my @us;
	for (my $id = 1; time < $end; $id++) { usleep(20000 + rand 20000); push @us, $pair->probe($id); }
	waitpid $pid, 0;
	my $start = time;
	$pair->wait_caught_up;
	note_figure('live, lag at the end, us', $system, (time - $start) * 1e6);
	note_figure('live, transactions/s at the source', $system, $pair->pgbench_tps);
	note_figure('live, commit to visible, p99, us', $system, (sort { $a <=> $b } @us)[ $#us * 0.99 ]);
	$pair->check_equal;
	$pair->stop;
	return;
}

# bytes that leave the source, each kind of change by itself
sub bytes
{
	my ($system) = @_;
	for my $zip ($system eq 'ferry' ? ('', ' zstd') : '')
	{
		my $pair = BenchPair->new($system, counted => 1, conf => $zip ? 'ferry.compression = zstd' : '');
		$pair->make_tables(1);
		$pair->source->do("INSERT INTO wide SELECT i, " . join(', ', map { "md5(i || 'c$_')" } 1 .. 49) . " FROM generate_series(1, 10000) i");
		$pair->link;
		my $counted = sub {
			my ($what, $n, $work) = @_;
			usleep(300_000);
			my $before = $pair->{forwarder}->sent;
			$work->();
			$pair->wait_caught_up;
			usleep(300_000);
			note_figure("bytes, $what", "$system$zip", ($pair->{forwarder}->sent - $before) / $n);
		};
		$counted->('per simple-update transaction', 10000, sub { $pair->pgbench('-N -M prepared -c 2 -j 2 -t 5000') });
		$counted->('per COPY row', 50000, sub { $pair->copy_bulk(50000) });
		$counted->('per updated row of 50 columns', 10000, sub { $pair->source->do("UPDATE wide SET c25 = md5(c25)") });
		$counted->('per deleted row', 50000, sub { $pair->source->do('DELETE FROM bulk') });
		$pair->check_equal;
		$pair->stop;
	}
	return;
}

# bytes of the files that match
sub bytes_on_disk { my $n = 0; $n += -s $_ // 0 for map { glob } @_; return $n; }

# One statement at the source, and until it is seen at the target ($seen is true there):
# how much more than idle the processes take at most, the disk taken by what they put
# aside, and how long after the commit it is seen.
sub watched
{
	my ($pair, $system, $what, $statement, $seen) = @_;
	my %pid;
	@pid{ 'sender', 'receiver' } = $pair->pids;
	my %idle = map { $_ => BenchPair::own_memory($pid{$_}) } keys %pid;
	my %peak = %idle;
	my $most_aside = 0;
	my $committed;

	my $writer = fork // die;
	if (!$writer)
	{
		$_->{InactiveDestroy} = 1 for values %{ $pair->{dbh} };
		exec 'psql', '-q', '-d', $pair->dsn('a') . ' application_name=writer', '-c', $statement;
	}
	until ($pair->target->selectrow_array($seen))
	{
		if (!$pid{writer} && !$committed)
		{
			my ($pid) = $pair->source->selectrow_array("SELECT pid FROM pg_stat_activity WHERE application_name = 'writer'");
			if ($pid) { $pid{writer} = $pid; $idle{writer} = $peak{writer} = BenchPair::own_memory($pid); }
		}
		for my $side (keys %pid) { my $mb = BenchPair::own_memory($pid{$side}); $peak{$side} = $mb if $mb > $peak{$side}; }
		my $aside = bytes_on_disk("$pair->{dir}/a/pg_replslot/*/*.spill", "$pair->{dir}/b/base/pgsql_tmp/*/*", "$pair->{dir}/b/base/pgsql_tmp/*");
		$most_aside = $aside if $aside > $most_aside;
		$committed = time if !$committed && waitpid($writer, POSIX::WNOHANG()) == $writer;
		usleep(50_000);
	}
	my $end = time;
	waitpid $writer, 0 if !$committed;
	note_figure("memory, $what, $_, MB", $system, $peak{$_} - $idle{$_}) for sort keys %pid;
	note_figure("memory, $what, put aside on disk, MB", $system, $most_aside / 1024 / 1024);
	note_figure("memory, $what, seen after the commit, s", $system, $committed ? $end - $committed : 0);
	$pair->check_equal;
	return;
}

# one transaction of many rows; one row of many bytes
sub memory
{
	my ($system) = @_;
	my $n = $ENV{MEMORY_ROWS};
	my $mb = $ENV{MEMORY_ROW_MB};
	for my $streaming ($system eq 'builtin' ? (0, 1) : 0)
	{
		my $name = $streaming ? 'builtin streaming' : $system;
		my $pair = BenchPair->new($system, streaming => $streaming);
		$pair->make_tables(1);
		$pair->link;
		if ($n > 0)
		{
			watched($pair, $name, "insert of $n rows", "INSERT INTO bulk SELECT i, i, 'row', i, now() FROM generate_series(1, $n) i",
				"SELECT 1 FROM bulk WHERE id = $n");
			watched($pair, $name, "update of $n rows", 'UPDATE bulk SET a = -a', "SELECT 1 FROM bulk WHERE id = $n AND a < 0");
			watched($pair, $name, "delete of $n rows", 'DELETE FROM bulk', "SELECT 1 WHERE NOT EXISTS (SELECT FROM bulk WHERE id = $n)");
		}
		if ($mb > 0)
		{
			watched($pair, $name, "a row of $mb MB", "INSERT INTO bulk (id, b) VALUES (-1, repeat(md5('x'), $mb * 32768))",
				'SELECT 1 FROM bulk WHERE id = -1');
		}
		$pair->stop;
	}
	return;
}

# what writers pay without a link, ferry against nothing: two servers take turns, so that both see the same machine
sub write_path
{
	my ($round, @systems) = @_;
	my %pair = map { $_ => BenchPair->new($_, single => 1) } @systems;
	for (@systems)
	{
		$pair{$_}->make_tables($scale);
		$pair{$_}->pgbench('-N -M prepared -c 2 -j 2 -T 2');
	}
	my $turns = sub {
		my ($what, $n, $figure) = @_;
		my %figures;
		for my $turn (1 .. $n)
		{
			push @{ $figures{$_} }, $figure->($pair{$_}) for ($round + $turn) % 2 ? @systems : reverse @systems;
		}
		note_figure($what, $_, BenchPair::median(@{ $figures{$_} })) for @systems;
	};
	for my $kind ([ 'simple update', '-N' ], [ 'tpcb-like', '' ])
	{
		$turns->("write path, $kind->[0], transactions/s", 3, sub { $_[0]->pgbench("$kind->[1] -M prepared -c 2 -j 2 -T 4") });
	}
	my $n = 2 * $rows;
	# the disk is quiet when each begins
	my $timed = sub {
		my ($p, $before, $work) = @_;
		$p->source->do($_) for @$before, 'CHECKPOINT';
		my $start = time;
		$work->();
		return $n / (time - $start);
	};
	$turns->('write path, COPY, rows/s', 3, sub { my ($p) = @_; $timed->($p, ['TRUNCATE bulk'], sub { $p->copy_bulk($n) }) });
	$turns->('write path, bulk update, rows/s', 3, sub { my ($p) = @_; $timed->($p, [], sub { $p->source->do('UPDATE bulk SET a = a + 1') }) });
	$_->stop for values %pair;
	return;
}

for my $round (1 .. $rounds)
{
	print STDERR "# round $round of $rounds\n";
	if ($part{catchup}) { catchup($_) for @systems; }
	if ($part{limit}) { limit(); }
	if ($part{latency}) { latency($_) for @systems; }
	if ($part{live}) { live($_) for @systems; }
	if ($part{bytes} && $round == 1) { bytes($_) for @systems; }
	if ($part{memory} && $round == 1) { memory($_) for @systems; }
	if ($part{write}) { write_path($round, 'none', grep { $_ eq 'ferry' } @systems); }
}

# --- the table ---

my ($version) = BenchPair::version() =~ /(\S+ \S+)/;
my $cpu = `sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1`;
chomp $cpu;
my $cores = `nproc`;
chomp $cores;
printf "%s, %s, %d cores, scale %d, fsync %s, medians of %d rounds (least-most); x: ratio to the first\n\n",
  $version, $cpu, $cores, $scale, $ENV{FSYNC}, $rounds;
# baseline first: the others are compared with it
my @columns = ('none', @systems, 'builtin streaming', 'ferry zstd', 'decoded');
my @bars;
for my $what (@order)
{
	my @line;
	my $base;
	for my $system (grep { $result{$what}{$_} } @columns)
	{
		my @s = sort { $a <=> $b } @{ $result{$what}{$system} };
		my $m = BenchPair::median(@s);
		$base //= $m;
		push @line, sprintf('%s %s (%s-%s) x%.2f', $system, map({ shown($_) } $m, $s[0], $s[-1]), $base ? $m / $base : 0);
		push @bars, [ $what, $system, $m, $base ? $m / $base : 0 ];
	}
	printf "%-50s %s\n", $what, join(' | ', @line);
}
if ($ENV{SVG})
{
	require Bars;
	Bars::draw($ENV{SVG}, \@bars);
}
