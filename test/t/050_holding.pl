# What a node holds: a token taken where something was written is waited for
# elsewhere, also through a chain; open and prepared transactions hold it back,
# across a crash too; a delta brings only what is lacking.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my %n;
for my $name (qw(a b c))
{
	$n{$name} = ferry_cluster($name, "max_prepared_transactions = 4\nferry.housekeeping_ms = 200\nautovacuum = off\n");
	ferry_node($n{$name}, $name);
	$n{$name}->safe_psql('postgres', "CREATE TABLE t (id int PRIMARY KEY, v int); SELECT ferry.add_table('t')");
}
my ($a, $b, $c) = @n{qw(a b c)};
$a->safe_psql('postgres', 'INSERT INTO t SELECT i, i FROM generate_series(1, 200) i');
ferry_link($b, $a, 'a', forward => 'all');
ferry_link($a, $b, 'b', forward => 'all');
ferry_link($c, $b, 'b', forward => 'all');
ferry_link($b, $c, 'c', forward => 'all');

sub sql { my ($n, $q) = @_; return $n->safe_psql('postgres', $q); }
sub id { my ($n) = @_; return sql($n, 'SELECT node_id FROM ferry.local_node'); }
sub waits { my ($n, $token, $time) = @_; return sql($n, "SELECT ferry.wait_for('$token', '$time')"); }
my %id = map { $_ => id($n{$_}) } keys %n;

# read your writes
for my $round (1 .. 5)
{
	my $token = sql($a, "INSERT INTO t VALUES (1000 + $round, 1); SELECT ferry.token()");
	is(waits($c, $token, '60 s'), 't', "round $round: what was written on a has arrived on c, through b");
	is(sql($c, "SELECT count(*) FROM t WHERE id = 1000 + $round"), '1', 'and can be read');
}
is(waits($a, sql($a, 'SELECT ferry.token()'), '0 s'), 't', 'a node holds what it holds');
like(sql($a, 'SELECT ferry.token()'), qr/^\d+:\d+(,\d+:\d+)*$/, 'a token is a vector');

# a paused link: what it lacks is not claimed
sql($c, "SELECT ferry.pause_peer('b')");
$c->poll_query_until('postgres', 'SELECT pid IS NULL FROM ferry.lag');
my $token = sql($a, 'UPDATE t SET v = 7 WHERE id = 7; SELECT ferry.token()');
is(waits($b, $token, '60 s'), 't', 'b has it');
is(waits($c, $token, '300 ms'), 'f', 'c, whose link is paused, has not');
sql($c, "SELECT ferry.resume_peer('b')");
is(waits($c, $token, '60 s'), 't', 'but when it is resumed');

# an open transaction: later writes are not "everything up to here", and the token says what to wait for
my $open = $a->background_psql('postgres', on_error_die => 1);
$open->query_safe('BEGIN; UPDATE t SET v = 8 WHERE id = 8') if $open->can('query_safe');
SKIP:
{
	skip 'no background sessions with this server', 4 unless $open->can('query_safe');
	my $held = sql($a, "INSERT INTO t VALUES (2000, 1); SELECT ferry.token()");
	like($held, qr/\+$id{a}:\d+$/, 'a token names the later write too');
	is(waits($b, $held, '300 ms'), 'f', 'which is waited for');
	$open->query_safe('COMMIT');
	is(waits($b, $held, '60 s'), 't', 'until the open transaction has ended');
	is(sql($b, 'SELECT v FROM t WHERE id = 8'), '8', 'and has arrived');
}
$open->quit;

# prepared transactions hold it back, across a crash, until they are committed
sql($a, "BEGIN; UPDATE t SET v = 9 WHERE id = 9; PREPARE TRANSACTION 'p'");
is(scalar(grep { /prepared/ } slurp_dir($a->data_dir . '/pg_ferry')), 1, 'PREPARE leaves a file');
sql($a, 'INSERT INTO t VALUES (2001, 1)');
$a->stop('immediate');
$a->start;
$token = sql($a, 'INSERT INTO t VALUES (2002, 1); SELECT ferry.token()');
like($token, qr/\+$id{a}:\d+$/, 'after a crash the prepared transaction still holds back what a promises');
is(waits($b, $token, '1 s'), 'f', 'so that b does not claim to hold all of it');
$b->poll_query_until('postgres', 'SELECT count(*) = 1 FROM t WHERE id = 2002');
my ($own) = sql($b, 'SELECT ferry.token()') =~ /\b$id{a}:(\d+)/;
my $prepared = sql($a, "SELECT split_part(ferry.version_dot(_ferry), '\@', 1) FROM t WHERE id = 2001");
cmp_ok($own, '<', $prepared, 'although b has received later writes');
sql($a, "COMMIT PREPARED 'p'");
is(waits($b, $token, '60 s'), 't', 'COMMIT PREPARED lets go');
is(sql($b, 'SELECT v FROM t WHERE id = 9'), '9', 'and has arrived');
sql($a, 'SELECT ferry.token()');
is(scalar(grep { /prepared/ } slurp_dir($a->data_dir . '/pg_ferry')), 0, 'no file is left');

