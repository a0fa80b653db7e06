# Rows travel without the columns that their receiver holds; where it does not
# hold them it asks, and every node ends up with the same rows.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my %node = map { $_ => ferry_cluster($_) } qw(a b c);
sub one { my ($n, $sql) = @_; return $node{$n}->safe_psql('postgres', $sql); }
my $columns = join(', ', map { "c$_ text" } 1 .. 20);
for my $n (sort keys %node)
{
	ferry_node($node{$n}, $n);
	one($n, "CREATE TABLE wide (id int PRIMARY KEY, $columns); SELECT ferry.add_table('wide')");
	one($n, "CREATE TABLE kept (id int PRIMARY KEY, $columns); SELECT ferry.add_table('kept', on_delete => 'update_wins')");
	one($n, "CREATE TABLE rows (id int PRIMARY KEY, $columns); SELECT ferry.add_table('rows', merge => 'row')");
	one($n, "CREATE TABLE sums (id int PRIMARY KEY, n int, big text, other text); SELECT ferry.add_table('sums'), ferry.set_merge('sums', 'n', 'counter')");
}
my @tables = qw(wide kept rows sums);
sub fill
{
	my ($n, $from, $to) = @_;
	my $values = join(', ', map { "'c$_ ' || repeat(md5(i::text), 3)" } 1 .. 20);
	one($n, "INSERT INTO $_ SELECT i, $values FROM generate_series($from, $to) i") for qw(wide kept rows);
	one($n, "INSERT INTO sums SELECT i, 0, repeat(md5(i::text), 10), 'x' FROM generate_series($from, $to) i");
}
sub image
{
	my ($n) = @_;
	return join(' ', map { one($n, "SELECT count(*), sum(hashtextextended((to_jsonb(t) - '_ferry')::text || ferry.version_dot(_ferry), 0)::numeric) FROM $_ t") } @tables);
}
sub same
{
	my ($what, @nodes) = @_;
	my ($first, @others) = @nodes;
	ferry_settled($node{$_}) for @nodes, @nodes;
	is(image($_), image($first), "$what: $_ as $first") for @others;
}

# a chain: c hears of a only through b
ferry_link($node{b}, $node{a}, 'a', forward => 'all');
ferry_link($node{a}, $node{b}, 'b', forward => 'all');
ferry_link($node{c}, $node{b}, 'b', forward => 'all');
ferry_link($node{b}, $node{c}, 'c', forward => 'all');
fill('a', 1, 40);
same('births', qw(a b c));

# what the plugin sends of an update
one('a', "SELECT pg_create_logical_replication_slot('look', 'ferry')");
sub bytes
{
	my ($rows) = @_;
	return one('a', "SELECT sum(length(data)) FROM pg_logical_slot_peek_binary_changes('look', NULL, NULL,
		'proto_version', '1', 'node', '4000000000', 'rows', '$rows')");
}
one('a', "UPDATE wide SET c7 = 'new' WHERE id <= 20");
my ($narrow, $whole) = (bytes('narrow'), bytes('whole'));
cmp_ok($narrow, '<', 0.1 * $whole, "one column of 20: $narrow of $whole bytes");
same('updates of one column', qw(a b c));

# values of a third node are not left out, unless its writes travel here too
one('c', "UPDATE wide SET c1 = repeat('of c', 100) WHERE id = 1");
same('a third node', qw(a b c));
one('a', "SELECT pg_replication_slot_advance('look', pg_current_wal_lsn())");
one('a', "UPDATE wide SET c2 = 'a again' WHERE id = 1");
cmp_ok(bytes('narrow'), '>', 400, 'who may not have heard of it gets it');
one('a', "SELECT pg_drop_replication_slot('look')");

# who does not hold what was left out asks for it: lost rows, and lost updates
one('c', "SET session_replication_role = replica; DELETE FROM wide WHERE id = 2; DELETE FROM kept WHERE id = 2");
one('b', "SET session_replication_role = replica; DELETE FROM wide WHERE id = 3");
one('a', "UPDATE wide SET c3 = 'after the loss' WHERE id IN (2, 3); UPDATE kept SET c3 = 'after the loss' WHERE id = 2");
same('lost rows', qw(a b c));

# changed beside each other, column by column, with a deletion among it
one($_, "SELECT ferry.pause_peer(name) FROM ferry.peers") for qw(a b c);
one('a', "UPDATE $_ SET c1 = 'a1' WHERE id BETWEEN 5 AND 15") for qw(wide kept rows);
one('a', "UPDATE $_ SET c2 = 'a2' WHERE id BETWEEN 5 AND 15") for qw(wide kept rows);
one('c', "UPDATE $_ SET c2 = 'c2' WHERE id BETWEEN 8 AND 18") for qw(wide kept rows);
one('c', "UPDATE $_ SET c3 = 'c3' WHERE id BETWEEN 8 AND 18") for qw(wide kept rows);
one('b', "DELETE FROM $_ WHERE id IN (6, 9, 16)") for qw(wide kept rows);
one('a', "UPDATE sums SET n = n + 1 WHERE id <= 10; UPDATE sums SET other = 'a' WHERE id <= 5");
one('b', "UPDATE sums SET n = n + 10 WHERE id <= 10; UPDATE sums SET other = 'b' WHERE id > 3 AND id <= 8");
one('c', "UPDATE sums SET n = n + 100 WHERE id <= 10; UPDATE sums SET big = 'c' WHERE id = 7");
one($_, "SELECT ferry.resume_peer(name) FROM ferry.peers") for qw(a b c);
same('concurrent changes', qw(a b c));
is(one('b', "SELECT string_agg(DISTINCT n::text, ' ') FROM sums WHERE id <= 10"), '111', 'counters too');
is(one('c', "SELECT count(*) FROM kept WHERE id IN (6, 9, 16) AND c20 IS NOT NULL"), '3', 'rows that outlive their deletion have all their values');
is(one('b', "SELECT count(*) FROM ferry.conflicts WHERE 'c2' = ANY (columns) AND (local_row->>'c2' IS NULL OR remote_row->>'c2' IS NULL)"), '0',
	'conflicts have both values');

# what waits in quarantine is whole
one('b', "ALTER TABLE wide ADD CHECK (c4 <> 'bad')");
one('a', "UPDATE wide SET c4 = 'bad' WHERE id = 30");
$node{b}->poll_query_until('postgres', "SELECT count(*) = 1 FROM ferry.quarantine") or die 'no quarantine';
is(one('b', "SELECT count(*) FROM ferry.quarantine, jsonb_object_keys(state) k"), '20', 'a row in quarantine is whole');
one('a', "UPDATE wide SET c5 = 'good', c4 = 'good' WHERE id = 30");
one('b', "SELECT ferry.retry_quarantine()");
same('after quarantine', qw(a b c));
my ($rc, $out, $err) = $node{a}->psql('postgres', "SELECT pg_create_logical_replication_slot('x', 'ferry');
	SELECT * FROM pg_logical_slot_peek_binary_changes('x', NULL, NULL, 'proto_version', '1', 'node', '5', 'rows', 'some')");
like($err, qr/invalid value for option "rows": "some"/, 'another kind of rows is refused');
done_testing();
