# A node leaves for good: ferry.drop_node at one member takes it out everywhere,
# what any member holds of its writes reaches all, and it is refused if it comes
# back.  A peer that is away for too long loses its slot, not its place: it
# copies what it lacks and goes on by itself.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my %node = map { $_ => ferry_cluster($_, "ferry.housekeeping_ms = 200\n") } qw(a b c d);
sub one { my ($n, $sql) = @_; return $node{$n}->safe_psql('postgres', $sql); }
sub error_of { my ($n, $sql) = @_; return ferry_error($node{$n}, $sql); }
sub settled_links { return ferry_meshed(map { $node{$_} } @_); }
sub equal_on { my ($what, @n) = @_; return ferry_equal($what, 'SELECT * FROM t', map { $node{$_} } @n); }
for my $n (qw(a b c d))
{
	ferry_node($node{$n}, $n);
	one($n, $n eq 'a' ? "CREATE TABLE t (id int PRIMARY KEY, v text); SELECT ferry.add_table('t'); INSERT INTO t SELECT i, 'of a' FROM generate_series(1, 1000) i"
		: "SET client_min_messages = warning; SELECT ferry.join('" . ferry_dsn($node{a}) . "')");
	is(one($n, "SELECT ferry.wait_for_join('120 s')"), 't', "$n has joined") if $n ne 'a';
}
ok(settled_links(qw(a b c d)), 'a mesh of four');

# --- d dies when its last writes have reached b only; c has yet to hear of it ---

my $d = one('d', 'SELECT node_id FROM ferry.local_node');
for my $n (qw(a c))
{
	one($n, "SELECT ferry.pause_peer('d')");
	$node{$n}->poll_query_until('postgres', "SELECT pid IS NULL FROM ferry.lag WHERE peer = 'd'");
}
one('d', "INSERT INTO t SELECT i, 'last of d' FROM generate_series(2001, 2100) i; UPDATE t SET v = 'changed by d' WHERE id <= 10; DELETE FROM t WHERE id = 20");
$node{b}->poll_query_until('postgres', 'SELECT count(*) = 0 FROM t WHERE id = 20');
$node{d}->stop('immediate');
$node{c}->stop;
is(one('a', "SELECT count(*) FROM t WHERE v LIKE '%of d'"), '0', 'nobody but b has them');
like(error_of('a', "SELECT ferry.drop_node('nobody')"), qr/42704: node "nobody" does not exist/, 'who can be dropped');
one('a', "SELECT ferry.drop_node('d')");
like(error_of('a', "SELECT ferry.drop_node('d')"), qr/42704: node "d" has been dropped already/, 'once');
$node{c}->start;
equal_on('dropped', qw(a b c));
is(one('c', "SELECT count(*) FROM t WHERE v = 'last of d'") . ' ' . one('c', "SELECT count(*) FROM t WHERE v = 'changed by d'") . ' ' . one('c', 'SELECT count(*) FROM t WHERE id = 20'),
	'100 10 0', 'what reached one has reached all: inserts, updates, deletes');
for my $n (qw(a b c))
{
	is(one($n, "SELECT is_dropped FROM ferry.nodes WHERE node_id = $d"), 't', "$n knows that d was dropped");
	ok($node{$n}->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_replication_slots WHERE slot_name LIKE '%' || lpad(to_hex($d), 8, '0')"), "$n keeps no slot for it");
}

# --- it comes back: refused, with a reason, and no zombie rows ---

one('a', "UPDATE t SET v = 'later' WHERE id = 5");
$node{d}->start;
one('d', "INSERT INTO t VALUES (3000, 'zombie')");
ok($node{d}->poll_query_until('postgres', "SELECT count(*) = 3 AND bool_and(last_error LIKE '%was dropped from the group%' AND pid IS NULL) FROM ferry.lag"), 'a dropped node is refused')
	or diag one('d', 'SELECT peer, state, last_error, pid FROM ferry.lag');
like(error_of('d', "SELECT ferry.join('" . ferry_dsn($node{a}) . "')"), qr/55000: peer says: node "d" \(\d+\) was dropped from the group HINT:/, 'also if it wants to join');
like(error_of('a', "SELECT ferry.add_peer('d', '" . ferry_dsn($node{d}) . "')"), qr/55000: node "d" was dropped from the group/, 'nor is it pulled from by hand');
is(one('a', 'SELECT count(*) FROM t WHERE id = 3000'), '0', 'no zombie rows');
$node{d}->stop;

# --- away for too long ---

$node{a}->append_conf('postgresql.conf', "ferry.max_slot_wal = '4MB'");
$node{a}->reload;
is(one('a', "SELECT kept_state FROM ferry.lag WHERE peer = 'c'"), 'streaming', 'the sender knows who fetches');
$node{c}->stop('immediate');
ok($node{a}->poll_query_until('postgres', "SELECT kept_state = 'away' FROM ferry.lag WHERE peer = 'c'"), 'who is away');
one('a', "UPDATE t SET v = 'while c was away' WHERE id BETWEEN 100 AND 109; DELETE FROM t WHERE id = 110");
one('a', 'CREATE TABLE ballast AS SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 20000) i');
ok($node{a}->poll_query_until('postgres', "SELECT kept_state = 'will resync' FROM ferry.lag WHERE peer = 'c'"), 'and for whom no more log is kept');
is(one('a', "SELECT count(*) FROM pg_replication_slots WHERE NOT active"), '0', 'its slot is gone');
like(slurp_file($node{a}->logfile), qr/replication slot "ferry_[0-9a-f]+_[0-9a-f]+" of ferry node "c" was given up/, 'the log says so');
is(one('a', "SELECT kept_state FROM ferry.lag WHERE peer = 'b'"), 'streaming', 'who fetches is not concerned');
one('b', "UPDATE t SET v = 'of b' WHERE id = 111");
$node{c}->start;
equal_on('returned', qw(a b c));
is(one('c', "SELECT count(*) FROM t WHERE v = 'while c was away'") . one('c', 'SELECT v FROM t WHERE id = 111'), '10of b', 'it has what it missed');
cmp_ok(one('c', "SELECT rows FROM ferry.progress WHERE peer = 'a'"), '<', 500, 'and not the whole table was copied');
ok($node{a}->poll_query_until('postgres', "SELECT kept_state = 'streaming' FROM ferry.lag WHERE peer = 'c'"), 'it streams again');

# --- a slot dropped by hand ---

one('c', "SELECT ferry.pause_peer('b')");
$node{b}->poll_query_until('postgres', "SELECT kept_state = 'away' FROM ferry.lag WHERE peer = 'c'");
one('b', 'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active');
one('b', "UPDATE t SET v = 'while paused' WHERE id = 112");
one('c', "SELECT ferry.resume_peer('b')");
equal_on('slot dropped by hand', qw(a b c));

$_->stop for values %node;
done_testing();
