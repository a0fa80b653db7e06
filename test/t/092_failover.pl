# A node is lost and comes back: a streaming standby promoted under load, at a moment and
# in a way drawn from a seed; a base
# backup started later, a disk set back; each takes a new incarnation and gets
# back from its peers what it had lost.  A copy beside its living original keeps
# quiet until it is made a node of its own.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use FerryCable;
use FerryNodes;

my $seed = $ENV{SEED} // int(rand(1 << 30));
srand($seed);
note "seed $seed";

my %node = map { $_ => ferry_cluster($_) } qw(a b c);
sub one { my ($n, $sql) = @_; return $node{$n}->safe_psql('postgres', $sql); }
sub error_of { my ($n, $sql) = @_; return ferry_error($node{$n}, $sql); }
sub settled_links { return ferry_meshed(map { $node{$_} } @_); }
sub equal_on { my ($what, @n) = @_; return ferry_equal($what, 'SELECT id, v, by, p, _ferry FROM t', map { $node{$_} } @n); }
sub id_of { my ($n) = @_; return one($n, 'SELECT node_id FROM ferry.local_node'); }

# who may take over has a known port, so that each dsn names both
my %second = map { $_ => PostgreSQL::Test::Cluster->new("${_}2") } qw(a c);
sub dsn_of
{
	my ($n) = @_;
	my @s = grep { defined } $node{$n}, $second{$n};
	return join(' ', 'host=' . join(',', map { $_->host } @s), 'port=' . join(',', map { $_->port } @s), 'dbname=postgres target_session_attrs=read-write');
}
my %dsn = map { $_ => dsn_of($_) } qw(a b c);

for my $n (qw(a b c))
{
	one($n, "CREATE EXTENSION ferry; SELECT ferry.create_node('$n', '$dsn{$n}')");
	one($n, 'SET client_min_messages = warning; ' . ($n eq 'a' ?
		"CREATE TABLE t (id bigint PRIMARY KEY, v int NOT NULL, by text, p text); SELECT ferry.add_table('t'); INSERT INTO t SELECT i, 0, 'first' FROM generate_series(1, 200) i" : "SELECT ferry.join('$dsn{a}')"));
	is(one($n, "SELECT ferry.wait_for_join('120 s')"), 't', "$n has joined");
}
ok(settled_links(qw(a b c)), 'a mesh');

# --- a crash is no reason to become another, however young the node ---

{
	my $young = ferry_cluster('young');
	ferry_node($young, 'young');
	my $ask = 'SELECT node_id, incarnation FROM ferry.local_node';
	my $was = $young->safe_psql('postgres', $ask);
	$young->stop('immediate');
	$young->start;
	# nobody writes before it is certain who this is
	$young->safe_psql('postgres', "CREATE TABLE t (id int PRIMARY KEY); SELECT ferry.add_table('t'); INSERT INTO t VALUES (1)");
	is($young->safe_psql('postgres', $ask), $was, 'a young node that crashed is who it was');
	$young->stop;
}

# --- a standby of a; an old backup of c ---

$node{a}->backup('for_standby');
$second{a}->init_from_backup($node{a}, 'for_standby', has_streaming => 1);
my $cable = FerryCable->new($node{a});
$second{a}->append_conf('postgresql.conf', "primary_conninfo = 'host=127.0.0.1 port=$cable->{port}'\n");
$second{a}->start;
one('c', "INSERT INTO t VALUES (500001, 0, 'c before its backup')");
$node{c}->backup('old');
one('c', "INSERT INTO t SELECT 500001 + i, 0, 'c after its backup' FROM generate_series(1, 20) i; UPDATE t SET v = 9 WHERE id = 500001");

# --- load everywhere; the standby of a is cut off; what a writes last reaches b alone, or c as well ---

