# A verification that is interrupted, at points chosen at random from a printed
# seed, is harmless: whatever is killed, cancelled, stopped or held, what was lost
# stays as it was or is repaired, and the next run mends the rest.  Then answers
# and questions that no honest peer sends: frames with bytes changed at random.
#
#	SEED=17 ROUNDS=40		the same points again; more of them
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use IPC::Run;
use Time::HiRes qw(usleep);
use FerryNodes;

my $rounds = $ENV{ROUNDS} // 8;
my $seed = $ENV{SEED} // int(rand(1 << 30));
srand($seed);
note "SEED=$seed";
my @name = qw(a b);
# tombstones stay: what is planted may ask for them
my @node = map { ferry_cluster($_, "ferry.verify_interval = 0\nferry.verify_deep_interval = 0\nferry.retry_initial_ms = 50\nferry.housekeeping_ms = 200\nferry.prune_after = -1\nwal_receiver_timeout = 10s\n") } @name;
my ($a, $b) = @node;
for my $i (0, 1)
{
	ferry_node($node[$i], $name[$i]);
	$node[$i]->safe_psql('postgres', "CREATE TABLE t (id int PRIMARY KEY, v int, x text); CREATE TABLE w (id int PRIMARY KEY, v int); SELECT ferry.add_table('t'), ferry.add_table('w', merge => 'row', on_delete => 'update_wins')");
}
ferry_link($a, $b, 'b');
ferry_link($b, $a, 'a');
streaming();
$a->safe_psql('postgres', "INSERT INTO t SELECT i, i, repeat('x', 20) FROM generate_series(1, 8000) i; INSERT INTO w SELECT i, i FROM generate_series(1, 3000) i");
ferry_settled($a);
# a table that is new here may still be on its way
$_->poll_query_until('postgres', 'SELECT NOT bool_or(is_new) FROM ferry.registered_table') for @node;
$_->safe_psql('postgres', 'CREATE TABLE dump_t AS SELECT * FROM t; CREATE TABLE dump_w AS SELECT * FROM w') for @node;
$b->safe_psql('postgres', "UPDATE t SET v = -v WHERE id % 3 = 0; UPDATE w SET v = -v WHERE id % 3 = 0; DELETE FROM t WHERE id % 10 = 0; DELETE FROM w WHERE id % 10 = 0");
ferry_settled($b);

sub streaming
{
	$_->poll_query_until('postgres', "SELECT count(*) = 1 AND bool_and(state = 'streaming') FROM ferry.lag") or die 'links do not come back' for @node;
	return;
}
my $content = 'SELECT md5(string_agg(x::text, chr(10) ORDER BY id)) FROM t x UNION ALL SELECT md5(string_agg(x::text, chr(10) ORDER BY id)) FROM w x';
my $truth = $a->safe_psql('postgres', $content);
is($b->safe_psql('postgres', $content), $truth, 'both begin equal');

# damage of each node to rows that the other one keeps: a has the even ids, b the odd ones
sub damage
{
	my $done = '';
	for my $i (0, 1)
	{
		for my $table ('t', 'w')
		{
			my ($from, $n) = (int rand 3000, 1 + int rand 800);
			my $rows = "id % 2 = $i AND id BETWEEN $from AND $from + $n";
			my $keys = $rows =~ s/\bid\b/k1/gr;
			my $kind = int rand 3;
			my $columns = $table eq 't' ? 'id, v, x, _ferry' : 'id, v, _ferry';
			my $sql = 'SET session_replication_role = replica; ';
			$sql .= "DELETE FROM $table WHERE $rows; " if $kind != 2;
			$sql .= "INSERT INTO $table ($columns) SELECT $columns FROM dump_$table d WHERE $rows ON CONFLICT DO NOTHING; DELETE FROM " . ferry_tombstones($node[$i], $table) . " WHERE $keys" if $kind == 1;
			$sql .= 'DELETE FROM ' . ferry_tombstones($node[$i], $table) . " WHERE $keys" if $kind == 2;
			$node[$i]->safe_psql('postgres', $sql);
			$done .= "$name[$i].$table: kind $kind, $rows; ";
		}
	}
	return $done;
}

