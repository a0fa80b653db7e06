# Values that are stored out of line and that a write left alone: the log does not
# bring them, and the receiver may not have them.  Then the sender is asked.  Also of
# columns that others have changed meanwhile, of rows with new keys, in both merge
# modes, of columns that merge by a strategy, and of rows that are gone when it is asked.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my @node = map { ferry_cluster("n$_", "ferry.verify_interval = 0\nferry.compression = zstd\n") } 0 .. 2;
sub q1 { my ($i, $sql) = @_; return $node[$i]->safe_psql('postgres', $sql); }
my @names = qw(by_column by_row kept strat);
for my $i (0 .. 2)
{
	ferry_node($node[$i], "n$i");
	q1($i, q{
		CREATE TABLE by_column (id int PRIMARY KEY, a int, big text, other text);
		CREATE TABLE by_row (id int PRIMARY KEY, a int, big text, other text);
		CREATE TABLE kept (id int PRIMARY KEY, a int, big text, other text);
		CREATE TABLE strat (id int PRIMARY KEY, a int, tags text[], attrs jsonb, longest text);
		SELECT ferry.add_table('by_column'), ferry.add_table('by_row', merge => 'row'), ferry.add_table('kept', on_delete => 'update_wins'), ferry.add_table('strat');
		ALTER TABLE strat ALTER tags SET STORAGE EXTERNAL, ALTER attrs SET STORAGE EXTERNAL, ALTER longest SET STORAGE EXTERNAL;}
		  . join('', map { "ALTER TABLE $_ ALTER big SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL;" } @names[ 0 .. 2 ]));
}
# a chain: n0 gets n2's writes through n1, which must have the values then
ferry_link($node[0], $node[1], 'n1', forward => 'all');
ferry_link($node[1], $node[0], 'n0', forward => 'all');
ferry_link($node[1], $node[2], 'n2', forward => 'all');
ferry_link($node[2], $node[1], 'n1', forward => 'all');
q1(0, "SELECT ferry.set_merge('strat', 'tags', 'set'), ferry.set_merge('strat', 'attrs', 'map'), ferry.set_merge('strat', 'longest', 'max')");
$node[$_]->poll_query_until('postgres', "SELECT count(*) = 3 FROM ferry.columns WHERE strategy <> 'lww'") for 1, 2;

