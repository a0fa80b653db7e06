# Columns that merge by a strategy, on three nodes that all write at once, with
# pauses, a crash, and states carried by hand, late, twice and out of order: at
# the end every node equals every other and what a model says.
#
# The model knows, of every acknowledged write, its dot, what its writer had seen
# of the row (its version vector), and what it changed:
#
#	counters	the sum of all that was added and taken away
#	max, min	the extreme of all that was written; the function (bitwise or) alike
#	set			an element is in if some addition of it was seen by no removal of it
#	map			each key as the write with the greatest dot left it
#	the rest	as in 020_convergence: the write with the greatest dot
#
# Writes of which the client does not know whether they happened (the connection
# died in COMMIT) may or may not count.  SEED and OPS come from the environment.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use DBI;
use JSON::PP;
use FerryModel;
use FerryNodes;

my $seed = $ENV{SEED} // int(rand(1 << 30));
my $n_ops = $ENV{OPS} // 1000;
my $n_keys = 6;
my $n_nodes = 3;
srand($seed);
note "seed $seed, $n_ops operations";
diag "055_strategies: SEED=$seed" if $ENV{CI};

my %strategy = (n => 'counter', m => 'counter', hi => 'max', lo => 'min',
	tags => 'set', attrs => 'map', f => 'public.bor(integer,integer)');
my (@node, @dbh);

