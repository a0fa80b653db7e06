# Verification beside heavy writes raises no alarm; killing the verifier or the
# peer's side in the middle is harmless; a peer that lies is refused.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use IPC::Run;
use FerryNodes;

my $runs = $ENV{RUNS} // 3;
my @node = map { ferry_cluster($_, "ferry.verify_interval = 0\nferry.verify_deep_interval = 0\nferry.housekeeping_ms = 200\nmax_prepared_transactions = 4\n") } qw(a b c);
my @name = qw(a b c);
for my $i (0 .. 2)
{
	ferry_node($node[$i], $name[$i]);
	$node[$i]->safe_psql('postgres', q{
		CREATE TABLE c (id int PRIMARY KEY, a int, b text, d numeric);
		CREATE TABLE r (id int PRIMARY KEY, a int, b text);
		CREATE TABLE u (id int PRIMARY KEY, a int);
		CREATE TABLE s (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, hi int, tags int[]);
		SELECT ferry.add_table('s');
		SELECT ferry.set_merge('s', 'n', 'counter'), ferry.set_merge('s', 'hi', 'max'), ferry.set_merge('s', 'tags', 'set');
		SELECT ferry.add_table('c'), ferry.add_table('r', merge => 'row'), ferry.add_table('u', on_delete => 'update_wins')});
}
for my $i (0 .. 2)
{
	ferry_link($node[$i], $node[$_], $name[$_]) for grep { $_ != $i } 0 .. 2;
}
$_->poll_query_until('postgres', "SELECT count(*) = 2 AND bool_and(state = 'streaming') FROM ferry.lag") for @node;
# a table that is new here may still be on its way
$_->poll_query_until('postgres', 'SELECT NOT bool_or(is_new) FROM ferry.registered_table') for @node;
my ($a, $b, $c) = @node;
$a->safe_psql('postgres', "INSERT INTO c SELECT i, i, 'b', 1 FROM generate_series(1, 16000) i");
ferry_settled($a);

# --- heavy random writes, hot keys, long and prepared transactions ---

my $script = $a->basedir . '/writes.sql';
append_to_file($script, <<'EOS');
\set k random_zipfian(1, 2000, 1.2)
\set n random(1, 100)
\set v random(1, 1000000)
BEGIN;
INSERT INTO c VALUES (:k, :v, 'i', :v) ON CONFLICT (id) DO UPDATE SET a = :v;
UPDATE c SET b = 'u' || :v WHERE id = :n;
DELETE FROM c WHERE id = :k + :n;
INSERT INTO r VALUES (:n, :v, 'r') ON CONFLICT (id) DO UPDATE SET b = 'r' || :v;
DELETE FROM r WHERE id = :n + 1;
INSERT INTO u VALUES (:n, :v) ON CONFLICT (id) DO UPDATE SET a = :v;
DELETE FROM u WHERE id = 1 + :v % 100;
INSERT INTO s VALUES (1 + :v % 30, 1, :v, ARRAY[:n]) ON CONFLICT (id) DO UPDATE SET n = s.n + 1, hi = :v, tags = s.tags || :n;
COMMIT;
EOS

# a transaction that takes its stamps long before it commits, and one that is prepared
my $slow = $b->background_psql('postgres');
$slow->query_safe("BEGIN; INSERT INTO c SELECT i, 1, 'slow', 1 FROM generate_series(30001, 30050) i; UPDATE c SET a = 7 WHERE id BETWEEN 10000 AND 10050");
$c->safe_psql('postgres', "BEGIN; UPDATE c SET d = 7 WHERE id BETWEEN 11000 AND 11050; DELETE FROM c WHERE id BETWEEN 11100 AND 11120; PREPARE TRANSACTION 'p'");

my @load;
for my $n (@node)
{
	my ($out, $err) = ('', '');
	push @load, IPC::Run::start([ 'pgbench', '-n', '-c', '2', '-R', '100', '-T', '600', '-f', $script, '--max-tries', '100',
		'-h', $n->host, '-p', $n->port, 'postgres' ], '>', \$out, '2>', \$err);
}
my ($differing, $undecided, $compared) = (0, 0, 0);
my $errors = '';
for my $run (1 .. $runs)
{
	if ($run == 1)
	{
		# a paused link makes rows late, not lost
		$b->safe_psql('postgres', "SELECT ferry.pause_peer('c')");
	}
	if ($run == 2)
	{
		$b->safe_psql('postgres', "SELECT ferry.resume_peer('c')");
		$slow->query_safe('COMMIT');
		$slow->quit;
		$c->safe_psql('postgres', "COMMIT PREPARED 'p'");
	}
	for my $n (@node)
	{
		my $deep = $run % 2 ? 'true' : 'false';
		my ($d, $u, $r, $e) = split /\|/, $n->safe_psql('postgres',
			"SET client_min_messages = error; SELECT sum(differing), sum(undecided), sum(rows_compared), string_agg(error, ', ') FROM ferry.verify(deep => $deep)");
		$differing += $d;
		$undecided += $u;
		$compared += $r;
		$errors .= $e // '';
	}
}
is($differing, 0, 'no false alarm beside heavy writes');
is($errors, '', 'nor an error');
note "$compared rows compared, $undecided undecided";
for my $n (@node)
{
	is($n->safe_psql('postgres', "SELECT count(*) FROM ferry.conflicts WHERE kind = 'divergence'"), '0', $n->name . ' has none on record')
	  or diag($n->safe_psql('postgres', "SELECT x FROM ferry.conflicts x WHERE kind = 'divergence' LIMIT 5"));
}

