# Two databases that never share a network exchange bundles, as files of the
# server and through the client; what is refused changes nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my $a = ferry_cluster('a');
my $b = ferry_cluster('b');
my $dir = PostgreSQL::Test::Utils::tempdir();
chmod 0755, $dir;
my $tables = q{
	CREATE TABLE t (id int PRIMARY KEY, a int, b text);
	CREATE TABLE p (k text, n int, v numeric, PRIMARY KEY (n, k)) PARTITION BY LIST (n);
	CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
	CREATE TABLE p2 PARTITION OF p DEFAULT;
	SELECT ferry.add_table('t'); SELECT ferry.add_table('p', merge => 'row', on_delete => 'update_wins')};
for ([ $a, 'a' ], [ $b, 'b' ])
{
	ferry_node(@$_);
	$_->[0]->safe_psql('postgres', $tables);
}

# one row as name => value; dies with what psql said
sub row
{
	my ($n, $sql) = @_;
	my ($rc, $out, $err) = $n->psql('postgres', $sql, extra_params => [ '-x' ]);
	die $err if $rc;
	return { map { /^(\w+)\|(.*)$/ ? ($1, $2) : () } split /\n/, $out };
}
sub error
{
	my ($n, $sql) = @_;
	my ($rc, $out, $err) = $n->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return $rc ? $err : "no error: $out";
}
sub content
{
	my ($n) = @_;
	return $n->safe_psql('postgres', q{SELECT to_jsonb(t) - '_ferry', ferry.version_dot(_ferry) FROM t ORDER BY id; SELECT to_jsonb(p) - '_ferry', ferry.version_dot(_ferry) FROM p ORDER BY n, k});
}

$a->safe_psql('postgres', "INSERT INTO t SELECT i, i, repeat('row ' || i, 20) FROM generate_series(1, 5000) i;
	INSERT INTO p SELECT 'k' || i, i % 3, i / 7.0 FROM generate_series(1, 1000) i;
	DELETE FROM t WHERE id % 10 = 0; UPDATE t SET a = -a WHERE id % 7 = 0");
my $r = row($a, "SELECT * FROM ferry.export_bundle('$dir/1')");
is("$r->{tables} $r->{states} $r->{deleted}", '2 6000 500', 'the report of an export tells what is in it');
is($r->{bytes}, -s "$dir/1", 'and how large the file is');
ok($r->{blocks} > 2, 'several blocks');
ok(!-e "$dir/1.partial", 'nothing is left beside it');
is((stat "$dir/1")[2] & 0777, 0600, 'only the server may read the file');
like(error($a, "SELECT ferry.export_bundle('$dir/1')"), qr/58P02: file ".*" exists already/, 'no file is written over');

like(error($b, "SELECT ferry.import_bundle('$dir/1')"), qr/55000: the bundle comes from another group/, 'a bundle of another group is refused');
is($b->safe_psql('postgres', 'SELECT count(*) FROM t; SELECT count(*) FROM ferry.bundles'), "0\n0", 'and nothing was changed');
$r = row($b, "SELECT * FROM ferry.import_bundle('$dir/1', adopt_group => true)");
is("$r->{source} $r->{applied} $r->{merged} $r->{ignored} $r->{conflicts} $r->{quarantined}", 'a 6000 0 0 0 0', 'the first one says that the groups are one');
is(content($b), content($a), 'both are the same');
my $again = row($b, "SELECT * FROM ferry.import_bundle('$dir/1')");
is_deeply($again, $r, 'the same bundle again changes nothing and tells the same');

# and back, through the client
$b->safe_psql('postgres', "UPDATE t SET b = 'of b' WHERE id <= 100; DELETE FROM p WHERE n = 1; INSERT INTO t VALUES (9000, 1, 'new')");
$a->safe_psql('postgres', "UPDATE t SET a = 7 WHERE id <= 50");
$b->safe_psql('postgres', "\\copy (SELECT ferry.bundle()) TO '$dir/2' (FORMAT binary)");
$a->safe_psql('postgres', "\\copy ferry.bundle_intake FROM '$dir/2' (FORMAT binary)");
$r = row($a, 'SELECT * FROM ferry.import_intake()');
is("$r->{source} $r->{conflicts} $r->{quarantined}", 'b 0 0', 'a bundle comes and goes through the client');
is($r->{merged}, 45, 'rows that both changed are merged');
is($a->safe_psql('postgres', 'SELECT count(*) FROM ferry.intake()'), '0', 'the intake is empty again');
row($a, "SELECT ferry.export_bundle('$dir/3')");
$b->safe_psql('postgres', "SELECT ferry.import_bundle('$dir/3')");
is(content($b), content($a), 'both are the same');
is($a->safe_psql('postgres', 'SELECT groups FROM ferry.local_node'), $b->safe_psql('postgres', 'SELECT groups FROM ferry.local_node'), 'and know the group by the same names');

# what each is known to hold travels along: from now on only what is new
is($b->safe_psql('postgres', "SELECT reached FROM ferry.bundles"), "t\nt", 'b holds what the bundles reach');
is($a->safe_psql('postgres', "SELECT string_agg(name, ' ' ORDER BY name) FROM ferry.nodes"), 'a b', 'a has learnt of b');
is($b->safe_psql('postgres', "SELECT ferry.known_of('nobody') IS NULL"), 't', 'nothing is known of a node that is not known');
$b->safe_psql('postgres', "UPDATE t SET a = 77 WHERE id IN (1, 2, 3); DELETE FROM t WHERE id = 4; INSERT INTO p VALUES ('new', 5, 1)");
$r = row($b, "SELECT * FROM ferry.export_bundle('$dir/4', ferry.known_of('a'))");
is("$r->{states} $r->{deleted}", '5 1', 'a bundle since what a holds has what a lacks');
$b->safe_psql('postgres', 'UPDATE t SET a = 78 WHERE id = 1');
my $reach4 = $r->{reaches};
$r = row($b, "SELECT * FROM ferry.export_bundle('$dir/5', '$reach4')");
is($r->{states}, '1', 'and one since that has the rest');
my ($rc, $out, $err) = $a->psql('postgres', "SELECT reached, applied FROM ferry.import_bundle('$dir/5')");
is($out, 'f|1', 'bundles may come in any order');
like($err, qr/WARNING:  the bundle begins at a vector that this node does not hold/, 'and it is told that one is missing');
$r = row($a, "SELECT * FROM ferry.import_bundle('$dir/4')");
is("$r->{reached} $r->{applied} $r->{ignored}", 't 4 1', 'until it comes');
is($a->safe_psql('postgres', 'SELECT bool_and(reached) FROM ferry.bundles'), 't', 'then both are reached');
is(content($b), content($a), 'both are the same');
$r = row($a, "SELECT * FROM ferry.export_bundle('$dir/6', ferry.known_of('b'))");
$b->safe_psql('postgres', "SELECT ferry.import_bundle('$dir/6')");
$r = row($b, "SELECT * FROM ferry.export_bundle('$dir/7', ferry.known_of('a'))");
is($r->{states}, '0', 'when each knows what the other holds, nothing is left to carry');

$_->stop for $a, $b;
done_testing();
