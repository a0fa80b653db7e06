# Nodes on different major versions of PostgreSQL, on servers that run already
# (test/versions starts them): PEERS="15=dsn 17=dsn", the oldest first.  They join
# (pg_dump reads older servers than itself), all write, and prove each other equal.
use strict;
use warnings;
use Test::More;
use Time::HiRes qw(usleep);

my @dsn = map { s/^\d+=//r =~ tr/,/ /r } split ' ', $ENV{PEERS};
my @name = map { 'pg' . s/=.*//r } split ' ', $ENV{PEERS};

sub run
{
	my ($n, $sql) = @_;
	open my $psql, '-|', 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $dsn[$n], '-c', "SET client_min_messages = error; $sql" or die;
	my $out = join '', <$psql>;
	close $psql or BAIL_OUT("$name[$n]: $sql");
	chomp $out;
	return $out;
}
sub wait_until
{
	my ($n, $sql) = @_;
	for (1 .. 1200) { return 1 if run($n, $sql) eq 't'; usleep(100_000); }
	return 0;
}
sub settle
{
	for my $n (0 .. $#dsn)
	{
		wait_until($n, "SELECT count(*) = $#dsn AND bool_and(state = 'streaming') FROM ferry.lag") or fail("$name[$n] has not all links");
	}
	for my $token (map { run($_, 'SELECT ferry.token()') } 0 .. $#dsn)
	{
		is(run($_, "SELECT ferry.wait_for('$token', '60 s')"), 't', "$name[$_] has it all") for 0 .. $#dsn;
	}
	return;
}
my @table = qw(mixed word);
sub equal
{
	my ($what) = @_;
	settle();
	for my $table (@table)
	{
		my @sum = map { run($_, "SET timezone = UTC; SELECT count(*) || ' ' || md5(string_agg(t::text, '|' ORDER BY t::text COLLATE \"C\")) FROM $table t") } 0 .. $#dsn;
		is("@sum", join(' ', ($sum[0]) x @sum), "$what: $table is the same on all");
	}
	return;
}
sub found
{
	my ($n) = @_;
	return run($n, "SELECT coalesce(sum(differing), 0), coalesce(sum(repaired), 0), coalesce(sum(undecided), 0), string_agg(error, ', ') FROM ferry.verify(deep => true)");
}

run(0, q{
	CREATE TYPE mood AS ENUM ('low', 'high');
	CREATE TABLE mixed (id bigint PRIMARY KEY, n numeric, f float8, d timestamptz, j jsonb, a text[], m mood, b bytea, r int4range, u uuid, ip inet, stock int NOT NULL DEFAULT 0);
	CREATE TABLE word (w text PRIMARY KEY, note text);
	ALTER TABLE word ALTER note SET (n_distinct = -1)});
run($_, "CREATE EXTENSION ferry; SELECT ferry.create_node('$name[$_]', '$dsn[$_]')") for 0 .. $#dsn;
run(0, q{
	SELECT ferry.add_table('mixed'), ferry.add_table('word'); SELECT ferry.set_merge('mixed', 'stock', 'counter');
	INSERT INTO mixed SELECT i, i / 7.0, sqrt(i), to_timestamp(i * 1e5), jsonb_build_object('k', i, 'v', ARRAY[i, i / 2]), ARRAY['a' || i, NULL],
		CASE i % 2 WHEN 0 THEN 'low'::mood ELSE 'high' END, decode(md5(i::text), 'hex'), int4range(i, i + 9), md5(i::text)::uuid, '10.0.0.1'::inet + i, i FROM generate_series(1, 3000) i;
	INSERT INTO word SELECT chr(192 + i % 300) || chr(65 + i % 57) || i, 'x' FROM generate_series(1, 1000) i});
for my $n (1 .. $#dsn)
{
	run($n, "SELECT ferry.join('$dsn[0]')");
	is(run($n, "SELECT ferry.wait_for_join('120 s')"), 't', "$name[$n] has joined");
}
# of tables whose first copy goes on nothing is called missing
ok(wait_until($_, 'SELECT NOT bool_or(is_new) FROM ferry.registered_table'), "$name[$_] has all its tables") for 0 .. $#dsn;
equal('joined');
run($_, "UPDATE mixed SET stock = stock - 1, n = $_ WHERE id <= 500; UPDATE mixed SET j = j || '{\"by\": $_}', d = now() WHERE id % 3 = $_;
	INSERT INTO mixed (id, m, f) VALUES ($_ + 10000, 'high', '-Infinity'), (20000, 'low', $_) ON CONFLICT (id) DO UPDATE SET f = excluded.f; DELETE FROM mixed WHERE id % 100 = 40 + $_; UPDATE word SET note = w || $_ WHERE note = 'x' AND length(w) % 2 = $_ % 2")
  for 0 .. $#dsn;
equal('written on all');
is(run(0, 'SELECT count(*) FROM mixed WHERE id <= 500 AND stock <> id - ' . @dsn), '0', 'what each took away is missing once');
is(found($_), '0|0|0|', "$name[$_] is proven equal with the others, values and all") for 0 .. $#dsn;
run($#dsn, "SET session_replication_role = replica; DELETE FROM mixed WHERE id BETWEEN 2001 AND 2005" . (@dsn > 2 ? "; UPDATE word SET note = 'forged' WHERE w = (SELECT min(w) FROM word)" : ''));
run(0, "SET session_replication_role = replica; DELETE FROM mixed WHERE id BETWEEN 2101 AND 2103");
like(found(0), qr/^([1-9]\d*)\|\1\|0\|$/, 'what is planted on either side is found, and mended');
found($_) for 0 .. $#dsn;
equal('mended');
is(found($_), '0|0|0|', "$name[$_] is proven equal again") for 0 .. $#dsn;
done_testing();
