# Who belongs to a group: two members drop a node at the same time; a dropped node
# does not come back by a failover; of two that went on as one node the one to leave
# is named; housekeeping that fails does not stop the links; and a role that is no
# superuser does for all that peers do.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my %node = map { $_ => ferry_cluster($_, "ferry.housekeeping_ms = 200\n") } qw(a b c d);
sub one { my ($n, $sql) = @_; return $node{$n}->safe_psql('postgres', $sql); }
sub error_of { my ($n, $sql) = @_; return ferry_error($node{$n}, $sql); }
sub id_of { my ($n) = @_; return one($n, 'SELECT node_id FROM ferry.local_node'); }
sub equal_on { my ($what, @n) = @_; return ferry_equal($what, 'SELECT * FROM t', map { $node{$_} } @n); }

# --- peers connect as a role with the least that does ---

one($_, 'CREATE ROLE courier LOGIN') for qw(a b c d);
sub dsn { my ($n) = @_; return ferry_dsn($node{$n}) . ' user=courier'; }
for my $n (qw(a b c d))
{
	one($n, "CREATE EXTENSION ferry; SELECT ferry.create_node('$n', '" . dsn($n) . "')");
}
one('a', "CREATE TABLE t (id int PRIMARY KEY, v text); SELECT ferry.add_table('t'); INSERT INTO t SELECT i, 'of a' FROM generate_series(1, 500) i");
like(error_of('b', "SELECT ferry.join('" . dsn('a') . "')"), qr/08001: could not connect to peer .*must be superuser or replication role/, 'it must be allowed replication');
one($_, 'ALTER ROLE courier REPLICATION') for qw(a b c d);
like(error_of('b', "SELECT ferry.join('" . dsn('a') . "')"), qr/42501: peer says: permission denied for schema ferry/, 'and what links ask');
one($_, "SELECT ferry.grant_peer('courier')") for qw(a b c d);
one($_, 'CREATE TABLE t (id int PRIMARY KEY, v text)') for qw(b c d);
one('b', "SELECT ferry.join('" . dsn('a') . "')");
ok($node{b}->poll_query_until('postgres', "SELECT state = 'held' AND last_error LIKE '%permission denied for table t%' FROM ferry.lag"), 'nothing is copied that it may not read');
is(one('b', "SELECT problem FROM ferry.check() WHERE item = 'peer a'"), 'the role of its dsn is not allowed all that it needs there: GRANT SELECT ON public.t TO courier', 'ferry.check() says what is missing');
one($_, 'GRANT SELECT ON t TO courier') for qw(a b c d);
one('b', "SELECT ferry.pause_peer('a'); SELECT ferry.resume_peer('a')");
is(one('b', "SELECT ferry.wait_for_join('120 s')"), 't', 'b has joined');
one($_, "SELECT ferry.join('" . dsn('a') . "')") for qw(c d);
is(one($_, "SELECT ferry.wait_for_join('120 s')"), 't', "$_ has joined") for qw(c d);
equal_on('as courier', qw(a b c d));
is(one('b', "SELECT count(*) FROM ferry.check() WHERE item LIKE 'peer%'"), '0', 'nothing is missing now');
is(one('a', "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('b', 'c', 'd') AND usename <> 'courier'"), '0', 'nobody has come as anybody else');
# one row is missing at the node that verifies, another at the peer that is asked to take it
one($_->[0], "ALTER TABLE t DISABLE TRIGGER USER; SET session_replication_role = replica; DELETE FROM t WHERE id = $_->[1]; RESET session_replication_role; ALTER TABLE t ENABLE TRIGGER USER")
	for [ b => 7 ], [ a => 8 ];
is(one('b', "SELECT DISTINCT repaired, error FROM ferry.verify('t', 'a')"), '2|', 'verification mends both sides as that role, too');
is(one($_, "SELECT count(*) FROM t WHERE id IN (7, 8)"), '2', "at $_") for qw(a b);

# --- housekeeping that fails ---

