# A deletion of many rows is two records of the log a row, and a handful a page,
# and arrives; batches of tombstones at the receiver too.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my %node = map { $_ => ferry_cluster($_, "checkpoint_timeout = 1h\nfull_page_writes = off\n") } qw(a b);
sub one { my ($n, $sql) = @_; return $node{$n}->safe_psql('postgres', $sql); }
for my $n (sort keys %node)
{
	ferry_node($node{$n}, $n);
	one($n, "CREATE TABLE t (id bigint PRIMARY KEY, a int, b text); SELECT ferry.add_table('t')");
	one($n, "CREATE TABLE child (id int PRIMARY KEY, t bigint REFERENCES t ON DELETE CASCADE); SELECT ferry.add_table('child')");
}
one('a', "INSERT INTO t SELECT i, i, 'row ' || i FROM generate_series(1, 6000) i; INSERT INTO child SELECT i, i FROM generate_series(1, 3000) i; CREATE INDEX ON child (t)");
ferry_link($node{b}, $node{a}, 'a');
ferry_link($node{a}, $node{b}, 'b');
ok($node{b}->poll_query_until('postgres', "SELECT (SELECT count(*) FROM t) = 6000 AND (SELECT count(*) FROM child) = 3000 AND bool_and(state = 'streaming') FROM ferry.lag"), 'copied');
ok(ferry_settled($node{a}), 'settled');

# records of the log, of everything that is done in between
my ($dir, $bin) = ($node{a}->data_dir, $node{a}->config_data('--bindir'));
sub records
{
	my ($sql) = @_;
	my $from = one('a', "SELECT pg_current_wal_insert_lsn()");
	my $to = one('a', "BEGIN; $sql; COMMIT; SELECT pg_current_wal_flush_lsn()");
	my ($out) = run_command([ "$bin/pg_waldump", '-p', "$dir/pg_wal", '-s', $from, '-e', $to ]);
	return scalar grep { /^rmgr: (Heap2?|Btree) / && !/INSERT_UPPER|PRUNE/ } split /\n/, $out;
}
my $n = records('DELETE FROM t WHERE id > 3000');
cmp_ok($n, '<', 2.2 * 3000, "3000 deletions: $n records");
ok(ferry_settled($node{a}), 'settled');
my $picture = "SELECT count(*), sum(hashtextextended(to_jsonb(t)::text, 0)::numeric) FROM t;
	SELECT count(*), sum(hashtextextended(x::text, 0)::numeric) FROM (SELECT id, s->'last', s->'vv', s->'row', s->'alive' FROM generate_series(1, 6000) id, ferry.state('t', jsonb_build_object('id', id)) s) x;
	SELECT count(*), sum(hashtextextended(x::text, 0)::numeric) FROM (SELECT id, s->'last', s->'alive' FROM generate_series(1, 3000) id, ferry.state('child', jsonb_build_object('id', id)) s) x";
is(one('b', $picture), one('a', $picture), 'the same rows and tombstones');
is(one('b', "SELECT count(*) FROM t"), '3000', 'the rows are gone');

# cascades, deaths and births in turn, births after deaths, in one transaction
one('a', "BEGIN;
	DELETE FROM t WHERE id <= 1000;
	INSERT INTO t SELECT i, -i, 'again' FROM generate_series(500, 1500) i ON CONFLICT DO NOTHING;
	DELETE FROM t WHERE id BETWEEN 700 AND 720;
	WITH d AS (DELETE FROM t WHERE id BETWEEN 2000 AND 2700 RETURNING *) INSERT INTO t SELECT id, a + 1, b FROM d;
	SAVEPOINT s;
	DELETE FROM t;
	ROLLBACK TO s;
	COMMIT");
ok(ferry_settled($node{a}), 'settled');
is(one('b', $picture), one('a', $picture), 'the same rows and tombstones after cascades and births');

# beside each other: both sides bury, one changes, one is born again
one($_, "SELECT ferry.pause_peer(name) FROM ferry.peers") for qw(a b);
one('a', "DELETE FROM t WHERE id BETWEEN 1001 AND 1400");
one('b', "DELETE FROM t WHERE id BETWEEN 1200 AND 1450; UPDATE t SET a = 0 WHERE id BETWEEN 1100 AND 1150; INSERT INTO t VALUES (1300, 1, 'b')");
one('a', "INSERT INTO t VALUES (1310, 2, 'a')");
one($_, "SELECT ferry.resume_peer(name) FROM ferry.peers") for qw(a b);
ok(ferry_settled($node{$_}), "settled $_") for qw(a b a);
is(one('b', $picture), one('a', $picture), 'the same after concurrent deletions');

# rows that cannot be deleted one by one there do not stop the others
one('b', "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
	CREATE TRIGGER refuse BEFORE DELETE ON t FOR EACH ROW WHEN (OLD.id = 2900) EXECUTE FUNCTION refuse();
	ALTER TABLE t ENABLE ALWAYS TRIGGER refuse");
one('a', "DELETE FROM t WHERE id BETWEEN 2850 AND 2950");
$node{b}->poll_query_until('postgres', "SELECT count(*) = 1 FROM ferry.quarantine") or die 'no quarantine';
is(one('b', "SELECT string_agg(id::text, ' ') FROM t WHERE id BETWEEN 2850 AND 2950"), '2900', 'one row waits in quarantine');
one('b', "DROP TRIGGER refuse ON t; SELECT ferry.retry_quarantine()");
ok(ferry_settled($node{a}), 'settled');
is(one('b', $picture), one('a', $picture), 'and is deleted when it can be');
done_testing();
