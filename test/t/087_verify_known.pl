# Big tables that nobody has touched are not read again by the schedule; whatever is
# planted in them behind ferry's back is found all the same, on either side.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use FerryNodes;

# VACUUM comes when the test says so
my @node = map { ferry_cluster($_, "ferry.verify_interval = 0\nferry.verify_deep_interval = 0\nferry.housekeeping_ms = 200\nferry.prune_after = -1\nautovacuum = off\n") } qw(a b);
my ($a, $b) = @node;
my @name = qw(a b);
my $rows = 30000;
for my $i (0, 1)
{
	ferry_node($node[$i], $name[$i]);
	$node[$i]->safe_psql('postgres', q{
		CREATE TABLE t (id int PRIMARY KEY, v text, filler text);
		CREATE TABLE p (id bigint, part int, v text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
		CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
		CREATE TABLE p2 (v text, part int NOT NULL, id bigint NOT NULL);
		ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2);
		CREATE TABLE small (id int PRIMARY KEY);
		CREATE EXTENSION pg_visibility;
		SELECT ferry.add_table('t'), ferry.add_table('p'), ferry.add_table('small')});
}
ferry_link($a, $b, 'b');
ferry_link($b, $a, 'a');
ok(ferry_meshed(@node), 'both stream');
$_->poll_query_until('postgres', 'SELECT NOT bool_or(is_new) FROM ferry.registered_table') for @node;
$a->safe_psql('postgres', "INSERT INTO t SELECT i, 'v' || i, repeat('x', 60) FROM generate_series(1, $rows) i;
	INSERT INTO p SELECT i, 1 + i % 2, repeat('p', 70) FROM generate_series(1, 50000) i; INSERT INTO small VALUES (1)");
ferry_settled($_) for @node;

sub schedule
{
	my ($n, $s) = @_;
	$n->safe_psql('postgres', $_) for "ALTER SYSTEM SET ferry.verify_interval = $s", 'SELECT pg_reload_conf()';
	return;
}
# the next run by schedule that begins and ends from now on: what it found of a table
sub next_run
{
	my ($n, $table, $columns) = @_;
	my $from = $n->safe_psql('postgres', 'SELECT clock_timestamp()');
	schedule($n, 1);
	# of all tables: the last one tells that it has come to its end
	$n->poll_query_until('postgres', "SELECT min(last_run) > '$from' FROM ferry.verification") or fail('no run came');
	my $found = $n->safe_psql('postgres', "SELECT $columns FROM ferry.verification WHERE relation = '$table'::regclass");
	schedule($n, 0);
	$n->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'ferry verifier')");
	return $found;
}
my $all_visible = "SELECT sum((pg_visibility_map_summary(r::regclass)).all_visible) = sum(pg_relation_size(r::regclass) / 8192) FROM unnest('{t,p1,p2}'::text[]) r";
# VACUUM has been by, and a run after it has read everything
sub known
{
	my ($n) = @_;
	ferry_settled($_) for @node;
	for my $m (@node)
	{
		# a page with a dead entry that an index may still point to is not visible to all, nor are
		# rows that a transaction still running might not see
		for (1 .. 100)
		{
			$m->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP on) t, p');
			last if $m->safe_psql('postgres', $all_visible) eq 't';
			usleep(50_000);
		}
		is($m->safe_psql('postgres', $all_visible), 't', 'all is visible to all');
	}
	next_run($n, 't', 1);
	return next_run($n, 't', 'rows_known, differing, undecided, error IS NULL');
}
sub differing { my ($n, $table) = @_; return next_run($n, $table, 'differing, repaired, undecided'); }

# --- what nobody touches is not read again ---

is(known($a), "$rows|0|0|t", 'a table that nobody has touched is not read again');
is($a->safe_psql('postgres', "SELECT rows_known, rows_compared, ranges, differing FROM ferry.verification WHERE relation = 'p'::regclass"), '50000|50000|1|0', 'nor are partitions');
is($a->safe_psql('postgres', "SELECT rows_known, rows_compared FROM ferry.verification WHERE relation = 'small'::regclass"), '0|1', 'a small one is not worth it');
is($a->safe_psql('postgres', "SELECT bool_and(proven_equal_at = last_run OR proven_equal_at > last_run) FROM ferry.verification"), 't', 'and is proven equal as of now');
is($a->safe_psql('postgres', "SET client_min_messages = error; SELECT rows_known, rows_compared FROM ferry.verify('t')"), "0|$rows", 'on demand all is read');
is($a->safe_psql('postgres', "SET client_min_messages = error; SELECT rows_known, rows_compared FROM ferry.verify('t', deep => true)"), "0|$rows", 'and where values are compared');
is(known($b), "$rows|0|0|t", 'each node that asks knows for itself');

