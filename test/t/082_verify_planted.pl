# Divergence that pruning and TRUNCATE make hard to see, planted and healed: with
# versions pruned and tombstones removed on one node only nothing is a false alarm,
# and what is lost is found; a TRUNCATE that one node lacks reaches it; rows that
# came back from before a TRUNCATE go; what cannot be repaired is not called so;
# orphans are counted.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my @name = qw(a b c);
my @node = map { ferry_cluster($_, "ferry.verify_interval = 0\nferry.verify_deep_interval = 0\nferry.prune_after = 0\nferry.housekeeping_ms = 100\n") } @name;
my ($a, $b, $c) = @node;
for my $i (0 .. 2)
{
	ferry_node($node[$i], $name[$i]);
	$node[$i]->safe_psql('postgres', q{
		CREATE TABLE t (id int PRIMARY KEY, a int, b text);
		CREATE TABLE r (id int PRIMARY KEY, a int, b text);
		CREATE TABLE u (id int PRIMARY KEY, a int);
		CREATE TABLE s (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, tags int[]);
		CREATE TABLE v (id int PRIMARY KEY, a int);
		CREATE TABLE parent (k1 int, k2 text, PRIMARY KEY (k1, k2));
		CREATE TABLE child (id int PRIMARY KEY, k1 int, k2 text, FOREIGN KEY (k1, k2) REFERENCES parent, "up to" int REFERENCES child);
		SELECT ferry.add_table('t'), ferry.add_table('r', merge => 'row'), ferry.add_table('u', on_delete => 'update_wins'),
			ferry.add_table('s'), ferry.add_table('v'), ferry.add_table('parent'), ferry.add_table('child');
		SELECT ferry.set_merge('s', 'n', 'counter'), ferry.set_merge('s', 'tags', 'set')});
}
for my $i (0 .. 2)
{
	ferry_link($node[$i], $node[$_], $name[$_]) for grep { $_ != $i } 0 .. 2;
}
$_->poll_query_until('postgres', "SELECT count(*) = 2 AND bool_and(state = 'streaming') FROM ferry.lag") for @node;

sub same
{
	my ($what) = @_;
	ferry_settle_all(@node);
	my $all = 'SELECT id, a, b, ferry.version_dot(_ferry) FROM t ORDER BY id; SELECT id, a, b, ferry.version_dot(_ferry) FROM r ORDER BY id; SELECT id, a FROM u ORDER BY id; SELECT id, n, tags FROM s ORDER BY id';
	my @content = map { $_->safe_psql('postgres', $all) } @node;
	is($content[$_], $content[0], "$what: $name[$_] is as a") for 1, 2;
	return;
}
# all that is written now lies soon under the horizons of all, or of some nodes
sub pruned
{
	my @who = @_ ? @_ : @node;
	ferry_settle_all(@node);
	for my $n (@node)
	{
		my ($id, $stamp) = split /\|/, $n->safe_psql('postgres', "SELECT e.origin, e.hlc FROM ferry.nodes l, ferry._vector_entries(split_part(ferry.token(), '+', 1)) e WHERE l.is_local AND e.origin = l.node_id");
		for my $m (@who)
		{
			ok($m->poll_query_until('postgres', "SELECT count(*) = 1 FROM ferry.horizon h, ferry._vector_entries(h.vector) e WHERE e.origin = $id AND e.hlc >= $stamp"), 'the horizon rises');
		}
	}
	return;
}

# --- pruned versions are no difference ---

$a->safe_psql('postgres', q{
	INSERT INTO t SELECT i, i, 'a' FROM generate_series(1, 600) i; INSERT INTO r SELECT i, i, 'a' FROM generate_series(1, 200) i;
	INSERT INTO u SELECT i, i FROM generate_series(1, 200) i; INSERT INTO s SELECT i, 1, ARRAY[i] FROM generate_series(1, 100) i});
ferry_settle_all(@node);
for my $i (1, 2)
{
	$node[$i]->safe_psql('postgres', qq{UPDATE t SET b = '$name[$i]' WHERE id % 3 = $i; UPDATE r SET b = '$name[$i]' WHERE id % 3 = $i;
		UPDATE u SET a = a + 1 WHERE id % 3 = $i; UPDATE s SET n = n + 1, tags = tags || (1000 * $i + id) WHERE id % 3 <= $i});
	ferry_settle_all(@node);
}
pruned();
$c->safe_psql('postgres', 'ALTER SYSTEM SET ferry.housekeeping_ms = 3600000; SELECT pg_reload_conf()');
# written again on one node: pruned there, and sent so
$b->safe_psql('postgres', q{UPDATE t SET a = -a WHERE id % 2 = 0; UPDATE r SET a = -a WHERE id % 2 = 0; UPDATE u SET a = -a WHERE id % 2 = 0;
	UPDATE s SET n = n + 1, tags = tags || (3000 + id) WHERE id % 2 = 0; DELETE FROM t WHERE id % 5 = 0; DELETE FROM r WHERE id % 5 = 0; DELETE FROM u WHERE id % 5 = 0});
