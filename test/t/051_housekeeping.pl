# Housekeeping in a chain of nodes: tombstones go on all nodes once all have them
# and not before; old states do not bring rows back; version vectors are pruned;
# a node that is away holds it back, and is named.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my @name = qw(a b c);
my %n;
for my $name (@name)
{
	$n{$name} = ferry_cluster($name, "ferry.housekeeping_ms = 100\nferry.prune_after = 0\n");
	ferry_node($n{$name}, $name);
	$n{$name}->safe_psql('postgres', q{CREATE TABLE t (id int PRIMARY KEY, v int, w int);
		SELECT ferry.add_table('t', on_delete => 'update_wins')});
}
my ($a, $b, $c) = @n{@name};
ferry_link($b, $a, 'a', forward => 'all');
ferry_link($a, $b, 'b', forward => 'all');
ferry_link($c, $b, 'b', forward => 'all');
ferry_link($b, $c, 'c', forward => 'all');

sub sql { my ($n, $q) = @_; return $n->safe_psql('postgres', $q); }
sub waits { my ($n, $token) = @_; return sql($n, "SELECT ferry.wait_for('$token', '60 s')"); }
my %tombs = map { $_ => sql($n{$_}, "SELECT tombstones FROM ferry.tables WHERE relation = 't'::regclass") } @name;
sub tombstones { my ($name) = @_; return sql($n{$name}, "SELECT count(*) FROM $tombs{$name}"); }
sub all_gone
{
	my $ok = 1;
	$ok &&= $n{$_}->poll_query_until('postgres', "SELECT count(*) = 0 FROM $tombs{$_}") for @name;
	return $ok;
}
sub everywhere { my ($token) = @_; return join ',', map { waits($n{$_}, $token) } @name; }
sub everywhere_but_c { my ($token) = @_; return join ',', map { waits($n{$_}, $token) } qw(a b); }
my %id = map { $_ => sql($n{$_}, 'SELECT node_id FROM ferry.local_node') } @name;

my $token = sql($a, 'INSERT INTO t SELECT i, i, i FROM generate_series(1, 100) i; SELECT ferry.token()');
is(everywhere($token), 't,t,t', 'all have the rows');
is(sql($c, 'SELECT max(pg_column_size(_ferry)) FROM t'), '13', 'a row with one writer has 13 bytes of metadata');

# states that somebody keeps
my @kept = split /\n/, sql($b, "SELECT ferry.state('t', jsonb_build_object('id', id)) FROM t WHERE id <= 10 ORDER BY id");
$token = sql($b, 'DELETE FROM t WHERE id <= 50; SELECT ferry.token()');
is(everywhere($token), 't,t,t', 'all have the deletions');
ok(all_gone(), 'once all have them the tombstones go, on every node');
for my $name (@name)
{
	is(join(',', map { sql($n{$name}, "SELECT ferry.merge('t', '$_')") } @kept), join(',', ('ignored') x 10),
		"$name: states that are older than a tombstone which is gone are ignored");
	is(sql($n{$name}, "SELECT ferry.state('t', '{\"id\": 1}')"), '', 'of the key there is nothing');
}
is(sql($a, "INSERT INTO t VALUES (1, 1, 1) RETURNING pg_column_size(_ferry)"), '13', 'the key can be born again');
is(sql($a, "SELECT ferry.merge('t', '$kept[0]')"), 'ignored', 'and its old state is ignored still');

# one is away: nothing goes, and it is named
sql($c, "SELECT ferry.pause_peer('b')");
$c->poll_query_until('postgres', 'SELECT pid IS NULL FROM ferry.lag');
my @held = split /\n/, sql($b, "SELECT ferry.state('t', jsonb_build_object('id', id)) FROM t WHERE id IN (61, 62)");
$token = sql($b, 'DELETE FROM t WHERE id BETWEEN 61 AND 70; SELECT ferry.token()');
is(waits($a, $token), 't', 'a has them');
ok($a->poll_query_until('postgres', "SELECT holds_back_horizon FROM ferry.nodes WHERE name = 'c'"), 'ferry.nodes says who holds back');
is(sql($a, "SELECT 'b' = ANY (lacks_writes_of) FROM ferry.nodes WHERE name = 'c'"), 't', 'and whose writes are not known to be there');
for (1 .. 10)
{
	# each of these is told and heard of, so that there are many rounds
	$token = sql($a, "UPDATE t SET v = v + 1 WHERE id = 100; SELECT ferry.token()");
	waits($b, $token);
	$a->poll_query_until('postgres', "SELECT h.vector >= '' AND split_part(split_part(h.vector, '$id{a}:', 2), ',', 1)::numeric >= "
		. "split_part(split_part('$token', '$id{a}:', 2), ',', 1)::numeric FROM ferry.holding h WHERE node_id = $id{b}");
}
is(join(',', map { tombstones($_) } qw(a b)), '10,10', 'while one lacks them the tombstones stay');
is(sql($c, 'SELECT count(*) FROM t WHERE id BETWEEN 61 AND 70'), '10', 'there the rows live');
$c->stop('immediate');
$_->stop('immediate') for $a, $b;
$_->start for $a, $b, $c;
is(join(',', map { tombstones($_) } qw(a b)), '10,10', 'also across a crash of all');
sql($c, "UPDATE t SET v = 1000 WHERE id = 65");
sql($c, "SELECT ferry.resume_peer('b')");
ok(all_gone(), 'when it is back they go');
is(join(',', map { sql($n{$_}, 'SELECT string_agg(id || \':\' || v, \',\') FROM t WHERE id BETWEEN 61 AND 70') } @name), '65:1000,65:1000,65:1000',
	'the row that was changed there meanwhile lives, on every node');
