# A large table is copied by one process and merged by several, which are ended,
# killed and left alone at moments drawn from a seed, while both nodes write; the
# rows, their versions and what merges by a strategy are the same in the end.
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

my %node = map { $_ => ferry_cluster($_, "ferry.copy_workers = 3\nferry.verify_interval = 0\nferry.verify_deep_interval = 0\ntrack_commit_timestamp = on\n") } qw(a b);
sub one { my ($n, $sql) = @_; return $node{$n}->safe_psql('postgres', $sql); }
my $rows = 100_000;
ferry_node($node{$_}, $_) for qw(a b);
one('a', "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, u text, v text);
	SELECT ferry.add_table('t'); SELECT ferry.set_merge('t', 'n', 'counter');
	INSERT INTO t SELECT i, i, 'u' || i, repeat(md5(i::text), 3) FROM generate_series(1, $rows) i;
	DELETE FROM t WHERE id % 100 = 7; VACUUM ANALYZE t");

my $script = "\\set id random(1, $rows)\nUPDATE t SET n = n + 1 WHERE id = :id;\nUPDATE t SET v = v || 'x' WHERE id = :id;\nDELETE FROM t WHERE id = :id AND id % 20 = 3;\nINSERT INTO t (id, u) VALUES (nextval('mine'), :id || 'new' || nextval('mine'));\n";
one('a', 'CREATE SEQUENCE mine START 1000000');
my %load = (a => ferry_load($node{a}, $script, rate => 40));
my $cable = FerryCable->new($node{a}, rate => 3_000_000);
one('b', "SET client_min_messages = warning; SELECT ferry.join('" . $cable->dsn('postgres') . "')");

# one table is due: whoever else is there helps with it
my $helpers = "FROM pg_stat_activity WHERE backend_type = 'ferry copier'";
ok($node{b}->poll_query_until('postgres', "SELECT count(*) = 2 $helpers"), 'two help with one table');
is(one('b', 'SELECT count(*) FROM ferry._copies()'), '1', 'which one copies');
my %kind = (
	'one that helps is ended' => sub { one('b', "SELECT pg_terminate_backend(pid) $helpers ORDER BY random() LIMIT 1"); },
	'one that helps is killed' => sub { my ($pid) = split /\n/, one('b', "SELECT pid $helpers ORDER BY random() LIMIT 1"); kill 'KILL', $pid if $pid; $node{b}->poll_query_until('postgres', 'SELECT true'); },
	'who copies is ended' => sub { one('b', 'SELECT pg_terminate_backend(pid) FROM ferry._copies()'); },
	'b crashes' => sub { $node{b}->stop('immediate'); $node{b}->start; });
# the last one loses rows that none before it has brought: they are missed, and the table begun anew
my $nth = 0;
my @kinds = sort { rand() <=> 0.5 } sort keys %kind;
for my $k (@kinds, 'one that helps is ended')
{
	my $rows_before = $nth++ < @kinds ? 0 : $rows / 2;
	$node{b}->poll_query_until('postgres', "SELECT count(*) > 0 FROM ferry.progress WHERE (state = 'copying' AND rows > $rows_before AND (SELECT count(*) > 0 $helpers)) OR state = 'done'");
	usleep(int(rand(700_000)));
	note $k . ': ' . one('b', "SELECT state, rows FROM ferry.progress WHERE peer = 'a'");
	$kind{$k}->();
}
is(one('b', "SELECT ferry.wait_for_join('180 s')"), 't', 'b has joined');
one('b', 'ALTER SEQUENCE mine RESTART 2000000');
$load{b} = ferry_load($node{b}, $script, rate => 40);
ok(ferry_meshed(@node{qw(a b)}), 'both ways');
ferry_end_load($load{$_}) for sort keys %load;
cmp_ok(ferry_equal('t', 'SELECT id, n, u, v, ferry.version_dot(_ferry) FROM t', @node{qw(a b)}), '>', $rows / 2, 'and not empty');
cmp_ok(one('b', 'SELECT count(*) FROM t, pg_xact_commit_timestamp_origin(t.xmin) WHERE roident = 65535'), '>', 5000, 'those that help merged many rows');
cmp_ok(one('b', "SELECT rows FROM ferry.progress WHERE peer = 'a'"), '>=', $rows * 0.95, 'all are counted');
is(one($_, 'SELECT count(*) FROM ferry.quarantine'), '0', "$_: nothing in quarantine") for qw(a b);
is(one('b', "SELECT count(*) $helpers"), '0', 'nobody is left over');

$_->stop for values %node;
done_testing();
