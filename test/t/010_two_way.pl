# Two nodes: what was there before is copied, what is written on either side
# arrives at the other, tables may come later, and what cannot be merged waits.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

# hostile defaults for whoever connects, on one side only
my $a = ferry_cluster('a', "datestyle = 'German, DMY'\nintervalstyle = 'sql_standard'\n");
my $b = ferry_cluster('b', "datestyle = 'ISO, MDY'\n");
$b->safe_psql('postgres', q{
	CREATE SCHEMA evil;
	CREATE FUNCTION evil.lpad(text, int, text) RETURNS text LANGUAGE sql AS 'SELECT (1/0)::text';
	ALTER DATABASE postgres SET search_path = evil, pg_catalog, public;
	ALTER DATABASE postgres SET default_transaction_isolation = 'serializable';
	ALTER DATABASE postgres SET statement_timeout = '2s';
	ALTER DATABASE postgres SET bytea_output = 'escape'});
my $table = q{
	CREATE TABLE public.t (id int PRIMARY KEY, a int, b text, d timestamptz, i interval, y bytea, j jsonb, n numeric);
	SELECT ferry.add_table('public.t')};
for my $p ([ $a, 'a' ], [ $b, 'b' ])
{
	ferry_node(@$p);
	$p->[0]->safe_psql('postgres', $table);
}
$a->safe_psql('postgres', q{INSERT INTO t SELECT i, i, 'b' || i, '2026-02-03 04:05:06+00'::timestamptz + i * interval '1 day',
	i * interval '1 day 2 hours', '\x00ff', '{"x": 1}', 1.50 FROM generate_series(1, 1000) i});
ferry_link($b, $a, 'a');
ferry_link($a, $b, 'b');

sub rows { my ($n) = @_; return $n->safe_psql('postgres', "SET datestyle = ISO; SET timezone = UTC; SET intervalstyle = postgres; SET bytea_output = hex; SELECT to_jsonb(t) - '_ferry', ferry.version_dot(_ferry) FROM public.t ORDER BY id"); }

$b->poll_query_until('postgres', 'SELECT count(*) = 1000 FROM public.t');
is(rows($b), rows($a), 'what stood before the link is copied');

$b->safe_psql('postgres', "UPDATE public.t SET a = -1 WHERE id <= 10; DELETE FROM public.t WHERE id = 20; INSERT INTO public.t (id) VALUES (2000)");
$a->safe_psql('postgres', "UPDATE t SET b = 'of a' WHERE id <= 10");
ok(ferry_settled($a) && ferry_settled($b), 'both hold all');
is(rows($b), rows($a), 'both sides are the same');
is($a->safe_psql('postgres', "SELECT a || b FROM t WHERE id = 3"), '-1of a', 'columns are merged');
is($a->safe_psql('postgres', 'SELECT count(*) FROM ferry.conflicts'), '0', 'which is no conflict');

# a prepared transaction outlives a crash
$a->append_conf('postgresql.conf', 'max_prepared_transactions = 4');
$a->restart;
$a->safe_psql('postgres', "BEGIN; INSERT INTO t (id, a) VALUES (3000, 1); UPDATE t SET a = 77 WHERE id = 50; PREPARE TRANSACTION 'p'");
$a->stop('immediate');
$b->safe_psql('postgres', 'UPDATE public.t SET a = 51 WHERE id = 51');
$a->start;
$a->safe_psql('postgres', "UPDATE t SET b = 'later' WHERE id = 51; COMMIT PREPARED 'p'");
ok(ferry_settled($a) && ferry_settled($b), 'both hold all after a crash with a prepared transaction');
is($b->safe_psql('postgres', 'SELECT a FROM public.t WHERE id IN (50, 3000) ORDER BY id'), "77\n1", 'what was prepared arrived');
is(rows($b), rows($a), 'both sides are the same');

# a large value that the last write did not touch
$a->safe_psql('postgres', "ALTER TABLE t ALTER b SET STORAGE external; INSERT INTO t (id, a, b) VALUES (4000, 1, repeat('long', 10000))");
$a->safe_psql('postgres', "UPDATE t SET a = 2 WHERE id = 4000");
ferry_settled($a);
is($b->safe_psql('postgres', 'SELECT a || md5(b) FROM public.t WHERE id = 4000'),
	$a->safe_psql('postgres', 'SELECT a || md5(b) FROM t WHERE id = 4000'), 'an unchanged large value stays');