$a->safe_psql('postgres', q{UPDATE t SET b = 'x' WHERE id % 7 = 0; DELETE FROM s WHERE id % 4 = 0; INSERT INTO t SELECT i, 0, 'again' FROM generate_series(5, 100, 5) i ON CONFLICT DO NOTHING});
ferry_settle_all(@node);
for my $n (@node)
{
	is(ferry_verify($n, ''), '', $n->name . ': versions pruned under different horizons do not differ');
	is(ferry_verify($n, 'deep => true'), '', $n->name . ': nor do their values');
}
# a and b have removed their tombstones, c has not
$_->poll_query_until('postgres', "SELECT count(*) = 0 FROM " . ferry_tombstones($_, 't')) for $a, $b;
isnt($c->safe_psql('postgres', 'SELECT count(*) FROM ' . ferry_tombstones($c, 't')), '0', 'one node has tombstones that the others have removed');
is(ferry_verify($a, ''), '', 'which is no difference');
is(ferry_verify($c, ''), '', 'seen from there either');
is($c->safe_psql('postgres', "SELECT max(ranges) FROM ferry.verification WHERE relation IN ('t'::regclass, 'r'::regclass, 'u'::regclass)"), '1', 'nor does it make work');
same('pruned');

# --- what is lost below the horizon ---

ferry_plant($a, 'DELETE FROM t WHERE id BETWEEN 201 AND 240 AND id % 5 <> 0; DELETE FROM r WHERE id BETWEEN 51 AND 54; DELETE FROM s WHERE id BETWEEN 50 AND 51');
is(ferry_verify($a, "peer => 'b'"), "b|r|4|4|0|0|\nb|s|2|2|0|0|\nb|t|32|32|0|0|", 'rows lost below the horizon are repaired');
ferry_plant($c, 'DELETE FROM t WHERE id BETWEEN 301 AND 304');
is(ferry_verify($a, "peer => 'c'"), 'c|t|4|4|0|0|', 'on the side of the peer too');
ferry_plant($b, "UPDATE t SET b = 'rotten' WHERE id = 401; UPDATE s SET n = 99 WHERE id = 53");
is(ferry_verify($a, "peer => 'b', deep => true"), "b|s|1|1|1|0|\nb|t|1|1|1|0|", 'values changed under a pruned version are found');
same('lost below the horizon');

# of a counter, too, tombstones go where the horizon says so
pruned($a, $b);
$_->poll_query_until('postgres', "SELECT count(*) = 0 FROM " . ferry_tombstones($_, 's')) for $a, $b;
is($c->safe_psql('postgres', 'SELECT count(*) FROM ' . ferry_tombstones($c, 's')), '25', 'one node has tombstones of a counter that the others have removed');
is(ferry_verify($_, ''), '', 'which is no difference') for @node;
$a->safe_psql('postgres', 'INSERT INTO s VALUES (4, 10)');
$c->safe_psql('postgres', 'INSERT INTO s VALUES (8, 7)');
same('counters born again');
is($b->safe_psql('postgres', 'SELECT n FROM s WHERE id IN (4, 8) ORDER BY id'), "10\n7", 'they have what was inserted, whether the dead are forgotten there or not');

# --- one version in two lengths, and three opinions ---

# written under a later horizon than c's, which writes out what the others leave unsaid
my ($long, $split) = (431, 433);
$b->safe_psql('postgres', "UPDATE t SET b = 'first' WHERE id IN ($long, $split)");
pruned($a, $b);
$a->safe_psql('postgres', "UPDATE t SET a = 0 WHERE id IN ($long, $split)");
ferry_settle_all(@node);
my @length = map { $_->safe_psql('postgres', "SELECT sum(pg_column_size(_ferry)) FROM t WHERE id IN ($long, $split)") } $b, $c;
cmp_ok($length[1], '>', $length[0], 'there are versions that two nodes hold in different lengths');
my $right = $c->safe_psql('postgres', "SELECT b FROM t WHERE id = $long");
ferry_plant($b, "UPDATE t SET b = 'rotten' WHERE id = $long");
# what the stream brings of it
$b->safe_psql('postgres', "UPDATE t SET b = 'last' WHERE id = 434");
ferry_settle_all(@node);
is($_->safe_psql('postgres', "SELECT b FROM t WHERE id = $long"), $right, 'a value changed behind our back does not spread, whatever was pruned') for $a, $c;
is(ferry_verify($c, "'t', 'b'"), '', 'it is one version: only values tell');
is(ferry_verify($c, "'t', 'b', deep => true, repair => false"), 'b|t|1|0|1|0|', 'the values differ, which is no matter of merging');
is(ferry_verify($c, "'t', 'b', deep => true"), 'b|t|1|1|1|0|', 'the majority, one version all three, settles it');
is($c->safe_psql('postgres', "SELECT key, winner, rule, columns, local_row->>'b', remote_row->>'b' FROM ferry.conflicts ORDER BY id DESC LIMIT 1"), qq({"id": $long}|local|majority|{b}|$right|rotten), 'on record');
same('one version in two lengths');
is($b->safe_psql('postgres', "SELECT b FROM t WHERE id = $long"), $right, 'by what most nodes hold');

