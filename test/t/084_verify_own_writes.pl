# A death that merging makes (the loser of a unique value) is not in every stream
# until it has been written once more.  Until then nobody is told that he has been
# sent it: no alarm, no false promise; not after a crash either.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my @name = qw(a b c);
my @node = map { ferry_cluster($_, "ferry.verify_interval = 0\nferry.verify_deep_interval = 0\nferry.housekeeping_ms = 200\n") } @name;
my ($a, $b, $c) = @node;
for my $i (0 .. 2)
{
	ferry_node($node[$i], $name[$i]);

	# only b sees the clash
	$node[$i]->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY, v int ' . ($i == 1 ? 'UNIQUE' : '') . "); CREATE TABLE w (id int PRIMARY KEY); SELECT ferry.add_table('t'), ferry.add_table('w')");
}
for my $i (0 .. 2)
{
	ferry_link($node[$i], $node[$_], $name[$_]) for grep { $_ != $i } 0 .. 2;
}
$_->poll_query_until('postgres', "SELECT count(*) = 2 AND bool_and(state = 'streaming') FROM ferry.lag") for @node;
$_->poll_query_until('postgres', 'SELECT NOT bool_or(is_new) FROM ferry.registered_table') for @node;
$b->safe_psql('postgres', q{INSERT INTO t VALUES (1, 7)});
ferry_settled($b);

# what waits is held back while there is a row in "held"
$b->safe_psql('postgres', q{
	CREATE TABLE held (); INSERT INTO held DEFAULT VALUES;
	CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN WHILE EXISTS (SELECT FROM public.held) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN OLD; END $$;
	CREATE TRIGGER hold BEFORE DELETE ON ferry.own_write FOR EACH ROW EXECUTE FUNCTION hold();
	ALTER TABLE ferry.own_write ENABLE ALWAYS TRIGGER hold});
$a->safe_psql('postgres', 'INSERT INTO t VALUES (2, 7)');
ok($b->poll_query_until('postgres', 'SELECT count(*) = 1 FROM t'), 'the clash costs a row its life');
is($b->safe_psql('postgres', 'SELECT count(*) FROM ferry.own_write'), '1', 'which is still to be written again');

my $dead = q{SELECT ferry.state('t', '{"id": 1}')->>'alive', ferry.state('t', '{"id": 1}')->'last'->>0};
my ($alive, $stamp) = split /\|/, $b->safe_psql('postgres', $dead);
is($alive, 'false', 'the earlier row is dead there');
my $id = $b->safe_psql('postgres', 'SELECT node_id FROM ferry.nodes WHERE is_local');
my $claims = "SELECT count(*) FROM ferry._vector_entries(split_part(ferry.token(), '+', 1)) e WHERE e.origin = $id AND e.hlc >= $stamp";

# later writes go out, and with them what b says of itself
$b->safe_psql('postgres', "INSERT INTO w VALUES ($_)") for 1 .. 5;
$_->poll_query_until('postgres', 'SELECT count(*) = 5 FROM w') for $a, $c;
sub quiet
{
	my ($what) = @_;
	is($b->safe_psql('postgres', $claims), '0', "$what: b does not claim the death");
	is($c->safe_psql('postgres', $claims), '0', "$what: nor does c believe that it has it");
	is($c->safe_psql('postgres', "SET client_min_messages = error; SELECT differing, undecided, error FROM ferry.verify('t', 'b')"), '0|1|', "$what: it is on its way, says c");
	is($b->safe_psql('postgres', "SET client_min_messages = error; SELECT differing, undecided, error FROM ferry.verify('t', 'c')"), '0|1|', "$what: so says b");
	return;
}
quiet('held back');

# a crash loses it from memory, but not from the table
$b->stop('immediate');
$b->start;
$_->poll_query_until('postgres', "SELECT bool_and(state = 'streaming') FROM ferry.lag WHERE peer <> 'b'") for $a, $c;
$b->safe_psql('postgres', "INSERT INTO w VALUES (6)");
$_->poll_query_until('postgres', 'SELECT count(*) = 6 FROM w') for $a, $c;
quiet('after a crash');
$b->safe_psql('postgres', 'DELETE FROM held');
ok($_->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM t WHERE id = 1)"), $_->name . ' hears of the death') for $a, $c;
ok(ferry_settled($b), 'then b can say that all was sent');
is($b->safe_psql('postgres', $claims), '1', 'and claims it');
is($_->safe_psql('postgres', "SELECT sum(differing + undecided), string_agg(error, '') FROM ferry.verify()"), '0|', $_->name . ': all is equal') for @node;
$_->stop for @node;
done_testing();
