# What diverged is found and healed: rows lost, changed and brought back behind
# ferry's back, metadata and tombstones lost; equal nodes are proven equal, and
# nothing is written where they are.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

# tombstones stay: 082 is about those that go
my @node = map { ferry_cluster($_, "ferry.verify_interval = 0\nferry.verify_deep_interval = 0\nferry.housekeeping_ms = 200\nferry.prune_after = -1\n") } qw(a b c);
my ($a, $b, $c) = @node;
my @name = qw(a b c);
my $tables = q{
	CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
	CREATE TABLE t (id int PRIMARY KEY, a int CHECK (a < 1000000), b text, c numeric);
	CREATE TABLE r (k1 numeric, k2 char(8), v int, PRIMARY KEY (k1, k2));
	CREATE TABLE l (id text COLLATE loose PRIMARY KEY, v int);
	CREATE TABLE p (id bigint, part int, v text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
	CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
	CREATE TABLE p2 (v text, part int NOT NULL, id bigint NOT NULL);
	ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2);
	SELECT ferry.add_table('t'), ferry.add_table('r', merge => 'row'), ferry.add_table('l', on_delete => 'update_wins'), ferry.add_table('p')};
for my $i (0 .. 2)
{
	ferry_node($node[$i], $name[$i]);
	# another order of columns must be no difference
	my $sql = $i == 1 ? $tables =~ s/id int PRIMARY KEY, a int CHECK \(a < 1000000\), b text, c numeric/c numeric, b text, id int PRIMARY KEY, a int CHECK (a < 1000000)/r : $tables;
	$node[$i]->safe_psql('postgres', $sql);
}
for my $i (0 .. 2)
{
	ferry_link($node[$i], $node[$_], $name[$_]) for grep { $_ != $i } 0 .. 2;
}
$_->poll_query_until('postgres', "SELECT count(*) = 2 AND bool_and(state = 'streaming') FROM ferry.lag") for @node;
# a table that is new here may still be on its way
$_->poll_query_until('postgres', 'SELECT NOT bool_or(is_new) FROM ferry.registered_table') for @node;
$a->safe_psql('postgres', q{
	INSERT INTO t SELECT i, i, 'b' || i, i * 1.5 FROM generate_series(1, 5000) i;
	INSERT INTO r SELECT i * 1.00, 'k' || i, i FROM generate_series(1, 300) i;
	INSERT INTO l SELECT 'Key' || i, i FROM generate_series(1, 300) i;
	INSERT INTO p SELECT i, 1 + i % 2, 'v' || i FROM generate_series(1, 1000) i});
ferry_settled($a);
$b->safe_psql('postgres', q{
	UPDATE t SET b = 'of b' WHERE id % 7 = 0;
	UPDATE r SET k1 = k1 + 1000, k2 = 'x' WHERE v < 20; UPDATE l SET id = upper(id) WHERE v < 20;
	DELETE FROM t WHERE id % 50 = 0; DELETE FROM r WHERE v % 50 = 0; DELETE FROM l WHERE v % 50 = 0; DELETE FROM p WHERE id % 50 = 0});
ferry_settle_all(@node);
$c->safe_psql('postgres', q{UPDATE t SET a = -1 WHERE id % 11 = 0});
ferry_settle_all(@node);

sub same
{
	my ($what) = @_;
	ferry_settle_all(@node);
	my $all = "SELECT id, a, b, c, ferry.version_dot(_ferry) FROM t ORDER BY id; SELECT * FROM r ORDER BY 1; SELECT * FROM l ORDER BY id; SELECT id, part, v, ferry.version_dot(_ferry) FROM p ORDER BY id";
	my @content = map { $_->safe_psql('postgres', $all) } @node;
	is($content[1], $content[0], "$what: b is as a");
	is($content[2], $content[0], "$what: c is as a");
	return;
}

# --- equal nodes ---