is(sql($c, "SELECT ferry.merge('t', '$held[0]')"), 'ignored', 'an old state is ignored there too');
ok($a->poll_query_until('postgres', "SELECT NOT bool_or(holds_back_horizon) FROM ferry.nodes"), 'nobody holds back any more');

# many writers, few entries
my $wait = sub {
	my ($n, $q) = @_;
	my $t = sql($n, "$q; SELECT ferry.token()");
	is(everywhere($t), 't,t,t', 'everywhere');
	for my $m (@name)
	{
		$n{$m}->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM ferry.horizon z CROSS JOIN LATERAL ferry._vector_entries(z.vector) h "
			. "JOIN ferry._vector_entries(regexp_replace('$t', '[+].*', '')) t USING (origin) WHERE h.hlc >= t.hlc AND h.origin = $id{$n->name})");
	}
};
$wait->($a, 'UPDATE t SET v = 1 WHERE id = 90');
$wait->($b, 'UPDATE t SET w = 2 WHERE id = 90');
my $captured = sql($b, "SELECT ferry.state('t', '{\"id\": 90}')");
$wait->($c, 'UPDATE t SET v = 3, w = 3 WHERE id = 90');
is(sql($c, "SELECT s->'vv' ?| array['$id{a}', '$id{b}'] FROM ferry.state('t', '{\"id\": 90}') s"), 'f', 'writers of whom everybody knows are forgotten');
is(sql($c, "SELECT (s->'horizon') ? '$id{a}' FROM ferry.state('t', '{\"id\": 90}') s"), 't', 'a pruned state says under which horizon');
is(sql($c, "SELECT ferry.merge('t', '$captured')"), 'ignored', 'what it was made of is ignored');
my $pruned = sql($c, "SELECT ferry.state('t', '{\"id\": 90}')");
sql($b, 'UPDATE t SET v = 4 WHERE id = 90');
is(sql($b, "SELECT ferry.merge('t', '$pruned')"), 'ignored', 'a pruned state that is older, too');
ok(ferry_settled($b) && ferry_settled($c), 'settled');
waits($a, sql($b, 'SELECT ferry.token()')); waits($c, sql($b, 'SELECT ferry.token()'));
is(join(' ', map { sql($n{$_}, 'SELECT v, w FROM t WHERE id = 90') } @name), '4|3 4|3 4|3', 'all agree');
cmp_ok(sql($a, 'SELECT pg_column_size(_ferry) FROM t WHERE id = 90'), '<', 60, 'and the metadata is small');

# a backup is good for as long as nothing that came after it is forgotten
my $image = $c->basedir . '/image.tar';
$c->stop;
system_or_bail('tar', '-C', $c->data_dir, '-cf', $image, '.');
$c->start;
is(everywhere(sql($a, 'DELETE FROM t WHERE id BETWEEN 81 AND 85; SELECT ferry.token()')), 't,t,t', 'deletions after a backup');
ok(all_gone(), 'are forgotten');
sub set_back
{
	$c->stop('immediate');
	system_or_bail('find', $c->data_dir, '-mindepth', '1', '-not', '-path', $c->data_dir . '/pg_ferry', '-delete');
	system_or_bail('tar', '-C', $c->data_dir, '-xf', $image);
	$c->start;
}
set_back();
ok($c->poll_query_until('postgres', "SELECT state = 'held' AND last_error LIKE '%is older than what its peers have cleared away%' FROM ferry.lag"), 'a node that is restored to before that is refused');
sql($c, 'UPDATE t SET v = -1 WHERE id = 81');
ok($b->poll_query_until('postgres', "SELECT last_error LIKE '%is older than what its peers have cleared away%' FROM ferry.lag WHERE peer = 'c'"), 'nor does anybody fetch from it');
is(sql($b, 'SELECT count(*) FROM t WHERE id = 81'), '0', 'what it takes for alive stays dead');
is(sql($b, "SELECT ferry.drop_node('c')"), '', 'it is dropped');
is(everywhere_but_c(sql($a, 'DELETE FROM t WHERE id = 86; SELECT ferry.token()')), 't,t', 'the others go on');
@name = qw(a b);
ok(all_gone(), 'and forget');
$c->stop;

# for a time everything is kept, whoever has it
sql($_, "ALTER SYSTEM SET ferry.prune_after = '1h'") for $a, $b;
sql($_, 'SELECT pg_reload_conf()') for $a, $b;
is(everywhere_but_c(sql($a, 'DELETE FROM t WHERE id = 87; SELECT ferry.token()')), 't,t', 'one more');
is(everywhere_but_c(sql($b, 'UPDATE t SET v = 5 WHERE id = 88; SELECT ferry.token()')), 't,t', 'and a while later');
is(tombstones('a') + tombstones('b'), 2, 'what is young is kept');

my @all = map { sql($n{$_}, 'SELECT id, v, w, ferry.version_dot(_ferry) FROM t ORDER BY id') } @name;
is($all[1], $all[0], 'b equals a');
$_->stop for $a, $b;
done_testing();