# a table that only one side has: its rows wait; the other side gets it later
$a->safe_psql('postgres', "CREATE TABLE late (id int PRIMARY KEY, v text); SELECT ferry.add_table('late'); INSERT INTO late VALUES (1, 'early')");
ferry_settled($a);
$b->poll_query_until('postgres', 'SELECT count(*) = 1 FROM ferry.quarantine');
like($b->safe_psql('postgres', 'SELECT sqlstate, error FROM ferry.quarantine'), qr/^42P01\|table "public.late" does not exist/, 'a row of a missing table is in quarantine');
$a->safe_psql('postgres', 'UPDATE t SET a = 1234 WHERE id = 100');
ok(ferry_settled($a), 'and the link goes on');
is($b->safe_psql('postgres', 'SELECT a FROM public.t WHERE id = 100'), '1234', 'with the rows after it');
$b->safe_psql('postgres', "CREATE TABLE public.late (v text, id int PRIMARY KEY); SELECT ferry.add_table('public.late')");
$b->poll_query_until('postgres', "SELECT count(*) = 1 FROM public.late");
$b->safe_psql('postgres', 'SELECT ferry.retry_quarantine()');
is($b->safe_psql('postgres', 'SELECT count(*) FROM ferry.quarantine'), '0', 'quarantine is empty again');
is($b->safe_psql('postgres', 'SELECT id, v FROM public.late'), '1|early', 'the table was copied, column order or not');

# pause and resume
$b->safe_psql('postgres', "SELECT ferry.pause_peer('a')");
$b->poll_query_until('postgres', "SELECT pid IS NULL FROM ferry.lag");
$a->safe_psql('postgres', 'UPDATE t SET a = 4321 WHERE id = 100');
is($b->safe_psql('postgres', "SELECT state FROM ferry.lag"), 'paused', 'a paused link says so');
$b->safe_psql('postgres', "SELECT ferry.resume_peer('a')");
ok(ferry_settled($a), 'a resumed link catches up');
is($b->safe_psql('postgres', 'SELECT a FROM public.t WHERE id = 100'), '4321', 'with what was missed');

# a slot that is ahead of its receiver would skip changes silently
$b->safe_psql('postgres', "SELECT ferry.pause_peer('a')");
$b->poll_query_until('postgres', "SELECT pid IS NULL FROM ferry.lag");
$a->safe_psql('postgres', 'UPDATE t SET a = 5555 WHERE id = 101; DELETE FROM t WHERE id = 102');
$a->poll_query_until('postgres', "SELECT NOT active FROM pg_replication_slots WHERE slot_name LIKE 'ferry%'");
$a->safe_psql('postgres', "SELECT pg_replication_slot_advance(slot_name, pg_current_wal_lsn()) FROM pg_replication_slots WHERE slot_name LIKE 'ferry%'");
$b->safe_psql('postgres', "SELECT ferry.resume_peer('a')");
$b->poll_query_until('postgres', 'SELECT a = 5555 FROM public.t WHERE id = 101');
ok(ferry_settled($a), 'a link whose slot ran ahead goes on');
is(rows($b), rows($a), 'and nothing is missed');

# a column comes later: no row moves; _ferry is moved behind it on one side only
sub sent { my ($n) = @_; return $n->safe_psql('postgres', 'SELECT sum(rows) FROM ferry.lag'); }
my $sent = sent($b);
$_->[0]->safe_psql('postgres', "ALTER TABLE public.t ADD COLUMN later int DEFAULT $_->[1]") for [ $a, 7 ], [ $b, 7 ];
$a->safe_psql('postgres', "SELECT ferry.tidy_table('t')");
ok(ferry_settled($a) && ferry_settled($b), 'both hold all after ADD COLUMN and tidy_table');
is(sent($b), $sent, 'neither sends a row');
$a->safe_psql('postgres', "INSERT INTO t SELECT 5000, 1, 'b', NULL, NULL, NULL, NULL, NULL, 8; UPDATE t SET later = 9 WHERE id = 1");
$b->safe_psql('postgres', 'UPDATE public.t SET later = 10 WHERE id = 2; UPDATE public.t SET a = 3 WHERE id = 1');
ok(ferry_settled($a) && ferry_settled($b), 'both hold all');
my $named = 'SELECT id, a, b, later, ferry.version_dot(_ferry) FROM public.t ORDER BY id';
is($b->safe_psql('postgres', $named), $a->safe_psql('postgres', $named), 'both sides are the same, last writers included');

# dropping a link
$b->safe_psql('postgres', "SELECT ferry.drop_peer('a')");
is($a->safe_psql('postgres', "SELECT count(*) FROM pg_replication_slots"), '0', 'drop_peer drops the slot there');
is($b->safe_psql('postgres', "SELECT count(*) FROM pg_replication_origin"), '0', 'and the origin here');
is($b->safe_psql('postgres', "SELECT count(*) FROM ferry.lag"), '0', 'and is gone from ferry.lag');
my ($rc, $out, $err) = $b->psql('postgres', "SELECT ferry.add_peer('c', 'host=/nowhere dbname=postgres')");
like($err, qr/could not connect to peer/, 'a peer that cannot be reached is refused');
($rc, $out, $err) = $b->psql('postgres', "SELECT ferry.add_peer('c', '" . ferry_dsn($a, 'template1') . "')");
like($err, qr/peer does not have this version of ferry/, 'and one without ferry');
$_->stop for $a, $b;
done_testing();
