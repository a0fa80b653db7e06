# ferry.join: an empty database gets schema, tables, rows and links with every
# member while all of them write; two join at a time through different sponsors,
# one of them with rows of its own; crashes at moments drawn from a seed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use FerryNodes;

my $seed = $ENV{SEED} // int(rand(1 << 30));
srand($seed);
note "seed $seed";

my %node = map { $_ => ferry_cluster($_) } qw(a b c d);
sub one { my ($n, $sql) = @_; return $node{$n}->safe_psql('postgres', $sql); }
sub error_of { my ($n, $sql) = @_; return ferry_error($node{$n}, $sql); }
sub join_group { my ($n, $sponsor) = @_; return one($n, "SELECT ferry.join('" . ferry_dsn($node{$sponsor}) . "')"); }

# --- the first node, with definitions that hang together ---

ferry_node($node{a}, 'a');
one('a', q{
	CREATE SCHEMA "Odd One";
	CREATE TYPE "Odd One".mood AS ENUM ('fine', 'foul');
	CREATE FUNCTION public.twice(i int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT i * 2';
	CREATE TABLE accounts (id int PRIMARY KEY, balance numeric NOT NULL DEFAULT 0, note text);
	CREATE TABLE "Odd One"."Order" (id int, n int, mood "Odd One".mood DEFAULT 'fine', account int REFERENCES accounts,
		double int GENERATED ALWAYS AS (public.twice(n)) STORED, PRIMARY KEY (id, n));
	CREATE TABLE parted (k text, at int, v text, PRIMARY KEY (k, at)) PARTITION BY RANGE (at);
	CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (500);
	CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (500) TO (1000);
	CREATE TABLE not_ours (id int);
	SELECT ferry.add_table('accounts');
	SELECT ferry.add_table('"Odd One"."Order"', merge => 'row', on_delete => 'update_wins');
	SELECT ferry.add_table('parted');
	INSERT INTO accounts SELECT i, i, 'of a' FROM generate_series(1, 20000) i;
	INSERT INTO "Odd One"."Order" SELECT i, i % 7, 'foul', i FROM generate_series(1, 2000) i;
	INSERT INTO parted SELECT 'k' || i, i, 'v' FROM generate_series(0, 999) i;
	DELETE FROM accounts WHERE id > 19900;
	UPDATE accounts SET note = 'changed' WHERE id <= 100;});

# --- load: each node writes rows of its own and rows of all ---

my $script = q{\set id random(1, 3000)
\set k random(0, 999)
BEGIN;
UPDATE accounts SET balance = balance + 1 WHERE id = :id;
INSERT INTO accounts (id, note) VALUES (nextval('mine'), current_setting('port')) ON CONFLICT DO NOTHING;
END;
UPDATE parted SET v = v || 'x' WHERE k = 'k' || :k AND at = :k;
DELETE FROM "Odd One"."Order" WHERE id = :id;
};
my $nth = 0;
my %load;
sub start_load
{
	my ($n) = @_;
	$nth++;
	one($n, "CREATE SEQUENCE IF NOT EXISTS mine; ALTER SEQUENCE mine RESTART WITH ${nth}000000");
	$load{$n} = ferry_load($node{$n}, $script);
	return;
}
start_load('a');

# --- the second ---

ferry_node($node{b}, 'b');
like(error_of('b', "SELECT ferry.join('" . ferry_dsn($node{b}) . "')"), qr/peer is this node itself/, 'no node joins itself');
like(error_of('b', "SELECT ferry.join('host=/nowhere')"), qr/08001: could not connect to peer/, 'an error if the sponsor cannot be reached');
one('b', 'CREATE TABLE not_ours (id int)');
like(error_of('b', "SELECT ferry.join('" . ferry_dsn($node{a}) . "')"), qr/42P07: the schema of the sponsor does not fit into this database: relation "not_ours" already exists .*HINT/, 'what is in the way is named');
is(one('b', "SELECT count(*) FROM pg_namespace WHERE nspname = 'Odd One'"), '0', 'and nothing is changed');
is(one('b', 'SELECT count(*) FROM ferry.peers'), '0', 'no peers either');
one('b', 'DROP TABLE not_ours');
join_group('b', 'a');
is(one('b', 'SELECT current_setting($$search_path$$)'), '"$user", public', 'settings are as they were');
is(one('b', "SELECT ferry.wait_for_join('120 s')"), 't', 'b joins a');
is(one('b', q{SELECT string_agg(format('%s %s %s', relation, merge, on_delete), ', ' ORDER BY relation::text) FROM ferry.tables}),
	one('a', q{SELECT string_agg(format('%s %s %s', relation, merge, on_delete), ', ' ORDER BY relation::text) FROM ferry.tables}), 'tables with their modes');
is(one('b', "SELECT count(*) FROM ferry.progress WHERE state = 'done' AND rows > 0 AND bytes > 0"), '3', 'progress says what was copied');
ok($node{a}->poll_query_until('postgres', "SELECT state = 'streaming' FROM ferry.lag WHERE peer = 'b'"), 'the sponsor pulls from b');
start_load('b');

# --- two at a time, through different sponsors; c has rows, and its server crashes ---

ferry_node($node{$_}, $_) for qw(c d);
one('c', q{
	CREATE TABLE accounts (id int PRIMARY KEY, balance numeric NOT NULL DEFAULT 0, note text);
	INSERT INTO accounts (id, note) VALUES (1, 'of c'), (900001, 'of c alone');});
like(error_of('c', "SELECT ferry.join('" . ferry_dsn($node{b}) . "')"), qr/42P01: tables of the group are missing in this database DETAIL: Missing: "Odd One"."Order", (public.)?parted/, 'half a schema is refused');
one('c', q{
	CREATE SCHEMA "Odd One";
	CREATE TYPE "Odd One".mood AS ENUM ('fine', 'foul');
	CREATE TABLE "Odd One"."Order" (id int, n int, mood "Odd One".mood DEFAULT 'fine', account int REFERENCES accounts,
		double int GENERATED ALWAYS AS (n * 2) STORED, PRIMARY KEY (id, n));
	CREATE TABLE parted (k text, at int, v text, PRIMARY KEY (k, at));});
one('c', "SELECT ferry.add_table('accounts', merge => 'row')");
like(error_of('c', "SELECT ferry.join('" . ferry_dsn($node{b}) . "')"), qr/55000: table "public.accounts" merges in another way than in the group DETAIL: Here it is row, last_wins; there column, last_wins/, 'another merge mode is refused');
one('c', "SELECT ferry.drop_table('accounts')");
join_group('c', 'b');
join_group('d', 'a');
for my $crash (1 .. 4)
{
	usleep(int(rand(600_000)));
	my $victim = (qw(c d))[ int(rand(2)) ];
	note "crash of $victim";
	$node{$victim}->stop('immediate');
	$node{$victim}->start;
}
one('c', "INSERT INTO accounts (id, note) VALUES (900002, 'of c while it joins')");
is(one('c', "SELECT ferry.wait_for_join('180 s')"), 't', 'c has joined');
is(one('d', "SELECT ferry.wait_for_join('180 s')"), 't', 'd has joined');
for my $n (qw(a b c d))
{
	ok($node{$n}->poll_query_until('postgres', "SELECT count(*) = 3 AND bool_and(state = 'streaming') FROM ferry.lag"), "$n has links with all others");
}
ferry_end_load($load{$_}) for sort keys %load;

sub settle { my @n = @_; for my $round (1 .. 2) { for (@n) { ferry_settled($node{$_}) or return 0; } } return 1; }
ok(settle(qw(a b c d)), 'all hold all');
for my $t ([ 'accounts', 'id, balance, note, ferry.version_dot(_ferry)' ], [ '"Odd One"."Order"', 'id, n, mood, account, double, ferry.version_dot(_ferry)' ], [ 'parted', 'k, at, v, ferry.version_dot(_ferry)' ])
{
	my ($sum) = my @all = map { one($_, "SELECT count(*) || ' ' || md5(string_agg(r::text, '|' ORDER BY r::text)) FROM (SELECT $t->[1] FROM $t->[0]) r") } qw(a b c d);
	is("@all", join(' ', ($sum) x 4), "$t->[0] is the same on all, last writers too");
	cmp_ok($sum =~ s/ .*//r, '>', 100, 'and not empty');
}
is(one('d', 'SELECT note FROM accounts WHERE id IN (900001, 900002) ORDER BY id'), "of c alone\nof c while it joins", 'rows that c brought are everywhere');
is(one($_, 'SELECT count(*) FROM ferry.quarantine'), '0', "$_: nothing in quarantine") for qw(a b c d);
is(one('d', 'SELECT string_agg(name::text, $$ $$ ORDER BY name) FROM ferry.nodes WHERE NOT is_dropped'), 'a b c d', 'all know all');

like(error_of('a', "SELECT ferry.drop_peer('b')"), qr/55000: peer "b" is a member of the group that this node has joined .*HINT: Use ferry.pause_peer/, 'a link of the group is not dropped by hand');
$_->stop for values %node;
done_testing();
