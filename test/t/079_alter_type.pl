# The type of a plain column changes while dead rows keep values of the former one:
# they are read as what the column has become where every value has its place there,
# and count as absent where not; nobody who writes is in trouble either way.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my @node = map { ferry_cluster($_, "ferry.verify_interval = 0\n") } qw(a b);
ferry_node($node[$_], qw(a b)[$_]) for 0, 1;
sub q1 { my ($i, $sql) = @_; return $node[$i]->safe_psql('postgres', $sql); }
sub settle { return is(join(',', map { ferry_settled($_) ? 't' : 'f' } @node, @node), 't,t,t,t', 'settled'); }
sub same
{
	my ($what) = @_;
	settle();
	is(q1(1, 'SELECT id, n, s, d, ferry.version_dot(_ferry) FROM t ORDER BY id'), q1(0, 'SELECT id, n, s, d, ferry.version_dot(_ferry) FROM t ORDER BY id'), "$what: both are equal");
	is(q1($_, "SELECT (SELECT count(*) FROM ferry.quarantine) || ' ' || (SELECT string_agg(state, ',') FROM ferry.lag)"), '0 streaming', "$what: nothing waits") for 0, 1;
	return;
}

q1($_, "CREATE TABLE t (id int PRIMARY KEY, n int, s varchar(20), d text); SELECT ferry.add_table('t', on_delete => 'update_wins')") for 0, 1;
ferry_link($node[0], $node[1], 'b');
ferry_link($node[1], $node[0], 'a');
q1(0, "INSERT INTO t SELECT i, i, 's' || i, i FROM generate_series(1, 20) i");
settle();
q1(0, 'DELETE FROM t WHERE id <= 10');
settle();
q1($_, 'ALTER TABLE t ALTER n TYPE bigint, ALTER s TYPE text, ALTER d TYPE int USING d::int') for 0, 1;
q1(0, 'DELETE FROM t WHERE id = 11');
settle();
for my $i (0, 1)
{
	is(q1($i, q{SELECT s->'row'->>'n', s->'row'->>'s' FROM ferry.state('t', '{"id": 1}') s}), '1|s1', 'a dead row is read by the new types');
	is(q1($i, q{SELECT s->'row'->>'n', s->'row'->>'d' FROM ferry.state('t', '{"id": 11}') s}), '11|11', 'and one that died since');
}
q1(1, "INSERT INTO t VALUES (1, 5000000000, 'again', 1), (2, 5000000001, 'again', 2)");
q1(1, 'UPDATE t SET n = 6000000000 WHERE id = 12');
same('born again');
q1(0, 'DELETE FROM t WHERE id = 1');
q1(1, "UPDATE t SET n = 6000000000, d = 7 WHERE id = 1");
same('update and delete');
is(q1(0, 'SELECT count(*) FROM ferry.changes()'), q1(1, 'SELECT count(*) FROM ferry.changes()'), 'all states can be read');
$_->stop for @node;
done_testing();