my $supervisor = one('b', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'ferry supervisor'");
my $definition = one('b', "SELECT pg_get_functiondef('ferry._limit_slots'::regproc)");
one('b', q{CREATE OR REPLACE FUNCTION ferry._limit_slots() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'no housekeeping today'; END $$});
ok($node{b}->wait_for_log(qr/no housekeeping today/), 'an error in housekeeping is logged');
one('b', "SELECT ferry.pause_peer('a')");
ok($node{b}->poll_query_until('postgres', "SELECT pid IS NULL FROM ferry.lag WHERE peer = 'a'"), 'a link can be stopped then');
one('b', "SELECT ferry.resume_peer('a')");
ok($node{b}->poll_query_until('postgres', "SELECT state = 'streaming' FROM ferry.lag WHERE peer = 'a'"), 'and started');
is(one('b', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'ferry supervisor'"), $supervisor, 'by the same supervisor');
one('b', $definition);

# --- two members drop the same node; meanwhile a standby of it is about to take over ---

my $standby = PostgreSQL::Test::Cluster->new('d2');
$node{d}->backup('standby');
$standby->init_from_backup($node{d}, 'standby', has_streaming => 1);
$standby->start;
one('d', "INSERT INTO t SELECT i, 'last of d' FROM generate_series(1001, 1050) i");
$node{d}->wait_for_catchup($standby);
ok(ferry_settled($node{d}), 'what d wrote has arrived');
my $d = id_of('d');
my @droppers = map { IPC::Run::start([ 'psql', '-X', '-At', '-h', $node{$_}->host, '-p', $node{$_}->port, '-c', "SELECT ferry.drop_node('d')", 'postgres' ], '>', \my $out, '2>', \my $err) } qw(a b);
$_->finish for @droppers;
is(scalar(grep { $_->result(0) == 0 } @droppers) >= 1 ? 't' : 'f', 't', 'one at least has dropped it, the other may have heard of it before');
for my $n (qw(a b c))
{
	ok($node{$n}->poll_query_until('postgres', "SELECT has_left FROM ferry.member WHERE node_id = $d"), "$n knows that d has left");
	ok($node{$n}->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_replication_slots WHERE slot_name LIKE '%' || lpad(to_hex($d), 8, '0') || '%'"), "$n keeps nothing for it");
}
equal_on('dropped by two', qw(a b c));
$node{d}->stop('immediate');
$standby->promote;
$standby->safe_psql('postgres', "SELECT ferry.set_dsn('" . ferry_dsn($standby) . " user=courier'); INSERT INTO t VALUES (2000, 'zombie')");
$node{d} = $standby;
ok($standby->poll_query_until('postgres', "SELECT count(*) = 0 FROM ferry.peer"), 'a promoted standby of a dropped node finds out that it has left');
isnt(id_of('d'), $d, 'though it had taken a new incarnation');
is(one($_, 'SELECT count(*) FROM t WHERE id = 2000'), '0', "no zombie rows at $_") for qw(a b c);
is(one($_, "SELECT count(*) FROM ferry.peer WHERE name ~ '^d'"), '0', "$_ is not linked with it") for qw(a b c);
$standby->stop('immediate');

# --- one name, two nodes ---

one('a', q{INSERT INTO ferry.member (node_id, name, dsn) VALUES (4242, 'twin', 'x'), (4343, 'twin', 'y')});
like(error_of('a', "SELECT ferry.drop_node('twin')"), qr/42P09: there are 2 nodes "twin" DETAIL: Their node ids are 4242, 4343. HINT:/, 'which of two is to leave must be said');
one('a', "SELECT ferry.drop_node('twin', 4343)");
is(one('a', "SELECT node_id FROM ferry.nodes WHERE name = 'twin' AND NOT is_dropped"), '4242', 'and that one leaves');
one('a', "SELECT ferry.drop_node('twin')");
ok($node{c}->poll_query_until('postgres', "SELECT count(*) = 2 FROM ferry.nodes WHERE name = 'twin' AND is_dropped"), 'others hear of both');
equal_on('end', qw(a b c));

$_->stop for @node{qw(a b c)};
done_testing();
