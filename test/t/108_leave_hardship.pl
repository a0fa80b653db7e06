# A node dies under load, at a moment and in a way drawn from a seed, when its last writes
# have reached one member; it is dropped by one or two of the others while all write, links
# end, and members crash.  All that anybody had of its writes reaches everybody,
# nothing is kept for it, and nothing of it comes back when it returns.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use FerryNodes;

my $seed = $ENV{SEED} // int(rand(1 << 30));
srand($seed);
note "seed $seed";
sub any_of { return $_[ int(rand(@_)) ]; }

my %node = map { $_ => ferry_cluster($_, "ferry.housekeeping_ms = 200\n") } qw(a b c d);
sub one { my ($n, $sql) = @_; return $node{$n}->safe_psql('postgres', $sql); }
my ($nth, %load) = (0);
for my $n (qw(a b c d))
{
	ferry_node($node{$n}, $n);
	one($n, $n eq 'a' ? "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, v text); SELECT ferry.add_table('t'); SELECT ferry.set_merge('t', 'n', 'counter'); INSERT INTO t SELECT i, 0, 'first' FROM generate_series(1, 500) i"
		: "SET client_min_messages = warning; SELECT ferry.join('" . ferry_dsn($node{a}) . "')");
	is(one($n, "SELECT ferry.wait_for_join('120 s')"), 't', "$n has joined") if $n ne 'a';
}
ok(ferry_meshed(@node{qw(a b c d)}), 'a mesh of four');
for my $n (qw(a b c d))
{
	$nth++;
	one($n, "CREATE SEQUENCE s START ${nth}00000");
	$load{$n} = ferry_load($node{$n}, "\\set id random(1, 500)\nUPDATE t SET n = n + 1, v = '$n' WHERE id = :id;\nDELETE FROM t WHERE id = :id AND id % 50 = 3;\nINSERT INTO t (id, v) VALUES (nextval('s'), 'of $n');\n", rate => 40);
}
my $of_d = 'id BETWEEN 400000 AND 499999';
my $d = one('d', 'SELECT node_id FROM ferry.local_node');

# --- d dies; one holds its last writes ---

my ($holder, @others) = sort { rand() <=> 0.5 } qw(a b c);
usleep(int(rand(500_000)));
one($_, "SELECT ferry.pause_peer('d')") for @others;
for my $n (@others) { $node{$n}->poll_query_until('postgres', "SELECT pid IS NULL FROM ferry.lag WHERE peer = 'd'"); }
my $known = one($others[0], "SELECT count(*) FROM t WHERE $of_d");
ok($node{$holder}->poll_query_until('postgres', "SELECT count(*) > $known + 20 FROM t WHERE $of_d"), "what d writes last reaches $holder");
usleep(int(rand(300_000)));
my $how = any_of(qw(QUIT KILL));
$how eq 'QUIT' ? $node{d}->stop('immediate') : ferry_kill($node{d});
(delete $load{d})->finish;
ok($node{$holder}->poll_query_until('postgres', "SELECT state <> 'streaming' FROM ferry.lag WHERE peer = 'd'"), "d is gone (SIG$how)");
my %held = map { $_ => 1 } map { split /\n/, one($_, "SELECT id FROM t WHERE $of_d") } qw(a b c);
cmp_ok(scalar(keys %held), '>', $known, "$holder has more of it than the others");

# --- it is dropped, and everybody is disturbed ---

my @droppers = (sort { rand() <=> 0.5 } qw(a b c))[ 0 .. int(rand(2)) ];
note "dropped by @droppers, held by $holder";
my @calls = map {
	my $n = $node{$_};
	IPC::Run::start([ 'psql', '-XAtq', '-h', $n->host, '-p', $n->port, '-c', "SELECT ferry.drop_node('d')", 'postgres' ], '>', \my $out, '2>', \my $err)
} @droppers;
my %kind = (
	'a link is ended' => sub { one($_[0], "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type IN ('ferry link', 'ferry copier') ORDER BY random() LIMIT 1"); },
	'a walsender is ended' => sub { one($_[0], "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active ORDER BY random() LIMIT 1"); },
	'it crashes' => sub {
		my ($n) = @_;
		$node{$n}->stop('immediate');
		(delete $load{$n})->finish if $load{$n};
		$node{$n}->start;
	});
for my $k ((sort { rand() <=> 0.5 } sort keys %kind), any_of(sort keys %kind))
{
	my $n = any_of(qw(a b c));
	usleep(int(rand(200_000)));
	note "$n: $k";
	$kind{$k}->($n);
}
$_->finish for @calls;

# whoever was dropping it, and crashed, may have to say so again
if (one($droppers[0], "SELECT is_dropped FROM ferry.nodes WHERE node_id = $d") ne 't')
{
	note "again by $droppers[0]";
	$node{ $droppers[0] }->psql('postgres', "SELECT ferry.drop_node('d')");
}
for my $n (qw(a b c))
{
	ok($node{$n}->poll_query_until('postgres', "SELECT is_dropped FROM ferry.nodes WHERE node_id = $d"), "$n knows that d was dropped");
	ok($node{$n}->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_replication_slots WHERE slot_name LIKE '%' || lpad(to_hex($d), 8, '0')"), "$n keeps no slot for it");
}
for my $n (sort keys %load)
{
	$load{$n}->pump_nb;
	ok($load{$n}->pumpable, "who writes at $n went on all the time");
	ferry_end_load(delete $load{$n});
}
sub all_have
{
	my ($what) = @_;
	cmp_ok(ferry_equal($what, 'SELECT id, n, v, ferry.version_dot(_ferry) FROM t', @node{qw(a b c)}), '>', 500, "$what: not empty");
	for my $n (qw(a b c))
	{
		my %there = map { $_ => 1 } split /\n/, one($n, "SELECT id FROM t WHERE $of_d");
		is(join(' ', grep { !$there{$_} } sort keys %held), '', "$what, $n: all that anybody had of its writes");
		is(join(' ', grep { !$held{$_} } sort keys %there), '', "$what, $n: and nothing else");
	}
	is(one($_, 'SELECT count(*) FROM ferry.quarantine'), '0', "$what, $_: nothing in quarantine") for qw(a b c);
	return;
}

# what d had written last is asked of everybody by everybody: wait for the end of it
for my $n (qw(a b c))
{
	ok($node{$n}->poll_query_until('postgres', "SELECT count(*) = " . keys(%held) . " FROM t WHERE $of_d"), "$n has got it");
}
all_have('dropped');

# --- it comes back ---

$node{d}->start;
one('d', "INSERT INTO t (id, v) VALUES (499999, 'zombie'); UPDATE t SET v = 'zombie' WHERE id = 1");
ok($node{d}->poll_query_until('postgres', "SELECT bool_and(last_error LIKE '%was dropped from the group%' AND pid IS NULL) FROM ferry.lag"), 'it is refused');
all_have('after its return');
is(one($_, "SELECT count(*) FROM t WHERE v = 'zombie'"), '0', "$_: no zombie rows") for qw(a b c);

$_->stop for values %node;
done_testing();