ferry_plant($b, "UPDATE t SET b = 'of b' WHERE id = $split");
ferry_plant($c, "UPDATE t SET b = 'of c' WHERE id = $split");
is(ferry_verify($_->[0], "'t', '$_->[1]', deep => true"), "$_->[1]|t|1|0|1|0|", "three opinions: $_->[1] is not outvoted") for [ $a, 'b' ], [ $c, 'b' ], [ $b, 'c' ];
is($a->safe_psql('postgres', "SELECT winner, rule FROM ferry.conflicts ORDER BY id DESC LIMIT 1"), 'none|same_version', 'nobody decides');
$b->safe_psql('postgres', qq(SELECT ferry.heal('t', '{"id": $split}', 'remote', 'c')));
same('three opinions');
is($a->safe_psql('postgres', "SELECT b FROM t WHERE id = $split"), 'of c', 'the choice of one is everybody\'s');

$c->safe_psql('postgres', $_) for 'ALTER SYSTEM RESET ferry.housekeeping_ms', 'SELECT pg_reload_conf()';

# --- a row that died since it was read, and was forgotten ---

# the states of a small table as a peer would get them
$b->safe_psql('postgres', q{
	CREATE FUNCTION states_of_v() RETURNS bytea LANGUAGE plpgsql AS $$
	DECLARE
		items	bytea;
		keys	bytea := '';
		at		int := 1;
		key		numeric := 0;
		shift	numeric;
	BEGIN
		PERFORM ferry._verify_scan('public', 'v', '\x000102030405060708090a0b0c0d0e0f', '{a}', '{false}', '\x00', 1, false);
		items := ferry._verify_items(decode(string_agg(lpad(to_hex(l), 8, '0'), ''), 'hex'), 100) FROM generate_series(0, 15) l;
		FOR i IN 1 .. get_byte(items, 0) LOOP
			shift := 1;
			LOOP
				key := key + (get_byte(items, at) & 127) * shift;
				shift := shift * 128;
				at := at + 1;
				EXIT WHEN get_byte(items, at - 1) < 128;
			END LOOP;
			at := at + 8;
			keys := keys || decode(lpad(to_hex(div(key, 4294967296)::bigint), 8, '0') || lpad(to_hex(mod(key, 4294967296)::bigint), 8, '0'), 'hex');
		END LOOP;
		RETURN substr(ferry._verify_states(keys), 2);
	END $$});
$a->safe_psql('postgres', 'INSERT INTO v VALUES (1, 1), (2, 2), (3, 3)');
pruned();
my $frame = $b->safe_psql('postgres', 'SELECT states_of_v()');
my $of_b = $b->safe_psql('postgres', 'SELECT node_id FROM ferry.nodes WHERE is_local');
my $take = "SELECT ferry._verify_scan('public', 'v', '\\x000102030405060708090a0b0c0d0e0f', '{a}', '{false}', '\\x00', 1, false); SET client_min_messages = error; SELECT ferry._verify_take('b', $of_b, '$frame', true, 0)";
ferry_plant($a, 'DELETE FROM v WHERE id = 1');
is((split /\n/, $a->safe_psql('postgres', $take))[-1], '\\x01010000', 'a row below the horizon that is lost here, and not there, comes back');
$a->safe_psql('postgres', 'DELETE FROM v');
pruned();
$a->poll_query_until('postgres', 'SELECT count(*) = 0 FROM ' . ferry_tombstones($a, 'v'));
is((split /\n/, $a->safe_psql('postgres', $take))[-1], '\\x00000003', 'rows that died since they were read there do not, though their tombstones are gone');
is($a->safe_psql('postgres', 'SELECT count(*) FROM v'), '0', 'they stay dead');

# --- TRUNCATE ---

