# A courier who is no superuser carries encrypted and signed bundles between two
# nodes that never meet, through psql alone and both ways, while both write; imports
# are ended at moments and in ways drawn from a seed, and go on where they were; what
# was damaged, cut short, or comes from strangers is refused and changes nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use FerryNodes;

my $seed = $ENV{SEED} // int(rand(1 << 30));
srand($seed);
note "seed $seed";

my $dir = PostgreSQL::Test::Utils::tempdir();
chmod 0755, $dir;
sub run_quietly { my $out = `@_ 2>&1`; die "@_: $out" if $?; return $out; }
umask 0077;
append_to_file("$dir/key", run_quietly('openssl rand -hex 32'));
mkdir "$dir/trusted";
for my $n (qw(a b))
{
	run_quietly("openssl genpkey -algorithm SM2 -out $dir/$n.pem");
	run_quietly("openssl pkey -in $dir/$n.pem -pubout -out $dir/trusted/$n.pem");
}
umask 0022;

my $group = '11111111-2222-3333-4444-555555555555';
my $rows = 50000;
my %node;
for my $n (qw(a b))
{
	$node{$n} = ferry_cluster($n, "ferry.bundle_key_file = '$dir/key'\nferry.bundle_cipher = 'sm4-ctr-hmac-sm3'\nferry.bundle_signing_key_file = '$dir/$n.pem'\nferry.bundle_trusted_keys_dir = '$dir/trusted'\n");
	$node{$n}->safe_psql('postgres', "CREATE EXTENSION ferry; SELECT ferry.create_node('$n', '" . ferry_dsn($node{$n}) . "', '$group');
		CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, v text); SELECT ferry.add_table('t'); SELECT ferry.set_merge('t', 'n', 'counter');
		CREATE ROLE courier LOGIN; GRANT USAGE ON SCHEMA ferry TO courier;
		GRANT SELECT, INSERT, UPDATE, DELETE ON t TO courier; GRANT INSERT ON ferry.bundle_intake TO courier;
		GRANT EXECUTE ON FUNCTION ferry.bundle, ferry.known_of, ferry.import_intake TO courier");
}
sub one { my ($n, $sql) = @_; return $node{$n}->safe_psql('postgres', $sql); }
sub as_courier { my ($n, $sql) = @_; return $node{$n}->psql('postgres', $sql, extra_params => [ '-U', 'courier', '-v', 'VERBOSITY=verbose' ]); }

my $count = 0;
sub fetch_from
{
	my ($n, $for) = @_;
	my $f = "$dir/" . ++$count;
	my ($rc, undef, $err) = as_courier($n, "\\copy (SELECT ferry.bundle(ferry.known_of('$for'))) TO '$f' (FORMAT binary)");
	die $err if $rc;
	return $f;
}
sub bring_to { my ($n, $f) = @_; return as_courier($n, "\\copy ferry.bundle_intake FROM '$f' (FORMAT binary)"); }

# --- what a courier may, and whose bundles are taken ---

one('a', "INSERT INTO t SELECT i, i, 'a secret ' || md5(i::text) || md5((-i)::text) || repeat(md5((i + 7)::text), 3) FROM generate_series(1, $rows) i");
my $f = fetch_from('a', 'b');
my $good = slurp_file($f);
unlike($good, qr/a secret/, 'what the courier carries says nothing');
like((as_courier('a', "SELECT ferry.export_bundle('$dir/no')"))[2], qr/42501: permission denied/, 'a courier writes no files of the server');

# --- what is not as it was ---

my $nothing = one('b', 'SELECT count(*) FROM t; SELECT count(*) FROM ferry.bundles');
my $refused = 0;
my %damage = (
	'cut short' => sub { my ($x) = @_; return substr($x, 0, int(rand(length $x))); },
	'a bit changed' => sub { my ($x) = @_; my $at = int(rand(length $x)); substr($x, $at, 1) ^= chr(1 << int(rand 8)); return $x; },
	'some left out' => sub { my ($x) = @_; substr($x, int(rand(length($x) - 9)), 1 + int(rand 9)) = ''; return $x; },
	'some put in' => sub { my ($x) = @_; substr($x, int(rand(length $x)), 0) = 'x' x (1 + int(rand 9)); return $x; });