my $written = 'SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables';
is(ferry_verify($a, ''), '', 'equal nodes have no differences');
is(ferry_verify($b, 'deep => true'), '', 'nor have their values');
is($b->safe_psql('postgres', "SELECT bool_and(proven_equal_at IS NOT NULL AND proven_deep_at IS NOT NULL AND ranges = 1 AND bytes BETWEEN 100 AND 2000 AND rows_compared > 0 AND error IS NULL), count(*) FROM ferry.verification"),
	't|8', 'and are proven equal by one fingerprint a table');
is($a->safe_psql('postgres', "SELECT rows_compared FROM ferry.verify('t', 'b')"), '5000', 'rows and tombstones are compared');

# --- no comparison that was not made looks like one ---

# as if the clock had been set back since
$a->safe_psql('postgres', "UPDATE ferry.peer SET created_at = now() + interval '1 hour' WHERE name = 'b'; UPDATE ferry.registered_table SET added_at = now() + interval '2 hours' WHERE relid = 't'::regclass");
is($a->safe_psql('postgres', "SELECT count(*), count(differing) FROM ferry.verify()"), '8|8', 'whatever the clock said when peers and tables were added');
is($a->safe_psql('postgres', "SELECT count(*), count(differing), sum(divergences) FROM ferry.verification"), '8|8|0', 'in the view, too');

