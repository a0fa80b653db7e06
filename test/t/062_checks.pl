# CHECK constraints that hold on each node but not on the merged row: all nodes
# end with the same valid row, the other side is on record, and no link stops;
# sums that no node may take back wait in quarantine, and say so.
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
	CREATE TABLE span (id int PRIMARY KEY, low int NOT NULL, high int NOT NULL, CONSTRAINT ordered CHECK (low <= high), note text);
	CREATE TABLE tied (id int PRIMARY KEY, a int, b int, c int, d int, ab int GENERATED ALWAYS AS (a + b) STORED,
		CHECK (ab <= 10), CHECK (b + c <= 10), CHECK (d < 100));
	CREATE TABLE parted (id int, k int, low int, high int, CONSTRAINT ord CHECK (low <= high), PRIMARY KEY (id, k)) PARTITION BY LIST (k);
	CREATE TABLE parted1 (high int, k int NOT NULL, low int, id int NOT NULL, CONSTRAINT ord CHECK (low <= high)); ALTER TABLE parted ATTACH PARTITION parted1 FOR VALUES IN (1);
	CREATE TABLE stock (id int PRIMARY KEY, n int CHECK (n >= 0));
	CREATE TABLE doc (id int PRIMARY KEY, n int, body text, other text, CONSTRAINT fits CHECK (length(body) >= n));
	ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;
	SELECT ferry.add_table(t::regclass, on_delete => 'update_wins') FROM unnest('{span,tied,parted,stock,doc}'::text[]) t;
	SELECT ferry.set_merge('stock', 'n', 'counter')};
for my $i (0 .. 2)
{
	ferry_node($node[$i], "n$i");
	$node[$i]->safe_psql('postgres', $tables);
}
for my $i (0 .. 2) { for my $j (0 .. 2) { ferry_link($node[$i], $node[$j], "n$j") if $i != $j; } }

sub q1 { my ($i, $sql) = @_; return $node[$i]->safe_psql('postgres', $sql); }
sub part { for my $i (0 .. 2) { for my $j (0 .. 2) { next if $i == $j; q1($i, "SELECT ferry.pause_peer('n$j')"); $node[$i]->poll_query_until('postgres', "SELECT pid IS NULL FROM ferry.lag WHERE peer = 'n$j'"); } } }
sub settle { my $ok = 1; for (1 .. 3) { $ok &&= ferry_settled($_) for @node; } ok($ok, 'settled'); }
sub meet { for my $i (0 .. 2) { for my $j (0 .. 2) { q1($i, "SELECT ferry.resume_peer('n$j')") if $i != $j; } } settle(); }

# rows, dead ones and versions included; resolutions travel after what they resolve
sub same
{
	my ($what, @tables) = @_;
	for my $t (@tables)
	{
		my $sql = "SELECT * FROM $t ORDER BY id";
		$sql .= "; SELECT id, ferry.state('$t', jsonb_build_object('id', id)) FROM $t ORDER BY id" if $t ne 'parted';
		for my $n (1, 2)
		{
			my ($here, $there);
			for my $try (1 .. 300)
			{
				($here, $there) = map { q1($_, $sql) } $n, 0;
				last if $here eq $there;
				usleep(100_000);
			}
			is($here, $there, "$what: $t of n$n equals n0, versions included");
		}
	}
}

