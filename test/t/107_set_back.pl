# The disk of a node is set back, as a virtual machine's to a snapshot: same server, same
# timeline, same folder.  It starts while no peer is there, and its clients write: rows
# whose lost writes a peer holds, and has written on.  When it meets a peer, it takes
# a new incarnation, and what it wrote since the start becomes that one's: nothing is
# lost, of either line of writes, whoever comes first, though transactions are open and
# the server crashes on the way.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use DBI;
use FerryNodes;

my %node = map { $_ => ferry_cluster($_, "ferry.housekeeping_ms = 200\n") } qw(a b c);
my $a = $node{a};
sub one { my ($n, $sql) = @_; return $node{$n}->safe_psql('postgres', $sql); }
my @tables = qw(t u n r);
for my $n (qw(a b c))
{
	ferry_node($node{$n}, $n);
	one($n, $n eq 'a' ? "CREATE TABLE t (id int PRIMARY KEY, v1 text, v2 text, v3 text); SELECT ferry.add_table('t');
			CREATE TABLE u (id int PRIMARY KEY, v1 text, v2 text, v3 text); SELECT ferry.add_table('u', on_delete => 'update_wins');
			CREATE TABLE n (id int PRIMARY KEY, c int NOT NULL, v text); SELECT ferry.add_table('n'); SELECT ferry.set_merge('n', 'c', 'counter');
			CREATE TABLE r (id int PRIMARY KEY, v text); SELECT ferry.add_table('r');
			CREATE TABLE traffic (id int PRIMARY KEY, n int NOT NULL); SELECT ferry.add_table('traffic'); INSERT INTO traffic VALUES (1, 0)"
		: "SET client_min_messages = warning; SELECT ferry.join('" . ferry_dsn($node{a}) . "')");
	is(one($n, "SELECT ferry.wait_for_join('120 s')"), 't', "$n has joined") if $n ne 'a';
}
ok(ferry_meshed(@node{qw(a b c)}), 'a mesh');

# the disk at one moment, of a server that runs or has been shut down
sub snapshot
{
	my ($image, $runs) = @_;
	my @pids;
	if ($runs)
	{
		my ($postmaster) = slurp_file($a->data_dir . '/postmaster.pid') =~ /^(\d+)/;
		kill 'STOP', $postmaster;
		@pids = ($postmaster, split ' ', (run_command([ 'pgrep', '-P', $postmaster ]))[0]);
		kill 'STOP', @pids;
	}
	else { $a->stop; }
	system_or_bail('tar', '-C', $a->data_dir, '-cf', $image, '.');
	if ($runs) { kill 'CONT', @pids; }
	else { $a->start; }
	return;
}

sub set_back
{
	my ($image) = @_;
	my $data = $a->data_dir;
	$a->stop('immediate');
	system_or_bail('find', $data, '-mindepth', '1', '-not', '-path', "$data/pg_ferry", '-delete');
	system_or_bail('tar', '-C', $data, '-xf', $image);
	unlink "$data/postmaster.pid";
	$a->start;
	return;
}