# --- an ordinary write ---

$b->safe_psql('postgres', "UPDATE t SET v = 'new' WHERE id = 77");
ferry_settled($_) for @node;
is(next_run($a, 't', 'rows_known, differing'), '0|0', 'after a write all is read');
is(known($a), "$rows|0|0|t", 'until VACUUM has been by, and it is read once more');

# --- whatever is planted is found, here and there ---

my @planted = (
	[ 'rows deleted', sub { ferry_plant($_[0], 'DELETE FROM t WHERE id BETWEEN 11 AND 15') }, '5|5|0' ],
	[ 'rows deleted, and VACUUM has been by', sub { ferry_plant($_[0], 'DELETE FROM t WHERE id BETWEEN 21 AND 25'); $_[0]->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP on) t') }, '5|5|0' ],
	[ 'the last rows deleted, and the file is cut', sub { ferry_plant($_[0], "DELETE FROM t WHERE id > $rows - 500"); $_[0]->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP on) t') }, '500|500|0' ],
	[ 'a version put back', sub { ferry_plant($_[0], "UPDATE t SET _ferry = (SELECT _ferry FROM t WHERE id = 1) WHERE id = 77"); }, '1|1|0' ],
	[ 'the same, and VACUUM has been by', sub { ferry_plant($_[0], "UPDATE t SET _ferry = (SELECT _ferry FROM t WHERE id = 1) WHERE id = 77"); $_[0]->safe_psql('postgres', 'VACUUM (FREEZE, INDEX_CLEANUP on) t') }, '1|1|0' ],
	[ 'a table restored from a dump', sub { ferry_plant($_[0], "CREATE TABLE old AS SELECT * FROM t WHERE id <> 33; DELETE FROM t; INSERT INTO t SELECT * FROM old; DROP TABLE old"); $_[0]->safe_psql('postgres', 'VACUUM (FULL, FREEZE) t') }, '1|1|0' ],
	[ 'rows deleted before a crash', sub { ferry_plant($_[0], 'DELETE FROM t WHERE id BETWEEN 41 AND 45'); $_[0]->stop('immediate'); $_[0]->start; ferry_meshed(@node) }, '5|5|0' ]);
for my $i (0 .. $#planted * 2 + 1)
{
	# in turn here and there; all of them on both sides with MORE=1
	my ($what, $how, $found) = @{ $planted[ $i / 2 ] };
	my ($n, $where) = @{ ([ $a, 'here' ], [ $b, 'there' ])[ $i % 2 ] };
	next if !$ENV{MORE} && $i % 2 != ($i >> 1) % 2;
	is(known($a), "$rows|0|0|t", "$where: all is known");
	$how->($n);
	is(differing($a, 't'), $found, "$where: $what: found");
	is($_->safe_psql('postgres', 'SELECT count(*) FROM t'), $rows, "$where: mended") for @node;
}
known($a);
ferry_plant($b, 'DELETE FROM p2 WHERE id = 501');
is(differing($a, 'p'), '1|1|0', 'found in a partition');
ferry_plant($a, 'DELETE FROM small');
is(differing($a, 'small'), '1|1|0', 'and in a small table');

# --- what is on record is no matter of trust ---

is(known($a), "$rows|0|0|t", 'all is known');
$a->safe_psql('postgres', "UPDATE ferry.verify_known SET parts = substr(parts, 1, 30)");
is(next_run($a, 't', 'rows_known, differing, error IS NULL'), '0|0|t', 'a record that is damaged is none');
$b->safe_psql('postgres', "DELETE FROM ferry.verify_known");
is(next_run($a, 't', 'rows_known, differing, error IS NULL'), '0|0|t', 'nor need there be one at the peer');
is(next_run($a, 't', 'rows_known'), $rows, 'then all is known again');
$a->safe_psql('postgres', "INSERT INTO ferry.verify_known SELECT asker, 1, parts FROM ferry.verify_known LIMIT 1; INSERT INTO ferry.verify_known SELECT 1, relid, parts FROM ferry.verify_known WHERE relid <> 1 LIMIT 1");
$a->safe_psql('postgres', "UPDATE ferry.verify_key SET since = since - interval '2 days'");
is(next_run($a, 't', 'rows_known, differing'), '0|0', 'nothing is known for longer than a day');
is($a->safe_psql('postgres', "SELECT count(*), max(since) > now() - interval '1 hour' FROM ferry.verify_key"), '1|t', 'then the hash key is another');
is($a->safe_psql('postgres', 'SELECT count(*) FROM ferry.verify_known WHERE relid = 1 OR asker = 1'), '0', 'records of tables and of nodes that are gone go');
$_->stop for @node;
done_testing();
