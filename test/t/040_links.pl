# Links that break, and set-ups that cannot work: what people are told, that
# nothing is lost, that no writer waits, that nothing runs in circles.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use FerryNodes;
use FerryCable;

my $a = ferry_cluster('a', "wal_receiver_timeout = 2s\nferry.retry_initial_ms = 50\nferry.retry_max_ms = 1000\n");
my $b = ferry_cluster('b', "wal_sender_timeout = 2s\n");
for my $p ([ $a, 'a' ], [ $b, 'b' ])
{
	ferry_node(@$p);
	$p->[0]->safe_psql('postgres', "CREATE TABLE t (id int PRIMARY KEY, v text); SELECT ferry.add_table('t')");
}

# the error of a statement as "SQLSTATE message / detail / hint" on one line
sub error_of
{
	my ($n, $sql, $db) = @_;
	my ($rc, $out, $err) = $n->psql($db // 'postgres', "\\set VERBOSITY verbose\n\\set SHOW_CONTEXT never\n$sql");
	$err =~ s/^psql:<stdin>:\d+: //mg;
	$err =~ s/\n(LOCATION:.*)?/ /g;
	return $err;
}
sub one { my ($n, $sql) = @_; return $n->safe_psql('postgres', $sql); }
sub lag { my ($col) = @_; return one($a, "SELECT $col FROM ferry.lag WHERE peer = 'b'"); }

# --- peers that do not fit: nothing changes ---

$b->safe_psql('postgres', 'CREATE DATABASE bare');
$b->safe_psql('postgres', 'CREATE DATABASE twin');
ferry_node($b, 'a', 'twin');
like(error_of($a, "SELECT ferry.add_peer('x', 'host=/nowhere port=1')"),
	qr/08001: could not connect to peer.*HINT:/, 'an unreachable peer');
like(error_of($a, "SELECT ferry.add_peer('x', 'nonsense')"), qr/ERROR:  (08001|42601|22023)/, 'a dsn that is none');
like(error_of($a, "SELECT ferry.add_peer('x', '" . ferry_dsn($b, 'bare') . "')"),
	qr/55000: peer does not have this version of ferry.*HINT:.*CREATE EXTENSION/, 'a database without ferry');
like(error_of($a, "SELECT ferry.add_peer('x', '" . ferry_dsn($b, 'twin') . "')"),
	qr/42710: peer has the same node name as this node: "a" HINT:/, 'a peer of our own name');
like(error_of($a, "SELECT ferry.add_peer('x', '" . ferry_dsn($a) . "')"),
	qr/22023: peer is this node itself HINT:/, 'a peer that is ourselves');
like(error_of($a, "SELECT * FROM ferry._hello(999, 1, 'x')"), qr/ERROR:  [0-9A-Z]{5}: .*version.*HINT:/, 'a caller of another protocol version');
like(error_of($a, "SELECT ferry.add_peer('x', '" . ferry_dsn($b) . "', forward => 'some')"),
	qr/22023: unrecognized value of forward.*HINT:/, 'an unknown kind of forwarding');
is(one($a, 'SELECT count(*) FROM ferry.peers'), '0', 'nothing was changed');
is(one($b, 'SELECT count(*) FROM pg_replication_slots'), '0', 'there neither');

# a second node of a name that is known already
$b->safe_psql('postgres', 'CREATE DATABASE c1');
$a->safe_psql('postgres', 'CREATE DATABASE c2');
ferry_node($b, 'c', 'c1');
ferry_node($a, 'c', 'c2');
ferry_link($a, $b, 'c', from_db => 'c1');
like(error_of($a, "SELECT ferry.add_peer('c_too', '" . ferry_dsn($a, 'c2') . "')"),
	qr/42710: another node has the name "c" already HINT:/, 'a second node of one name');
like(error_of($a, "SELECT ferry.add_peer('c', '" . ferry_dsn($b) . "')"), qr/42710: peer "c" exists already/, 'a peer name twice');
like(error_of($a, "SELECT ferry.add_peer('again', '" . ferry_dsn($b, 'c1') . "')"), qr/42710: node "c" is a peer already/, 'a node twice');
one($a, "SELECT ferry.drop_peer('c')");

# --- a peer that goes away and comes back ---

my $cable = FerryCable->new($b);
one($a, "SELECT ferry.add_peer('b', '" . $cable->dsn('postgres') . "')");
one($b, "INSERT INTO t SELECT i, 'first' FROM generate_series(1, 100) i");
ok(ferry_settled($b), 'through the cable');

$b->stop('immediate');
my $began = time;
one($a, "INSERT INTO t VALUES (1000, 'while b is away')");
cmp_ok(time - $began, '<', 5, 'no writer waits for a peer that is away');
usleep(5_000_000);
is(lag('state'), 'waiting', 'the link waits');
my $failures = lag('failures');
cmp_ok($failures, '>=', 3, 'and tries again');
cmp_ok($failures, '<=', 40, 'but not in a loop');
is(lag("last_error LIKE 'could not connect to peer%' AND next_retry < now() + interval '2 s'"), 't', 'as ferry.lag tells');
$b->start;
one($b, "INSERT INTO t VALUES (101, 'back')");
$began = time;
ok($a->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM t WHERE id = 101)"), 'the link resumes');
cmp_ok(time - $began, '<', 4, 'soon');
is(lag('failures'), '0', 'failures are forgotten');

# frozen: no packet, no reset.  Only time tells.
$cable->freeze;
one($b, "INSERT INTO t SELECT i, 'frozen' FROM generate_series(200, 299) i");
ok($a->poll_query_until('postgres', "SELECT state IN ('waiting', 'connecting', 'starting') FROM ferry.lag WHERE peer = 'b'"), 'silence ends a link');
$cable->thaw;
ok($a->poll_query_until('postgres', "SELECT count(*) = 100 FROM t WHERE v = 'frozen'"), 'which resumes when the cable thaws');

# connections that break anywhere, again and again
$cable->cut_after(30000);
for my $i (1 .. 40)
{
	one($b, "INSERT INTO t SELECT 10000 + $i * 100 + j, repeat(md5(j::text), 3) FROM generate_series(1, 50) j; UPDATE t SET v = v || 'x' WHERE id % 7 = $i % 7");
	one($a, "UPDATE t SET v = v || 'y' WHERE id = $i");
}
$cable->cut_after(undef);
ferry_link($b, $a, 'a');
ok(ferry_settled($b) && ferry_settled($a), 'both hold all after many broken connections');
is(one($a, "SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM t"), one($b, "SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM t"), 'and are equal');

# cut and mended
$cable->cut;
one($b, "INSERT INTO t VALUES (102, 'cut')");
ok($a->poll_query_until('postgres', "SELECT state = 'waiting' FROM ferry.lag WHERE peer = 'b'"), 'a cut cable');
$cable->mend;
ok($a->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM t WHERE id = 102)"), 'mended');

# --- clocks are compared while the link is up ---

my $measured = one($a, "SELECT measured_at FROM ferry.clock WHERE peer = 'b'");
ok($a->poll_query_until('postgres', "SELECT measured_at > '$measured' FROM ferry.clock WHERE peer = 'b'"), 'the clock is measured again');
# a keepalive that crossed the question may pass for the answer, once
ok($a->poll_query_until('postgres', "SELECT abs(offset_ms) <= round_trip_ms / 2 + 1 FROM ferry.clock WHERE peer = 'b'"), 'one machine has one clock, within half the round trip');

# --- a clock that is wrong ---

$b->append_conf('postgresql.conf', "ferry.max_clock_skew = '20 d'");
$b->reload;
my $future = int((time() - 946684800 + 3600) * 1e6) << 12;
ok($b->poll_query_until('postgres', "SELECT current_setting('ferry.max_clock_skew') = '20d'"), 'b believes any clock');
one($b, qq{SELECT ferry.merge('t', '{"alive": true, "key": {"id": 103}, "row": {"v": "tomorrow"}, "last": ["$future", "7"], "vv": {"7": "$future"}}')});
one($b, "INSERT INTO t VALUES (104, 'after tomorrow')");
ok($a->poll_query_until('postgres', "SELECT state = 'held' AND last_error LIKE '%too far in the future%' FROM ferry.lag WHERE peer = 'b'"), 'a stamp of the future holds the link, loudly');
is(one($a, 'SELECT count(*) FROM t WHERE id IN (103, 104)'), '0', 'and is not merged');
like($a->log_content, qr/stamp of an incoming row lies too far in the future/, 'the log has it') if $a->can('log_content');
$a->append_conf('postgresql.conf', "ferry.max_clock_skew = '1 d'");
$a->reload;
one($a, "SELECT ferry.pause_peer('b'); SELECT ferry.resume_peer('b')");
ok($a->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM t WHERE id = 104)"), 'a person lets it in');

# --- servers that are set up wrong: one clear error, and ferry.check() has the line ---

my $w = PostgreSQL::Test::Cluster->new('w');
$w->init;
$w->start;
one($w, 'CREATE EXTENSION ferry');
like(error_of($w, "SELECT ferry.create_node('w', 'x')"), qr/55000: ferry .*HINT:.*shared_preload_libraries/, 'not preloaded');
is(one($w, "SELECT remedy FROM ferry.check() WHERE item = 'shared_preload_libraries'"),
	"shared_preload_libraries = 'ferry'    # in postgresql.conf, then restart", 'check() says what to set');
$w->append_conf('postgresql.conf', "shared_preload_libraries = 'ferry'\nmax_worker_processes = 2\n");
$w->restart;
like(error_of($w, "SELECT ferry.create_node('w', 'x')"), qr/55000: "wal_level" is insufficient for ferry HINT:/, 'wal_level');
is(one($w, "SELECT remedy FROM ferry.check() WHERE item = 'wal_level'"), 'wal_level = logical    # in postgresql.conf, then restart', 'check() says what to set');
$w->append_conf('postgresql.conf', "wal_level = logical\nmax_wal_senders = 4\nmax_replication_slots = 4\n");
$w->restart;
one($w, "SELECT ferry.create_node('w', '" . ferry_dsn($w) . "')");
is(one($w, "SELECT count(*) > 0 FROM ferry.check() WHERE item = 'max_worker_processes'"), 't', 'check() counts workers');
one($w, "SELECT ferry.add_peer('a', '" . ferry_dsn($a) . "')");
usleep(7_000_000);
my $log = slurp_file($w->logfile);
my $told = () = $log =~ /out of background worker slots for ferry/g;
cmp_ok($told, '>=', 1, 'too few workers: the log says so');
cmp_ok($told, '<=', 2, 'once for supervisors and once for links at most');

SKIP:
{
	my ($known) = run_command([ 'postgres', '-D', $w->data_dir, '-C', 'output_plugin_libraries' ]);
	skip 'this server allows every output plugin', 3 if !defined $known || $known eq '';
	$w->append_conf('postgresql.conf', "max_worker_processes = 16\n");
	$w->restart;
	is(one($w, "SELECT count(*) FROM ferry.check() WHERE item = 'output_plugin_libraries' AND remedy LIKE 'output_plugin_libraries = %ferry%'"), '1', 'check() names the plugin setting');
	one($a, "SELECT ferry.add_peer('w', '" . ferry_dsn($w) . "')");
	ok($a->poll_query_until('postgres', "SELECT last_error <> '' FROM ferry.lag WHERE peer = 'w'"), 'a peer that refuses the plugin');
	usleep(4_000_000);
	cmp_ok(one($a, "SELECT failures FROM ferry.lag WHERE peer = 'w'"), '<=', 40, 'no restart loop');
	note one($a, "SELECT state, last_error FROM ferry.lag WHERE peer = 'w'");
}

done_testing();