# what has reached b, and b alone; if is_told, long enough that c has heard of it
sub lose
{
	my ($from, $is_told) = @_;
	my ($i, $j) = map { $from + $_ } 20, 21;
	my $id = one('a', 'SELECT node_id FROM ferry.local_node');
	my $begun = one('a', 'SELECT clock_timestamp()');
	one('c', "SELECT ferry.pause_peer('a')");
	$node{c}->poll_query_until('postgres', "SELECT pid IS NULL FROM ferry.lag WHERE peer = 'a'");
	one('a', "UPDATE t SET v1 = 'lost' WHERE id BETWEEN $from AND $i; UPDATE u SET v1 = 'lost' WHERE id BETWEEN $from AND $i;
		UPDATE n SET c = c + 10 WHERE id BETWEEN $from AND $i; DELETE FROM t WHERE id = $j; DELETE FROM u WHERE id = $j;
		INSERT INTO t VALUES (1000 + $from, 'lost'); INSERT INTO r VALUES (1000 + $from, 'lost')");
	ok($node{b}->poll_query_until('postgres', "SELECT count(*) = 1 FROM r WHERE id = 1000 + $from"), 'what a writes reaches b');
	one('b', "UPDATE t SET v3 = 'b' WHERE id BETWEEN $from AND $from + 10; UPDATE u SET v3 = 'b' WHERE id BETWEEN $from AND $from + 10; UPDATE n SET c = c + 100 WHERE id BETWEEN $from AND $from + 10");
	if ($is_told)
	{
		my $load = ferry_load($a, "UPDATE traffic SET n = n + 1 WHERE id = 1;\n", rate => 40);
		ok($node{c}->poll_query_until('postgres', "SELECT max(e.at) > '$begun'::timestamptz + interval '6 s' FROM ferry.holding h, ferry._vector_entries(h.vector) e WHERE e.origin = $id"), 'and c has heard of it');
		ferry_end_load($load);
	}
	is(one('c', "SELECT count(*) FROM t WHERE v1 = 'lost' AND id BETWEEN $from AND $i AND v3 IS NULL"), '0', 'c has not got it');
	one('c', "SELECT ferry.resume_peer('a')");
	return;
}

# nobody is there, and a does not know
sub write_alone
{
	my ($from) = @_;
	my ($i, $j, $k, $l) = map { $from + $_ } 5, 25, 6, 7;
	one('a', "UPDATE t SET v2 = 'alone' WHERE id BETWEEN $i AND $j; UPDATE u SET v2 = 'alone' WHERE id BETWEEN $i AND $j;
		UPDATE n SET c = c + 1 WHERE id BETWEEN $i AND $j; UPDATE n SET c = c + 1, v = 'alone' WHERE id BETWEEN $i AND $j;
		DELETE FROM t WHERE id = $k; DELETE FROM u WHERE id = $k; DELETE FROM n WHERE id = $l");
	one('a', "INSERT INTO n VALUES ($l, 5); INSERT INTO t VALUES (2000 + $from, 'alone'); TRUNCATE r; INSERT INTO r VALUES (2000 + $from, 'alone')");
	return;
}

sub check
{
	my ($from, $what) = @_;
	cmp_ok(ferry_equal("$what, $_", "SELECT id, x.*, ferry.version_dot(_ferry) FROM $_ x", @node{qw(a b c)}), '>', 1, "$what, $_: not empty") for @tables;
	my $t = sub { my ($table) = @_; return one('c', "SELECT string_agg(d, ' ' ORDER BY first) FROM (SELECT min(id) AS first, (min(id) - $from) || '-' || (max(id) - $from) || ':' || concat_ws('+', v1, v2, v3) AS d FROM (SELECT *, id - row_number() OVER (PARTITION BY v1, v2, v3 ORDER BY id) AS run FROM $table WHERE id BETWEEN $from AND $from + 40) x GROUP BY v1, v2, v3, run) y") };
	is($t->('t'), '0-4:lost+b 5-5:lost+alone+b 7-10:lost+alone+b 11-20:lost+alone 21-25:base+alone 26-39:base', "$what: columns of both lines, and of b");
	is($t->('u'), '0-4:lost+b 5-10:lost+alone+b 11-20:lost+alone 21-25:base+alone 26-39:base', "$what: a change beside a deletion");
	is(one('b', "SELECT string_agg(c::text, ' ' ORDER BY id) FROM n WHERE id BETWEEN $from AND $from + 39"),
		join(' ', (110) x 5, 112, 112, 115, (112) x 3, (12) x 10, (2) x 5, (0) x 14), "$what: all that was counted");
	is(one('b', "SELECT string_agg(id - $from || v, ' ' ORDER BY id) FROM r"), '1000lost 2000alone', "$what: TRUNCATE kills what a held, no more");
	is(one('b', "SELECT count(*) FROM t WHERE id IN (1000 + $from, 2000 + $from)"), '2', "$what: new rows of both lines");
	is(one($_, 'SELECT (SELECT count(*) FROM ferry.quarantine) + (SELECT count(*) FROM ferry.renaming) + (SELECT count(*) FROM ferry.counter_note)'), '0', "$what, $_: nothing is left over") for qw(a b c);
	return;
}

sub base
{
	my ($from) = @_;
	one('a', "DELETE FROM r; INSERT INTO t SELECT i, 'base' FROM generate_series($from, $from + 39) i; INSERT INTO u SELECT i, 'base' FROM generate_series($from, $from + 39) i;
		INSERT INTO n SELECT i, 0 FROM generate_series($from, $from + 39) i; INSERT INTO r SELECT i, 'base' FROM generate_series($from, $from + 39) i");
	ferry_settle_all(@node{qw(a b c)});
	return;
}

sub open_transaction
{
	my ($sql) = @_;
	my $dbh = DBI->connect('dbi:Pg:' . join(';', split / /, ferry_dsn($a)), 'postgres', '', { RaiseError => 1, PrintError => 0 });
	$dbh->begin_work;
	$dbh->do($sql);
	return $dbh;
}

for my $round ([ 100, 'a running machine, b comes first', 1, [qw(b c)] ], [ 300, 'a machine that was shut down, c comes first', 0, [qw(c b)] ])
{
	my ($from, $what, $runs, $order) = @$round;
	my ($first, $second) = @$order;
	my $image = $a->basedir . "/image$from.tar";
	base($from);
	my $id = one('a', 'SELECT node_id FROM ferry.local_node');
	snapshot($image, $runs);
	ok(ferry_meshed(@node{qw(a b c)}), "$what: a mesh");
	lose($from, !$runs);
	$_->stop for @node{qw(b c)};
	set_back($image);
	is(one('a', "SELECT (SELECT node_id FROM ferry.local_node) || ' ' || (SELECT count(*) FROM t WHERE v1 = 'lost' AND id BETWEEN $from AND $from + 39)"), "$id 0", "$what: a is who it was, and has lost it");
	write_alone($from);
	my $open = open_transaction("INSERT INTO t VALUES (3000 + $from, 'open')");
	$node{$first}->start;
	ok($a->poll_query_until('postgres', "SELECT node_id <> $id FROM ferry.local_node"), "$what: a finds out");
	one('a', "INSERT INTO t VALUES (4000 + $from, 'meanwhile')");
	is(one('a', 'SELECT count(*) FROM ferry.renaming'), '1', 'who writes now need not wait, but nobody is told anything while a transaction is open that began before');
	is(one($first, "SELECT count(*) FROM t WHERE id >= 2000 + $from AND id < 2000 + $from + 100 OR id = 4000 + $from"), '0', 'nobody has been');
	if ($runs) { $open->commit; }
	else { $a->stop('immediate'); $a->start; }
	eval { $open->disconnect };
	ok($a->poll_query_until('postgres', 'SELECT count(*) = 0 FROM ferry.renaming'), "$what: what it wrote is another's");
	$node{$second}->start;
	check($from, $what);
	is(one('b', "SELECT string_agg(v1, ' ' ORDER BY id) FROM t WHERE id IN (3000 + $from, 4000 + $from)"), $runs ? 'open meanwhile' : 'meanwhile', "$what: what was open, if it was committed, is everywhere");
	is(one('c', "SELECT count(*) FROM ferry.nodes WHERE name = 'a' AND is_dropped"), $runs ? '1' : '2', 'a has its former incarnations');
}

$_->stop for values %node;
done_testing();
