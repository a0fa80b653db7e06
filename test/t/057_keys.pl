# Keys: changed, exchanged, taken by two nodes at once; equal in other bytes; NULL
# under unique constraints; in partitions that every node cuts in its own way; and
# what subtransactions take back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use FerryNodes;

my @node = map { ferry_cluster("n$_") } 0 .. 2;
sub q1 { my ($i, $sql) = @_; return $node[$i]->safe_psql('postgres', $sql); }

# parts: one table on n0, two partitions on n1, a tree with other columns on n2
my @parts = (
	'CREATE TABLE parts (id int, k int, v text, PRIMARY KEY (id, k));',
	'CREATE TABLE parts (id int, k int, v text, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
	 CREATE TABLE parts1 PARTITION OF parts FOR VALUES IN (1, 2); CREATE TABLE parts3 PARTITION OF parts DEFAULT;',
	'CREATE TABLE parts (v text, gone int, k int, id int, PRIMARY KEY (id, k)) PARTITION BY RANGE (id); ALTER TABLE parts DROP COLUMN gone;
	 CREATE TABLE low (k int NOT NULL, id int NOT NULL, v text); ALTER TABLE parts ATTACH PARTITION low FOR VALUES FROM (MINVALUE) TO (10);
	 CREATE TABLE high PARTITION OF parts FOR VALUES FROM (10) TO (MAXVALUE) PARTITION BY HASH (k);
	 CREATE TABLE high0 PARTITION OF high FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE high1 PARTITION OF high FOR VALUES WITH (MODULUS 2, REMAINDER 1);');
my @names = qw(one by_row multi num chr ci f parts nul nnd toasted);
for my $i (0 .. 2)
{
	ferry_node($node[$i], "n$i");
	q1($i, qq{
		CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE TABLE one (id int PRIMARY KEY, a int, b text);
		CREATE TABLE by_row (id int PRIMARY KEY, a int, b text);
		CREATE TABLE multi (x text, y int, z date, v int, PRIMARY KEY (z, x, y));
		CREATE TABLE num (id numeric PRIMARY KEY, v int);
		CREATE TABLE chr (id char(@{[ 5 + $i ]}) PRIMARY KEY, v int);
		CREATE TABLE ci (id text COLLATE anycase PRIMARY KEY, v int);
		CREATE TABLE f (id float8 PRIMARY KEY, v int);
		CREATE TABLE nul (id int PRIMARY KEY, p int, q int, UNIQUE (p, q));
		CREATE TABLE nnd (id int PRIMARY KEY, p int, q int, UNIQUE NULLS NOT DISTINCT (p, q));
		CREATE TABLE toasted (id int PRIMARY KEY, v int, big text); ALTER TABLE toasted ALTER big SET STORAGE EXTERNAL;
		CREATE TABLE wide (id int, k int, v int, PRIMARY KEY (id, k)); CREATE DOMAIN small AS bigint;
		$parts[$i]
		SELECT ferry.add_table(t::regclass) FROM unnest('{one,multi,num,chr,ci,f,nul,nnd,toasted,parts,wide}'::text[]) t;
		SELECT ferry.add_table('by_row', merge => 'row')});
}
for my $i (0 .. 2) { for my $j (0 .. 2) { ferry_link($node[$i], $node[$j], "n$j") if $i != $j; } }

sub pause { my ($i, $j) = @_; q1($i, "SELECT ferry.pause_peer('n$j')"); $node[$i]->poll_query_until('postgres', "SELECT pid IS NULL FROM ferry.lag WHERE peer = 'n$j'"); }
sub part { for my $i (0 .. 2) { for my $j (0 .. 2) { pause($i, $j) if $i != $j; } } }
sub meet { for my $i (0 .. 2) { for my $j (0 .. 2) { q1($i, "SELECT ferry.resume_peer('n$j')") if $i != $j; } } settle(); }
sub settle { my $ok = 1; for (1 .. 3) { $ok &&= ferry_settled($_) for @node; } ok($ok, 'settled'); }
my %columns = (one => 'id, a, b', by_row => 'id, a, b', multi => 'x, y, z, v', parts => 'id, k, v', nul => 'id, p, q', nnd => 'id, p, q', toasted => 'id, v, big');
sub content { my ($i, $t) = @_; my $c = $columns{$t} // 'id, v'; return q1($i, "SELECT $c, ferry.version_dot(_ferry) FROM $t ORDER BY $t.v, 1, 2") if $t !~ /^(one|by_row|nul|nnd)$/; return q1($i, "SELECT $c, ferry.version_dot(_ferry) FROM $t ORDER BY id"); }
sub same
{
	my ($what) = @_;
	for my $t (@names)
	{
		for my $n (1, 2)
		{
			my ($here, $there);
			for (1 .. 300)
			{
				($here, $there) = map { content($_, $t) } $n, 0;
				$here =~ s/ +\|/|/g, $there =~ s/ +\|/|/g if $t eq 'chr';	# one is longer
				last if $here eq $there;
				usleep(100_000);	# deaths by clashes travel after what they resolve
			}
			is($here, $there, "$what: $t of n$n equals n0");
		}
	}
	is(q1($_, 'SELECT relation, key, error FROM ferry.quarantine'), '', "$what: n$_ has nothing in quarantine") for 0 .. 2;
}
sub rows { my ($i, $t, $c) = @_; return q1($i, "SELECT $c FROM $t ORDER BY 1, 2"); }
sub died { my ($i, $t, $key) = @_; return q1($i, "SELECT ferry.state('$t', '$key')->>'alive'"); }

# a key changes: one row dies, another is born
q1(0, "INSERT INTO $_ SELECT i, i, 'b' || i FROM generate_series(1, 9) i") for 'one', 'by_row';
q1(0, "INSERT INTO multi SELECT 'x' || i, i, '2026-01-01', i FROM generate_series(1, 4) i; INSERT INTO parts SELECT i, i % 4, 'v' || i FROM generate_series(1, 20) i");
q1(0, "INSERT INTO toasted SELECT i, i, repeat(md5(i::text), 200) FROM generate_series(1, 6) i");
settle();
q1(1, "UPDATE $_ SET id = 101 WHERE id = 1; UPDATE $_ SET id = 102, a = 22 WHERE id = 2") for 'one', 'by_row';
q1(2, "UPDATE multi SET y = 100 WHERE x = 'x1'; UPDATE multi SET z = '2027-01-01', x = 'w' WHERE x = 'x2'");
q1(1, 'UPDATE toasted SET id = 101 WHERE id = 1');
settle();
same('changed');
is(died(2, 'one', '{"id": 1}') . died(2, 'one', '{"id": 101}'), 'falsetrue', 'the old is dead, the new one lives');
is(rows(0, 'one', 'id, a, b') =~ /102\|22\|b2/ ? 1 : 0, 1, 'with what else was set');

# a key and its row exchange and pass on, in one transaction
for my $t ('one', 'by_row')
{
	q1(2, "BEGIN; UPDATE $t SET id = -3 WHERE id = 3; UPDATE $t SET id = 3 WHERE id = 4; UPDATE $t SET id = 4 WHERE id = -3; COMMIT");
	q1(0, "BEGIN; UPDATE $t SET id = id + 1000 WHERE id BETWEEN 5 AND 7; UPDATE $t SET id = CASE id WHEN 1007 THEN 5 ELSE id - 999 END WHERE id > 1000; COMMIT");
}
q1(1, 'BEGIN; UPDATE toasted SET id = -2 WHERE id = 2; UPDATE toasted SET id = 2 WHERE id = 3; UPDATE toasted SET id = 3 WHERE id = -2; COMMIT');
settle();
same('swapped');
is(rows($_, 'one', 'id, b') =~ /^3\|b4\n4\|b3\n5\|b7\n6\|b5\n7\|b6$/m ? 1 : 0, 1, "n$_: rows have each other's keys") for 0 .. 2;
is(q1(2, 'SELECT id FROM toasted WHERE big = repeat(md5(v::text), 200) ORDER BY v'), "101\n3\n2\n4\n5\n6", 'with values out of line that nobody touched');

# there and back within a transaction, and what is rolled back
q1(0, "BEGIN; UPDATE one SET id = 500 WHERE id = 8; SAVEPOINT a; UPDATE one SET id = 501 WHERE id = 500; DELETE FROM one WHERE id = 9; SAVEPOINT b; INSERT INTO one VALUES (9, 99, 'no'); ROLLBACK TO a; UPDATE one SET id = 8 WHERE id = 500; SAVEPOINT c; UPDATE one SET a = 88 WHERE id = 8; RELEASE c; COMMIT");
q1(1, "BEGIN; SAVEPOINT s; DELETE FROM parts WHERE id < 5; ROLLBACK TO s; UPDATE parts SET v = 'kept' WHERE id = 1; COMMIT; BEGIN; DELETE FROM parts WHERE id = 2; ROLLBACK");
$node[2]->safe_psql('postgres', "DO \$\$ BEGIN FOR i IN 1 .. 50 LOOP BEGIN UPDATE one SET id = 600 + i WHERE id = 9; RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN UPDATE one SET a = i WHERE id = 9; END; END LOOP; END \$\$");
settle();
same('rolled back');
is(q1(1, 'SELECT id, a, b FROM one WHERE id IN (8, 9) OR id >= 500 ORDER BY id'), "8|88|b8\n9|50|b9", 'what was taken back never happened');
is(q1(1, q{SELECT count(*) FROM generate_series(500, 660) i WHERE ferry.state('one', jsonb_build_object('id', i)) IS NOT NULL}), '1', 'nor did it leave tombstones');

# one row gets two keys at once: it is two rows; two rows get one key: it is one
part();
for my $t ('one', 'by_row')
{
	q1(0, "UPDATE $t SET id = 201, a = 1 WHERE id = 3");
	q1(1, "UPDATE $t SET id = 202, b = 'two' WHERE id = 3");
	q1(2, "UPDATE $t SET a = 333 WHERE id = 3");	# later than the deaths
	q1(0, "UPDATE $t SET id = 300, b = 'from 4' WHERE id = 4");
	q1(1, "UPDATE $t SET id = 300, b = 'from 5' WHERE id = 5");
}
meet();
same('at once');
for my $t ('one', 'by_row')
{
	is(q1(2, "SELECT id, a, b FROM $t WHERE id IN (3, 201, 202) ORDER BY id"), "3|333|b4\n201|1|b4\n202|4|two", "$t: all three writes are there");
	is(q1(0, "SELECT count(*), min(b) FROM $t WHERE id = 300"), '1|from 5', "$t: the later birth");
	is(q1(0, "SELECT id FROM $t WHERE id IN (4, 5)"), '', "$t: both have left their keys");
}

# equal keys in other bytes are one row: the last write's bytes stay
q1(0, "INSERT INTO num VALUES (1.0, 1), (2, 2); INSERT INTO chr VALUES ('ab', 1); INSERT INTO ci VALUES ('Key', 1), ('OTHER', 2); INSERT INTO f VALUES (0, 1)");
settle();
part();
q1(0, 'UPDATE num SET v = 10 WHERE id = 1');
q1(1, "UPDATE num SET id = 1.00 WHERE id = 1; UPDATE ci SET id = 'KEY' WHERE id = 'key'; UPDATE f SET id = '-0' WHERE id = 0; DELETE FROM num WHERE id = 2");
q1(2, "INSERT INTO num VALUES (2.000, 3) ON CONFLICT (id) DO UPDATE SET v = 3; INSERT INTO ci VALUES ('other', 5) ON CONFLICT (id) DO UPDATE SET v = 5; INSERT INTO num VALUES (7.70, 7); UPDATE chr SET v = 2");
q1(0, "INSERT INTO num VALUES (7.7, 8); INSERT INTO ci VALUES ('straße', 1)");
q1(1, "INSERT INTO ci VALUES ('STRASSE', 2), ('Straße', 3)");
meet();
same('other bytes');
is(rows(2, 'num', 'id, v'), "1.00|1\n2|3\n7.7|8", 'numeric: by value') or diag rows(2, 'num', 'id, v, ferry.version_dot(_ferry)');
is(q1(1, 'SELECT count(*), count(DISTINCT id) FROM num'), '3|3', 'numeric: one row a value');
is(rows(0, 'ci', 'id, v'), rows(1, 'ci', 'id, v'), 'text: by collation');
is(q1(2, "SELECT id, v FROM ci WHERE id IN ('key', 'other') ORDER BY id"), "KEY|1\nOTHER|5", 'text: by collation');
is(q1(2, 'SELECT count(*) FROM f'), '1', 'float: 0 is -0');
is(q1(2, "SELECT v FROM chr WHERE id = 'ab'"), '2', 'char(n): whatever the length');
q1(2, "DELETE FROM ci WHERE id = 'kEY'; DELETE FROM num WHERE id = 1; DELETE FROM chr WHERE id = 'ab'; DELETE FROM f WHERE id = 0");
settle();
same('dead by other bytes');
is(q1(0, "SELECT count(*) FROM ci WHERE id = 'key'") . died(0, 'num', '{"id": 1.000}') . died(1, 'ci', '{"id": "kEy"}') . died(1, 'f', '{"id": 0}'), '0falsefalsefalse', 'dead in every spelling');
q1(1, "INSERT INTO num VALUES (1.0000, 5); INSERT INTO ci VALUES ('keY', 5); INSERT INTO chr VALUES ('ab', 5); INSERT INTO f VALUES (0, 5)");
settle();
same('born again in other bytes');

# rows move between partitions, which are others on each node; deaths and clashes find them
q1(0, 'UPDATE parts SET k = 3 WHERE id = 4; UPDATE parts SET id = 30 WHERE id = 5');
q1(1, 'UPDATE parts SET k = k + 1 WHERE id BETWEEN 6 AND 12');
q1(2, "UPDATE parts SET id = id + 100 WHERE id BETWEEN 13 AND 16; UPDATE parts SET id = 8, v = 'down' WHERE id = 19; DELETE FROM parts WHERE id = 20");
settle();
same('partitions');
is(q1(1, 'SELECT count(*) FROM parts') . '|' . q1(2, 'SELECT count(*) FROM low') . '|' . q1(2, "SELECT id, v FROM high WHERE id = 113"), q1(0, 'SELECT count(*) FROM parts') . '|' . q1(0, 'SELECT count(*) FROM parts WHERE id < 10') . '|113|v13', 'each where it belongs');
part();
q1(0, "UPDATE parts SET v = 'changed' WHERE id = 17");
q1(2, 'UPDATE parts SET k = 0 WHERE id = 17');
q1(1, 'UPDATE parts SET id = 117 WHERE id = 18; UPDATE parts SET id = 18 WHERE id = 17');
meet();
same('partitions at once');

# NULLs: many under a unique constraint, one where they are not distinct
part();
q1($_, "INSERT INTO nul VALUES (10 + $_, NULL, NULL), (20 + $_, 1, NULL), (30 + $_, 1, 1); INSERT INTO nnd VALUES (10 + $_, NULL, NULL), (20 + $_, 1, NULL), (30 + $_, 1, 1)") for 0 .. 2;
meet();
same('NULL');
is(q1(1, 'SELECT string_agg(id::text, \' \' ORDER BY id) FROM nul'), '10 11 12 20 21 22 32', 'NULLs are distinct');
is(q1(2, 'SELECT string_agg(id::text, \' \' ORDER BY id) FROM nnd'), '12 22 32', 'NULLs that are not distinct clash');
q1(0, 'UPDATE nul SET q = 2 WHERE id = 20');
q1(1, 'UPDATE nnd SET p = 5, q = NULL WHERE id = 12; UPDATE nnd SET p = NULL WHERE id = 22');
settle();
same('NULL given up');

# many values and keys go around in one transaction
q1(0, 'DELETE FROM nul; INSERT INTO nul SELECT 1000 + i, i, i FROM generate_series(1, 20) i');
settle();
my $clashes = "SELECT count(*) FROM ferry.conflicts WHERE kind = 'unique_key'";
my @before = map { q1($_, $clashes) } 0 .. 2;
q1(1, 'BEGIN; UPDATE nul SET q = q + 100 WHERE id > 1000; UPDATE nul SET p = CASE WHEN p = 20 THEN 1 ELSE p + 1 END, q = CASE WHEN q = 120 THEN 1 ELSE q - 99 END WHERE id > 1000; UPDATE nul SET id = id + 1000 WHERE id > 1010; COMMIT');
settle();
same('around');
is(q1($_, $clashes), $before[$_], "n$_: nobody clashed") for 0 .. 2;
is(q1(2, 'SELECT count(*), sum(p), min(q) FROM nul WHERE id > 1000'), '20|210|1', 'all are there');

# a key's type changes on one node, later on the others: dead rows keep their keys, and what does not fit waits
q1(0, 'INSERT INTO wide SELECT i, CASE WHEN i < 3 THEN 1 ELSE i END, i FROM generate_series(1, 8) i; DELETE FROM wide WHERE id IN (1, 2)');
settle();
q1(1, 'ALTER TABLE wide ALTER id TYPE bigint');
q1(0, 'UPDATE wide SET v = 30 WHERE id = 3; DELETE FROM wide WHERE id = 4; INSERT INTO wide VALUES (1, 1, 11)');
q1(1, 'UPDATE wide SET v = 50 WHERE id = 5; DELETE FROM wide WHERE id = 6; INSERT INTO wide VALUES (2, 1, 22), (5000000000, 1, 1)');
settle();
is(q1($_, 'SELECT key FROM ferry.quarantine'), '{"k": "1", "id": "5000000000"}', "n$_: a key that has no place waits") for 0, 2;
is(q1(1, 'SELECT count(*) FROM ferry.quarantine'), '0', 'nothing waits where the type is wider');
is(q1($_, 'SELECT id, v FROM wide WHERE id < 10 ORDER BY id'), "1|11\n2|22\n3|30\n5|50\n7|7\n8|8", "n$_: all else has merged") for 0 .. 2;
is(q1($_, q{SELECT ferry.state('wide', '{"id": 2, "k": 1}')->'alive' || (ferry.state('wide', '{"id": 6, "k": 6}')->>'alive')}), q1(0, "SELECT 'true' || 'false'"), "n$_: dead and alive") for 0 .. 2;
q1($_, 'ALTER TABLE wide ALTER id TYPE bigint, ALTER v TYPE bigint; SELECT ferry.retry_quarantine()') for 0, 2;
q1(1, 'ALTER TABLE wide ALTER v TYPE bigint');
q1(2, 'DELETE FROM wide WHERE id IN (7, 5000000000); UPDATE wide SET v = 5000000000 WHERE id = 8');
settle();
is(q1($_, 'SELECT id, v FROM wide ORDER BY id'), "1|11\n2|22\n3|30\n5|50\n8|5000000000", "n$_: all have changed") for 0 .. 2;
is(q1($_, q{SELECT ferry.state('wide', '{"id": 5000000000, "k": 1}')->>'alive'}), 'false', "n$_: dead under its new key") for 0 .. 2;
like(ferry_error($node[0], 'ALTER TABLE wide ALTER id TYPE numeric USING id + 1'), qr/0A000.*cannot be changed by an expression/, 'not by an expression');
like(ferry_error($node[0], 'ALTER TABLE wide ALTER id TYPE small USING id'), qr/0A000/, 'not by one that says nothing');
like(ferry_error($node[0], 'ALTER TABLE wide ALTER id TYPE small'), qr/0A000.*own types only/, 'not to a type of somebody');

for my $i (0 .. 2)
{
	is(q1($i, 'SET client_min_messages = error; SELECT sum(differing), sum(mismatched), count(error) FROM ferry.verify(deep => true)'), '0|0|0', "n$i: verification finds nothing");
}
$_->stop for @node;
done_testing();
