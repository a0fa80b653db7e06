# Random writes, pauses and crashes on N nodes from a printed seed: at the end
# every node equals every other and what a small model says.
#
# The model.  Every write returns the dot (hlc, node) under which it was
# stamped.  In a table of column mode the value of a column is that of the
# acknowledged write of this column with the greatest dot; in row mode the whole
# row is; a row is alive if the write with the greatest dot was no deletion.
# That is all: no order of arrival, no crash and no pause may change it.
#
# What clients were told counts: "ok" writes must be there, "failed" ones must
# not, "unknown" ones (the connection died in COMMIT) may or may not.
#
# SEED, NODES, OPS and CRASHES come from the environment.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);
use DBI;
use FerryNodes;

my $seed = $ENV{SEED} // int(rand(1 << 30));
my $n_nodes = $ENV{NODES} // 3;
my $n_ops = $ENV{OPS} // 3000;
my $n_crashes = $ENV{CRASHES} // 4;
my $n_keys = $ENV{KEYS} // 25;
srand($seed);
note "seed $seed, $n_nodes nodes, $n_ops operations, $n_crashes crashes";
diag "020_convergence: SEED=$seed" if $ENV{CI};

# --- the nodes: a mesh, or a chain that forwards for every other seed ---

my $chain = ($n_nodes >= 3 && $seed % 2);
my @tables = (
	{ name => 'by_column', mode => 'column' },
	{ name => 'by_row', mode => 'row' });
my (@node, @dbh);

