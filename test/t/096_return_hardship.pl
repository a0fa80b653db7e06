# A peer comes back that was away for so long, or so badly, that its slot is gone:
# while it copies what it lacks it is disturbed at moments and in ways drawn from a
# seed, slots lost once more among them, and everybody writes.  It ends equal; no
# writer was hurt, and no more log was kept for it than ferry.max_slot_wal.
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

my %node = map { $_ => ferry_cluster($_, "ferry.housekeeping_ms = 200\nferry.max_slot_wal = '4MB'\nmin_wal_size = 32MB\nmax_wal_size = 32MB\n") } qw(a b c);
sub one { my ($n, $sql) = @_; return $node{$n}->safe_psql('postgres', $sql); }
my $rows = 5000;
my @tables = qw(t1 t2);
ferry_node($node{$_}, $_) for qw(a b c);
for my $t (@tables)
{
	one('a', "CREATE TABLE $t (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, v text); SELECT ferry.add_table('$t');
		INSERT INTO $t (id, v) SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, $rows) i");
}
one('a', "SELECT ferry.set_merge('t1', 'n', 'counter')");
my $cable = FerryCable->new($node{a});
one('b', "SET client_min_messages = warning; SELECT ferry.join('" . ferry_dsn($node{a}) . "')");
is(one('b', "SELECT ferry.wait_for_join('120 s')"), 't', 'b has joined');
one('c', "SET client_min_messages = warning; SELECT ferry.join('" . $cable->dsn('postgres') . "')");
is(one('c', "SELECT ferry.wait_for_join('120 s')"), 't', 'c has joined');
ok(ferry_meshed(@node{qw(a b c)}), 'a mesh');

my ($nth, %load) = (0);
for my $n (qw(a b))
{
	$nth++;
	one($n, "CREATE SEQUENCE mine START ${nth}000000");
	$load{$n} = ferry_load($node{$n}, "\\set id random(1, $rows)\nUPDATE t1 SET n = n + 1 WHERE id = :id;\nUPDATE t2 SET v = v || '$n' WHERE id = :id;\nDELETE FROM t2 WHERE id = :id AND id % 10 = 3;\nINSERT INTO t2 (id, v) VALUES (nextval('mine'), 'of $n');\n", rate => 40);
}

# --- c is away until nothing is kept for it any more ---

one('c', "UPDATE t1 SET v = 'last of c' WHERE id = 1");
$node{c}->stop('immediate');
for my $n (qw(a b))
{
	one($n, "CREATE TABLE ballast AS SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 60000) i");
	ok($node{$n}->poll_query_until('postgres', "SELECT kept_state = 'will resync' FROM ferry.lag WHERE peer = 'c'"), "$n keeps nothing for c");
	ok($node{$n}->poll_query_until('postgres', "SELECT pg_switch_wal() IS NOT NULL FROM (SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), min(restart_lsn)) AS kept FROM pg_replication_slots) s WHERE kept < 16 * 1024 * 1024"), 'nor anything that the others need no more');
	one($n, 'CHECKPOINT');
	cmp_ok(one($n, 'SELECT sum(size) / 1024 / 1024 FROM pg_ls_waldir()'), '<', 100, "and its disk does not fill");
}

# --- it comes back, and is disturbed ---

$node{c}->start;
sub lose_slot
{
	my ($n) = @_;
	my $slot = one($n, "SELECT p.slot_name FROM pg_replication_slots p, ferry.nodes m WHERE m.name = 'c' AND p.slot_name LIKE '%' || lpad(to_hex(m.node_id), 8, '0')");
	$node{$n}->psql('postgres', "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '$slot'; SELECT pg_drop_replication_slot('$slot')") if $slot;
	return;
}
my %kind = (
	'a link of c is ended' => sub { one('c', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type IN ('ferry link', 'ferry copier') ORDER BY random() LIMIT 1"); },
	'a link of c is killed' => sub {
		my ($pid) = split /\n/, one('c', "SELECT pid FROM pg_stat_activity WHERE backend_type IN ('ferry link', 'ferry copier') ORDER BY random() LIMIT 1");
		return if !$pid;
		kill 'KILL', $pid;
		$node{c}->poll_query_until('postgres', 'SELECT true');
	},
	'c crashes' => sub { $node{c}->stop('immediate'); $node{c}->start; },
	'a backend of b is ended' => sub { one('b', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'c' ORDER BY random() LIMIT 1"); },
	'a loses the slot' => sub { lose_slot('a'); },
	'b loses the slot' => sub { lose_slot('b'); },
	'the cable breaks' => sub { $cable->cut; usleep(int(rand(300_000))); $cable->mend; });
for my $k ((sort { rand() <=> 0.5 } sort keys %kind), (sort keys %kind)[ int(rand(keys %kind)) ])
{
	usleep(int(rand(500_000)));
	note "$k: " . one('c', "SELECT string_agg(peer || ' ' || state, ', ' ORDER BY peer) FROM ferry.lag");
	$kind{$k}->();
}
is(one('c', "SELECT ferry.wait_for_join('180 s')"), 't', 'c is back');
for my $n (qw(a b))
{
	$load{$n}->pump_nb;
	ok($load{$n}->pumpable, "who writes at $n went on all the time");
	ferry_end_load($load{$n});
}
for my $t (@tables)
{
	cmp_ok(ferry_equal($t, "SELECT id, n, v, ferry.version_dot(_ferry) FROM $t", @node{qw(a b c)}), '>', $rows / 2, 'and not empty');
}
is(one('a', 'SELECT v FROM t1 WHERE id = 1'), 'last of c', 'what c wrote before it went is everywhere');
is(one($_, 'SELECT count(*) FROM ferry.quarantine'), '0', "$_: nothing in quarantine") for qw(a b c);

$_->stop for values %node;
done_testing();