sub pause { my ($i, $j) = @_; q1($i, "SELECT ferry.pause_peer('n$j')"); $node[$i]->poll_query_until('postgres', "SELECT pid IS NULL FROM ferry.lag WHERE peer = 'n$j'"); }
my @links = ([ 0, 1 ], [ 1, 0 ], [ 1, 2 ], [ 2, 1 ]);
sub part { pause(@$_) for @links; }
sub meet { q1($_->[0], "SELECT ferry.resume_peer('n$_->[1]')") for @links; settle(); }
sub settle { my $ok = 1; for (1 .. 3) { $ok &&= ferry_settled($_) for @node; } ok($ok, 'settled'); }
sub same
{
	my ($what) = @_;
	for my $t (@names)
	{
		my $c = q1(0, "SELECT * FROM $t ORDER BY id");
		for my $n (1, 2)
		{
			my $here = q1($n, "SELECT * FROM $t ORDER BY id");
			ok($here eq $c, "$what: $t of n$n equals n0, versions included") and next;
			my ($l, $r) = map { [ split /\n/ ] } $c, $here;
			for my $i (0 .. $#$l)
			{
				my $at = (($l->[$i] ^ ($r->[$i] // '')) =~ /^(\0*)/)[0];
				diag "at " . length($at) . ': ' . substr($l->[$i], length($at), 200) . "\n" . substr($r->[$i] // '', length($at), 200) if $l->[$i] ne ($r->[$i] // '');
			}
		}
	}
	is(q1($_, 'SELECT relation, key, error FROM ferry.quarantine'), '', "$what: n$_ has nothing in quarantine") for 0 .. 2;
}
sub big { my ($seed) = @_; return "(SELECT string_agg(md5('$seed' || i), '') FROM generate_series(1, 400) i)"; }
sub is_big { my ($i, $t, $id, $col, $seed) = @_; is(q1($i, "SELECT $col = " . big($seed) . " FROM $t WHERE id = $id"), 't', "n$i: $t $id: $col is ${seed}'s"); }
my @plain = @names[ 0 .. 2 ];

q1(0, "INSERT INTO $_ SELECT i, i, " . big('first') . ', ' . big('other') . ' FROM generate_series(1, 12) i') for @plain;
q1(0, 'INSERT INTO strat SELECT i, i, ARRAY(SELECT md5(i::text) FROM generate_series(1, 200) i), (SELECT jsonb_object_agg(i, md5(i::text)) FROM generate_series(1, 200) i), ' . big('a') . ' FROM generate_series(1, 6) i');
settle();
same('inserted');

# left alone: what is held is the same
q1(1, "UPDATE $_ SET a = 100 WHERE id = 1") for @names;
settle();
same('left alone');
is_big(2, $_, 1, 'big', 'first') for @plain;

# another column changed at once on each node, the value on one
part();
for my $t (@plain)
{
	q1(0, "UPDATE $t SET big = " . big('n0') . ' WHERE id IN (2, 3, 4)');
	q1(1, "UPDATE $t SET a = 200 WHERE id IN (2, 3)");
	q1(2, "UPDATE $t SET other = " . big('n2') . " WHERE id = 2; UPDATE $t SET a = 201 WHERE id = 3; UPDATE $t SET a = 202 WHERE id = 4");
}
q1($_, "UPDATE strat SET tags = array_append(tags, 'tag$_'), attrs = attrs || '{\"k$_\": $_}' WHERE id = 2; UPDATE strat SET a = $_ WHERE id IN (2, 3)") for 0 .. 2;
q1(1, 'UPDATE strat SET longest = ' . big('b') . ' WHERE id = 3');
meet();
same('at once');
is_big($_, 'by_column', 2, 'big', 'n0') for 0 .. 2;
is_big($_, 'by_column', 2, 'other', 'n2') for 0 .. 2;
is_big($_, 'by_row', 2, 'big', 'first') for 0 .. 2;
is(q1($_, "SELECT a, cardinality(tags), (SELECT count(*) FROM jsonb_object_keys(attrs)) FROM strat WHERE id = 2"), '1|203|203', "n$_: joined") for 0 .. 2;

# the value and then another column, of which a node gets only the latter: the first is in a state that it merges later
part();
q1(0, "UPDATE $_ SET big = " . big('early') . " WHERE id = 5; UPDATE $_ SET a = 300 WHERE id = 5") for @plain;
q1(2, "UPDATE $_ SET other = " . big('away') . ' WHERE id = 5') for @plain;
# n1 holds neither; what comes through it brings both
meet();
same('early');
is_big(2, 'by_column', 5, 'big', 'early');
is_big(0, 'by_column', 5, 'other', 'away');

# a death with a concurrent change of another column, and the other way around
part();
q1(0, "DELETE FROM $_ WHERE id IN (6, 7)") for @plain;
q1(1, "UPDATE $_ SET a = 400 WHERE id = 6") for @plain;
q1(2, "UPDATE $_ SET a = 401 WHERE id = 7; UPDATE $_ SET big = " . big('late') . ' WHERE id = 7') for @plain;
meet();
same('beside a death');
is_big($_, 'by_column', 6, 'big', 'first') for 0 .. 2;
is_big($_, 'kept', 7, 'big', 'late') for 0 .. 2;

# the later of the two is the death: it wins, and the image of the dead row lacks a value; then the row is changed again
part();
q1(1, "UPDATE by_column SET big = " . big('unseen') . " WHERE id = 8; UPDATE by_column SET a = 500 WHERE id = 8");
q1(2, 'UPDATE by_column SET a = 501 WHERE id = 8');
q1(0, 'DELETE FROM by_column WHERE id = 8');
meet();
same('a later death');
part();
q1(0, "INSERT INTO by_column (id, a) VALUES (8, 1)");
meet();
same('born after it');

# a new key
q1(0, "UPDATE $_ SET id = 109 WHERE id = 9") for @plain;
settle();
same('new key');
is_big(2, $_, 109, 'big', 'first') for @plain;

# gone when the sender is asked: by a deletion, a truncation, another key
q1(1, "SELECT ferry.pause_peer('n0')");
$node[1]->poll_query_until('postgres', "SELECT pid IS NULL FROM ferry.lag WHERE peer = 'n0'");
for my $t (@plain)
{
	q1(0, "UPDATE $t SET id = 110, a = 1 WHERE id = 10; UPDATE $t SET id = 111 WHERE id = 11; UPDATE $t SET id = 112 WHERE id = 12");
	q1(0, "DELETE FROM $t WHERE id = 110; UPDATE $t SET id = 211 WHERE id = 111");
}
q1(0, 'TRUNCATE kept');
q1(1, "SELECT ferry.resume_peer('n0')");
settle();
same('gone meanwhile');
is_big(2, 'by_column', 211, 'big', 'first');
is(q1(2, 'SELECT count(*) FROM kept'), '0', 'truncated');

# by hand a state has all its values, but what is out of line here stays out of line
my $state = q1(0, q{SELECT ferry.state('by_column', '{"id": 211}')});
q1(2, 'DELETE FROM by_column WHERE id = 211');
settle();
is(q1(1, "SELECT ferry.merge('by_column', '$state')"), 'ignored', 'by hand');

# a value that neither the receiver nor the sender has any more: the state waits, and merges by itself when another node brings a later one
q1(0, 'INSERT INTO by_column SELECT 300, 1, ' . big('lost') . ', ' . big('other'));
settle();
pause(1, $_) for 0, 2;
q1(0, 'UPDATE by_column SET a = 2 WHERE id = 300');
my $whole = q1(0, q{SELECT ferry.state('by_column', '{"id": 300}')});
is(q1(2, "SELECT ferry.merge('by_column', '$whole')"), 'applied', 'it is kept elsewhere');
q1($_, 'SET session_replication_role = replica; DELETE FROM by_column WHERE id = 300') for 0, 1;
q1(1, "SELECT ferry.resume_peer('n0')");
ok($node[1]->poll_query_until('postgres', q{SELECT count(*) = 1 FROM ferry.quarantine WHERE sqlstate = 'P0002' AND retry_at IS NOT NULL}), 'it waits');
ok($node[1]->poll_query_until('postgres', 'SELECT attempts > 1 FROM ferry.quarantine'), 'it is tried again');
q1(2, 'UPDATE by_column SET a = 3 WHERE id = 300');
q1(1, "SELECT ferry.resume_peer('n2')");
ok($node[1]->poll_query_until('postgres', 'SELECT count(*) = 0 FROM ferry.quarantine'), 'it waits no more');
settle();
same('a lost value');
is_big($_, 'by_column', 300, 'big', 'lost') for 0 .. 2;

for my $i (0 .. 2)
{
	is(q1($i, 'SET client_min_messages = error; SELECT sum(differing), sum(mismatched), count(error) FROM ferry.verify(deep => true)'), '0|0|0', "n$i: verification finds nothing");
}
$_->stop for @node;
done_testing();
