# Parents deleted beside inserts of their children: orphans are listed and on
# record, and ferry.set_orphans, set on one node, revives the parent or removes the
# child on every node; what a cascade deleted by itself is nobody's orphan.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use FerryNodes;

my @node = map { ferry_cluster("n$_", "ferry.verify_interval = 0\n") } 0 .. 2;
my @tables = qw(region parent kept revived removed rows_parent rows_child);
my $tables = q{
	CREATE TABLE region (id int PRIMARY KEY, name text);
	CREATE TABLE parent (id int PRIMARY KEY, name text, n int, region int REFERENCES region ON DELETE CASCADE);
	CREATE TABLE kept (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE);
	CREATE TABLE revived (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE);
	CREATE TABLE removed (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE, up int REFERENCES removed ON DELETE CASCADE);
	CREATE TABLE rows_parent (id int PRIMARY KEY, name text);
	CREATE TABLE rows_child (id int PRIMARY KEY, parent int REFERENCES rows_parent ON DELETE CASCADE);
	CREATE INDEX ON kept (parent); CREATE INDEX ON revived (parent); CREATE INDEX ON removed (parent); CREATE INDEX ON removed (up);
	SELECT ferry.add_table(t::regclass) FROM unnest('{region,parent,kept,revived,removed}'::text[]) t;
	SELECT ferry.add_table(t::regclass, merge => 'row') FROM unnest('{rows_parent,rows_child}'::text[]) t;
	SELECT ferry.set_merge('parent', 'n', 'counter')};
for my $i (0 .. 2)
{
	ferry_node($node[$i], "n$i");
	$node[$i]->safe_psql('postgres', $tables);
}
# set before anybody pulls: of a table without a row, and without a column that merges by a strategy
$node[0]->safe_psql('postgres', "SELECT ferry.set_orphans('removed', 'remove_child')");
for my $i (0 .. 2) { for my $j (0 .. 2) { ferry_link($node[$i], $node[$j], "n$j") if $i != $j; } }

ok($node[$_]->poll_query_until('postgres', "SELECT bool_and(orphans = 'remove_child') FROM ferry.foreign_keys WHERE relation = 'removed'::regclass"),
	"n$_ has got a setting that is older than the links, with no row of the table") for 1, 2;

sub q1 { my ($i, $sql) = @_; return $node[$i]->safe_psql('postgres', $sql); }
sub part { for my $i (0 .. 2) { for my $j (0 .. 2) { next if $i == $j; q1($i, "SELECT ferry.pause_peer('n$j')"); $node[$i]->poll_query_until('postgres', "SELECT pid IS NULL FROM ferry.lag WHERE peer = 'n$j'"); } } }
# everything has arrived, was judged, and what that made has arrived
sub settle
{
	my $ok = 1;
	for (1 .. 3)
	{
		$ok &&= ferry_settled($_) for @node;
		$ok &&= $_->poll_query_until('postgres', 'SELECT count(*) = 0 FROM ferry.orphan_note') for @node;
	}
	$ok &&= ferry_settled($_) for @node;
	ok($ok, 'settled');
}
sub meet { for my $i (0 .. 2) { for my $j (0 .. 2) { q1($i, "SELECT ferry.resume_peer('n$j')") if $i != $j; } } settle(); }

# rows, alive and dead, versions included
sub same
{
	my ($what) = @_;
	for my $t (@tables)
	{
		my $sql = "SELECT to_jsonb(t) FROM $t t ORDER BY id; SELECT id, s FROM generate_series(1, 60) id, LATERAL ferry.state('$t', jsonb_build_object('id', id)) s WHERE s IS NOT NULL ORDER BY id";
		for my $n (1, 2)
		{
			my ($here, $there);
			for my $try (1 .. 300)
			{
				($here, $there) = map { q1($_, $sql) } $n, 0;
				last if $here eq $there;
				usleep(100_000);
			}
			is($here, $there, "$what: $t of n$n equals n0, dead rows and versions included");
		}
	}
	is(q1($_, 'SELECT error FROM ferry.quarantine'), '', "$what: n$_ has nothing in quarantine") for 0 .. 2;
}
sub orphans { my ($what, $expected) = @_; is(q1($_, 'SELECT relation, key, missing FROM ferry.orphans() ORDER BY 1, 2'), $expected, "$what: orphans of n$_") for 0 .. 2; }
my $records = q{SELECT relation, key, winner, rule, constraint_name FROM ferry.conflicts WHERE kind = 'foreign_key'};

