# Bundles under hardship: keys and signatures, damage of every kind, sessions and
# servers that die in the middle of an export or an import, and two nodes that
# never meet, with random writes on both sides.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my $seed = $ENV{SEED} // int(rand(1 << 30));
srand($seed);
note "seed $seed";
diag "086_bundle_hardship: SEED=$seed" if $ENV{CI};

my $group = '11111111-2222-3333-4444-555555555555';
my $dir = PostgreSQL::Test::Utils::tempdir();
chmod 0755, $dir;
my $a = ferry_cluster('a', "autovacuum = off\n");
my $b = ferry_cluster('b', "autovacuum = off\n");
for ([ $a, 'a' ], [ $b, 'b' ])
{
	my ($n, $name) = @$_;
	$n->safe_psql('postgres', "CREATE EXTENSION ferry; SELECT ferry.create_node('$name', '" . ferry_dsn($n) . "', '$group');
		CREATE TABLE t (id int PRIMARY KEY, a int, b text); SELECT ferry.add_table('t');
		CREATE TABLE r (id int PRIMARY KEY, a int, b text); SELECT ferry.add_table('r', merge => 'row', on_delete => 'update_wins')");
}

sub row
{
	my ($n, $sql) = @_;
	my ($rc, $out, $err) = $n->psql('postgres', $sql, extra_params => [ '-x' ]);
	die $err if $rc;
	return { map { /^(\w+)\|(.*)$/ ? ($1, $2) : () } split /\n/, $out };
}
sub error
{
	my ($n, $sql) = @_;
	my ($rc, $out, $err) = $n->psql('postgres', "\\set VERBOSITY verbose\n$sql");
	return $rc ? $err : "no error: $out";
}
sub content
{
	my ($n) = @_;
	return $n->safe_psql('postgres', 'SELECT *, _ferry FROM t ORDER BY id; SELECT *, _ferry FROM r ORDER BY id');
}
sub settings
{
	my ($n, %s) = @_;
	for my $k (sort keys %s)
	{
		$n->safe_psql('postgres', defined $s{$k} ? "ALTER SYSTEM SET ferry.bundle_$k = '$s{$k}'" : "ALTER SYSTEM RESET ferry.bundle_$k");
	}
	$n->reload;
	for my $k (grep { defined $s{$_} } keys %s)
	{
		$n->poll_query_until('postgres', "SELECT current_setting('ferry.bundle_$k') = '$s{$k}'");
	}
	for my $k (grep { !defined $s{$_} } keys %s)
	{
		$n->poll_query_until('postgres', "SELECT setting = boot_val FROM pg_settings WHERE name = 'ferry.bundle_$k'");
	}
	return;
}
my $count = 0;
sub export { my ($n, $since) = @_; my $f = "$dir/" . ++$count; row($n, "SELECT * FROM ferry.export_bundle('$f'" . ($since ? ", $since" : '') . ')'); return $f; }

# --- keys and signatures ---

sub run_quietly { my $out = `@_ 2>&1`; die "@_: $out" if $?; return $out; }
umask 0077;
append_to_file("$dir/key", "# of this year\n" . run_quietly('openssl rand -hex 32'));
append_to_file("$dir/other", run_quietly('openssl rand -hex 32'));
append_to_file("$dir/both", slurp_file("$dir/other") . slurp_file("$dir/key"));
mkdir "$dir/trusted";
for my $k ([ 'ed', 'ed25519' ], [ 'sm', 'SM2' ], [ 'stranger', 'ed25519' ])
{
	run_quietly("openssl genpkey -algorithm $k->[1] -out $dir/$k->[0].pem");
	run_quietly("openssl pkey -in $dir/$k->[0].pem -pubout -out $dir/trusted/$k->[0].pem") if $k->[0] ne 'stranger';
}
umask 0022;
$a->safe_psql('postgres', "INSERT INTO t SELECT i, i, 'a secret ' || i FROM generate_series(1, 100) i");
settings($a, key_file => "$dir/key", signing_key_file => "$dir/ed.pem", compression_level => 0);
settings($b, key_file => "$dir/both", trusted_keys_dir => "$dir/trusted");
my $sealed = export($a);
unlike(slurp_file($sealed), qr/a secret/, 'nothing is to be read in an encrypted bundle');
my $r = row($b, "SELECT * FROM ferry.import_bundle('$sealed')");
is("$r->{signed_by} $r->{applied}", 'ed 100', 'who has the key and trusts the signer takes it');
settings($a, cipher => 'sm4-ctr-hmac-sm3', signing_key_file => "$dir/sm.pem", compression_level => undef);
$r = row($a, "SELECT * FROM ferry.export_bundle('$dir/sm4')");
is("$r->{cipher} $r->{signature}", 'sm4-ctr-hmac-sm3 sm2', 'SM4, SM3 and SM2 are there for whom rules ask for them');
$r = row($b, "SELECT * FROM ferry.import_bundle('$dir/sm4')");
is("$r->{signed_by} $r->{ignored}", 'sm 100', 'and taken too');
my $before = content($b);
settings($a, signing_key_file => "$dir/stranger.pem");
like(error($b, "SELECT ferry.import_bundle('" . export($a) . "')"), qr/28000: the bundle is signed by a key that is not trusted/, 'a stranger is not trusted');
settings($a, signing_key_file => undef);
like(error($b, "SELECT ferry.import_bundle('" . export($a) . "')"), qr/28000: the bundle is not signed/, 'an unsigned bundle is refused');
settings($a, key_file => undef, signing_key_file => "$dir/ed.pem");
like(error($b, "SELECT ferry.import_bundle('" . export($a) . "')"), qr/28000: the bundle is not encrypted/, 'one in clear too, where there is a key');
settings($b, key_file => "$dir/other");
like(error($b, "SELECT ferry.import_bundle('$sealed')"), qr/28000: the bundle is encrypted with a key that is not/, 'another key opens nothing');
settings($b, key_file => undef);
like(error($b, "SELECT ferry.import_bundle('$sealed')"), qr/28000: the bundle is encrypted, and no key/, 'no key neither');
chmod 0644, "$dir/key";
settings($a, key_file => "$dir/key");
like(error($a, "SELECT ferry.export_bundle('$dir/no')"), qr/F0000: ".*key" is open to others/, 'a key that others may read is refused');
chmod 0600, "$dir/key";
append_to_file("$dir/bad", "not a key\n");
chmod 0600, "$dir/bad";
settings($a, key_file => "$dir/bad");
my $err = error($a, "SELECT ferry.export_bundle('$dir/no')");
like($err, qr/F0000: ".*bad" does not hold the keys/, 'a file without keys is refused');
unlike($err . slurp_file($a->logfile), qr/not a key/, 'and its content told to nobody');
my ($key) = slurp_file("$dir/key") =~ m{([0-9a-f]{64})};
unlike(slurp_file($a->logfile) . slurp_file($b->logfile), qr/$key/, 'keys are in no log');
settings($_, key_file => undef, signing_key_file => undef, trusted_keys_dir => undef, cipher => undef) for $a, $b;
is(content($b), $before, 'what was refused changed nothing');

# --- damage ---

$a->safe_psql('postgres', "INSERT INTO t SELECT i, i, md5(i::text) || md5((-i)::text) FROM generate_series(101, 12000) i");
my $good = slurp_file(export($a));
my $refused = 0;
my @damages = map { my $at = int(rand(length $good)); (
	substr($good, 0, $at),
	do { my $x = $good; substr($x, $at, 1) ^= chr(1 << int(rand 8)); $x },
	do { my $x = $good; substr($x, $at, 1 + int(rand 9)) = ''; $x },
	do { my $x = $good; substr($x, $at, 0) = 'x' x (1 + int(rand 9)); $x }) } 1 .. 4;
for my $x (@damages, '', $good . 'x', "PGCOPY\n\xff\r\n\0" . "\0" x 8 . "\xff\xff", 'x' x 100000)
{
	next if $x eq $good;
	my $f = "$dir/" . ++$count;
	open my $h, '>:raw', $f or die;
	print $h $x;
	close $h;
	my $e = error($b, "SELECT ferry.import_bundle('$f')");
	$refused++ if $e =~ /XX001: .*Nothing was changed/s or $e =~ /0A000: .*Nothing was changed/s;
	note $e if $e !~ /Nothing was changed/;
}
is($refused, @damages + 4, 'damage of every kind is refused as such');
is(content($b), $before, 'and changes nothing');
is($b->safe_psql('postgres', 'SELECT count(*) FROM ferry.bundles WHERE finished_at IS NULL'), '0', 'not even a record');

# --- who dies in the middle ---

$a->safe_psql('postgres', "INSERT INTO t SELECT i, i, md5(i::text) || md5((-i)::text) || repeat('x', 100) FROM generate_series(12001, 40000) i;
	INSERT INTO r SELECT i, i, 'r' FROM generate_series(1, 1000) i");
my $large = export($a);
my $quarter = 0;
sub begin_import { my ($f) = @_; return IPC::Run::start([ 'psql', '-X', '-h', $b->host, '-p', $b->port, '-c', "SELECT ferry.import_bundle('$f')", 'postgres' ], '<', \undef, '>', \my $out, '2>', \my $e); }
for my $how ('session', 'crash', 'worker', 'crash')
{
	# a row lock stops the import at a block of our choice
	my $done = $b->safe_psql('postgres', "SELECT coalesce(max(blocks_done), 0) FROM ferry.bundles WHERE finished_at IS NULL");
	my $stop = 10000 * $quarter++ + 1 + int(rand(10000));
	$b->safe_psql('postgres', "INSERT INTO t VALUES ($stop, 0, 'in the way') ON CONFLICT DO NOTHING");
	my $lock = $b->background_psql('postgres');
	$lock->query_safe("BEGIN; UPDATE t SET a = a WHERE id = $stop");
	my $import = begin_import($large);
	ok($b->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'ferry import' AND wait_event_type = 'Lock'"), "an import stops at row $stop");
	if ($how eq 'session')
	{
		$b->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT ferry.import%' AND backend_type = 'client backend'");
		$b->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'ferry import'");
	}
	elsif ($how eq 'worker')
	{
		$b->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ferry import'");
	}
	else
	{
		$b->stop('immediate');
		$b->start;
	}
	$import->finish;
	eval { $lock->quit };
	my ($n, $sum) = split /\|/, $b->safe_psql('postgres', "SELECT blocks_done, applied + merged + ignored + conflicts + quarantined FROM ferry.bundles WHERE finished_at IS NULL") || '0|0';
	note "$how: $n blocks are done, $sum states";
	cmp_ok($n, '>=', $how eq 'crash' ? 0 : $done, "after the end of the $how what was merged stays");
}
$r = row($b, "SELECT * FROM ferry.import_bundle('$large')");
note join ' ', map { "$_=$r->{$_}" } sort keys %$r;
is($r->{applied} + $r->{merged} + $r->{ignored} + $r->{conflicts}, $r->{states}, 'in the end every state counts once');
is("$r->{quarantined} $r->{reached}", '0 t', 'and the vector is reached');
my $import = export($b);
$a->safe_psql('postgres', "SELECT ferry.import_bundle('$import')");
is(content($a), content($b), 'both are the same');

my $export = IPC::Run::start([ 'psql', '-X', '-h', $a->host, '-p', $a->port, '-c', "SELECT ferry.export_bundle('$dir/torn')", 'postgres' ], '<', \undef, '>', \my $out1, '2>', \my $err1);
for (1 .. 1000) { last if -e "$dir/torn.partial" || -e "$dir/torn"; select undef, undef, undef, 0.005; }
$a->stop('immediate');
$export->finish;
$a->start;
ok(!-s "$dir/torn" || length(slurp_file("$dir/torn")) > 1000, 'an export that dies leaves no file that is not whole');
unlink "$dir/torn";
row($a, "SELECT ferry.export_bundle('$dir/torn')");
ok(!-e "$dir/torn.partial", 'and what it left behind is no obstacle');
$r = row($b, "SELECT * FROM ferry.import_bundle('$dir/torn')");
is($r->{ignored}, $r->{states}, 'the next one is good');

# --- two nodes that never meet ---

sub write_some
{
	my ($n, $name) = @_;
	my $sql = '';
	for (1 .. 120)
	{
		my $t = rand() < 0.5 ? 't' : 'r';
		my $id = 1 + int(rand(30));
		my $k = rand();
		$sql .= $k < 0.3 ? "INSERT INTO $t VALUES ($id, $_, '$name$_') ON CONFLICT (id) DO UPDATE SET a = excluded.a;\n"
		  : $k < 0.6 ? "UPDATE $t SET a = $_ WHERE id = $id;\n"
		  : $k < 0.8 ? "UPDATE $t SET b = '$name$_' WHERE id = $id;\n" : "DELETE FROM $t WHERE id = $id;\n";
	}
	$n->safe_psql('postgres', $sql);
	return;
}
my %other = (a => $b, b => $a);
my @under_way;
for my $round (1 .. 8)
{
	for ([ $a, 'a', 'b' ], [ $b, 'b', 'a' ])
	{
		my ($n, $name, $peer) = @$_;
		write_some($n, $name);
		push @under_way, [ $other{$name}, export($n, "ferry.known_of('$peer')") ] if rand() < 0.7;
		if (@under_way && rand() < 0.7)
		{
			# any of those on the way, perhaps not for the first time
			my ($to, $f) = @{ $under_way[ rand @under_way ] };
			$to->psql('postgres', "SELECT ferry.import_bundle('$f')");
		}
	}
}
for my $f (sort { rand() <=> 0.5 } @under_way) { $f->[0]->psql('postgres', "SELECT ferry.import_bundle('$f->[1]')"); }
for (1 .. 2)
{
	my $from_a = export($a, "ferry.known_of('b')");
	$b->safe_psql('postgres', "SELECT ferry.import_bundle('$from_a')");
	my $from_b = export($b, "ferry.known_of('a')");
	$a->safe_psql('postgres', "SELECT ferry.import_bundle('$from_b')");
}
my ($at_a, $at_b) = (content($a), content($b));
is($at_a, $at_b, 'random writes on both sides end up the same') or do {
	my %b = map { $_ => 1 } split /\n/, $at_b;
	my %a = map { $_ => 1 } split /\n/, $at_a;
	diag "only a has: $_" for grep { !$b{$_} } sort keys %a;
	diag "only b has: $_" for grep { !$a{$_} } sort keys %b;
};
is($_->safe_psql('postgres', 'SELECT bool_and(reached) FROM ferry.bundles'), 't', 'every bundle is reached') for $a, $b;
is($_->safe_psql('postgres', 'SELECT count(*) FROM ferry.quarantine'), '0', 'nothing is in quarantine') for $a, $b;
$_->stop for $a, $b;
done_testing();
