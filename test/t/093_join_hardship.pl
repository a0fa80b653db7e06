# A join that is disturbed, at moments and in ways drawn from a seed: workers
# killed, servers crashed on both sides, the network cut; it goes on or begins
# again by itself, and ends equal, while every member writes.  Tables are copied
# several at a time, and what is done is not done again.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use FerryCable;
use FerryNodes;

my $seed = $ENV{SEED} // int(rand(1 << 30));
srand($seed);
note "seed $seed";

my %node = map { $_ => ferry_cluster($_, "ferry.copy_workers = 3\n") } qw(a b c);
sub one { my ($n, $sql) = @_; return $node{$n}->safe_psql('postgres', $sql); }
my @tables = map { "t$_" } 1 .. 6;
my $rows = 12000;

ferry_node($node{$_}, $_) for qw(a b c);
for my $t (@tables)
{
	my $n = $t eq 't6' ? 50 : $rows;
	one('a', "CREATE TABLE $t (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, v text); SELECT ferry.add_table('$t')");
	one('a', "INSERT INTO $t (id, v) SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, $n) i; DELETE FROM $t WHERE id % 100 = 7");
}
one('a', "SELECT ferry.set_merge('t1', 'n', 'counter'); ANALYZE");
one('b', "SET client_min_messages = warning; SELECT ferry.join('" . ferry_dsn($node{a}) . "')");
is(one('b', "SELECT ferry.wait_for_join('120 s')"), 't', 'b has joined');
ok(ferry_meshed(@node{qw(a b)}), 'two members');

# --- load on the members ---

my $nth = 0;
my %load;
for my $n (qw(a b))
{
	$nth++;
	one($n, "CREATE SEQUENCE mine START ${nth}000000");
	$load{$n} = ferry_load($node{$n}, join("\n", "\\set id random(1, $rows)", (map { "UPDATE $_ SET n = n + 1 WHERE id = :id;" } qw(t1 t3 t6)),
		'DELETE FROM t2 WHERE id = :id;', "INSERT INTO t4 (id, v) VALUES (nextval('mine'), 'of $n');"), rate => 40);
}

# --- c joins through a slow cable; it is disturbed while it copies ---

my $cable = FerryCable->new($node{a}, rate => 2_500_000);
one('c', "SET client_min_messages = warning; SELECT ferry.join('" . $cable->dsn('postgres') . "')");
ok($node{c}->poll_query_until('postgres', "SELECT count(*) = 3 FROM ferry.progress WHERE peer = 'a' AND state = 'copying'"), 'three tables at a time');
is(one('c', 'SELECT max(n) FROM (SELECT count(*) n FROM ferry._copies() GROUP BY relation) x'), '1', 'each by one');
ok($node{c}->poll_query_until('postgres', "SELECT count(*) > 0 FROM ferry.progress WHERE state = 'copying' AND rows > 0 AND rows_there > 0 AND rows_per_second > 0 AND time_left > '0'"), 'rate and time left are shown');

my %kind = (
	'a worker of c is ended' => sub { one('c', 'SELECT pg_terminate_backend(pid) FROM ferry._copies() ORDER BY random() LIMIT 1'); },
	'a worker of c is killed' => sub {
		my ($pid) = split /\n/, one('c', 'SELECT pid FROM ferry._copies() ORDER BY random() LIMIT 1');
		return if !$pid;
		kill 'KILL', $pid;
		$node{c}->poll_query_until('postgres', 'SELECT true');
	},
	'c crashes' => sub { $node{c}->stop('immediate'); $node{c}->start; },
	'the sponsor crashes' => sub { $node{a}->stop('immediate'); $node{a}->start; },
	'a backend of the sponsor is ended' => sub { one('a', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'c' ORDER BY random() LIMIT 1"); },
	'the cable breaks' => sub { $cable->cut; usleep(int(rand(300_000))); $cable->mend; });
my @kinds = sort keys %kind;
for my $i (0 .. 7)
{
	# each kind once at least, in an order of the seed; now and then in the middle of what the one before began
	my $k = $i < @kinds ? splice(@kinds, int(rand(@kinds)), 1) : (sort keys %kind)[ int(rand(keys %kind)) ];
	usleep(int(rand(900_000)));
	my $done = one('c', "SELECT count(*) FROM ferry.progress WHERE peer = 'a' AND state = 'done'");
	note "$k ($done of 6 tables are copied)";
	$kind{$k}->();
}
ferry_end_load(delete $load{a}) if $load{a};
$load{a} = ferry_load($node{a}, "\\set id random(1, $rows)\nUPDATE t1 SET n = n + 1 WHERE id = :id;\nUPDATE t5 SET v = v || 'x' WHERE id = :id;\n", rate => 40);
is(one('c', "SELECT ferry.wait_for_join('180 s')"), 't', 'c has joined');
is(one('c', "SELECT count(*) FROM ferry.progress WHERE peer = 'a' AND state = 'done' AND rows > 0"), '6', 'every table was copied');
ferry_end_load($load{$_}) for sort keys %load;
for my $t (@tables)
{
	cmp_ok(ferry_equal($t, "SELECT id, n, v, ferry.version_dot(_ferry) FROM $t", @node{qw(a b c)}), '>', 40, 'and not empty');
}
is(one($_, 'SELECT count(*) FROM ferry.quarantine'), '0', "$_: nothing in quarantine") for qw(a b c);
is(one('c', 'SELECT count(*) FROM pg_replication_slots'), '2', 'c keeps a slot for each of the others');
is(one($_, "SELECT count(*) FROM pg_replication_slots"), '2', "and so does $_") for qw(a b);

$_->stop for values %node;
done_testing();