# another run of the same tables writes over what is last known, before ours is returned
$a->safe_psql('postgres', "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE ferry.verified SET run = 0, rows_compared = -1 WHERE relid = new.relid; RETURN new; END';
	CREATE TRIGGER other BEFORE INSERT ON ferry.verify_answer FOR EACH ROW EXECUTE FUNCTION other(); ALTER TABLE ferry.verify_answer ENABLE ALWAYS TRIGGER other");
is($a->safe_psql('postgres', "SELECT count(*), min(rows_compared) >= 0 FROM ferry.verify()"), '8|t', 'a run beside another returns its own results');
$a->safe_psql('postgres', 'DROP FUNCTION other() CASCADE');

# a table that only one side has
$a->safe_psql('postgres', "CREATE TABLE alone (id int PRIMARY KEY); SELECT ferry.add_table('alone')");
is($a->safe_psql('postgres', "SELECT differing, error FROM ferry.verify('alone', 'b')"), '0|The peer does not have this table under ferry.', 'a table that the peer lacks');
$a->safe_psql('postgres', "SELECT ferry.drop_table('alone')");

# a peer that goes away ends its comparison, not the verifier
$b->safe_psql('postgres', "ALTER FUNCTION ferry._verify_common(text, text, text[], text[]) RENAME TO _verify_common_honest;
	CREATE FUNCTION ferry._verify_common(text, text, text[], text[]) RETURNS bytea LANGUAGE plpgsql AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'");
is($a->safe_psql('postgres', "SELECT peer, count(error) FROM ferry.verify() GROUP BY 1 ORDER BY 1"), "b|4\nc|0", "the peer's sessions are terminated: it says so, and goes on with the next");
$b->safe_psql('postgres', "DROP FUNCTION ferry._verify_common(text, text, text[], text[]);
	ALTER FUNCTION ferry._verify_common_honest(text, text, text[], text[]) RENAME TO _verify_common");

# a verifier that dies
$a->safe_psql('postgres', "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
	CREATE TRIGGER die BEFORE INSERT ON ferry.verify_answer FOR EACH ROW WHEN (new.peer = 'c' AND new.relid = 'p'::regclass) EXECUTE FUNCTION die();
	ALTER TABLE ferry.verify_answer ENABLE ALWAYS TRIGGER die");
like(ferry_error($a, 'SELECT * FROM ferry.verify()'), qr/ERROR: 57000: verification ended before everything was compared DETAIL: Table "public.p" was not compared with peer "c"\. HINT/, 'a verifier that dies before its end is an error');
is($a->safe_psql('postgres', "SELECT count(*) FROM ferry.verify(peer => 'b')"), '4', 'what it was not to compare is not missed');
$a->safe_psql('postgres', 'DROP FUNCTION die() CASCADE');
is($a->safe_psql('postgres', 'SELECT count(*) FROM ferry.verify(); SELECT max(n) FROM (SELECT count(*) AS n FROM ferry.verify_answer GROUP BY run) x'), "8\n7", 'and answers that nobody has fetched are in nobody\'s way');

# --- rows and tombstones lost ---

ferry_plant($a, 'DELETE FROM t WHERE id BETWEEN 1 AND 40; DELETE FROM p WHERE id < 10');
is(ferry_verify($a, "peer => 'b', repair => false"), "b|p|9|0|0|0|\nb|t|40|0|0|0|", 'lost rows are found');
is($a->safe_psql('postgres', 'SELECT count(*) FROM t WHERE id <= 40'), '0', 'and left if no repair is wanted');
is(ferry_verify($a, "peer => 'b'"), "b|p|9|9|0|0|\nb|t|40|40|0|0|", 'lost rows are repaired');
is($a->safe_psql('postgres', "SELECT kind, rule, winner, count(*), count(local_row), count(remote_row) FROM ferry.conflicts GROUP BY 1, 2, 3"),
	'divergence|missing_row|remote|49|0|49', 'each is on record');
is($a->safe_psql('postgres', "SELECT differing, divergences FROM ferry.verification WHERE relation = 't'::regclass AND peer = 'b'"), '40|80', 'and counted');
same('lost rows');
is(ferry_verify($a, ''), '', 'then all is equal');

ferry_plant($a, 'DELETE FROM r WHERE v BETWEEN 100 AND 120; DELETE FROM l WHERE v < 30');
is(ferry_verify($b, "peer => 'a'"), "a|l|29|29|0|0|\na|r|20|20|0|0|", 'what the peer has lost is repaired there');
same('rows lost there');

ferry_plant($c, 'DELETE FROM ' . ferry_tombstones($c, 't'));
is(ferry_verify($c, "'t', 'a'"), 'a|t|100|100|0|0|', 'lost tombstones are repaired');
same('lost tombstones');

# --- old versions come back ---

$a->safe_psql('postgres', "CREATE TABLE dump AS SELECT * FROM t WHERE id <= 1000");
$b->safe_psql('postgres', "UPDATE t SET b = 'later' WHERE id <= 1000 AND id % 2 = 0; DELETE FROM t WHERE id <= 1000 AND id % 10 = 1; INSERT INTO t VALUES (1, 'new', 6001, 1)");
ferry_settle_all(@node);
ferry_plant($a, 'DELETE FROM t; INSERT INTO t SELECT * FROM dump; DELETE FROM ' . ferry_tombstones($a, 't'));
my $report = ferry_verify($a, "'t', 'b'");
like($report, qr/^b\|t\|(\d+)\|\1\|0\|0\|$/, 'a table restored from an old dump is repaired');
same('an old dump');

# --- metadata lost ---

ferry_plant($a, "UPDATE t SET _ferry = (SELECT _ferry FROM dump WHERE id = 12) WHERE id IN (2002, 2003)");
$report = ferry_verify($b, "'t', 'a'");
like($report, qr/^a\|t\|2\|2\|/, 'lost metadata is repaired');
same('lost metadata');

# --- a value changed under an unchanged version ---

ferry_plant($b, "UPDATE t SET b = 'rotten' WHERE id = 3001; UPDATE p SET v = 'rotten' WHERE id = 301");
is(ferry_verify($a, ''), '', 'a value changed behind our back does not show in the versions');
is(ferry_verify($a, 'deep => true, repair => false'), "b|p|1|0|1|0|\nb|t|1|0|1|0|", 'but in the values');
is(ferry_verify($b, "peer => 'a', deep => true"), "a|p|1|1|1|0|\na|t|1|1|1|0|", 'the node that stands alone is outvoted');
is($b->safe_psql('postgres', "SELECT local_row->>'b', remote_row->>'b', winner, rule, columns FROM ferry.conflicts WHERE relation = 'public.t' ORDER BY id DESC LIMIT 1"),
	'rotten|b3001|remote|majority|{b}', 'with both images on record');
same('a majority');
is($c->safe_psql('postgres', 'SELECT b FROM t WHERE id = 3001'), 'b3001', 'the rotten value is gone');
is(ferry_verify($c, 'deep => true'), '', 'values are equal');

ferry_plant($c, "ALTER TABLE t DROP CONSTRAINT t_a_check; UPDATE t SET a = 2000000 WHERE id = 3002; ALTER TABLE t ADD CONSTRAINT t_a_check CHECK (a < 1000000) NOT VALID");
is(ferry_verify($a, "'t', 'c', deep => true"), 'c|t|1|1|1|0|', 'a side that violates its constraints loses');
is($a->safe_psql('postgres', "SELECT winner, rule FROM ferry.conflicts ORDER BY id DESC LIMIT 1"), 'local|constraints', 'and the record says why');
same('constraints');

# two nodes alone cannot tell
for my $n ($a, $b) { $n->safe_psql('postgres', "SELECT ferry.drop_peer('c')"); }
ferry_plant($b, "UPDATE t SET b = 'rotten' WHERE id IN (3005, 3004)");
is(ferry_verify($a, "'t', 'b', deep => true"), 'b|t|2|0|2|0|', 'where nobody can tell it is left');
is(ferry_verify($a, "'t', 'b', deep => true"), 'b|t|2|0|2|0|', 'and found again');
is($a->safe_psql('postgres', "SELECT count(*) FROM ferry.conflicts WHERE winner = 'none'"), '2', 'but recorded once');
$a->safe_psql('postgres', q{SELECT ferry.heal('t', '{"id": 3005}', 'local')});
$b->safe_psql('postgres', q{SELECT ferry.heal('t', '{"id": 3004}', 'local', 'a')});
ferry_settled($_) for $a, $b;
my $healed = "SELECT id, b FROM t WHERE id IN (3005, 3004) ORDER BY id";
is($_->safe_psql('postgres', $healed), "3004|rotten\n3005|b3005", 'ferry.heal makes the choice a write') for $a, $b;
is(ferry_verify($a, "'t', 'b', deep => true"), '', 'and both are equal');
my ($rc, $out, $err) = $a->psql('postgres', q{SELECT ferry.heal('t', '{"id": 3005}', 'local')});
like($err, qr/no undecided divergence/, 'nothing is left to heal');

# --- beyond repair ---

ferry_plant($a, "DELETE FROM t WHERE id = 3010; ALTER TABLE t ADD CONSTRAINT no_3010 CHECK (id <> 3010)");
is(ferry_verify($a, "'t', 'b'"), 'b|t|1|0|0|0|', 'a row that cannot be merged is no repair');
is($a->safe_psql('postgres', "SELECT key->>'id' FROM ferry.quarantine"), '3010', 'it is in quarantine');
is(ferry_verify($a, "'t', 'b'"), 'b|t|1|0|0|0|', 'it still counts as differing');
is($a->safe_psql('postgres', "SELECT count(*) FROM ferry.quarantine"), '1', 'but waits once');
$a->safe_psql('postgres', "ALTER TABLE t DROP CONSTRAINT no_3010; SELECT ferry.retry_quarantine()");
is(ferry_verify($a, "'t', 'b'"), '', 'once the cause is gone all is equal');

# --- the schedule ---

ferry_plant($a, 'DELETE FROM t WHERE id = 3020');
$a->append_conf('postgresql.conf', "ferry.verify_interval = 1\nferry.verify_cost_limit = 1\nferry.verify_cost_delay = 1");
$a->reload;
ok($a->poll_query_until('postgres', 'SELECT count(*) = 1 FROM t WHERE id = 3020'), 'the verifier comes by schedule');
ok($a->poll_query_until('postgres', "SELECT next_run > now() - interval '1 min' AND last_run IS NOT NULL AND error IS NULL FROM ferry.verification WHERE relation = 't'::regclass"), 'and says when again');
like(slurp_file($a->logfile), qr/WARNING: .*1 rows of table "t" diverged between this node and peer "b"/, 'a divergence is in the log');
$_->stop for @node;
done_testing();