# what it held outlives a crash of the receiver
$c->poll_query_until('postgres', "SELECT vector LIKE '%$id{a}:%' FROM ferry.holding WHERE node_id = $id{c}");
$c->stop('immediate');
$c->start;
like(sql($c, 'SELECT ferry.token()'), qr/\b$id{a}:\d+/, 'what a node holds is known after a crash');

is(waits($c, sql($b, 'SELECT ferry.token()'), '60 s'), 't', 'and what it holds grows on');

# a slot that was lost: only what is lacking is brought
my $full = sql($c, 'SELECT ferry.token()');
is(sql($b, "SELECT count(*) FROM ferry.changes('$full')"), '0', 'nothing has changed since the token of c');
sql($c, "SELECT ferry.pause_peer('b')");
$c->poll_query_until('postgres', 'SELECT pid IS NULL FROM ferry.lag');
$b->poll_query_until('postgres', "SELECT NOT active FROM pg_replication_slots WHERE slot_name LIKE '%' || lpad(to_hex($id{c}), 8, '0')");
sql($b, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE '%' || lpad(to_hex($id{c}), 8, '0')");
$token = sql($b, "UPDATE t SET v = 10 WHERE id = 10; DELETE FROM t WHERE id = 11; SELECT ferry.token()");
is(sql($b, "SELECT count(*) FROM ferry.changes('$full')"), '2', 'two states have');
is(sql($b, "SELECT string_agg(state->>'alive', ',' ORDER BY state->'key') FROM ferry.changes('$full')"), 'true,false', 'one alive, one dead');
is(sql($b, 'SELECT count(*) FROM ferry.changes()'), sql($b, 'SELECT count(*) + 1 FROM t'), 'without a token all of them');
sql($c, "SELECT ferry.resume_peer('b')");
is(waits($c, $token, '60 s'), 't', 'a link whose slot was dropped catches up');
is(sql($c, 'SELECT id, v FROM t ORDER BY id'), sql($b, 'SELECT id, v FROM t ORDER BY id'), 'with nothing missed');
like(slurp_file($b->logfile), qr/_delta_frames\(.*, '\d+:\d+,/, 'by a delta since what it held');

# another transport: the states since a token, merged
is(sql($b, "SELECT count(*) FROM ferry.changes('1:1')"), sql($b, 'SELECT count(*) FROM ferry.changes()'), 'a token of others includes nothing');

# tables that only one side has: what went past a node is not promised by it
sql($a, "CREATE TABLE only_a (id int PRIMARY KEY); INSERT INTO only_a VALUES (1); SELECT ferry.add_table('only_a')");
$token = sql($a, 'UPDATE t SET v = 12 WHERE id = 12; SELECT ferry.token()');
is(waits($b, $token, '60 s'), 't', 'it has arrived on b');
my ($h) = $token =~ /\b$id{a}:(\d+)/;
sql($a, 'UPDATE t SET v = 13 WHERE id = 12'); ferry_settled($a); ferry_settled($b);
is(sql($b, "SELECT (regexp_match(vector, '\\m$id{a}:(\\d+)'))[1]::numeric < $h FROM ferry.holding WHERE node_id = $id{b}"), 't',
	'but b, which lacks the table, does not promise it');
sql($_, "CREATE TABLE only_a (id int PRIMARY KEY); SELECT ferry.add_table('only_a')") for $b, $c;
$_->poll_query_until('postgres', 'SELECT count(*) = 1 FROM only_a') for $b, $c;
sql($a, 'UPDATE t SET v = 14 WHERE id = 12');
ok($b->poll_query_until('postgres', "SELECT (regexp_match(vector, '\\m$id{a}:(\\d+)'))[1]::numeric >= $h FROM ferry.holding WHERE node_id = $id{b}"),
	'until it has the table and its rows');

# quarantine: what waits there is not promised either
sql($b, 'ALTER TABLE t ADD CHECK (v < 100000)');
$token = sql($a, 'UPDATE t SET v = 100001 WHERE id = 20; SELECT ferry.token()');
($h) = $token =~ /\b$id{a}:(\d+)/;
is(waits($b, $token, '60 s'), 't', 'a state that goes to quarantine has arrived');
sql($a, 'UPDATE t SET v = 15 WHERE id = 12'); ferry_settled($a); ferry_settled($b);
is(sql($b, "SELECT (regexp_match(vector, '\\m$id{a}:(\\d+)'))[1]::numeric < $h FROM ferry.holding WHERE node_id = $id{b}"), 't', 'but is not promised');
sql($b, 'ALTER TABLE t DROP CONSTRAINT t_v_check; SELECT ferry.retry_quarantine()');
sql($a, 'UPDATE t SET v = 16 WHERE id = 12');
ok($b->poll_query_until('postgres', "SELECT (regexp_match(vector, '\\m$id{a}:(\\d+)'))[1]::numeric >= $h FROM ferry.holding WHERE node_id = $id{b}"),
	'until it has been merged');

# everybody knows everybody, through the chain
for my $name (qw(a b c))
{
	ok($n{$name}->poll_query_until('postgres', "SELECT count(*) = 3 FROM ferry.member JOIN ferry.holding USING (node_id)"),
		"$name knows of every node and what it holds");
}
$_->stop for values %n;
done_testing();
