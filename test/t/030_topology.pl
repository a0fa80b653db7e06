# A ring of nodes in one server that forward to each other; a row that is
# updated as fast as can be on both its nodes; and commits that wait for a link
# by synchronous_standby_names.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my $s = ferry_cluster('s');
my @ring = map { "r$_" } 0 .. 3;
for my $db (@ring)
{
	$s->safe_psql('postgres', "CREATE DATABASE $db");
	ferry_node($s, $db, $db);
	# a partition with its columns in another order is attached with its own _ferry
	$s->safe_psql($db, q{
		CREATE TABLE t (k text COLLATE "C", n int, v text, PRIMARY KEY (k, n)) PARTITION BY HASH (n);
		CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0);
		CREATE TABLE t1 (v text, n int NOT NULL, k text COLLATE "C" NOT NULL);
		SELECT ferry.add_table('t', merge => 'row', on_delete => 'update_wins');
		ALTER TABLE t1 ADD COLUMN _ferry ferry.version NOT NULL DEFAULT ferry._stamp();
		ALTER TABLE t ATTACH PARTITION t1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
		CREATE TABLE hot (id int PRIMARY KEY, a int, b int);
		SELECT ferry.add_table('hot')});
}
for my $i (0 .. 3)
{
	my $from = $ring[ ($i + 3) % 4 ];
	ferry_link($s, $s, $from, from_db => $from, to_db => $ring[$i], forward => 'all');
}
for my $db (@ring)
{
	$s->safe_psql($db, "INSERT INTO t SELECT '$db', i, 'of $db' FROM generate_series(1, 50) i;
		UPDATE t SET v = v || '!' WHERE n < 10; DELETE FROM t WHERE n > 45;
		INSERT INTO t VALUES ('shared', 1, '$db') ON CONFLICT (k, n) DO UPDATE SET v = excluded.v");
}
sub settle { for my $round (0 .. 3) { for my $db (@ring) { ferry_settled($s, $db) or return 0; } } return 1; }
my %columns = (t => 'k, n, v', hot => 'id, a, b');
sub same
{
	my ($what) = @_;
	my @c = map { $s->safe_psql($_, "SELECT $columns{$what}, ferry.version_dot(_ferry) FROM $what ORDER BY 1, 2") } @ring;
	return (grep { $_ ne $c[0] } @c) == 0 ? $c[0] : undef;
}
ok(settle(), 'the ring settles');
my $all = same('t');
ok($all, 'a ring of four nodes in one server converges');
is(scalar(split /\n/, $all // ''), 4 * 45 + 1, 'with all rows');

# a deletion there, an update here that has not heard of it: update_wins keeps the row
$s->safe_psql($ring[0], "SELECT ferry.pause_peer('r3')");
$s->safe_psql($ring[2], "DELETE FROM t WHERE k = 'r1' AND n = 7");
$s->safe_psql($ring[0], "UPDATE t SET v = 'kept' WHERE k = 'r1' AND n = 7");
$s->safe_psql($ring[0], "SELECT ferry.resume_peer('r3')");
ok(settle(), 'the ring settles again');
like(same('t') // '', qr/^r1\|7\|kept\|/m, 'an update wins over a concurrent deletion');

# the hot row: nothing may be missing, no row may be inserted twice
$s->safe_psql($ring[0], 'INSERT INTO hot VALUES (1, 0, 0)');
settle();
my $script = $s->basedir . '/hot.sql';
append_to_file($script, "UPDATE hot SET :col = :col + 1 WHERE id = 1;\n");
my @runs = map {
	my ($db, $col) = @$_;
	IPC::Run::start([ 'pgbench', '-n', '-c', 2, '-t', 1000, '-D', "col=$col", '-f', $script, '-h', $s->host, '-p', $s->port, $db ],
		'>', \my $out, '2>', \my $err) } ([ $ring[0], 'a' ], [ $ring[2], 'b' ]);
ok($_->finish, 'pgbench on the hot row') for @runs;
ok(settle(), 'the ring settles after the hot row');
like(same('hot') // '', qr/^1\|2000\|2000\|/, 'every update of a hot row arrives, on every node');
for my $db (@ring)
{
	is($s->safe_psql($db, 'SELECT count(*) FROM ferry.quarantine'), '0', "$db: nothing in quarantine");
}

# a commit that waits for a link means what it says
my $p = ferry_cluster('p');
my $q = ferry_cluster('q');
for my $n ([ $p, 'p' ], [ $q, 'q' ])
{
	ferry_node(@$n);
	$n->[0]->safe_psql('postgres', "CREATE TABLE t (id int PRIMARY KEY, v int); SELECT ferry.add_table('t')");
}
ferry_link($q, $p, 'p');
$p->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_replication WHERE application_name = 'q' AND state = 'streaming'");
$p->append_conf('postgresql.conf', "synchronous_standby_names = 'q'");
$p->reload;
$p->poll_query_until('postgres', "SELECT sync_state = 'sync' FROM pg_stat_replication");
my $id = 0;
for my $level (qw(remote_write on remote_apply))
{
	for (1 .. 5)
	{
		$id++;
		$p->safe_psql('postgres', "SET synchronous_commit = $level; INSERT INTO t VALUES ($id, 1)");
		# what a snapshot of the receiver shows, or what a crash of it leaves
		$q->stop('immediate'), $q->start if $_ == 5 && $level ne 'remote_write';
		is($q->safe_psql('postgres', "SELECT count(*) FROM t WHERE id = $id"), '1', "$level: row $id is there when the commit returns");
	}
}
$p->safe_psql('postgres', "SET synchronous_commit = on; CREATE TABLE other (i int); INSERT INTO other VALUES (1)");
pass('a commit without rows of ours does not wait for ever');
$_->stop for $p, $q, $s;
done_testing();