my ($nth, %load) = (0);
for my $n (qw(a b c))
{
	$nth++;
	one($n, "CREATE SEQUENCE s START ${nth}00000");
	$load{$n} = ferry_load($node{$n}, "\\set id random(1, 200)\nINSERT INTO t VALUES (:id, 1, 'load') ON CONFLICT (id) DO UPDATE SET v = t.v + 1, by = 'load';\nINSERT INTO t VALUES (nextval('s'), 0, 'new');\n", rate => $n eq 'a' ? 300 : 30);
}
my $of_a = 'id BETWEEN 100000 AND 199999';
my ($before, $after, $is_paused, $kill) = (100 + int(rand(300)), 100 + int(rand(300)), int(rand(2)), (qw(QUIT KILL INT))[ int(rand(3)) ]);
note "cut after $before writes, SIG$kill after $after more" . ($is_paused ? ', which c does not get' : '');
$second{a}->poll_query_until('postgres', "SELECT count(*) > $before FROM t WHERE $of_a");
one('c', "SELECT ferry.pause_peer('a')") if $is_paused;
$cable->cut;
my $at_cut = one('a', "SELECT count(*) FROM t WHERE $of_a");
$node{b}->poll_query_until('postgres', "SELECT count(*) > $at_cut + $after FROM t WHERE $of_a");
usleep(int(rand(300_000)));
if ($kill eq 'QUIT') { $node{a}->stop('immediate'); }
elsif ($kill eq 'KILL') { ferry_kill($node{a}); }
else { $node{a}->stop('fast'); }
(delete $load{a})->finish;
for my $n (qw(b c))
{
	$node{$n}->poll_query_until('postgres', "SELECT state <> 'streaming' FROM ferry.lag WHERE peer = 'a'");
}
my %reached = map { $_ => 1 } map { split /\n/, one($_, 'SELECT id FROM t') } qw(b c);
my $old_id = one('b', "SELECT node_id FROM ferry.nodes WHERE name = 'a'");

# once promoted, it gets back what it lacks before anybody could look
my $lost = one('b', "SELECT count(*) FROM t WHERE $of_a") - $second{a}->safe_psql('postgres', "SELECT count(*) FROM t WHERE $of_a");
cmp_ok($lost, '>=', 100, 'the standby had not got all');

my $started = time;
$second{a}->promote;
my $promoted = $second{a}->safe_psql('postgres', "INSERT INTO t VALUES (600001, 0, 'after promotion'); WITH u AS (UPDATE t SET p = 'promoted' WHERE id <= 50 RETURNING 1) SELECT count(*) FROM u");
note sprintf('writes again %.1f s after promotion', time - $started);
my $old_a = $node{a};
$node{a} = $second{a};
ok($node{b}->poll_query_until('postgres', 'SELECT count(*) = 1 FROM t WHERE id = 600001'), 'what is written after it reaches a peer');
one('b', "INSERT INTO t VALUES (600010, 0, 'b answers')");
ok($node{a}->poll_query_until('postgres', 'SELECT count(*) = 1 FROM t WHERE id = 600010'), 'and what the peer writes comes back');
my $service = time - $started;
cmp_ok($service, '<', 30, sprintf('service is back %.1f s after promotion', $service));
for my $n (qw(b c))
{
	$load{$n}->pump_nb;
	ok($load{$n}->pumpable, "who writes at $n went on all the time");
	ferry_end_load(delete $load{$n});
}
isnt(id_of('a'), $old_id, 'a promoted standby takes a new incarnation');
one('c', "SELECT ferry.resume_peer('a')") if $is_paused;
equal_on('failover', qw(a b c));
note sprintf('all settled %.1f s after promotion', time - $started);
my %there = map { $_ => 1 } split /\n/, one('a', 'SELECT id FROM t');
is(scalar(grep { !$there{$_} } keys %reached), 0, 'what had reached b or c is back on a');
is(one('c', "SELECT count(*) FROM t WHERE p = 'promoted' OR id = 600001"), $promoted + 1, 'what was written after it is everywhere');
is(one('b', 'SELECT count(*) FROM ferry.quarantine') . one('c', 'SELECT count(*) FROM ferry.quarantine'), '00', 'nothing in quarantine');
for my $n (qw(b c))
{
	ok($node{$n}->poll_query_until('postgres', qq{SELECT count(*) = 0 FROM pg_replication_slots WHERE slot_name LIKE '%' || lpad(to_hex($old_id), 8, '0')}), "$n keeps nothing for the former incarnation");
}