q1(0, "INSERT INTO region SELECT i, 'r' || i FROM generate_series(1, 9) i; INSERT INTO parent SELECT i, 'p' || i, i, 1 + i % 9 FROM generate_series(1, 40) i;
	INSERT INTO rows_parent SELECT i, 'p' || i FROM generate_series(1, 40) i;
	INSERT INTO kept SELECT i, i FROM generate_series(1, 9) i; INSERT INTO revived SELECT i, i FROM generate_series(1, 9) i; INSERT INTO removed SELECT i, i FROM generate_series(1, 9) i");
settle();

# the setting travels, the later one stays
q1(0, "SELECT ferry.set_orphans('revived', 'remove_child'); SELECT ferry.set_orphans('rows_child', 'revive_parent')");
ok($node[1]->poll_query_until('postgres', "SELECT orphans = 'remove_child' FROM ferry.foreign_keys WHERE relation = 'revived'::regclass"), 'the setting travels');
q1(1, "SELECT ferry.set_orphans('revived', 'revive_parent'); SELECT ferry.set_orphans('parent', 'revive_parent')");
sub knows
{
	my ($expected) = @_;
	ok($node[$_]->poll_query_until('postgres', "SELECT string_agg(relation || ' ' || orphans, ',' ORDER BY relation::text, constraint_name) FROM ferry.foreign_keys", $expected), "n$_ knows") for 0 .. 2;
}
knows('kept keep,parent revive_parent,removed remove_child,removed remove_child,revived revive_parent,rows_child revive_parent');

# nobody writes beside: cascades of many rows, by the stream and by a link that was away
q1(0, "INSERT INTO parent SELECT i, 'many' FROM generate_series(1001, 4000) i; INSERT INTO revived SELECT i, i FROM generate_series(1001, 4000) i; INSERT INTO removed SELECT i, i FROM generate_series(1001, 4000) i");
settle();
q1(2, "SELECT ferry.pause_peer('n0')");
q1(0, 'DELETE FROM parent WHERE id > 1000');
ok($node[1]->poll_query_until('postgres', 'SELECT count(*) = 0 FROM revived WHERE id > 1000'), 'cascade');
q1(2, "SELECT ferry.resume_peer('n0')");
settle();
same('cascade');
is(q1($_, "SELECT count(*) FROM parent WHERE id > 1000"), '0', "n$_: nobody lives again") for 0 .. 2;
is(q1($_, $records), '', "n$_: no conflict") for 0 .. 2;

# one node deletes parents, two others give them children
part();
q1($_, 'UPDATE parent SET n = n + 1 WHERE id = 2') for 1, 2;
q1(0, 'DELETE FROM parent WHERE id IN (1, 2, 3); DELETE FROM rows_parent WHERE id = 1; DELETE FROM region WHERE id = 5');
q1(1, "INSERT INTO kept VALUES (21, 1); INSERT INTO revived VALUES (22, 2); INSERT INTO removed VALUES (23, 3, NULL), (24, NULL, 23); INSERT INTO rows_child VALUES (21, 1)");
q1(2, "INSERT INTO kept VALUES (31, 1); INSERT INTO revived VALUES (32, 2); INSERT INTO removed VALUES (33, 3); INSERT INTO rows_child VALUES (31, 1);
	INSERT INTO revived SELECT 40, min(id) FROM parent WHERE region = 5");
meet();
same('apart');
orphans('kept', "kept|{\"id\": 21}|{\"id\": 1}\nkept|{\"id\": 31}|{\"id\": 1}");
is(q1(0, 'SELECT name, n FROM parent WHERE id = 2'), 'p2|4', 'the parent lives again, with what was added beside its death');
is(q1(1, 'SELECT string_agg(id::text, \',\' ORDER BY id) FROM revived WHERE id > 20 OR parent = 2'), '22,32,40', 'what the cascade took stays dead');
is(q1(2, 'SELECT string_agg(id::text, \',\' ORDER BY id) FROM removed WHERE id > 20'), '', 'children are removed, and their children');
is(q1(2, 'SELECT name FROM rows_parent WHERE id = 1'), 'p1', 'in a row-mode table, too');
is(q1(0, 'SELECT count(*) FROM region WHERE id = 5'), '1', 'and ancestors');
# whoever finds one first has it on record; what is kept is found by each who wrote one
like(q1($_, $records), qr/public.kept\|\{"id": ${\ ($_ * 10 + 11)}\}\|none\|keep\|kept_parent_fkey/, "n$_: kept, on record") for 1, 2;
my $all = join("\n", map { q1($_, $records) } 1, 2);
like($all, qr/public.revived\|\{"id": (22|32)\}\|local\|revive_parent\|revived_parent_fkey/, 'revived, on record');
like($all, qr/public.removed\|\{"id": 33\}\|remote\|remove_child\|removed_parent_fkey/, 'removed, on record');
like($all, qr/public.removed\|\{"id": 23\}\|remote\|remove_child\|removed_parent_fkey/, 'removed, on record');

# a parent whose own table removes orphans is not revived without its parent
q1(0, "SELECT ferry.set_orphans('parent', 'remove_child'); SELECT ferry.set_orphans('kept', 'revive_parent')");
knows('kept revive_parent,parent remove_child,removed remove_child,removed remove_child,revived revive_parent,rows_child revive_parent');
part();
q1(0, 'DELETE FROM region WHERE id = 6');
q1(1, 'INSERT INTO kept SELECT 50, min(id) FROM parent WHERE region = 6');
meet();
same('no grandparent');
is(q1($_, 'SELECT count(*) FROM region WHERE id = 6') . q1($_, 'SELECT count(*) FROM parent WHERE region = 6'), '00', "n$_: neither lives") for 0 .. 2;
is(q1(2, "SELECT count(*) FROM ferry.orphans('kept') WHERE key = '{\"id\": 50}'"), '1', 'the child is kept');

# what was kept is resolved by hand
is(q1(0, "SELECT ferry.resolve_orphans('kept') > 0"), 't', 'resolved by hand');
settle();
same('by hand');
is(q1(2, 'SELECT name FROM parent WHERE id = 1'), 'p1', 'revived by hand');
orphans('by hand', q1(0, "SELECT relation, key, missing FROM ferry.orphans() WHERE key = '{\"id\": 50}'"));

# TRUNCATE takes parents and what it knew of children
q1(1, "SELECT ferry.set_orphans('rows_child', 'remove_child')");
knows('kept revive_parent,parent remove_child,removed remove_child,removed remove_child,revived revive_parent,rows_child remove_child');
part();
q1(0, 'TRUNCATE rows_parent CASCADE');
q1(1, "INSERT INTO rows_child VALUES (41, 7)");
meet();
same('truncate');
is(q1($_, 'SELECT count(*) FROM rows_child'), '0', "n$_: removed") for 0 .. 2;

# a death that comes before its cascade, by another way, is judged when the cascade is here
q1(0, 'INSERT INTO parent (id) VALUES (60); INSERT INTO revived VALUES (60, 60)');
settle();
q1(1, "SELECT ferry.pause_peer('n0')");
$node[1]->poll_query_until('postgres', "SELECT pid IS NULL FROM ferry.lag WHERE peer = 'n0'");
q1(0, 'DELETE FROM parent WHERE id = 60');
my $dead = q1(0, q{SELECT ferry.state('parent', '{"id": 60}')});
is(q1(1, "SELECT ferry.merge('parent', '$dead')"), 'applied', 'dead by hand');
q1(2, 'INSERT INTO parent (id) VALUES (61)');
q1(2, 'DELETE FROM parent WHERE id = 61');
ok($node[1]->poll_query_until('postgres', q{SELECT count(*) = 1 AND bool_and(image->>'id' = '60') FROM ferry.orphan_note
	WHERE NOT (SELECT ferry.state('parent', '{"id": 61}')->>'alive')::boolean}), 'another death is judged, not this one');
q1(1, "SELECT ferry.resume_peer('n0')");
settle();
same('before its cascade');
is(q1($_, 'SELECT count(*) FROM parent WHERE id = 60') . q1($_, 'SELECT count(*) FROM revived WHERE id = 60'), '00', "n$_: nobody lives again") for 0 .. 2;

# a column that others refer to is changed: whom nobody is found for any more is an orphan
q1($_, "CREATE TABLE coded (id int PRIMARY KEY, code int UNIQUE); CREATE TABLE coding (id int PRIMARY KEY, code int REFERENCES coded (code));
	SELECT ferry.add_table('coded'), ferry.add_table('coding')") for 0 .. 2;
settle();
q1(0, "INSERT INTO coded VALUES (1, 1), (2, 2); SELECT ferry.set_orphans('coding', 'remove_child')");
settle();
ok($node[$_]->poll_query_until('postgres', "SELECT orphans = 'remove_child' FROM ferry.foreign_keys WHERE relation = 'coding'::regclass"), "n$_ knows") for 0 .. 2;
part();
q1(0, 'UPDATE coded SET code = 10 WHERE id = 1');
q1(1, 'INSERT INTO coding VALUES (1, 1), (2, 2)');
meet();
ok($node[$_]->poll_query_until('postgres', 'SELECT string_agg(id::text, \',\') = \'2\' FROM coding'), "n$_: removed") for 0 .. 2;

# a parent that loses its place in a unique index dies, too; the child goes where it was written, with nobody's help
q1($_, "CREATE TABLE held (id int PRIMARY KEY, coded int REFERENCES coded ON DELETE CASCADE); SELECT ferry.add_table('held')") for 0 .. 2;
settle();
sub policy
{
	my ($policy) = @_;
	q1(0, "SELECT ferry.set_orphans('held', '$policy')");
	ok($node[$_]->poll_query_until('postgres', "SELECT orphans = '$policy' FROM ferry.foreign_keys WHERE relation = 'held'::regclass"), "n$_ knows") for 0 .. 2;
}
policy('remove_child');
part();
q1(0, 'INSERT INTO coded VALUES (5, 50); INSERT INTO held VALUES (5, 5)');
q1(1, 'INSERT INTO coded VALUES (6, 50); INSERT INTO held VALUES (6, 6)');
q1(0, "SELECT ferry.resume_peer('n1')");
ok($node[0]->poll_query_until('postgres', q{SELECT string_agg(id::text, ',') = '6' FROM held}), 'n0 has killed the parent, and finds the child');
meet();
ok($node[$_]->poll_query_until('postgres', q{SELECT string_agg(id::text, ',') = '6' FROM held}), "n$_: removed") for 0 .. 2;

# reviving it would end in the same clash: the child is kept, and that is the end of it
policy('revive_parent');
for my $t ('coded', 'coded_rows')
{
	if ($t eq 'coded_rows')
	{
		q1($_, "CREATE TABLE coded_rows (id int PRIMARY KEY, code int UNIQUE); SELECT ferry.add_table('coded_rows', merge => 'row');
			ALTER TABLE held ADD coded_rows int REFERENCES coded_rows ON DELETE CASCADE") for 0 .. 2;
		settle();
	}
	part();
	q1(0, "INSERT INTO $t VALUES (7, 70); INSERT INTO held (id, $t) VALUES (7, 7)");
	q1(1, "INSERT INTO $t VALUES (8, 70); INSERT INTO held (id, $t) VALUES (8, 8)");
	q1(0, "SELECT ferry.resume_peer('n1')");
	ok($node[0]->poll_query_until('postgres', q{SELECT count(*) > 0 FROM ferry.conflicts WHERE kind = 'foreign_key' AND relation = 'public.held' AND key = '{"id": 7}'}), "$t: n0 has judged");
	meet();
	is(q1($_, "SELECT string_agg(id::text, ',') FROM $t WHERE code = 70"), '8', "$t: n$_: the later claim") for 0 .. 2;
	is(q1($_, "SELECT key, missing FROM ferry.orphans('held')"), '{"id": 7}|{"id": 7}', "$t: n$_ lists the child") for 0 .. 2;
	q1(0, 'DELETE FROM held WHERE id = 7; DELETE FROM held WHERE id = 8');
	settle();
}
done_testing();
