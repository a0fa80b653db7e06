# One row of 20 MB, out of line in several columns, changed on two nodes at once:
# both end with the same values, each column by its own rule, and what either side
# of a link takes of memory for it is a small multiple of the row.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

# times the row, for a walsender or a link's worker beside what it has when it idles
use constant { ROW_MB => 20, BOUND => 24 };

my @node = map { ferry_cluster($_, "ferry.verify_interval = 0\n") } qw(a b);
sub q1 { my ($i, $sql) = @_; return $node[$i]->safe_psql('postgres', $sql); }
for my $i (0, 1)
{
	ferry_node($node[$i], qw(a b)[$i]);
	q1($i, q{CREATE TABLE doc (id int PRIMARY KEY, n int, one text, two text, three text, CHECK (n <= length(two)));
		ALTER TABLE doc ALTER one SET STORAGE EXTERNAL, ALTER two SET STORAGE EXTERNAL, ALTER three SET STORAGE EXTERNAL;
		SELECT ferry.add_table('doc')});
}
ferry_link($node[0], $node[1], 'b');
ferry_link($node[1], $node[0], 'a');

# so many megabytes that do not compress to nothing, different for each word
sub mb { my ($word, $mb) = @_; return "(SELECT string_agg(repeat(md5('$word' || i), 32), '') FROM generate_series(1, $mb * 1024) i)"; }
sub pause { my ($i) = @_; my $peer = qw(b a)[$i]; q1($i, "SELECT ferry.pause_peer('$peer')"); $node[$i]->poll_query_until('postgres', 'SELECT pid IS NULL FROM ferry.lag'); }
sub resume { my ($i) = @_; my $peer = qw(b a)[$i]; q1($i, "SELECT ferry.resume_peer('$peer')"); }
sub settle { my $ok = 1; for (1, 2) { $ok &&= ferry_settled($_) for @node; } ok($ok, 'settled'); }
my $values = 'SELECT n, length(one), md5(one), length(two), md5(two), length(three), md5(three), _ferry FROM doc ORDER BY id';
sub same
{
	my ($what) = @_;
	my @v = map { q1($_, $values) } 0, 1;
	is($v[0], $v[1], "$what: the same row, version included");
	is(q1($_, 'SELECT error FROM ferry.quarantine'), '', "$what: nothing in quarantine") for 0, 1;
}

# how far a process has ever been above what it has now, in MB; it idles now
sub peak_mb
{
	my ($pid) = @_;
	my $status = slurp_file("/proc/$pid/status");
	my ($peak) = $status =~ /VmPeak:\s+(\d+)/;
	my ($now) = $status =~ /VmSize:\s+(\d+)/;
	return ($peak - $now) / 1024;
}

q1(0, 'INSERT INTO doc SELECT 1, 0, ' . mb('one', 7) . ', ' . mb('two', 7) . ', ' . mb('three', 6));
settle();
same('inserted');

# another column on each, one column on both, and a small one
pause($_) for 0, 1;
q1(0, 'UPDATE doc SET one = ' . mb('one of a', 7) . ', three = ' . mb('three of a', 6));
q1(1, 'UPDATE doc SET two = ' . mb('two of b', 7) . ', three = ' . mb('three of b', 6));
q1(0, 'UPDATE doc SET n = 1');
my %expected = (one => q1(0, 'SELECT md5(one) FROM doc'), two => q1(1, 'SELECT md5(two) FROM doc'), three => q1(1, 'SELECT md5(three) FROM doc'));
resume($_) for 0, 1;
settle();
same('apart');
is(q1(0, 'SELECT md5(one), md5(two), md5(three), n FROM doc'), "$expected{one}|$expected{two}|$expected{three}|1", 'each column by its last writer');
is(q1($_, q{SELECT columns FROM ferry.conflicts}), '{three}', 'one conflict, of the column that both have changed') for 0, 1;

# what constraints tie together is taken from one side, though neither has both
pause($_) for 0, 1;
q1(0, "UPDATE doc SET two = 'short', n = 5, one = " . mb('again', 7));
q1(1, 'UPDATE doc SET n = 1000000');
resume($_) for 0, 1;
settle();
same('tied');
is(q1(0, 'SELECT n, length(two) FROM doc'), '1000000|7340032', 'the later claim');

# at once, without a pause
for my $round (1 .. 3)
{
	my @sessions = map { my $i = $_; $node[$i]->background_psql('postgres') } 0, 1;
	my @column = ([ 'one', 'three' ], [ 'two', 'three' ]);
	$sessions[$_]->query_safe('BEGIN; UPDATE doc SET ' . $column[$_][ $round % 2 ] . ' = ' . mb("round $round $_", 7)) for 0, 1;
	$sessions[$_]->query_safe('COMMIT') for 0, 1;
	$_->quit for @sessions;
}
settle();
same('at once');

# memory, of all that was done: both ends of both links
for my $i (0, 1)
{
	my $worker = q1($i, 'SELECT pid FROM ferry.lag');
	my $sender = q1($i, "SELECT pid FROM pg_stat_replication WHERE state = 'streaming'");
	my %mb = (worker => peak_mb($worker), sender => peak_mb($sender));
	note("$_ of node $i: " . int($mb{$_}) . ' MB') for sort keys %mb;
	cmp_ok($mb{$_}, '<', BOUND * ROW_MB, "$_ of node $i: within bounds") for sort keys %mb;
}
done_testing();
