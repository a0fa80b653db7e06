# A node in between holds a state back that it cannot merge, and passes on what its
# writer has said since: what one hears of a node in this way does not count before
# everything is here that it had written by then, or a tombstone would go too early.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my %n;
for my $name (qw(a b c))
{
	$n{$name} = ferry_cluster($name, "ferry.housekeeping_ms = 100\nferry.prune_after = 0\nferry.verify_interval = 0\n");
	ferry_node($n{$name}, $name);
	$n{$name}->safe_psql('postgres', q{CREATE TABLE t (id int PRIMARY KEY, v int);
		SELECT ferry.add_table('t', on_delete => 'update_wins')});
}
ferry_link($n{ $_->[0] }, $n{ $_->[1] }, $_->[1], forward => 'all') for [qw(b a)], [qw(a b)], [qw(c b)], [qw(b c)];

sub sql { my ($name, $q) = @_; return $n{$name}->safe_psql('postgres', $q); }
sub until_true { my ($name, $q) = @_; return $n{$name}->poll_query_until('postgres', $q); }
my %id = map { $_ => sql($_, 'SELECT node_id FROM ferry.local_node') } qw(a b c);

# a whole round of housekeeping has passed: two of them have cleared this away
sub rounds
{
	my ($name, $peer) = @_;
	for (1, 2)
	{
		sql($name, "INSERT INTO ferry.given_up (node_id) VALUES ($id{$peer}) ON CONFLICT DO NOTHING");
		until_true($name, 'SELECT count(*) = 0 FROM ferry.given_up') or return 0;
	}
	return 1;
}

my $token = sql('a', 'INSERT INTO t VALUES (1, 1), (2, 1); SELECT ferry.token()');
is(sql($_, "SELECT ferry.wait_for('$token', '60 s')"), 't', "$_ has the rows") for qw(b c);

# b alone refuses the value: c does not hear of the write, and deletes the row beside it
sql('b', q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not here'; END $$;
	CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON t FOR EACH ROW WHEN (new.v = 13) EXECUTE FUNCTION refuse();
	ALTER TABLE t ENABLE ALWAYS TRIGGER refuse});
sql('a', 'UPDATE t SET v = 13 WHERE id = 1');
ok(until_true('b', 'SELECT count(*) = 1 FROM ferry.quarantine'), 'b keeps the write back');
sql('a', "SELECT ferry.pause_peer('b')");
ok(until_true('a', "SELECT pid IS NULL FROM ferry.lag WHERE peer = 'b'"), 'a is away');
sql('c', 'DELETE FROM t WHERE id = 1');
my $death = sql('c', q{SELECT ferry.state('t', '{"id": 1}')->'last'->>0});
sub heard
{
	my ($name) = @_;
	return ok(until_true('c', "SELECT count(*) = 1 FROM ferry.holding, regexp_matches(vector, '(?:^|,)$id{c}:(\\d+)') m WHERE node_id = $id{$name} AND m[1]::bigint >= $death"),
		"c has heard that $name holds its deletion");
}
heard('b');
sql('a', "SELECT ferry.resume_peer('b')");
heard('a');
ok(rounds('c', 'b'), 'c has thought about that');
is(sql('c', q{SELECT ferry.state('t', '{"id": 1}')->>'alive'}), 'false', 'and has kept the tombstone');
is(sql('b', 'SELECT count(*) > 0 FROM ferry.quarantine'), 't', 'the write is where it was');

# the write wins at a and b, and at c because of that
sql('b', 'DROP TRIGGER refuse ON t; SELECT ferry.retry_quarantine()');
for (1 .. 3) { ok(ferry_settled($n{$_}), "$_ is settled") for qw(a b c); }
is(sql($_, 'SELECT id, v FROM t ORDER BY id'), "1|13\n2|1", "$_: the update wins") for qw(a b c);
sql('c', 'DELETE FROM t WHERE id = 2');
ok(until_true($_, q{SELECT ferry.state('t', '{"id": 2}') IS NULL}), "$_: tombstones go again") for qw(a b c);
$n{$_}->stop for qw(a b c);
done_testing();
