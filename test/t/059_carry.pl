# The example of another transport (docs/examples/carry): two nodes that share no
# network take writes, and files of JSON are carried both ways, late, twice, in the
# wrong order, some of them lost and one interrupted.  Both end the same, and each
# knows what the other holds, so that tombstones stay as long as they are needed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use File::Copy qw(copy);
use Time::HiRes qw(usleep);
use FerryNodes;

my @name = qw(ship shore);
my @node = map { ferry_cluster($_, "ferry.housekeeping_ms = 100\nferry.prune_after = 0\n") } @name;
my $stick = PostgreSQL::Test::Utils::tempdir();
my $carry = "$FindBin::RealBin/../../docs/examples/carry";
sub q1 { my ($i, $sql) = @_; return $node[$i]->safe_psql('postgres', $sql); }
sub out { my ($i) = @_; return run_log([ $carry, 'out', $name[ 1 - $i ], $stick, $node[$i]->connstr('postgres') ]); }
sub in { my ($i) = @_; return run_log([ $carry, 'in', $stick, $node[$i]->connstr('postgres') ]); }
sub files { my ($i) = @_; return sort glob("$stick/$name[1 - $i]-to-$name[$i]-??????"); }
sub lines { my ($file) = @_; my $text = slurp_file($file); return $text =~ tr/\n//; }

for my $i (0, 1)
{
	q1($i, "CREATE EXTENSION ferry; CREATE EXTENSION hstore; SELECT ferry.create_node('$name[$i]', 'host=unreachable')");
	q1($i, q{
		CREATE TYPE mood AS ENUM ('sad', 'ok');
		CREATE TABLE stock (id int PRIMARY KEY, n int, tags text[], h hstore, m mood[], note text, j jsonb);
		CREATE TABLE log (id int PRIMARY KEY, line text CHECK (line <> 'not here'));
		SELECT ferry.add_table('stock'), ferry.add_table('log', merge => 'row');
		SELECT ferry.set_merge('stock', 'n', 'counter'), ferry.set_merge('stock', 'tags', 'set');
	});
}
sub content { my ($i) = @_; return q1($i, q{SELECT 'stock', id, n, tags, h, m, note, j, ferry.version_dot(_ferry) FROM stock ORDER BY id}) . "\n" . q1($i, 'SELECT id, line, ferry.version_dot(_ferry) FROM log ORDER BY id'); }
sub equal
{
	my ($what) = @_;
	my ($l, $r) = map { content($_) } 0, 1;
	ok($l eq $r, "$what: both are equal") and return;
	my %l = map { $_ => 1 } split /\n/, $l;
	my %r = map { $_ => 1 } split /\n/, $r;
	diag join("\n", 'ship:', (grep { !$r{$_} } sort keys %l)[ 0 .. 4 ], 'shore:', (grep { !$l{$_} } sort keys %r)[ 0 .. 4 ]);
}
# what a node promises is told by its supervisor
sub told { my ($i) = @_; ok($node[$i]->poll_query_until('postgres', "SELECT (SELECT max(hlc) FROM ferry._vector_entries(ferry.known_of('$name[$i]')) JOIN ferry.nodes ON origin = node_id AND is_local) >= (SELECT max(x) FROM (SELECT split_part(ferry.version_dot(_ferry), '\@', 1)::numeric x FROM stock WHERE ferry.version_dot(_ferry) LIKE '%\@' || (SELECT node_id FROM ferry.nodes WHERE is_local)) y)"), "$name[$i] has told what it holds"); }

q1(0, q{INSERT INTO stock SELECT i, 100, '{a,b}', 'k=>1', '{ok,sad}', E'line\nbreak "' || i || E'" \\ \t', 'null' FROM generate_series(1, 3000) i; INSERT INTO log SELECT i, 'x' || i FROM generate_series(1, 100) i});
ok(out(1) && in(0), 'ship hears of shore');
told(0);
ok(out(0) && in(1), 'the first file');
equal('first');
like(q1(1, "SELECT ferry.known_of('ship')"), qr/^\d+:\d+/, 'shore knows what ship holds');

# both write; counters and sets join
for my $i (0, 1)
{
	q1($i, "UPDATE stock SET n = n - 10, tags = array_append(tags, 't$i') WHERE id <= 50; INSERT INTO stock (id, n) VALUES (5000 + $i, $i); UPDATE stock SET note = 'by $i' WHERE id = 60; DELETE FROM stock WHERE id BETWEEN 100 + $i AND 110");
	told($i);
}
ok(out(0) && out(1) && in(0) && in(1), 'both ways');
equal('both ways');
is(q1(0, 'SELECT n, tags FROM stock WHERE id = 7'), '80|{a,b,t0,t1}', 'and nothing is lost');
is(q1(1, "SELECT count(*) FROM ferry.conflicts WHERE kind = 'update_update'"), '1', 'conflicts are on record');

# only what is new, once each knows what the other has
ok(out(1) && in(0) && out(0) && in(1), 'there and back');
q1(0, "UPDATE stock SET note = 'last' WHERE id = 1");
told(0);
ok(out(0), 'one more');
cmp_ok(lines((files(1))[0]), '<', 20, 'a small file');
# it gets lost; the next one has its contents
unlink(files(1));
q1(0, 'UPDATE stock SET n = n + 1 WHERE id = 2; DELETE FROM stock WHERE id = 3');
ok(out(0) && in(1), 'after a loss');
equal('after a loss');

# in the wrong order, and twice
q1(0, "UPDATE stock SET note = 'one' WHERE id = 4");
told(0);
ok(out(0), 'a file');
my ($early) = files(1);
rename($early, "$stick/away");
q1(0, "TRUNCATE log; INSERT INTO log VALUES (1, 'after'); UPDATE stock SET note = 'two' WHERE id = 4");
ok(out(0) && in(1), 'what TRUNCATE left comes along');
is(q1(1, 'SELECT * FROM log') =~ /^1\|after\|/ ? 1 : 0, 1, 'and takes effect');
rename("$stick/away", $early);
copy($early, "$stick/ship-to-shore-999999");
ok(in(1), 'an old file, twice');
equal('in the wrong order');

# interrupted: a state in the middle cannot be merged yet, what comes before it stays
q1(1, "ALTER TABLE log DROP CONSTRAINT log_line_check; INSERT INTO log SELECT i, 'not here' FROM generate_series(10, 12) i; INSERT INTO stock SELECT i, 1 FROM generate_series(6000, 8500) i");
ok(out(1), 'a file that does not fit');
my $before = q1(0, "SELECT ferry.known_of('shore')");
ok(!in(0), 'ends with the error');
is(q1(0, "SELECT ferry.known_of('shore')"), $before, 'and does not count');
cmp_ok(q1(0, 'SELECT count(*) FROM stock WHERE id >= 6000'), '>', 0, 'what came before is there');
q1(0, 'ALTER TABLE log DROP CONSTRAINT log_line_check');
ok(in(0), 'goes on when the cause is gone');
equal('resumed');
my ($half) = out(0) ? files(1) : ();
my $text = slurp_file($half);
append_to_file("$stick/ship-to-shore-888888", substr($text, 0, length($text) / 2));
ok(!in(1), 'half a file is refused');
unlink("$stick/ship-to-shore-888888");
ok(in(1), 'the whole one is not');

# deletions stay until the other is known to have them, then they go
q1(1, "INSERT INTO log SELECT i, 'x' FROM generate_series(6001, 8500) i");
ok(out(1) && in(0), 'more rows');
q1(1, 'DELETE FROM stock WHERE id > 6000; DELETE FROM log WHERE id > 6000');
my $tombs = q1(1, "SELECT tombstones FROM ferry.tables WHERE relation = 'log'::regclass");
ok(out(1), 'deletions on their way');
cmp_ok(q1(1, "SELECT count(*) FROM $tombs"), '>=', 2500, 'are kept');
# what a node holds is told a moment later, so with the next file or the one after it
my $left = 1;
for (1 .. 20)
{
	in(0) && out(0) && in(1) && out(1) or last;
	last if !($left = q1(1, "SELECT count(*) FROM $tombs"));
	usleep(300_000);
}
is($left, '0', 'arrive, are acknowledged, and go');
$left == 0 or diag q1(1, 'SELECT name, holds_back_horizon, lacks_writes_of FROM ferry.nodes');
equal('at the end');
is(q1(0, 'SELECT (SELECT count(*) FROM stock WHERE id > 6000) + (SELECT count(*) FROM log WHERE id > 6000)'), '0', 'deleted on both');

# what the function refuses
my ($ret, $stdout, $stderr) = $node[0]->psql('postgres', "BEGIN; INSERT INTO log VALUES (77, 'x'); SELECT ferry.note_merged('shore', 7, NULL, '7:7')");
like($stderr, qr/states that were merged in this transaction do not count yet/, 'not before the commit');
($ret, $stdout, $stderr) = $node[0]->psql('postgres', "SELECT ferry.note_merged('ship', 7, NULL, '7:7')");
like($stderr, qr/node "ship" is this node/, 'not of itself');
($ret, $stdout, $stderr) = $node[0]->psql('postgres', "SELECT ferry.note_merged('x', 7, NULL, 'seven')");
isnt($ret, 0, 'no nonsense');
is(q1(0, "SELECT ferry.known_of('x') IS NULL AND NOT EXISTS (SELECT FROM ferry.nodes WHERE name = 'x')"), 't', 'nothing was changed by it');
$_->stop for @node;
done_testing();