# --- the old primary comes back: its peers do not know it any more ---

one('b', "UPDATE t SET by = 'b' WHERE id = 600001");
$old_a->start;
$old_a->safe_psql('postgres', "INSERT INTO t VALUES (700001, 0, 'zombie')");
ok($old_a->poll_query_until('postgres', "SELECT bool_and(state = 'held' AND last_error LIKE '%has been succeeded%') FROM ferry.lag WHERE peer IN ('b', 'c')"), 'a former incarnation is refused');
$old_a->stop;
is(one('b', 'SELECT count(*) FROM t WHERE id = 700001'), '0', 'no zombie rows');

# --- c is restored from its old backup ---

my $old_c = id_of('c');
$node{c}->stop('immediate');
$second{c}->init_from_backup($node{c}, 'old');
$second{c}->start;
$node{c} = $second{c};
one('c', "INSERT INTO t VALUES (600002, 0, 'c restored')");
isnt(id_of('c'), $old_c, 'a restored node takes a new incarnation');
equal_on('restore', qw(a b c));
is(one('c', "SELECT count(*) FROM t WHERE by = 'c after its backup'") . one('c', 'SELECT v FROM t WHERE id = 500001'), '209', 'it has got back what it had written after the backup');
is(one('b', 'SELECT name FROM ferry.nodes WHERE NOT is_dropped ORDER BY name'), "a\nb\nc", 'the group has three members');

# --- b's disk is set back under it: same server, same timeline, same folder ---

my $data = $node{b}->data_dir;
my $image = $node{b}->basedir . '/image.tar';
$node{b}->stop;
system_or_bail('tar', '-C', $data, '-cf', $image, '.');
$node{b}->start;
one('b', "INSERT INTO t SELECT 800000 + i, 0, 'b, then set back' FROM generate_series(1, 50) i");
ok(settled_links(qw(a b c)) && ferry_settled($node{b}), 'it reached the peers');
my $old_b = id_of('b');
$node{b}->stop('immediate');
system_or_bail('find', $data, '-mindepth', '1', '-not', '-path', "$data/pg_ferry", '-delete');
system_or_bail('tar', '-C', $data, '-xf', $image);
$node{b}->start;
one('b', "INSERT INTO t VALUES (600003, 0, 'b, set back')");
ok($node{b}->poll_query_until('postgres', "SELECT node_id <> $old_b FROM ferry.local_node"), 'a node that was set back takes a new incarnation');
equal_on('set back', qw(a b c));
is(one('b', "SELECT count(*) FROM t WHERE by = 'b, then set back' OR id = 600003"), '51', 'what it had lost is back');

# --- a copy, while the original lives ---

$node{a}->backup('copy');
my $copy = $node{copy} = PostgreSQL::Test::Cluster->new('copy');
$copy->init_from_backup($node{a}, 'copy');
$copy->start;
like(error_of('copy', "INSERT INTO t VALUES (900001, 0, 'copy')"), qr/55000: database "postgres" is a copy of the ferry node "a", which lives .*HINT: Call ferry.become_node/, 'a copy refuses writes');
is(one('copy', "SELECT count(*) FROM ferry.lag WHERE pid IS NOT NULL"), '0', 'and links with nobody');
like(error_of('copy', "SELECT ferry.become_node('b', 'x')"), qr/42710: another node has the name "b" already/, 'it needs a name of its own');
like(error_of('b', "SELECT ferry.become_node('d', 'x')"), qr/55000: this database is no copy/, 'a node keeps its identity');
one('copy', "SELECT ferry.become_node('d', '" . ferry_dsn($copy) . "')");
one('copy', "INSERT INTO t VALUES (900002, 0, 'd')");
one('copy', "SELECT ferry.join('$dsn{b}')");
is(one('copy', "SELECT ferry.wait_for_join('120 s')"), 't', 'as a node of its own it can join');
$node{d} = delete $node{copy};
equal_on('copy', qw(a b c d));
is(one('a', 'SELECT by FROM t WHERE id >= 900000'), 'd', 'what it writes is everywhere');

$_->stop for values %node;
done_testing();