q1(0, "INSERT INTO span SELECT i, 0, 10 FROM generate_series(1, 300) i; INSERT INTO tied SELECT i, 5, 5, 5, 1 FROM generate_series(1, 300) i;
	INSERT INTO parted SELECT i, 1, 0, 10 FROM generate_series(1, 9) i; INSERT INTO stock VALUES (1, 1)");
settle();

# the later claim wins, with all the columns that the constraint ties; others merge
part();
q1(0, "UPDATE span SET low = 8 WHERE id IN (1, 2); UPDATE span SET note = 'kept' WHERE id = 1; UPDATE parted SET low = 8 WHERE id = 1");
q1(1, "UPDATE span SET high = 5 WHERE id = 1; UPDATE parted SET high = 5 WHERE id = 1");
q1(1, 'UPDATE span SET high = 5 WHERE id = 3');
q1(0, 'UPDATE span SET low = 8 WHERE id = 3');
q1(1, "UPDATE tied SET a = 6, b = 4 WHERE id = 1; UPDATE tied SET d = 2 WHERE id = 1");
q1(2, "UPDATE tied SET c = 6, b = 4 WHERE id = 1");
q1(0, "UPDATE tied SET b = 5, c = 4, a = 1 WHERE id = 1; UPDATE tied SET c = 5 WHERE id = 1");
# what fits only with columns of another constraint, which the other side wrote last but one
q1(2, 'UPDATE tied SET a = 1, c = 1 WHERE id = 2');
q1(1, 'UPDATE tied SET a = 9, b = 1, c = 9 WHERE id = 2');
q1(2, 'UPDATE tied SET b = 9 WHERE id = 2');
# deleted beside a change that lets it live
q1(1, 'DELETE FROM span WHERE id = 2');
q1(2, 'UPDATE span SET high = 5 WHERE id = 2');
# changed and then deleted beside such a change: what the tombstone kept takes part
q1(0, 'UPDATE span SET low = 8 WHERE id = 6');
q1(1, "UPDATE span SET high = 5 WHERE id IN (5, 6); DELETE FROM span WHERE id IN (5, 6)");
q1(0, 'UPDATE span SET low = 8 WHERE id = 5');
meet();
same('tied', qw(span tied parted));
is(q1(2, 'SELECT low, high, note FROM span WHERE id = 1'), '0|5|kept', 'the later claim, and the note of the other side');
is(q1(2, 'SELECT low, high FROM span WHERE id = 3'), '8|10', 'the later claim, whoever finds out first');
is(q1($_, 'SELECT low, high FROM span WHERE id IN (5, 6) ORDER BY id'), "8|10\n0|5", "n$_: the later claim, of a row that was dead") for 0 .. 2;
is(q1(1, 'SELECT low, high FROM parted WHERE id = 1'), '0|5', 'in a partition with another layout');
is(q1($_, 'SELECT count(*) FROM span WHERE low > high'), '0', "n$_: valid") for 0 .. 2;
is(q1(0, 'SELECT a, b, c FROM tied WHERE id = 2'), '1|9|1', 'all that constraints tie together is taken from the later claim');
is(q1(0, 'SELECT d FROM tied WHERE id = 1'), '2', 'a column that no violated constraint ties is merged as ever');
is(q1($_, 'SELECT error FROM ferry.quarantine'), '', "n$_ has nothing in quarantine") for 0 .. 2;
like(join("\n", map { q1($_, "SELECT relation, columns, rule, constraint_name, winner, local_row, remote_row FROM ferry.conflicts WHERE kind = 'check' AND key = '{\"id\": 1}'") } 0 .. 2),
	qr/public.span\|\{low,high\}\|later_claim\|ordered\|(local\|.*"high": 5.*"low": 8|remote\|.*"low": 8.*"high": 5)/, 'both images are kept');

# the later claim is refused by a constraint of one node alone: the other side's stands, everywhere
q1(1, 'ALTER TABLE span ADD CONSTRAINT own CHECK (high < 50)');
part();
q1(1, 'UPDATE span SET low = 9 WHERE id = 4');
q1(0, 'UPDATE span SET high = 60 WHERE id = 4');
meet();
same('own', 'span');
is(q1(0, 'SELECT low, high FROM span WHERE id = 4'), '9|10', 'what is valid on all nodes');

# what is tied to a changed column and was left out, out of line or narrow, is asked for
q1(0, "INSERT INTO doc SELECT i, 0, repeat(i::text, 12000) FROM generate_series(1, 2) i");
settle();
part();
q1(1, "UPDATE doc SET body = repeat('b', 4000) WHERE id = 1");
q1(0, 'UPDATE doc SET n = 5000');
q1(1, "UPDATE doc SET body = repeat('b', 4000) WHERE id = 2");
meet();
same('left out', 'doc');
is(q1($_, 'SELECT n, length(body), left(body, 1) FROM doc ORDER BY id'), "5000|12000|1\n0|4000|b", "n$_: the whole of the later claim") for 0 .. 2;
is(q1($_, 'SELECT error FROM ferry.quarantine'), '', "n$_ has nothing in quarantine") for 0 .. 2;

# at random, in parts and together: everybody ends alike, valid, and at rest
my $seed = $ENV{FERRY_SEED} // time;
srand($seed);
note("FERRY_SEED=$seed");
for my $round (1 .. 3)
{
	part();
	for my $n (0 .. 2)
	{
		my $r = sub { int(rand(12)) };
		# each write is valid where it is made; one that is not changes nothing
		my $sql = join(';', map {
			my $id = 1 + int(rand(40));
			my ($t, $set, $ok) = @{ ([ 'span', 'low = ' . $r->(), 'new.low <= high' ], [ 'span', 'high = ' . $r->(), 'low <= new.high' ],
				[ 'tied', 'a = ' . $r->(), 'new.a + b <= 10' ], [ 'tied', 'b = ' . $r->(), 'a + new.b <= 10 AND new.b + c <= 10' ], [ 'tied', 'c = ' . $r->(), 'b + new.c <= 10' ])[ rand 5 ] };
			my ($column, $value) = $set =~ /(\w+) = (\d+)/;
			$ok =~ s/new\.$column/$value/g;
			"UPDATE $t SET $set WHERE id = $id AND $ok"
		} 1 .. 150);
		q1($n, $sql);
	}
	meet();
}
same("seed $seed", qw(span tied parted));
is(q1($_, 'SELECT error FROM ferry.quarantine'), '', "n$_ has nothing in quarantine") for 0 .. 2;
cmp_ok(q1(0, "SELECT count(*) FROM ferry.conflicts WHERE kind = 'check'") + q1(1, "SELECT count(*) FROM ferry.conflicts WHERE kind = 'check'"), '>', 5, 'it has happened');

# the last piece is sold twice: no node takes the other's sale back
part();
q1(0, 'UPDATE stock SET n = n - 1');
q1(1, 'UPDATE stock SET n = n - 1');
meet();
for my $n (0, 1)
{
	is(q1($n, "SELECT relation, sqlstate FROM ferry.quarantine"), 'public.stock|23514', "n$n: the sum waits");
	is(q1($n, 'SELECT n FROM stock'), '0', "n$n: valid");
	is(q1($n, "SELECT winner, rule, constraint_name FROM ferry.conflicts WHERE kind = 'check' AND relation = 'public.stock'"), 'none|quarantined|stock_n_check', "n$n: on record");
}
is(q1(2, "SELECT state FROM ferry.lag WHERE peer = 'n$_'"), 'streaming', 'links go on') for 0, 1;
q1(0, 'UPDATE stock SET n = n + 5');
settle();
q1($_, 'SELECT ferry.retry_quarantine()') for 0 .. 2;
settle();
is(q1($_, 'SELECT n FROM stock'), '4', "n$_: restocked, both sales counted") for 0 .. 2;
is(q1($_, 'SELECT count(*) FROM ferry.quarantine'), '0', "n$_: nothing waits") for 0 .. 2;
same('sum', 'stock');

# what is kept of the record: so many, then so old
my $newest = q1(0, 'SELECT string_agg(id::text, \',\') FROM (SELECT id FROM ferry.conflicts ORDER BY id DESC LIMIT 3) t');
q1(0, $_) for 'ALTER SYSTEM SET ferry.housekeeping_ms = 100', 'ALTER SYSTEM SET ferry.conflict_keep_rows = 3', 'SELECT pg_reload_conf()';
ok($node[0]->poll_query_until('postgres', 'SELECT count(*) = 3 FROM ferry.conflicts'), 'as many conflicts as are to be kept');
is(q1(0, 'SELECT string_agg(id::text, \',\' ORDER BY id DESC) FROM ferry.conflicts'), $newest, 'the newest');
q1(0, "UPDATE ferry.conflict SET at = at - interval '1 month' WHERE id <> (SELECT max(id) FROM ferry.conflict)");
ok($node[0]->poll_query_until('postgres', 'SELECT count(*) = 1 FROM ferry.conflicts'), 'what is older than 30 days goes');
done_testing();