$a->safe_psql('postgres', 'CREATE TABLE dump AS SELECT * FROM t');
# out of reach of pruning
$_->safe_psql('postgres', "ALTER SYSTEM SET ferry.prune_after = -1; SELECT pg_reload_conf()") for @node;
$b->safe_psql('postgres', 'TRUNCATE t');
ferry_settle_all(@node);
$c->safe_psql('postgres', "INSERT INTO t VALUES (1, 1, 'after')");
ferry_settle_all(@node);
is(ferry_verify($_, ''), '', $_->name . ' is equal after a TRUNCATE') for $a, $b;

ferry_plant($a, 'INSERT INTO t SELECT * FROM dump WHERE id BETWEEN 101 AND 144 AND id % 5 <> 0');
is(ferry_verify($b, "'t', 'a', repair => false"), 'a|t|36|0|0|0|', 'rows that came back from before a TRUNCATE are found');
is(ferry_verify($b, "'t', 'a'"), 'a|t|36|36|0|0|', 'and go');
ferry_plant($a, 'INSERT INTO t SELECT * FROM dump WHERE id BETWEEN 101 AND 104');
is(ferry_verify($a, "'t', 'c'"), 'c|t|4|4|0|0|', 'on the side that looks, too');
is($a->safe_psql('postgres', "SELECT count(*), count(local_row), count(remote_row) FROM ferry.conflicts WHERE kind = 'divergence' AND rule = 'truncated_row' AND winner = 'remote'"), '40|40|0', 'and each is on record');
same('rows from before a TRUNCATE');

my $restored = $a->safe_psql('postgres', "SELECT format('INSERT INTO t (id, a, b, _ferry) VALUES (102, 5, %L, %L)', b, _ferry) FROM dump WHERE id = 102");
ferry_plant($c, "DELETE FROM ferry.range_tombstone; $restored");
is(ferry_verify($a, "'t', 'c'"), 'c|t|1|1|0|0|', 'a TRUNCATE that a node lacks reaches it');
is($c->safe_psql('postgres', "SELECT key, winner, rule FROM ferry.conflicts WHERE rule = 'missing_truncate'"), '{}|remote|missing_truncate', 'which is on record');
is($c->safe_psql('postgres', 'SELECT count(*) FROM ferry.range_tombstone'), '1', 'it is in force there');
same('a lost TRUNCATE');
is(ferry_verify($_, ''), '', $_->name . ': then all is equal') for @node;

# --- beyond repair ---

ferry_plant($a, "DELETE FROM t WHERE id = 1; ALTER TABLE t ADD CONSTRAINT no_1 CHECK (id <> 1)");
is(ferry_verify($a, "'t', 'b'"), 'b|t|1|0|0|0|', 'a row that cannot be merged is not repaired');
is($a->safe_psql('postgres', "SELECT winner, rule FROM ferry.conflicts WHERE kind = 'divergence' ORDER BY id DESC LIMIT 1"), 'none|quarantine', 'and nobody says that it was');
my ($rc, $out, $err) = $a->psql('postgres', q{SELECT ferry.heal('t', '{"id": 1}', 'remote')});
like($err, qr/no undecided divergence/, 'nor that there is a choice');
$a->safe_psql('postgres', 'ALTER TABLE t DROP CONSTRAINT no_1; SELECT ferry.retry_quarantine()');
same('out of quarantine');

# --- orphans ---

$a->safe_psql('postgres', q{INSERT INTO parent SELECT i, 'p' FROM generate_series(1, 10) i; INSERT INTO child SELECT i, i, 'p', nullif(i - 1, 0) FROM generate_series(1, 10) i; INSERT INTO child VALUES (11, NULL, 'p', NULL)});
ferry_settle_all(@node);
is($a->safe_psql('postgres', "SELECT orphans FROM ferry.verify('child', 'b')"), '0', 'no orphans');
ferry_plant($_, 'DELETE FROM parent WHERE k1 IN (3, 4); DELETE FROM child WHERE id = 7') for @node;
is($a->safe_psql('postgres', "SET client_min_messages = error; SELECT orphans, differing FROM ferry.verify('child', 'b')"), '3|0', 'orphans are counted');
is($a->safe_psql('postgres', "SELECT constraint_name, key FROM ferry.orphans('child') ORDER BY 1, 2::text"), qq{child_k1_k2_fkey|{"id": 3}\nchild_k1_k2_fkey|{"id": 4}\nchild_up to_fkey|{"id": 8}}, 'and named');
like(slurp_file($a->logfile), qr/WARNING: .*3 foreign keys of table "child" refer to rows that do not exist/, 'and told in the log');
$_->stop for @node;
done_testing();