for my $i (0 .. $n_nodes - 1)
{
	# tombstones stay: the model counts over the whole life of a key
	push @node, ferry_cluster("n$i", "ferry.housekeeping_ms = 3600000\n");
	ferry_node($node[$i], "n$i");
	$node[$i]->safe_psql('postgres', q{
		CREATE FUNCTION bor(int, int) RETURNS int LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 | $2';
		CREATE DOMAIN money2 AS numeric(12,2);
		CREATE TABLE stock (id int PRIMARY KEY, n int, m money2, hi text, lo int, tags int[], attrs jsonb, f int, p text);
		CREATE TABLE changing (id int PRIMARY KEY, v int, tags text[]);
		SELECT ferry.add_table('stock'), ferry.add_table('changing', on_delete => 'update_wins');});
}
# rows from before any strategy, and one of them changed concurrently before and after
$node[0]->safe_psql('postgres', q{INSERT INTO changing SELECT i, 100, '{a,b}' FROM generate_series(1, 6) i});
for my $i (0 .. $#node)
{
	for my $j (0 .. $#node) { ferry_link($node[$i], $node[$j], "n$j") if $i != $j; }
}

# --- one node sets them, all nodes have them ---

$node[0]->safe_psql('postgres', "SELECT ferry.set_merge('stock', '$_', '$strategy{$_}')") for sort keys %strategy;
for my $n (@node)
{
	ok($n->poll_query_until('postgres',
			"SELECT count(*) = 7 FROM ferry.columns WHERE relation = 'stock'::regclass AND strategy <> 'lww'"),
		$n->name . ' has heard of the strategies');
	is($n->safe_psql('postgres', "SELECT string_agg(\"column\" || '=' || strategy, ' ' ORDER BY \"column\") FROM ferry.columns WHERE relation = 'stock'::regclass AND strategy <> 'lww'"),
		join(' ', map { "$_=$strategy{$_}" } sort keys %strategy), $n->name . ' has them as they were set');
}

sub connect_to
{
	my ($i) = @_;
	return $dbh[$i] if $dbh[$i] && $dbh[$i]->ping;
	my ($host, $port) = ($node[$i]->host, $node[$i]->port);
	$dbh[$i] = DBI->connect("dbi:Pg:dbname=postgres;host=$host;port=$port",
		scalar(getpwuid($<)), '', { RaiseError => 1, PrintError => 0, AutoCommit => 1, pg_server_prepare => 0 });
	return $dbh[$i];
}

# --- the model ---

my %history;	# key => list of writes
my %count = (ok => 0, failed => 0, unknown => 0, noop => 0, merged => 0);

# --- one write ---

my $json = JSON::PP->new->allow_nonref;

# the state that this transaction sees, and that nobody changes before it ends
sub state_of
{
	my ($d, $key) = @_;
	my ($text) = $d->selectrow_array("SELECT ferry.state('stock', ?::jsonb)", undef, "{\"id\": $key}");
	return defined $text ? $json->decode($text) : undef;
}

sub one_write
{
	my $i = int(rand(@node));
	my $key = 1 + int(rand($n_keys));
	my $kind = rand();
	my $d = eval { connect_to($i) };
	my $w;
	return $count{failed}++ if !$d;

	my $done = eval {
		$d->begin_work;
		# nothing comes in between the look at the row and its write
		$d->do('LOCK TABLE stock IN SHARE ROW EXCLUSIVE MODE');
		my $before = state_of($d, $key);
		my $old = $before ? $before->{row} : {};
		my ($sql, @args, @cols);
		my %wanted;
		if (!$before || !$before->{alive})
		{
			@cols = qw(n m hi lo tags attrs f p);
			$wanted{$_} = model_random_value($_, $old) for @cols;
			$sql = 'INSERT INTO stock VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)';
			@args = ($key, @wanted{@cols});
		}
		elsif ($kind < 0.9)
		{
			@cols = grep { rand() < 0.4 } qw(n m hi lo tags attrs f p);
			@cols = ('n') if !@cols;
			$wanted{$_} = model_random_value($_, $old) for @cols;
			$sql = 'UPDATE stock SET ' . join(', ', map { /^[nm]$/ ? "$_ = $_ + ?" : "$_ = ?" } @cols) . ' WHERE id = ?';
			@args = (@wanted{@cols}, $key);
		}
		else
		{
			$sql = 'DELETE FROM stock WHERE id = ?';
			@args = ($key);
		}
		if ($d->do($sql, undef, @args) > 0)
		{
			my $after = state_of($d, $key);
			$w = { hlc => $after->{last}[0], node => $after->{last}[1], alive => $after->{alive} ? 1 : 0,
				seen => $before ? $before->{vv} : {} };
			$w->{$_} = $wanted{$_} for grep { /^(hi|lo|f|p)$/ } @cols;
			model_difference($w, $old, $after->{row}, !$before || !$before->{alive}, \@cols);
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
	if (!$w || rand() < 0.02)
	{
		eval { $d->rollback };
		return $count{noop}++;
	}
	$w->{status} = eval { $d->commit; 1 } ? 'ok' : 'unknown';
	$count{ $w->{status} }++;
	push @{ $history{$key} }, $w;
	$dbh[$i] = undef if $w->{status} ne 'ok';
	return;
}

# --- states carried by hand ---

my @pool;

sub carry
{
	my ($from, $to) = (int(rand(@node)), int(rand(@node)));
	my $key = 1 + int(rand($n_keys));
	my $table = rand() < 0.7 ? 'stock' : 'changing';
	eval {
		my ($s) = connect_to($from)->selectrow_array("SELECT ferry.state('$table', '{\"id\": $key}')");
		push @pool, [ $table, $s ] if defined $s;
		shift @pool if @pool > 200;
		my $p = $pool[ int(rand(@pool)) ];
		connect_to($to)->do("SELECT ferry.merge('$p->[0]', ?::jsonb)", undef, $p->[1]) if $p;
		$count{merged}++;
		1;
	} or note "carry: $@";
	return;
}

# --- strategies that change under writes, everywhere and on their own ---

sub change_strategy
{
	my $i = int(rand(@node));
	my ($col, $to) = rand() < 0.6 ? ('v', (qw(lww counter max min public.bor))[ int(rand(5)) ]) : ('tags', (qw(lww set))[ int(rand(2)) ]);
	eval { connect_to($i)->do("SELECT ferry.set_merge('changing', '$col', '$to')"); 1 } or note "set_merge: $@";
	return;
}

sub write_changing
{
	my $i = int(rand(@node));
	my $key = 1 + int(rand($n_keys));
	my $e = chr(97 + int(rand(6)));
	my @sql = ("UPDATE changing SET v = v + 1 WHERE id = $key", 'UPDATE changing SET v = ' . int(rand(300)) . " WHERE id = $key",
		"UPDATE changing SET tags = array_append(tags, '$e') WHERE id = $key",
		"UPDATE changing SET tags = array_remove(tags, '$e'), v = nullif(v, 7) WHERE id = $key",
		"DELETE FROM changing WHERE id = $key", "INSERT INTO changing VALUES ($key, 50, '{$e}') ON CONFLICT DO NOTHING",
		"INSERT INTO changing VALUES ($key, NULL, NULL) ON CONFLICT DO NOTHING");
	eval { connect_to($i)->do($sql[ int(rand(@sql)) ]); 1 } or note "changing: $@";
	return;
}

# --- go ---

my %paused;

sub pause_or_resume
{
	my ($i, $j) = (int(rand(@node)), int(rand(@node)));
	return if $i == $j;
	my $what = $paused{"$i-$j"} ? 'resume' : 'pause';
	$node[$i]->safe_psql('postgres', "SELECT ferry.${what}_peer('n$j')");
	$paused{"$i-$j"} = !$paused{"$i-$j"};
	return;
}

my $crash_at = int($n_ops / 3 + rand($n_ops / 3));
for my $op (1 .. $n_ops)
{
	one_write();
	write_changing() if $op % 2;
	change_strategy() if rand() < 0.02;
	carry() if rand() < 0.15;
	pause_or_resume() if rand() < 0.02;
	next if $op != $crash_at;
	my $i = int(rand(@node));
	note "immediate stop of n$i";
	$node[$i]->stop('immediate');
	$dbh[$i] = undef;
	one_write() for 1 .. 30;
	$node[$i]->start;
}
note 'writes: ' . join(', ', map { "$_ $count{$_}" } sort keys %count);
cmp_ok($count{ok}, '>', $n_ops / 2, 'most writes were acknowledged');
cmp_ok($count{merged}, '>', 20, 'states were carried by hand');
for my $pair (grep { $paused{$_} } keys %paused)
{
	my ($i, $j) = split /-/, $pair;
	$node[$i]->safe_psql('postgres', "SELECT ferry.resume_peer('n$j')");
}
$_ && $_->disconnect for @dbh;
@dbh = ();
my $settled = 1;
for my $round (0 .. 1)
{
	for my $n (@node) { $settled &&= ferry_settled($n); }
}
ok($settled, 'every node holds what the others committed');

# --- judge ---

for my $table (qw(stock changing))
{
	my @content = map { $_->safe_psql('postgres', "SELECT * FROM $table ORDER BY id") } @node;
	is($content[$_], $content[0], "$table: n$_ equals n0, versions included") for 1 .. $#node;
}
my @set = map { $_->safe_psql('postgres', "SELECT \"column\", strategy FROM ferry.columns ORDER BY relation::text, 1") } @node;
is($set[$_], $set[0], "n$_ has the strategies that n0 has") for 1 .. $#node;

my $wrong = 0;
for my $key (1 .. $n_keys)
{
	my @held = map { model_held(state_of(connect_to($_), $key)) } 0 .. $#node;
	my $allowed = model_possible(\&model_strategies, @{ $history{$key} // [] });
	for my $i (0 .. $#node)
	{
		next if $allowed->{ $held[$i] };
		$wrong++;
		diag "n$i, key $key holds\n  '$held[$i]'; the model allows\n  '" . join("' or\n  '", sort keys %$allowed) . "'";
	}
}
is($wrong, 0, 'every row, alive or dead, is what the model says');
for my $n (@node)
{
	is($n->safe_psql('postgres', 'SELECT count(*) FROM ferry.quarantine'), '0', $n->name . ': nothing in quarantine');
	is($n->safe_psql('postgres', q{SELECT count(*) FROM ferry.conflicts WHERE relation LIKE '%stock' AND columns && '{n,m,hi,lo,tags,attrs,f}'}),
		'0', $n->name . ': columns that merge are never in conflict');
	is($n->safe_psql('postgres', 'SELECT count(*) FROM (SELECT _ferry FROM stock UNION ALL SELECT _ferry FROM changing) t WHERE NOT _ferry::text::ferry.version OPERATOR(ferry.=) _ferry'),
		'0', $n->name . ': versions survive their text');
}

# --- was it interesting? ---

my $versions = $node[0]->safe_psql('postgres', q{SELECT string_agg(ferry.state('stock', jsonb_build_object('id', i))::text, E'\n') FROM generate_series(1, 6) i});
like($versions, qr/"shares": \{"\d+": "[^"]+", "\d+"/, 'some counter had three writers');
like($versions, qr/"removed": \{"k/, 'some map had a key removed');

# what the random writes seldom meet: one element added on two nodes that do not know of each other
$node[0]->safe_psql('postgres', "INSERT INTO stock (id, tags) VALUES (1000, '{1}')");
ferry_settled($node[0]);
$node[$_]->safe_psql('postgres', "SELECT ferry.pause_peer('n" . (1 - $_) . "')") for 0, 1;
$node[$_]->poll_query_until('postgres', "SELECT pid IS NULL FROM ferry.lag WHERE peer = 'n" . (1 - $_) . "'") for 0, 1;
$node[$_]->safe_psql('postgres', 'UPDATE stock SET tags = tags || 2 WHERE id = 1000') for 0, 1;
$node[$_]->safe_psql('postgres', "SELECT ferry.resume_peer('n" . (1 - $_) . "')") for 0, 1;
for my $i (0, 1)
{
	ok($node[$i]->poll_query_until('postgres',
			q{SELECT ferry.state('stock', '{"id": 1000}')::text ~ '"elements": \[.*\[\["\d+", "\d+"\], \["\d+", "\d+"\]\]'}),
		"n$i: an element was added twice, concurrently");
	is($node[$i]->safe_psql('postgres', 'SELECT tags FROM stock WHERE id = 1000'), '{1,2}', "n$i: and is there once");
}

if (!Test::More->builder->is_passing)
{
	diag "SEED=$seed";
	diag $_->name . ":\n" . $_->safe_psql('postgres', 'SELECT relation, key, error FROM ferry.quarantine LIMIT 5') for @node;
}
$_ && $_->disconnect for @dbh;
$_->stop for @node;
done_testing();