sub pid_of
{
	my ($n, $who) = @_;
	for (1 .. 200)
	{
		my ($rc, $pid) = $n->psql('postgres', "SELECT pid FROM pg_stat_activity WHERE $who LIMIT 1");
		return $pid if $pid;
		usleep(5000);
	}
	return;
}
my %do = (
	'kill the verifier' => sub { my $pid = pid_of($a, "backend_type = 'ferry verifier'"); usleep(rand 300000); kill 'KILL', $pid if $pid; },
	"kill the peer's side" => sub { my $pid = pid_of($b, "backend_type = 'walsender' AND query LIKE '%\\_verify%'"); usleep(rand 300000); kill 'KILL', $pid if $pid; },
	'terminate the verifier' => sub { usleep(rand 300000); $a->psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'ferry verifier'"); },
	'cancel the call' => sub { usleep(rand 300000); $a->psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%ferry.verify(%' AND pid <> pg_backend_pid()"); },
	'stop the peer at once' => sub { usleep(rand 500000); $b->stop('immediate'); $b->start; },
	'stop this node at once' => sub { usleep(rand 500000); $a->stop('immediate'); $a->start; },
	'hold the verifier' => sub { my $pid = pid_of($a, "backend_type = 'ferry verifier'"); usleep(rand 200000); kill 'STOP', $pid if $pid; $a->psql('postgres', 'UPDATE t SET v = v WHERE id < 0'); usleep(100000); kill 'CONT', $pid if $pid; },
);
my @kinds = sort keys %do;
for my $round (1 .. $rounds)
{
	my $what = $kinds[ $round <= @kinds ? $round - 1 : rand @kinds ];
	my $planted = damage();
	my ($out, $err) = ('', '');
	my $call = IPC::Run::start([ 'psql', '-X', '-q', '-At', '-d', $a->connstr('postgres'), '-c', "SET client_min_messages = error; SELECT relation, differing, repaired, error FROM ferry.verify(deep => true)" ], '>', \$out, '2>', \$err);
	$do{$what}->();
	eval { $call->finish; 1 } or $call->kill_kill;
	for my $n (@node)
	{
		for (1 .. 600) { last if ($n->psql('postgres', 'SELECT 1'))[0] == 0; usleep(100000); }
	}
	streaming();
	ferry_settled($_) for @node;
	$a->safe_psql('postgres', 'SET client_min_messages = error; SELECT * FROM ferry.verify()');
	my $left = $a->safe_psql('postgres', "SET client_min_messages = error; SELECT relation, differing, undecided, error FROM ferry.verify() WHERE differing + undecided > 0 OR error IS NOT NULL");
	my $healed = $left eq '' && $a->safe_psql('postgres', $content) eq $truth && $b->safe_psql('postgres', $content) eq $truth;
	ok($healed, "$what: the next run mends all")
	  or do { diag("SEED=$seed round $round; $planted; left: $left; $out $err"); last };
}

# --- what no honest peer sends ---

$b->safe_psql('postgres', q{
	-- was it judged, not refused?  A refusal is an error, but no internal one
	CREATE FUNCTION is_judged(id bigint, frame bytea) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM ferry._verify_take('a', id, frame, false, 0);
		RETURN true;
	EXCEPTION WHEN OTHERS THEN
		IF SQLSTATE IN ('XX000', 'XX001') THEN
			RAISE;
		END IF;
		RETURN false;
	END $$;
	CREATE FUNCTION fuzz(n int, seed float8) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		honest	bytea;
		items	bytea;
		bad		bytea;
		refused	int := 0;
		judged	int := 0;
		keys	bytea := '';
		at		int := 1;
		key		numeric := 0;
		delta	numeric;
		shift	numeric;
		id		bigint := (SELECT node_id FROM ferry.nodes WHERE is_local);
	BEGIN
		PERFORM setseed(seed);
		PERFORM ferry._verify_scan('public', 't', '\x000102030405060708090a0b0c0d0e0f', '{v,x}', '{true,true}', '\x00', 5, false);
		items := ferry._verify_items(decode(string_agg(lpad(to_hex(l), 8, '0'), ''), 'hex'), 100000) FROM generate_series(0, 4095) l;
		WHILE get_byte(items, at - 1) >= 128 LOOP at := at + 1; END LOOP;
		FOR i IN 1 .. 20 LOOP
			delta := 0; shift := 1;
			LOOP
				delta := delta + (get_byte(items, at) & 127) * shift;
				shift := shift * 128;
				at := at + 1;
				EXIT WHEN get_byte(items, at - 1) < 128;
			END LOOP;
			at := at + 8;
			key := key + delta;
			keys := keys || decode(lpad(to_hex(div(key, 4294967296)::bigint), 8, '0') || lpad(to_hex(mod(key, 4294967296)::bigint), 8, '0'), 'hex');
		END LOOP;
		honest := substr(ferry._verify_states(keys), 2);
		IF ferry._verify_take('a', id, honest, false, 0) NOT IN ('\x00000000') THEN
			RAISE EXCEPTION 'an honest frame is not taken as one';
		END IF;
		-- the kinds of values are small numbers: none, an unchanged one, one in another form, in each place
		FOR place IN 0 .. 399 LOOP
			FOR kind IN 0 .. 7 LOOP
				PERFORM is_judged(id, set_byte(honest, place, kind));
			END LOOP;
		END LOOP;
		FOR i IN 1 .. n LOOP
			bad := honest;
			FOR k IN 1 .. 1 + (random() * 3)::int LOOP
				bad := set_byte(bad, (random() * (length(bad) - 1))::int, (random() * 255)::int);
			END LOOP;
			IF random() < 0.2 THEN
				bad := substr(bad, 1, (random() * length(bad))::int);
			ELSIF random() < 0.2 THEN
				bad := bad || substr(bad, 1 + (random() * length(bad))::int);
			END IF;
			IF is_judged(id, bad) THEN
				judged := judged + 1;
			ELSE
				refused := refused + 1;
			END IF;
			BEGIN
				PERFORM ferry._verify_scan('public', 't', substr(bad, 1, 16), ARRAY[encode(substr(bad, 5, (random() * 9)::int), 'escape'), 'v'], ARRAY[random() < 0.5, true],
					substr(bad, 1 + (random() * 50)::int, (random() * 50)::int), (random() * 8)::int - 1, false) WHERE i % 20 = 0;
				PERFORM ferry._verify_children((random() * 8)::int - 1, substr(bad, 1, 4 * (random() * 5)::int));
			EXCEPTION WHEN OTHERS THEN
				IF SQLSTATE IN ('XX000', 'XX001') THEN
					RAISE;
				END IF;
			END;
		END LOOP;
		RETURN judged || ' judged, ' || refused || ' refused';
	END $$});
my ($rc, $said, $err) = $b->psql('postgres', "SET client_min_messages = error; SELECT fuzz(1500, " . ($seed % 1000) / 1000 . ")");
is($rc, 0, 'frames with bytes changed at random are refused or judged, and no more') or diag("SEED=$seed: $err");
note $said // '';
like($said // '', qr/^\d+ judged, [1-9]\d* refused$/, 'of which many are refused');
is($b->safe_psql('postgres', $content), $truth, 'and nothing is written');
$_->stop for @node;
done_testing();
