# Two rows, one value: unique and exclusion constraints besides the primary key
# hold on every node, the later claim wins, the other row's image is kept, and
# exchanging values harms nobody.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use FerryNodes;

my @node = map { ferry_cluster("n$_", "ferry.verify_interval = 0\n") } 0 .. 2;
my $tables = q{
	CREATE EXTENSION btree_gist;
	CREATE TABLE u (id int PRIMARY KEY, v text UNIQUE, w int, x text, note text);
	CREATE UNIQUE INDEX u_w ON u (w) WHERE w > 0;
	CREATE UNIQUE INDEX u_x ON u (lower(x));
	CREATE TABLE d (id int PRIMARY KEY, v text UNIQUE NULLS NOT DISTINCT DEFERRABLE INITIALLY DEFERRED);
	CREATE TABLE r (id int PRIMARY KEY, v int UNIQUE, w int);
	CREATE TABLE e (id int PRIMARY KEY, room int, at int4range, EXCLUDE USING gist (room WITH =, at WITH &&));
	CREATE TABLE p (id int, k int, v text, PRIMARY KEY (id, k), UNIQUE (k, v)) PARTITION BY LIST (k);
	CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
	CREATE TABLE p2 (v text, k int NOT NULL, id int NOT NULL); ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2);
	CREATE TABLE g (id int PRIMARY KEY, a int, note text, v int GENERATED ALWAYS AS (a % 100) STORED UNIQUE);
	SELECT ferry.add_table(t::regclass) FROM unnest('{u,d,e,p,g}'::text[]) t;
	SELECT ferry.add_table('r', merge => 'row')};
for my $i (0 .. 2)
{
	ferry_node($node[$i], "n$i");
	$node[$i]->safe_psql('postgres', $tables);
}
for my $i (0 .. 2) { for my $j (0 .. 2) { ferry_link($node[$i], $node[$j], "n$j") if $i != $j; } }

sub q1 { my ($i, $sql) = @_; return $node[$i]->safe_psql('postgres', $sql); }
sub pause { my ($i, $j) = @_; q1($i, "SELECT ferry.pause_peer('n$j')"); $node[$i]->poll_query_until('postgres', "SELECT pid IS NULL FROM ferry.lag WHERE peer = 'n$j'"); }
sub part { for my $i (0 .. 2) { for my $j (0 .. 2) { pause($i, $j) if $i != $j; } } }
sub meet { for my $i (0 .. 2) { for my $j (0 .. 2) { q1($i, "SELECT ferry.resume_peer('n$j')") if $i != $j; } } settle(); }
# own writes follow what is merged: as many rounds as they may take
sub settle { my $ok = 1; for (1 .. 3) { $ok &&= ferry_settled($_) for @node; } ok($ok, 'settled'); }

sub same
{
	my ($what) = @_;
	for my $t (qw(u d r e p g))
	{
		my $sql = "SELECT * FROM $t ORDER BY id";
		my $states = "SELECT id, s FROM generate_series(1, 60) id, LATERAL ferry.state('$t', jsonb_build_object('id', id)) s WHERE s IS NOT NULL ORDER BY id";
		$states = 'SELECT 1' if $t eq 'p';
		for my $n (1, 2)
		{
			# a death that resolves a clash is a write of its own, which travels after what it resolves
			my ($here, $there);
			for my $try (1 .. 300)
			{
				($here, $there) = map { q1($_, "$sql; $states") } $n, 0;
				last if $here eq $there;
				usleep(100_000);
			}
			is($here, $there, "$what: $t of n$n equals n0, dead rows and versions included");
		}
	}
	is(q1($_, 'SELECT error FROM ferry.quarantine'), '', "$what: n$_ has nothing in quarantine") for 0 .. 2;
}

# the later claim wins, whoever sees it first
part();
q1(0, "INSERT INTO u VALUES (1, 'same', 1, 'A', 'older'); INSERT INTO r VALUES (1, 5); INSERT INTO e VALUES (1, 1, '[1,10)'); INSERT INTO p VALUES (1, 2, 'same'); INSERT INTO d VALUES (1, NULL)");
q1(1, "INSERT INTO u VALUES (2, 'same', 2, 'B', 'newer'); INSERT INTO r VALUES (2, 5); INSERT INTO e VALUES (2, 1, '[5,15)'); INSERT INTO p VALUES (2, 2, 'same'); INSERT INTO d VALUES (2, NULL)");
q1(2, "INSERT INTO u VALUES (3, 'other', 3, 'C', 'newest'); INSERT INTO e VALUES (3, 1, '[15,20)')");
# a change of another column renews no claim
q1(0, "UPDATE u SET note = 'changed' WHERE id = 1");
meet();
same('clash');
is(q1(0, 'SELECT id, v, note FROM u ORDER BY id'), "2|same|newer\n3|other|newest", 'u: the later is left');
is(q1(1, 'SELECT id FROM r'), '2', 'r: the later is left');
is(q1(1, 'SELECT id FROM e ORDER BY id'), "2\n3", 'e: what overlaps the later goes');
is(q1(2, 'SELECT id FROM p'), '2', 'p: in a partition with another layout');
is(q1(2, 'SELECT id FROM d'), '2', 'd: nulls that are not distinct, deferrable');
like(join("\n", map { q1($_, "SELECT key, columns, constraint_name, local_row, remote_row, winner FROM ferry.conflicts WHERE kind = 'unique_key' AND relation = 'public.u'") } 0 .. 2),
	qr/\{"id": 1\}\|\{v\}\|u_v_key\|.*"v": "same".*"v": "same".*\|(local|remote)/, 'both images are kept');

