# Large transactions that were committed before their commit is decoded leave in parts
# (src/send/early.c): what arrives is the same, nobody sees half of it, and where it
# does not work out they come whole.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

# parts of 16 kB
my %node = map { $_ => ferry_cluster($_, "logical_decoding_work_mem = 1MB\nautovacuum = off\n") } qw(a b);
sub one { my ($n, $sql) = @_; return $node{$n}->safe_psql('postgres', $sql); }
my @tables = qw(t doc seat child);
for my $n (sort keys %node)
{
	ferry_node($node{$n}, $n);
	one($n, "CREATE TABLE t (id bigint PRIMARY KEY, a int, b text);
		CREATE TABLE doc (id int PRIMARY KEY, body text, n int);
		ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;
		CREATE TABLE seat (id int PRIMARY KEY, seat int NOT NULL, UNIQUE (seat) DEFERRABLE);
		CREATE TABLE child (id int PRIMARY KEY, t bigint REFERENCES t ON DELETE CASCADE);
		SELECT ferry.add_table(x) FROM unnest('{t,doc,seat,child}'::regclass[]) x");
}
ferry_link($node{b}, $node{a}, 'a');
ferry_link($node{a}, $node{b}, 'b');
ok(ferry_settled($node{$_}), 'linked') for qw(a b);

sub pause { one('b', "SELECT ferry.pause_peer('a')"); $node{b}->poll_query_until('postgres', "SELECT state = 'paused' FROM ferry.lag") or die 'not paused'; return; }
sub resume { one('b', "SELECT ferry.resume_peer('a')"); return; }
# transactions that left in parts, and parts, so far
sub left { return split /\|/, one('a', "SELECT coalesce(sum(stream_txns), 0), coalesce(sum(stream_count), 0), coalesce(sum(spill_txns), 0) FROM pg_stat_replication_slots"); }
# the server tells its statistics at the end of a transaction's decoding
sub left_since
{
	my ($txns, $parts) = @_;
	$node{a}->poll_query_until('postgres', "SELECT sum(stream_txns) >= $txns AND sum(stream_count) >= $parts FROM pg_stat_replication_slots");
	return left();
}
sub same { my ($name) = @_; ferry_equal("$name: $_", "SELECT * FROM $_", map { $node{$_} } qw(a b)) for @tables; return; }
sub sessions { return map { $node{a}->background_psql('postgres') } 1 .. $_[0]; }
my $errors = sub { return one('b', "SELECT count(*) FROM ferry.quarantine") + one('b', "SELECT count(*) FROM ferry.conflicts"); };

# one transaction with all kinds of changes; others, some of rows that it goes on to write, between
one('a', "INSERT INTO t SELECT i, i, 'row ' || i FROM generate_series(1, 1000) i; INSERT INTO seat SELECT i, i FROM generate_series(1, 3000) i");
ok(ferry_settled($node{a}), 'settled');
pause();
my ($x, $y) = sessions(2);
$x->query_safe("BEGIN; INSERT INTO t SELECT i, i, 'row ' || i FROM generate_series(10001, 14000) i;
	INSERT INTO doc SELECT i, repeat(md5(i::text), 200), i FROM generate_series(1, 60) i");
$y->query_safe("UPDATE t SET a = -a, b = 'y' WHERE id <= 500; INSERT INTO t SELECT i, 0, 'y' FROM generate_series(20001, 20100) i");
$x->query_safe("SET CONSTRAINTS ALL DEFERRED; UPDATE t SET a = a + 1 WHERE id <= 700; UPDATE seat SET seat = seat + 1 WHERE id <= 1500; INSERT INTO child SELECT i, i FROM generate_series(10001, 12000) i");
$y->query_safe("INSERT INTO seat VALUES (5001, 9001); BEGIN; INSERT INTO t SELECT i, 0, 'y' FROM generate_series(30001, 30400) i");
$x->query_safe("UPDATE seat SET seat = seat + 1 WHERE id BETWEEN 1501 AND 3000; SAVEPOINT s; UPDATE t SET b = 'gone'; DELETE FROM t WHERE id > 11000; INSERT INTO doc SELECT i, repeat('gone', 3000), i FROM generate_series(101, 130) i; ROLLBACK TO s; RELEASE s;
	SAVEPOINT s2; DELETE FROM t WHERE id BETWEEN 12001 AND 13000; RELEASE s2;
	INSERT INTO t SELECT i, 1, 'again' FROM generate_series(12901, 15000) i ON CONFLICT (id) DO UPDATE SET a = -1;
	COPY (SELECT i, repeat(md5((i + 7)::text), 300), i FROM generate_series(201, 1500) i) TO '" . $node{a}->basedir . "/doc'; COPY doc FROM '" . $node{a}->basedir . "/doc';
	UPDATE doc SET n = n + 1; COMMIT");
$y->query_safe("UPDATE t SET a = 5 WHERE id BETWEEN 10001 AND 10100; COMMIT");
my @before = left();
resume();
ok(ferry_settled($node{a}), 'settled');
my @after = left_since($before[0] + 1, $before[1] + 20);
cmp_ok($after[0] - $before[0], '>=', 1, 'transactions left in parts: ' . ($after[0] - $before[0]));
cmp_ok($after[1] - $before[1], '>=', 20, 'in many: ' . ($after[1] - $before[1]));
same('the same after it');
is($errors->(), 0, 'nothing in quarantine, no conflict');

# rows that come several to a record, some with values out of line, which come before the first of such records
pause();
one('a', "COPY (SELECT i, repeat(md5((i + 9)::text), CASE WHEN i % 3000 < 40 THEN 100 + i % 200 ELSE 3 END), i FROM generate_series(10001, 20000) i) TO '" . $node{a}->basedir . "/doc2'");
one('a', "COPY doc FROM '" . $node{a}->basedir . "/doc2'");
@before = left();
resume();
ok(ferry_settled($node{a}), 'settled');
@after = left_since($before[0] + 1, 0);
cmp_ok($after[1] - $before[1], '>', 5, 'a COPY with some large values leaves in parts: ' . ($after[1] - $before[1]));
same('the same after COPY');

# values out of line that replace others: what is deleted stands between the new value and its row
pause();
one('a', "UPDATE doc SET body = repeat(md5((id + 1)::text), 100) WHERE id < 200; UPDATE doc SET body = repeat(md5((id + 2)::text), 90), n = -n");
resume();
ok(ferry_settled($node{a}), 'settled');
same('the same after values were replaced');

# nobody sees half of one, nor what came with its parts before it is over
one('a', "TRUNCATE t CASCADE");
ok(ferry_settled($node{a}), 'settled');
pause();
one('a', "BEGIN; INSERT INTO t SELECT i, i, 'x' FROM generate_series(1, 30000) i; COMMIT; BEGIN; DELETE FROM t WHERE id > 10000; UPDATE t SET a = 0; COMMIT");
@before = left();
my $reader = $node{b}->background_psql('postgres', on_error_stop => 0);
$reader->query_until(qr/go/, "\\echo go
DO \$\$
DECLARE c bigint; z bigint; seen text[] := '{}'; until timestamptz := clock_timestamp() + interval '120 s';
BEGIN
	LOOP
		SELECT count(*), count(*) FILTER (WHERE a = 0) INTO c, z FROM t;
		IF NOT (c || ' ' || z) = ANY (seen) THEN seen := seen || (c || ' ' || z); END IF;
		EXIT WHEN c = 10000 AND z = 10000 OR clock_timestamp() > until;
		COMMIT;
	END LOOP;
	RAISE NOTICE 'seen: %', seen;
END \$\$;\n");
resume();
ok(ferry_settled($node{a}), 'settled');
$reader->quit;
like($reader->{stderr}, qr/seen: \{("0 0",)?("30000 0",)?"10000 10000"\}/, 'a reader saw whole transactions');
@after = left_since($before[0] + 2, 0);
cmp_ok($after[0] - $before[0], '>=', 2, 'which left in parts');
cmp_ok($after[1] - $before[1], '>', 20, 'and in many');
same('the same');

# what is in progress is not sent; the memory limit puts it on disk as ever
my $start = -s $node{b}->logfile;
$x->query_safe("BEGIN; UPDATE t SET b = 'in progress'");
one('a', "INSERT INTO seat VALUES (6001, 6001)");
ok(ferry_settled($node{a}), 'settled beside one in progress');
my @now = left();
cmp_ok($now[2], '>', $after[2], 'it is on disk');
unlike(slurp_file($node{b}->logfile, $start), qr/long in coming/, 'and nobody waited for it');
$x->query_safe("ROLLBACK");

# ended halfway by crashes of either side, and of the link
pause();
one('a', "UPDATE t SET b = b || ' halfway'; DELETE FROM t WHERE id <= 2000; INSERT INTO doc SELECT i, repeat(md5(i::text), 100), 0 FROM generate_series(3001, 5000) i");
for my $who (qw(link b a))
{
	# held up by a row that somebody has locked, so that it is open for certain
	my $lock = $node{b}->background_psql('postgres');
	$lock->query_safe("BEGIN; SELECT 1 FROM t WHERE id = 9000 FOR UPDATE");
	resume();
	ok($node{b}->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name LIKE 'ferry link%' AND wait_event_type = 'Lock'"), "open when $who ends");
	if ($who eq 'link')
	{
		one('b', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'ferry link%'");
		pause();
		$lock->query_safe("ROLLBACK");
		$lock->quit;
		next;
	}
	$node{$who}->stop('immediate');
	$node{$who}->start;
	if ($who eq 'b') { eval { $lock->quit }; pause(); next; }
	$lock->query_safe("ROLLBACK");
	$lock->quit;
}
ok(ferry_settled($node{a}), 'settled');
same('the same after crashes');
is($errors->(), 0, 'nothing in quarantine, no conflict');

# an hour between its parts: the receiver does not keep locks for that long
pause();
($x) = sessions(1);
$x->query_safe("BEGIN; UPDATE t SET b = 'long' WHERE id <= 6000");
my $pid = one('a', "SELECT pid FROM pg_stat_replication LIMIT 1");
one('a', "CREATE TABLE other (i int, b text); INSERT INTO other SELECT i, repeat('x', 400) FROM generate_series(1, 1500000) i");
$x->query_safe("UPDATE t SET b = 'long' WHERE id > 6000; COMMIT");
my $from = -s $node{b}->logfile;
resume();
ok(ferry_settled($node{a}), 'settled');
my $log = slurp_file($node{b}->logfile, $from);
like($log, qr/large transaction of peer "a" is long in coming/, 'the link began anew');
same('the same after it');
is(one('b', "SELECT count(*) FROM t WHERE b = 'long'"), one('a', "SELECT count(*) FROM t"), 'it is there');

# its commit has an origin, its rows had none: not for this receiver, who had got it in parts
pause();
one('a', "SELECT pg_replication_origin_create('elsewhere')");
one('a', "BEGIN; UPDATE t SET b = 'not yours'; SELECT pg_replication_origin_session_setup('elsewhere'); COMMIT");
one('a', "INSERT INTO seat VALUES (7001, 7001)");
$from = -s $node{b}->logfile;
resume();
ok($node{b}->poll_query_until('postgres', "SELECT count(*) = 1 FROM seat WHERE id = 7001"), 'the link goes on');
like(slurp_file($node{b}->logfile, $from), qr/its commit is not for this receiver/, 'it had left in parts');
is(one('b', "SELECT count(*) FROM t WHERE b = 'not yours'"), '0', 'and was not merged');
$_->quit for $y;
done_testing();
