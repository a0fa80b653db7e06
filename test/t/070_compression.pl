# A compressed stream brings the same rows in less than half the bytes, small
# transactions included; the setting is taken up while the link runs.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my $a = ferry_cluster('a');
my $b = ferry_cluster('b', "ferry.compression = zstd\n");
for my $p ([ $a, 'a' ], [ $b, 'b' ])
{
	ferry_node(@$p);
	$p->[0]->safe_psql('postgres', "CREATE TABLE t (id bigint PRIMARY KEY, a int, b text, c numeric, d timestamptz); SELECT ferry.add_table('t')");
}
sub one { my ($n, $sql) = @_; return $n->safe_psql('postgres', $sql); }
sub rows { my ($n) = @_; return one($n, "SELECT count(*), sum(hashtextextended((to_jsonb(t) - '_ferry')::text || ferry.version_dot(_ferry), 0)::numeric) FROM t"); }

# what the plugin would send of all this, without sending it
one($a, "SELECT pg_create_logical_replication_slot('look', 'ferry')");
sub bytes
{
	my ($compression) = @_;
	return one($a, "SELECT coalesce(sum(length(data)), 0) FROM pg_logical_slot_peek_binary_changes('look', NULL, NULL,
		'proto_version', '1', 'node', '4000000000', 'compression', '$compression')");
}
my $insert = "INSERT INTO t SELECT i, i, 'row ' || md5(i::text), i * 1.01, '2026-01-01'::timestamptz + i * interval '1 s' FROM generate_series(%d, %d) i;\n";
one($a, join('', map { sprintf($insert, $_, $_) . "UPDATE t SET a = a + 1 WHERE id = $_;\n" } 1 .. 1000));
my ($plain, $zipped) = (bytes('off'), bytes('zstd'));
cmp_ok($zipped, '<', 0.6 * $plain, "small transactions: $zipped of $plain bytes");
one($a, "SELECT pg_replication_slot_advance('look', pg_current_wal_lsn())");
one($a, sprintf($insert, 10001, 30000));
($plain, $zipped) = (bytes('off'), bytes('zstd'));
cmp_ok($zipped, '<', 0.6 * $plain, "many rows: $zipped of $plain bytes");
one($a, "SELECT pg_drop_replication_slot('look')");

# over a link: small ones, large ones, one too large for a compressed frame
ferry_link($b, $a, 'a');
ok(ferry_settled($a), 'settled');
one($a, "UPDATE t SET c = c + 1; INSERT INTO t (id, b) VALUES (-1, repeat('x', 3000000)), (-2, 'small')");
one($a, "DELETE FROM t WHERE id % 3 = 0");
ok(ferry_settled($a), 'settled again');
is(rows($b), rows($a), 'the same rows, last writers included');

# on and off while it runs
my $pid = "SELECT pid FROM pg_stat_replication WHERE application_name = 'b'";
for my $setting ('off', 'zstd')
{
	my $old = one($a, $pid);
	one($b, "ALTER SYSTEM SET ferry.compression = '$setting'");
	one($b, 'SELECT pg_reload_conf()');
	one($a, "UPDATE t SET a = 0 WHERE id < 100");
	$a->poll_query_until('postgres', "SELECT count(*) = 1 AND bool_and(pid <> $old) FROM pg_stat_replication WHERE application_name = 'b'");
	ok(ferry_settled($a) && rows($a) eq rows($b), "compression $setting");
}
my ($rc, $out, $err) = $a->psql('postgres', "SELECT pg_create_logical_replication_slot('x', 'ferry');
	SELECT * FROM pg_logical_slot_peek_binary_changes('x', NULL, NULL, 'proto_version', '1', 'node', '5', 'compression', 'lzw')");
like($err, qr/invalid value for option "compression": "lzw"/, 'another compression is refused');
done_testing();