# exchanging values kills nobody, in one statement or by a third value
my $conflicts = 'SELECT count(*) FROM ferry.conflicts';
q1(0, "INSERT INTO u SELECT i, 'v' || i, i, 'x' || i FROM generate_series(11, 16) i; INSERT INTO d SELECT i, 'v' || i FROM generate_series(11, 16) i");
settle();
my @before = map { q1($_, $conflicts) } 0 .. 2;
q1(0, "UPDATE d SET v = 'v' || CASE id WHEN 16 THEN 11 ELSE id + 1 END WHERE id > 10");
q1(1, "BEGIN; UPDATE u SET v = 'tmp' WHERE id = 11; UPDATE u SET v = 'v11' WHERE id = 12; UPDATE u SET v = 'v12' WHERE id = 11; COMMIT");
q1(2, "BEGIN; DELETE FROM u WHERE id = 14; UPDATE u SET v = 'v14' WHERE id = 15; INSERT INTO u VALUES (14, 'v15'); COMMIT");
settle();
same('exchange');
is(q1(1, 'SELECT string_agg(v, \',\' ORDER BY id) FROM d WHERE id > 10'), 'v12,v13,v14,v15,v16,v11', 'd: all are there');
is(q1(0, 'SELECT string_agg(v, \',\' ORDER BY id) FROM u WHERE id > 10'), 'v12,v11,v13,v15,v14,v16', 'u: all are there');
is(q1($_, $conflicts), $before[$_], "n$_: no conflict of it") for 0 .. 2;

# a value that was passed on, of which the news comes by the later link first
pause(2, 0);
q1(0, "UPDATE u SET v = 'free' WHERE id = 11");
ok($node[1]->poll_query_until('postgres', "SELECT v = 'free' FROM u WHERE id = 11"), 'n1 has it');
q1(1, "UPDATE u SET v = 'v12' WHERE id = 12");
ok(ferry_settled($node[1]), 'n2 has what followed, not the first');
is(q1(2, 'SELECT string_agg(v, \',\' ORDER BY id) FROM u WHERE id IN (11, 12)'), 'free,v12', 'the sender was asked: nobody died');
q1(2, "SELECT ferry.resume_peer('n0')");
settle();
same('passed on');
is(q1($_, $conflicts), $before[$_], "n$_: no conflict of it") for 0 .. 2;

# the loser is changed meanwhile where nobody knows of the clash
part();
q1(0, "INSERT INTO u VALUES (21, 'late', 21, 'l1')");
q1(1, "INSERT INTO u VALUES (22, 'late', 22, 'l2')");
meet();
same('before');
part();
q1(0, "INSERT INTO u VALUES (31, 'away', 31, 'm1')");
q1(1, "INSERT INTO u VALUES (32, 'away', 32, 'm2')");
q1(1, "SELECT ferry.resume_peer('n0')");
$node[1]->poll_query_until('postgres', q{SELECT NOT (ferry.state('u', '{"id": 31}')->>'alive')::bool});
q1(0, "UPDATE u SET v = 'elsewhere' WHERE id = 31");
meet();
same('updated away');
is(q1(2, 'SELECT id, v FROM u WHERE id IN (31, 32) ORDER BY id'), "31|elsewhere\n32|away", 'the later change brings it back');

# chains: a clashes with b in one constraint and b with c in another, every way around
part();
q1($_, "INSERT INTO u VALUES (55 + $_, 'c' || ($_ / 2), 50 + ($_ + 1) / 2, 'c$_'); INSERT INTO e VALUES (55 + $_, 5, int4range(5 * $_, 5 * $_ + 7))") for 1, 2, 0;
meet();
same('chain');

# a local transaction that is not committed yet is waited for
my $s = $node[0]->background_psql('postgres', on_error_stop => 0);
$s->query_safe("BEGIN; INSERT INTO u VALUES (41, 'held', 41, 'h1')");
q1(1, "INSERT INTO u VALUES (42, 'held', 42, 'h2')");
$node[0]->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted");
$s->query_safe('COMMIT');
$s->quit;
settle();
same('waited');
is(q1(0, "SELECT count(*) FROM u WHERE v = 'held'"), '1', 'one of them is left');

# by hand
is(q1(0, q{SELECT ferry.merge('u', jsonb_build_object('alive', true, 'key', '{"id": 51}'::jsonb, 'row', '{"v": "held"}'::jsonb,
	'last', jsonb_build_array('77', '77'), 'vv', '{"77": "77"}'::jsonb))}), 'conflict', 'ferry.merge says so');
settle();
same('by hand');
is(q1(2, q{SELECT ferry.state('u', '{"id": 51}')->>'alive'}), 'false', 'the older claim lost');

# a generated column was written by who wrote what it is made of, and by nobody else
part();
q1(0, 'INSERT INTO g VALUES (1, 7)');
q1(1, 'INSERT INTO g VALUES (2, 107)');
q1(0, "UPDATE g SET note = 'later' WHERE id = 1");
meet();
same('generated');
is(q1($_, 'SELECT id FROM g'), '2', "n$_: the later claim") for 0 .. 2;

# two claims under one dot: the greater key keeps the place on every node, also
# where a change of another column has come to one of them
part();
sub claim { my ($id) = @_; return qq{SELECT ferry.merge('g', jsonb_build_object('alive', true, 'key', '{"id": $id}'::jsonb, 'row', '{"a": 50, "note": null}'::jsonb,
	'last', jsonb_build_array('78', '78'), 'vv', '{"78": "78"}'::jsonb))}; }
q1(0, claim(10));
q1(1, claim(11));
q1(2, claim(10));
q1(0, "UPDATE g SET note = 'since' WHERE id = 10");
meet();
same('a tie');
is(q1($_, 'SELECT id FROM g WHERE a = 50'), '11', "n$_: the greater key") for 0 .. 2;
$_->stop for @node;
done_testing();
