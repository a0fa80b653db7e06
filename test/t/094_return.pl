# A peer comes back whose slot was invalidated by the server, or dropped by hand: it
# copies what it lacks, only that, and goes on by itself.  What waits in quarantine
# with the only node that has it is part of what others copy.  A former member's
# last writes are held by all in the end, and are not copied again and again.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my %node = map { $_ => ferry_cluster($_, "ferry.housekeeping_ms = 200\nferry.verify_interval = 0\nferry.verify_deep_interval = 0\n") } qw(a b c d);
sub one { my ($n, $sql) = @_; return $node{$n}->safe_psql('postgres', $sql); }
for my $n (qw(a b c d))
{
	ferry_node($node{$n}, $n);
	one($n, $n eq 'a' ? "CREATE TABLE t (id int PRIMARY KEY, v text); SELECT ferry.add_table('t'); INSERT INTO t SELECT i, 'of a' FROM generate_series(1, 2000) i"
		: "SET client_min_messages = warning; SELECT ferry.join('" . ferry_dsn($node{a}) . "')");
	is(one($n, "SELECT ferry.wait_for_join('120 s')"), 't', "$n has joined") if $n ne 'a';
}
sub equal_on { my ($what, @n) = @_; return ferry_equal($what, 'SELECT * FROM t', map { $node{$_} } @n); }
equal_on('begin', qw(a b c d));

# what each holds of the others is on record: what comes next is all that it will lack
sub on_record
{
	my (@n) = @_;
	my $token = one('a', 'SELECT ferry.token()');
	for my $n (@n) { $node{$n}->poll_query_until('postgres', "SELECT ferry.wait_for('$token', '10 s')") or return 0; }
	for my $n (@n) { $node{$n}->poll_query_until('postgres', "SELECT bool_and(lacks_writes_of IS NULL) FROM ferry.nodes WHERE NOT is_dropped") or return 0; }
	return 1;
}
ok(on_record(qw(a b c d)), 'all know that all hold all');

# --- a slot that the server invalidates ---

$node{a}->append_conf('postgresql.conf', "max_slot_wal_keep_size = '1MB'\nferry.max_slot_wal = -1\n");
$node{a}->reload;
one('c', "SELECT ferry.pause_peer('a')");
$node{a}->poll_query_until('postgres', "SELECT kept_state = 'away' FROM ferry.lag WHERE peer = 'c'");
one('a', "UPDATE t SET v = 'while c was away' WHERE id BETWEEN 100 AND 109; DELETE FROM t WHERE id = 110");
ok($node{a}->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_replication_slots WHERE active AND wal_status <> 'reserved'"), 'the others have fetched it');
one('a', "CREATE TABLE ballast AS SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 20000) i");
one('a', 'SELECT pg_switch_wal(); CHECKPOINT; SELECT pg_switch_wal(); CHECKPOINT');
ok($node{a}->poll_query_until('postgres', "SELECT kept_state = 'will resync' FROM ferry.lag WHERE peer = 'c'"), 'the server has invalidated the slot, and the view says so');
$node{a}->append_conf('postgresql.conf', "max_slot_wal_keep_size = -1\n");
$node{a}->reload;
one('c', "SELECT ferry.resume_peer('a')");
equal_on('invalidated slot', qw(a b c d));
is(one('c', "SELECT count(*) FROM t WHERE v = 'while c was away'"), '10', 'it has what it missed');
is(one('c', "SELECT rows FROM ferry.progress WHERE peer = 'a'"), '11', 'and nothing else was copied');

# --- a slot dropped by hand ---

ok(on_record(qw(a b c d)), 'on record again');
one('c', "SELECT ferry.pause_peer('b')");
$node{b}->poll_query_until('postgres', "SELECT kept_state = 'away' FROM ferry.lag WHERE peer = 'c'");
one('b', 'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active');
one('b', "UPDATE t SET v = 'while paused' WHERE id = 112");
one('c', "SELECT ferry.resume_peer('b')");
equal_on('slot dropped by hand', qw(a b c d));
is(one('c', "SELECT rows FROM ferry.progress WHERE peer = 'b'"), '1', 'one row was missed, one was copied');

# --- d writes what b cannot merge, nobody else gets it, and d dies ---

my $d = one('d', 'SELECT node_id FROM ferry.local_node');
for my $n (qw(a c))
{
	one($n, "SELECT ferry.pause_peer('d')");
	$node{$n}->poll_query_until('postgres', "SELECT pid IS NULL FROM ferry.lag WHERE peer = 'd'");
}
one('b', "ALTER TABLE t ADD CONSTRAINT short CHECK (length(v) < 30)");
one('d', "INSERT INTO t SELECT i, 'last of d' FROM generate_series(3001, 3050) i; INSERT INTO t VALUES (3100, repeat('long', 20)); DELETE FROM t WHERE id = 500");
ok($node{b}->poll_query_until('postgres', 'SELECT (SELECT count(*) = 1 FROM ferry.quarantine) AND (SELECT count(*) = 0 FROM t WHERE id = 500)'), 'one of the writes waits in quarantine at b');
$node{d}->stop('immediate');
one('a', "SELECT ferry.drop_node('d')");
for my $n (qw(a c))
{
	ok($node{$n}->poll_query_until('postgres', "SELECT count(*) = 51 FROM t WHERE id > 3000"), "$n has got them all from b, what waits in quarantine there, too");
}
one('b', 'ALTER TABLE t DROP CONSTRAINT short; SELECT ferry.retry_quarantine()');
equal_on('dropped', qw(a b c));

# --- and then it is known that everybody holds all that there is of a former member ---

ok($node{a}->poll_query_until('postgres', "SELECT count(*) = 3 FROM ferry.holding h WHERE h.vector ~ '(^|,)$d:' AND h.node_id <> $d"), 'all members say what they hold of the former one');
one('c', "SELECT ferry.pause_peer('b')");
$node{b}->poll_query_until('postgres', "SELECT kept_state = 'away' FROM ferry.lag WHERE peer = 'c'");
one('b', 'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active');
one('b', "UPDATE t SET v = 'once more' WHERE id = 113");
one('c', "SELECT ferry.resume_peer('b')");
equal_on('after a drop', qw(a b c));
is(one('c', "SELECT rows FROM ferry.progress WHERE peer = 'b'"), '1', 'the writes of the former member are not copied again');

$_->stop for values %node;
done_testing();