for my $i (0 .. $n_nodes - 1)
{
	push @node, ferry_cluster("n$i", "autovacuum_naptime = 1\nferry.housekeeping_ms = 200\nferry.prune = on\n");
	ferry_node($node[$i], "n$i");
	for my $t (@tables)
	{
		$node[$i]->safe_psql('postgres', qq{
			CREATE TABLE $t->{name} (id int PRIMARY KEY, a int, b text, c numeric);
			SELECT ferry.add_table('$t->{name}', merge => '$t->{mode}');});
	}
	# written in bulk, so that a crash meets a batch that is half applied
	$node[$i]->safe_psql('postgres', "CREATE TABLE bulk (id int PRIMARY KEY, v int); SELECT ferry.add_table('bulk')");
}
# rows that every node makes before it knows of any other
my @first_dots;
for my $i (0 .. $#node)
{
	for my $t (0 .. $#tables)
	{
		$first_dots[$i][$t] = $node[$i]->safe_psql('postgres',
			"INSERT INTO $tables[$t]{name} VALUES ($n_keys, $i, 'first$i', $i) RETURNING ferry.version_dot(_ferry)");
	}
}
for my $i (0 .. $#node)
{
	for my $j (0 .. $#node)
	{
		next if $i == $j || ($chain && abs($i - $j) != 1);
		ferry_link($node[$i], $node[$j], "n$j", forward => $chain ? 'all' : 'local');
	}
}
note $chain ? 'topology: chain, forward all' : 'topology: mesh';

sub connect_to
{
	my ($i) = @_;
	return $dbh[$i] if $dbh[$i] && $dbh[$i]->ping;
	my $host = $node[$i]->host;
	my $port = $node[$i]->port;
	$dbh[$i] = DBI->connect("dbi:Pg:dbname=postgres;host=$host;port=$port",
		scalar(getpwuid($<)), '', { RaiseError => 1, PrintError => 0, AutoCommit => 1, pg_server_prepare => 0 });
	return $dbh[$i];
}

# --- the model ---

# $history{table}{key} = list of { hlc, node, alive, cols => {a=>..}, status }
my %history;
my %count = (ok => 0, failed => 0, unknown => 0, noop => 0);
my $unique = 0;

sub record
{
	my ($t, $key, $dot, $alive, $cols, $status) = @_;
	my ($hlc, $by) = split /@/, $dot;
	push @{ $history{ $t->{name} }{$key} },
	  { hlc => $hlc, node => $by, alive => $alive, cols => $cols, status => $status };
}

for my $i (0 .. $#node)
{
	record($tables[$_], $n_keys, $first_dots[$i][$_], 1, { a => $i, b => "first$i", c => $i }, 'ok')
	  for 0 .. $#tables;
}

# all that a table may hold for a key by the model: { value-string => 1 }
sub allowed
{
	my ($t, $key) = @_;
	my @writes = sort { $b->{hlc} <=> $a->{hlc} || $b->{node} <=> $a->{node} }
	  @{ $history{ $t->{name} }{$key} // [] };
	my @maybe = grep { $_->{status} eq 'unknown' } @writes;

	# every subset of the unknown writes may have happened; there are few
	my %result;
	die "too many unknown writes for one key" if @maybe > 10;
	for my $mask (0 .. (1 << @maybe) - 1)
	{
		my %dropped;
		for my $m (0 .. $#maybe) { $dropped{ $maybe[$m] } = 1 unless $mask & (1 << $m); }
		my @w = grep { !$dropped{$_} } @writes;
		if (!@w || !$w[0]{alive}) { $result{''} = 1; next; }
		my @v;
		for my $col (qw(a b c))
		{
			my ($by) = grep { exists $_->{cols}{$col} } @w;
			push @v, $by->{cols}{$col} // 'NULL';
		}
		$result{ join('|', @v) } = 1;
	}
	return \%result;
}

# --- one write ---

sub one_write
{
	my $i = int(rand(@node));
	my $t = $tables[ int(rand(@tables)) ];
	my $key = 1 + int(rand($n_keys));
	my $kind = rand();
	my $d = eval { connect_to($i) };
	if (!$d)
	{
		note "no connection: $@" unless $count{failed};
		$count{failed}++;
		return;
	}

	my ($dot, $alive, $cols);
	my $v = ++$unique;
	my $done = eval {
		$d->begin_work;
		if ($kind < 0.30)
		{
			$alive = 1;
			$cols = { a => $v, b => "i$v", c => $v };
			($dot) = $d->selectrow_array(
				"INSERT INTO $t->{name} VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING ferry.version_dot(_ferry)",
				undef, $key, $v, "i$v", $v);
		}
		elsif ($kind < 0.80)
		{
			my $col = (qw(a b c))[ int(rand(3)) ];
			my $val = $col eq 'b' ? "u$v" : $v;
			$alive = 1;
			my $row = $d->selectrow_hashref(
				"UPDATE $t->{name} SET $col = ? WHERE id = ? RETURNING *, ferry.version_dot(_ferry) AS dot",
				undef, $val, $key);
			if ($row)
			{
				$dot = $row->{dot};
				$cols = $t->{mode} eq 'row' ?
				  { a => $row->{a}, b => $row->{b}, c => $row->{c} } : { $col => $val };
			}
		}
		else
		{
			$alive = 0;
			$cols = {};
			if ($d->do("DELETE FROM $t->{name} WHERE id = ?", undef, $key) > 0)
			{
				($dot) = $d->selectrow_array(
					"SELECT (s->'last'->>0) || '\@' || (s->'last'->>1) "
					  . "FROM ferry.state('$t->{name}', '{\"id\": $key}') s");
			}
		}
		1;
	};
	if (!$done)
	{
		note "first failure: $@" unless $count{failed};
		$count{failed}++;
		eval { $d->rollback };
		$dbh[$i] = undef if !eval { $d->ping };
		return;
	}
	if (!defined $dot)
	{
		eval { $d->rollback };
		return $count{noop}++;
	}
	if (rand() < 0.02)
	{
		eval { $d->rollback };
		return $count{noop}++;
	}
	if (eval { $d->commit; 1 })
	{
		$count{ok}++;
		record($t, $key, $dot, $alive, $cols, 'ok');
	}
	else
	{
		$count{unknown}++;
		record($t, $key, $dot, $alive, $cols, 'unknown');
		$dbh[$i] = undef;
	}
}

# --- chaos ---

my %paused;
my $retries_seen = 0;

sub peers_of
{
	my ($i) = @_;
	return grep { $_ != $i && (!$chain || abs($i - $_) == 1) } 0 .. $#node;
}

sub pause_or_resume
{
	my $i = int(rand(@node));
	my @p = peers_of($i);
	my $j = $p[ int(rand(@p)) ];
	my $what = $paused{"$i-$j"} ? 'resume' : 'pause';
	$node[$i]->safe_psql('postgres', "SELECT ferry.${what}_peer('n$j')");
	$paused{"$i-$j"} = !$paused{"$i-$j"};
}

# a node is away: some running peer of it says that it tries again
sub see_retries
{
	my ($i) = @_;
	for my $j (peers_of($i))
	{
		next if $paused{"$j-$i"};
		$retries_seen = 1 if $node[$j]->poll_query_until('postgres',
			"SELECT bool_or(failures > 0) FROM ferry.lag WHERE peer = 'n$i'");
		return;
	}
}

sub crash
{
	my $i = int(rand(@node));
	if (rand() < 0.5)
	{
		# one of ferry's own processes, or a walsender
		my $pid = $node[$i]->safe_psql('postgres', q{
			SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'ferry%' OR backend_type = 'walsender'
			ORDER BY random() LIMIT 1});
		note "kill -9 of a worker of n$i";
		kill 'KILL', $pid if $pid;
		# the postmaster restarts everything
		$node[$i]->poll_query_until('postgres',
			"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)") if $pid;
	}
	else
	{
		note "immediate stop of n$i";
		$node[$i]->stop('immediate');
		# the others go on writing while it is away
		for (1 .. 60) { one_write(); }
		see_retries($i);
		$node[$i]->start;
	}
	$dbh[$i] = undef;
}

# kill -9 of a link's worker while its transaction has written something
my $bulk_rows = 0;
my $crashed_in_batch = 0;

sub crash_in_batch
{
	my $i = int(rand(@node));
	my @p = peers_of($i);
	my $j = $p[ int(rand(@p)) ];
	$node[$i]->safe_psql('postgres', "SELECT ferry.pause_peer('n$j')") if !$paused{"$i-$j"};
	$node[$j]->safe_psql('postgres', "INSERT INTO bulk SELECT i, 1 FROM generate_series($bulk_rows + 1, $bulk_rows + 20000) i");
	$bulk_rows += 20000;
	my $d = connect_to($i);
	my $find = $d->prepare(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'ferry link' AND backend_xid IS NOT NULL AND application_name = ?});
	$d->do("SELECT ferry.resume_peer('n$j')");
	$paused{"$i-$j"} = 0;
	my $end = time + 60;
	while (time < $end && !$d->selectrow_array('SELECT EXISTS (SELECT FROM bulk WHERE id = ?)', undef, $bulk_rows))
	{
		my ($pid) = $d->selectrow_array($find, undef, "ferry link from n$j");
		next if !$pid;
		note "kill -9 of the worker of n$i in mid-batch";
		kill 'KILL', $pid;
		$crashed_in_batch++;
		last;
	}
	$node[$i]->poll_query_until('postgres', 'SELECT true');
	$dbh[$i] = undef;
}

# --- states that somebody keeps, and merges somewhere much later ---

my @kept;
my $kept_merged = 0;

sub keep_state
{
	my $i = int(rand(@node));
	my $t = $tables[ int(rand(@tables)) ];
	my $key = 1 + int(rand($n_keys));
	my $d = eval { connect_to($i) } or return;
	my ($state) = eval { $d->selectrow_array("SELECT ferry.state('$t->{name}', '{\"id\": $key}')") };
	return unless defined $state;
	$kept[ @kept < 200 ? scalar(@kept) : int(rand(@kept)) ] = [ $t->{name}, $state ];
}

sub merge_kept
{
	return unless @kept;
	my $d = eval { connect_to(int(rand(@node))) } or return;
	eval { $d->selectrow_array('SELECT ferry.merge(?::regclass, ?)', undef, @{ $kept[ int(rand(@kept)) ] }); $kept_merged++; };
}

# --- go ---

my @crash_at = sort { $a <=> $b } map { int(rand($n_ops)) } 1 .. $n_crashes;
for my $op (1 .. $n_ops)
{
	one_write();
	pause_or_resume() if rand() < 0.01;
	keep_state() if rand() < 0.03;
	merge_kept() if rand() < 0.02;
	while (@crash_at && $crash_at[0] <= $op) { shift @crash_at; crash(); }
}
cmp_ok($count{ok}, '>', $n_ops / 3, 'most writes were acknowledged');
note "writes: " . join(', ', map { "$_ $count{$_}" } sort keys %count);

for my $pair (grep { $paused{$_} } keys %paused)
{
	my ($i, $j) = split /-/, $pair;
	$node[$i]->safe_psql('postgres', "SELECT ferry.resume_peer('n$j')");
}
%paused = ();
for (1 .. 3) { last if !$n_crashes || $crashed_in_batch; crash_in_batch(); }
$_ && $_->disconnect for @dbh;
if ($n_crashes && !$retries_seen)
{
	$node[0]->stop('immediate');
	see_retries(0);
	$node[0]->start;
}

# as many rounds as the chain is long, so that forwarded changes arrive too
my $settled = 1;
for my $round (0 .. $n_nodes)
{
	for my $i (0 .. $#node)
	{
		$settled &&= $node[$i]->safe_psql('postgres', "SELECT ferry.wait_for_peers('120 s')") eq 't';
	}
}
ok($settled, 'every node holds what the others committed');

# when all is known everywhere, no tombstone is left; and what was kept is old news
my $swept = 1;
for my $i (0 .. $#node)
{
	$swept &&= $node[$i]->poll_query_until('postgres',
		'SELECT sum(pg_relation_size(tombstones)) >= 0 AND NOT EXISTS (SELECT FROM '
		  . join(' UNION ALL SELECT FROM ', map { $node[$i]->safe_psql('postgres', "SELECT tombstones FROM ferry.tables WHERE relation = '$_->{name}'::regclass") } @tables)
		  . ') FROM ferry.tables') if $n_nodes > 1;
}
ok($swept, 'once every node has them, no tombstone is left');
merge_kept() for 1 .. 100;
cmp_ok($kept_merged, '>', $n_ops / 200, 'states that were kept were merged again');
for my $i (0 .. $#node) { $node[$i]->safe_psql('postgres', "SELECT ferry.wait_for_peers('120 s')"); }

# --- judge ---

for my $t (@tables)
{
	my @content = map {
		$_->safe_psql('postgres', "SELECT id, a, b, c, ferry.version_dot(_ferry) FROM $t->{name} ORDER BY id")
	} @node;
	for my $i (1 .. $#node)
	{
		is($content[$i], $content[0], "$t->{name}: n$i equals n0, last writers included");
	}
	my %here = map { my ($id, $v) = /^(\d+)\|(.*)\|[^|]*$/; ($id => $v) } split /\n/, $content[0];
	my $wrong = 0;
	for my $key (1 .. $n_keys)
	{
		my $v = $here{$key} // '';
		my $allowed = allowed($t, $key);
		next if $allowed->{$v};
		$wrong++;
		diag "$t->{name} key $key holds '$v'; the model allows '" . join("' or '", sort keys %$allowed) . "'";
	}
	is($wrong, 0, "$t->{name}: every row is what the model says");
}
for my $i (0 .. $#node)
{
	is($node[$i]->safe_psql('postgres', 'SELECT count(*) FROM bulk'), $bulk_rows, "n$i: every row of the bulk, none twice");
	is($node[$i]->safe_psql('postgres', 'SELECT count(*) FROM ferry.quarantine'), '0', "n$i: nothing in quarantine");
}

# verification comes to the same judgement
for my $i (0 .. $#node)
{
	is($node[$i]->safe_psql('postgres',
			"SET client_min_messages = error; SELECT sum(differing), count(error) FROM ferry.verify(deep => true)"),
		'0|0', "n$i: verification finds nothing");
}

# --- was it interesting? ---

my %kinds;
for my $n (@node)
{
	$kinds{$_}++ for split /\n/, $n->safe_psql('postgres', 'SELECT DISTINCT kind FROM ferry.conflicts');
}
if ($n_ops >= 2000)
{
	ok($kinds{$_}, "there was a conflict of kind $_")
	  for qw(insert_insert update_update update_delete delete_update);
}
ok($retries_seen || !$n_crashes, 'a peer that was away was retried');
ok($crashed_in_batch || !$n_crashes, 'a worker was killed in mid-batch');

if (!Test::More->builder->is_passing)
{
	diag "SEED=$seed";
	for my $n (@node)
	{
		diag $n->name . ":\n" . $n->safe_psql('postgres', 'TABLE ferry.lag') . "\n"
		  . $n->safe_psql('postgres', 'SELECT relation, key, error FROM ferry.quarantine LIMIT 5');
	}
}
$_->stop for @node;
done_testing();