# --- killed in the middle: the scans are slow enough to be met ---

my $victim = 'DELETE FROM c WHERE id BETWEEN 15000 AND 15100';
$_->kill_kill for @load;
ferry_settled($_) for @node, @node;
for my $where ([ $a, "backend_type = 'ferry verifier'", 'the verifier' ],
	[ $b, "backend_type = 'walsender' AND query LIKE '%\\_verify%'", 'the side of the peer' ])
{
	my ($n, $who, $what) = @$where;
	$a->safe_psql('postgres', "SET session_replication_role = replica; $victim");
	$a->append_conf('postgresql.conf', "ferry.verify_interval = 1\nferry.verify_cost_limit = 1\nferry.verify_cost_delay = 50");
	$a->reload;
	ok($n->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE $who"), "$what is at work");
	my $pid = $n->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE $who LIMIT 1");
	kill 'KILL', $pid if $pid;
	$a->append_conf('postgresql.conf', "ferry.verify_interval = 0\nferry.verify_cost_delay = 0");
	ok($n->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)"), "$what is killed") if $pid;
	$a->reload;
	$_->poll_query_until('postgres', "SELECT bool_and(state = 'streaming') FROM ferry.lag") for @node;
	$a->safe_psql('postgres', "SET client_min_messages = error; SELECT * FROM ferry.verify('c', 'b')");
	ferry_settled($_) for @node;
	is($a->safe_psql('postgres', "SET client_min_messages = error; SELECT differing + undecided, error FROM ferry.verify('c', 'b')"), '0|', 'the next run mends all');
	is($a->safe_psql('postgres', 'SELECT count(*) FROM c WHERE id BETWEEN 15000 AND 15100'), '101', 'the rows are back');
}
my $same = "SELECT md5(string_agg(concat_ws(',', id, a, b, d, ferry.version_dot(_ferry)), ';' ORDER BY id)) FROM c";
is($b->safe_psql('postgres', $same), $a->safe_psql('postgres', $same), 'both sides are equal');

# --- lies ---

# functions of ours as they were
my %honest;
sub lie
{
	my ($function, $args, $body) = @_;
	$honest{$function} //= $b->safe_psql('postgres', "SELECT pg_get_functiondef('ferry.$function'::regproc)");
	$b->safe_psql('postgres', "CREATE OR REPLACE FUNCTION ferry.$function($args) RETURNS bytea LANGUAGE plpgsql AS \$f\$ BEGIN RETURN $body; END \$f\$");
	my $error = $a->safe_psql('postgres', "SET client_min_messages = error; SELECT error FROM ferry.verify('c', 'b')");
	$b->safe_psql('postgres', $honest{$function});
	return $error;
}
my $invalid = qr/^peer "b" gave an invalid answer to a verification/;
my $scan = 'schema text, name text, key bytea, columns text[], with_value boolean[], settled bytea, depth int, paced boolean, asker bigint DEFAULT 0';
like(lie('_verify_common', 'schema text, name text, columns text[], types text[]', q('\x0202020202020202')), qr/$invalid/, 'too many columns');
like(lie('_verify_scan', $scan, q('\x')), qr/$invalid.*truncated/, 'no root');
like(lie('_verify_scan', $scan, 'NULL'), qr/$invalid.*null/, 'null');
like(lie('_verify_scan', $scan, q(decode(repeat('00', 100000), 'hex'))), qr/$invalid.*too long/, 'an answer without end');
like(lie('_verify_scan', $scan, q('\x05' || decode(repeat('11', 16), 'hex'))), qr/peer "b" says: no verification/, 'a root out of thin air');
$a->safe_psql('postgres', "SET session_replication_role = replica; DELETE FROM c WHERE id = 15000");
like(lie('_verify_children', 'level int, nodes bytea', q(decode(repeat('00', 16), 'hex'))), qr/$invalid.*add up/, 'children that do not add up');
like(lie('_verify_children', 'level int, nodes bytea', q(decode(repeat('ff', 16), 'hex'))), qr/$invalid.*malformed/, 'children that are none');
like(lie('_verify_items', 'leaves bytea, max int', q('\xffffff7f')), qr/$invalid.*too many/, 'more items than may be');
like(lie('_verify_items', 'leaves bytea, max int', q(decode('01' || repeat('ff', 9) || '01' || repeat('00', 8), 'hex'))), qr/$invalid.*not asked for/, 'items of other ranges');
like(lie('_verify_states', 'keys bytea', q('\x00')), qr/$invalid.*impossible/, 'states of no key');
like(lie('_verify_states', 'keys bytea', q('\xff01')), qr/$invalid.*impossible/, 'states of more keys than were named');
like(lie('_verify_states', 'keys bytea', q('\x0142ffff')), qr/$invalid.*no place/, 'messages that do not belong there');
like(lie('_verify_take', 'peer name, peer_id bigint, frame bytea, repair boolean, patience int', q('\xffffff7f000000')), qr/$invalid.*counted/, 'counts that cannot be');
is($a->safe_psql('postgres', "SET client_min_messages = error; SELECT error FROM ferry.verify('c', 'b')"), '', 'an honest peer is believed again');
is($a->safe_psql('postgres', 'SELECT count(*) FROM c WHERE id = 15000'), '1', 'and repairs');
$_->stop for @node;
done_testing();
