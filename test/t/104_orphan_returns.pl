# A row that was removed as an orphan and that a later change elsewhere lets live again
# is judged once more; one whose parent is only late is not, however it came to be judged.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my @node = map { ferry_cluster("n$_", "ferry.verify_interval = 0\n") } 0 .. 2;
for my $i (0 .. 2)
{
	ferry_node($node[$i], "n$i");
	$node[$i]->safe_psql('postgres', q{
		CREATE TABLE parent (id int PRIMARY KEY, name text);
		CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE, v int);
		CREATE TABLE kept (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE, v int);
		SELECT ferry.add_table(t::regclass) FROM unnest('{parent,child,kept}'::text[]) t});
}
$node[0]->safe_psql('postgres', "SELECT ferry.set_orphans('child', 'remove_child')");
for my $i (0 .. 2) { for my $j (0 .. 2) { ferry_link($node[$i], $node[$j], "n$j") if $i != $j; } }

sub q1 { my ($i, $sql) = @_; return $node[$i]->safe_psql('postgres', $sql); }
sub until_true { my ($i, $sql) = @_; return $node[$i]->poll_query_until('postgres', $sql); }
sub pause { my ($i, $j) = @_; q1($i, "SELECT ferry.pause_peer('n$j')"); until_true($i, "SELECT pid IS NULL FROM ferry.lag WHERE peer = 'n$j'"); }
sub resume { my ($i, $j) = @_; q1($i, "SELECT ferry.resume_peer('n$j')"); }
sub all_links { my ($do) = @_; for my $i (0 .. 2) { for my $j (0 .. 2) { $do->($i, $j) if $i != $j; } } }
my $judged = 'SELECT count(*) = 0 FROM ferry.orphan_note';
sub settle
{
	my $ok = 1;
	for (1 .. 3)
	{
		$ok &&= ferry_settled($_) for @node;
		$ok &&= until_true($_, $judged) for 0 .. 2;
	}
	$ok &&= ferry_settled($_) for @node;
	ok($ok, 'settled');
}

ok(until_true($_, "SELECT orphans = 'remove_child' FROM ferry.foreign_keys WHERE relation = 'child'::regclass"), "n$_ knows what becomes of orphans") for 1, 2;
q1(0, "INSERT INTO parent SELECT i, 'p' FROM generate_series(1, 5) i; INSERT INTO parent SELECT i, 'many' FROM generate_series(1001, 2100) i;
	INSERT INTO child VALUES (2, 2, 1), (4, 2, 1)");
settle();

# n2 has judged the death before it gets the children, and changes them after n1 has removed one
all_links(\&pause);
q1(0, 'DELETE FROM parent WHERE id = 1');
q1(1, 'INSERT INTO child VALUES (1, 1, 1); INSERT INTO kept VALUES (1, 1, 1)');
resume(2, 0);
until_true(2, 'SELECT count(*) = 0 FROM parent WHERE id = 1');
until_true(2, $judged);
pause(2, 0);
resume(2, 1);
until_true(2, 'SELECT count(*) = 1 FROM child WHERE id = 1');
pause(2, 1);
resume(1, 0);
until_true(1, 'SELECT count(*) = 0 FROM child WHERE id = 1');
q1(1, 'DELETE FROM kept');
q1(2, 'UPDATE child SET v = 2 WHERE id = 1; UPDATE kept SET v = 2');
all_links(\&resume);
settle();
is(q1($_, 'SELECT id, parent, v FROM child ORDER BY id'), "2|2|1\n4|2|1", "n$_: the child that came back is removed again") for 0 .. 2;
is(q1($_, "SELECT relation, key FROM ferry.orphans()"), 'kept|{"id": 1}', "n$_: no orphans, but one that is kept") for 0 .. 2;
like(q1(1, "SELECT string_agg(key::text || ' ' || rule, ',') FROM ferry.conflicts WHERE kind = 'foreign_key' AND local_row->>'v' = '2'"), qr/^\{"id": 1\} remove_child$/, 'that is on record');

# who had it kept may change his mind
q1(1, "SELECT ferry.set_orphans('kept', 'remove_child')");
is(q1(1, "SELECT ferry.resolve_orphans('kept')"), '1', 'resolved by hand');
settle();
is(q1($_, 'SELECT count(*) FROM kept'), '0', "n$_: it has gone") for 0 .. 2;

# a child that comes back, of a parent that is not there yet
all_links(\&pause);
q1(1, 'DELETE FROM child WHERE id = 2');
q1(0, "INSERT INTO parent VALUES (6, 'q')");
resume(2, 0);
until_true(2, 'SELECT count(*) = 1 FROM parent WHERE id = 6');
q1(2, 'UPDATE child SET parent = 6, v = 3 WHERE id = 2');
resume(1, 2);
until_true(1, 'SELECT count(*) = 1 FROM child WHERE id = 2');
ok(until_true(1, 'SELECT coalesce(bool_and(after > 0), true) FROM ferry.orphan_note'), 'n1 has looked at it');
is(q1(1, 'SELECT returned FROM ferry.orphan_note'), 't', 'n1 waits until it holds what n0 wrote before');

# and one that is met where many died
q1(2, 'INSERT INTO child VALUES (7, 6, 1)');
q1(2, "DELETE FROM parent WHERE name = 'many'");
ok(until_true(1, "SELECT count(*) = 0 FROM parent WHERE name = 'many'"), 'many have died');
ok(until_true(1, 'SELECT bool_and(returned OR image IS NULL AND after > 0) FROM ferry.orphan_note'), 'all are judged but those');
is(q1(1, 'SELECT string_agg(id::text, \',\' ORDER BY id) FROM child'), '2,4,7', 'n1 leaves them alone');
all_links(\&resume);
settle();
is(q1($_, 'SELECT p.name, c.id, c.v FROM parent p JOIN child c ON c.parent = p.id WHERE p.id = 6 ORDER BY c.id'), "q|2|3\nq|7|1", "n$_: they live") for 0 .. 2;

# one that outlives a TRUNCATE where its parent's death is known
all_links(\&pause);
q1(0, 'DELETE FROM parent WHERE id = 5');
q1(1, 'INSERT INTO child VALUES (5, 5, 1)');
resume(2, 0);
until_true(2, 'SELECT count(*) = 0 FROM parent WHERE id = 5');
until_true(2, $judged);
pause(2, 0);
resume(2, 1);
until_true(2, 'SELECT count(*) = 1 FROM child WHERE id = 5');
pause(2, 1);
q1(1, 'TRUNCATE child');
resume(1, 0);
until_true(1, 'SELECT count(*) = 0 FROM parent WHERE id = 5');
until_true(1, $judged);
q1(2, 'UPDATE child SET v = 2 WHERE id IN (4, 5)');
all_links(\&resume);
settle();
is(q1($_, 'SELECT id, v FROM child'), '4|2', "n$_: it has gone, and the one with a parent has not") for 0 .. 2;
is(q1($_, 'SELECT * FROM ferry.orphans()'), '', "n$_: no orphans") for 0 .. 2;
$_->stop for @node;
done_testing();