for my $how (sort keys %damage)
{
	for (1 .. 3)
	{
		my $x = "$dir/" . ++$count;
		append_to_file($x, $damage{$how}->($good));
		my ($rc, $out, $err) = bring_to('b', $x);
		($rc, $out, $err) = as_courier('b', 'SELECT ferry.import_intake()') if !$rc;
		$refused++ if $rc && $err =~ /ERROR:/;
		note "$how: $err" if !$rc || $err !~ /XX001|0A000|22P04|28000|55000|02000/;
		one('b', 'DELETE FROM ferry.bundle_part');
	}
}
is($refused, 12, 'whatever befell it on the way, it is refused');
{
	my $stranger = ferry_cluster('stranger');
	ferry_node($stranger, 'stranger');
	$stranger->safe_psql('postgres', "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, v text); SELECT ferry.add_table('t'); INSERT INTO t VALUES (1, 1, 'strange')");
	for my $as ([ '', qr/28000: the bundle is not encrypted, and a key is set here/ ], [ "ferry.bundle_key_file = '$dir/key'\nferry.bundle_signing_key_file = '$dir/a.pem'\n", qr/55000: the bundle comes from another group/ ])
	{
		$stranger->append_conf('postgresql.conf', $as->[0]);
		$stranger->restart;
		my $x = "$dir/" . ++$count;
		$stranger->safe_psql('postgres', "\\copy (SELECT ferry.bundle()) TO '$x' (FORMAT binary)");
		bring_to('b', $x);
		like((as_courier('b', 'SELECT ferry.import_intake()'))[2], $as->[1], 'a stranger\'s bundle is refused');
		one('b', 'DELETE FROM ferry.bundle_part');
	}
	$stranger->stop;
}
is(one('b', 'SELECT count(*) FROM t; SELECT count(*) FROM ferry.bundles'), $nothing, 'and nothing was changed');

# --- both write; imports are ended ---

my %load;
sub start_load
{
	my ($n) = @_;
	one($n, 'CREATE SEQUENCE IF NOT EXISTS mine START ' . ($n eq 'a' ? 1000000 : 2000000));
	$load{$n} = ferry_load($node{$n}, "\\set id random(1, $rows)\nUPDATE t SET n = n + 1 WHERE id = :id;\nUPDATE t SET v = 'of $n' WHERE id = :id;\nDELETE FROM t WHERE id = :id AND :id % 10 = 0;\nINSERT INTO t (id, v) VALUES (nextval('mine'), 'of $n');\n", rate => 40);
	return;
}
start_load('a');

my %kind = (
	'the session is ended' => sub { one($_[0], "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'courier' AND backend_type = 'client backend'"); },
	'the worker is ended' => sub { one($_[0], "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ferry import'"); },
	'the worker is killed' => sub {
		my ($n) = @_;
		my ($pid) = split /\n/, one($n, "SELECT pid FROM pg_stat_activity WHERE application_name = 'ferry import'");
		kill 'KILL', $pid if $pid;
	},
	'the server crashes' => sub { $node{ $_[0] }->stop('immediate'); $node{ $_[0] }->start; });

# bring a bundle to n; its import is ended now and then, and taken up again
sub carry
{
	my ($n, $file, $kills) = @_;
	my $takes = 0;
	my ($out, $err);
	for my $attempt (0 .. $kills)
	{
		my ($rc, undef, $said) = bring_to($n, $file);
		die $said if $rc;
		my $began = time;
		my $import = IPC::Run::start([ 'psql', '-X', '-At', '-U', 'courier', '-h', $node{$n}->host, '-p', $node{$n}->port, '-c', 'SELECT signed_by, states, applied + merged + ignored + conflicts, quarantined, reached FROM ferry.import_intake()', 'postgres' ],
			'<', \undef, '>', \$out, '2>', \$err);
		if ($attempt < $kills)
		{
			usleep(int(rand(500_000)));
			my $how = (sort keys %kind)[ int(rand(keys %kind)) ];
			$kind{$how}->($n);
			$import->finish;
			$node{$n}->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'ferry import'");
			note sprintf('%s after %.2f s: %s of %s blocks', $how, time - $began, split(/\|/, one($n, 'SELECT blocks_done, blocks FROM ferry.bundles ORDER BY started_at DESC LIMIT 1') || '0|?'));
			if (!$load{$n})
			{
				is(one($n, 'SELECT count(*) FROM t'), one($n, 'SELECT coalesce(sum(applied), 0) FROM ferry.bundles'), 'what was merged is what is told: blocks are merged whole or not at all');
				next;
			}
			$load{$n}->pump_nb;
			if (!$load{$n}->pumpable) { $load{$n}->finish; start_load($n); }
		}
		else
		{
			$import->finish;
			fail("import at $n: $err") if $import->result(0) != 0;
		}
	}
	chomp $out;
	my ($signer, $states, $sum, $quarantined, $reached) = split /\|/, $out;
	is("$signer $sum $quarantined $reached", ($n eq 'a' ? 'b' : 'a') . " $states 0 t", "a bundle of $states states is at $n, each counted once");
	return;
}
carry('b', $f, 4);
start_load('b');
carry('a', fetch_from('b', 'a'), 2);
carry('b', fetch_from('a', 'b'), 2);
ferry_end_load($load{$_}) for qw(a b);
carry('a', fetch_from('b', 'a'), 0);
carry('b', fetch_from('a', 'b'), 0);
my ($at_a, $at_b) = map { one($_, 'SELECT id, n, v, ferry.version_dot(_ferry) FROM t ORDER BY id') } qw(a b);
ok($at_a eq $at_b, 'both are the same');
cmp_ok(($at_a =~ tr/\n//), '>', $rows / 2, 'and not empty');
is(one($_, 'SELECT count(*) FROM ferry.quarantine') . one($_, 'SELECT count(*) FROM ferry.bundles WHERE NOT reached'), '00', "$_: nothing is left over") for qw(a b);

$_->stop for values %node;
done_testing();
