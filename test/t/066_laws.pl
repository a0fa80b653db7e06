# The laws of merging on what users call: ferry.merge and ferry.state.  States of one
# key that three nodes reach by random writes and by merging each other's are merged
# on a fourth in every order and grouping, and twice: the outcome is one and the same.
# For both merge modes, both policies of deletion and every strategy.
#
# SEED and TRIPLES come from the environment.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use DBI;
use FerryNodes;

my $seed = $ENV{SEED} // int(rand(1 << 30));
my $triples = $ENV{TRIPLES} // 400;	# of each table
srand($seed);
note "SEED=$seed TRIPLES=$triples";
diag "066_laws: SEED=$seed" if $ENV{CI};

# four databases of one server are four nodes
my $server = ferry_cluster('n', "ferry.housekeeping_ms = 3600000\n");
my @names = qw(a b c judge);
my @tables = (
	[ 'column_last', 'column', 'last_wins' ], [ 'column_update', 'column', 'update_wins' ],
	[ 'row_last', 'row', 'last_wins' ], [ 'row_update', 'row', 'update_wins' ]);
my $columns = 'id int PRIMARY KEY, x int, y text, n int, m numeric, hi text, lo numeric, tags text[], attrs jsonb, f int';
my %dbh;
for my $i (0 .. $#names)
{
	my $db = $names[$i];
	$server->safe_psql('postgres', "CREATE DATABASE $db");
	ferry_node($server, $db, $db);
	# strategies are set on each, as nobody tells the others
	$server->safe_psql($db, "CREATE FUNCTION bor(int, int) RETURNS int LANGUAGE sql IMMUTABLE STRICT AS 'SELECT \$1 | \$2'"
		  . join('', map { "; CREATE TABLE $_->[0] ($columns); SELECT ferry.add_table('$_->[0]', merge => '$_->[1]', on_delete => '$_->[2]')" } @tables));
	for my $t (grep { $_->[1] eq 'column' } @tables)
	{
		my %s = (n => 'counter', m => 'counter', hi => 'max', lo => 'min', tags => 'set', attrs => 'map', f => 'bor');
		$server->safe_psql($db, join(';', map { "SELECT ferry.set_merge('$t->[0]', '$_', '$s{$_}')" } sort keys %s));
	}
	$dbh{$db} = DBI->connect("dbi:Pg:dbname=$db;host=" . $server->host . ';port=' . $server->port,
		scalar(getpwuid($<)), '', { RaiseError => 1, PrintError => 0, AutoCommit => 1, pg_server_prepare => 0 });
}

# --- reachable states ---

my $unique = 0;

sub pick { return $_[ int(rand(@_)) ]; }

sub random_assignment
{
	my $u = ++$unique;
	return (pick(
		[ x => $u ], [ x => 'NULL' ], [ y => "'y$u'" ], [ n => 'coalesce(n, 0) + ' . pick(-3 .. 5) ], [ n => pick(0 .. 9) ], [ n => 'NULL' ],
		[ m => 'coalesce(m, 0) + ' . pick('0.5', '-1.25', '3') ], [ m => "'NaN'" ],
		[ hi => "'" . pick('a' .. 'f') . "$u'" ], [ hi => 'NULL' ], [ lo => pick('1.0', '1.00', '2', '-7.5', $u) ],
		[ tags => "array_append(tags, '" . pick('p' .. 'w') . "')" ], [ tags => "array_remove(tags, '" . pick('p' .. 'w') . "')" ],
		[ tags => pick('NULL', "'{}'", "'{{p},{q}}'", "'{p,q,NULL}'") ],
		[ attrs => "coalesce(attrs, '{}') || jsonb_build_object('" . pick('k' .. 'o') . "', $u)" ], [ attrs => "attrs - '" . pick('k' .. 'o') . "'" ],
		[ attrs => pick('NULL', "'[1]'", "'{\"k\": null}'", "'null'") ], [ f => 'coalesce(f, 0) | ' . (1 << pick(0 .. 9)) ], [ f => pick(0, 1023, 'NULL') ]));
}

sub random_write
{
	my ($db, $t, $key) = @_;
	my %set = map { my $a = random_assignment(); $a->[0] => $a->[1] } 1 .. pick(1 .. 4);
	my $u = ++$unique;
	my $kind = rand();
	# attrs that are no object cannot be added to: that write is none
	eval {
		if ($kind < 0.25)
		{
			my %values = map { my $a = random_assignment(); ($a->[1] =~ /^(?:coalesce|array_|attrs)/ ? () : ($a->[0] => $a->[1])) } 1 .. 9;
			$values{x} //= $u;
			$dbh{$db}->do("INSERT INTO $t (id, " . join(', ', sort keys %values) . ") VALUES ($key, " . join(', ', map { $values{$_} } sort keys %values) . ') ON CONFLICT DO NOTHING');
		}
		elsif ($kind < 0.85) { $dbh{$db}->do("UPDATE $t SET " . join(', ', map { "$_ = $set{$_}" } sort keys %set) . " WHERE id = $key"); }
		else { $dbh{$db}->do("DELETE FROM $t WHERE id = $key"); }
		1;
	};
	return;
}

sub state_of { my ($db, $t, $key) = @_; return $dbh{$db}->selectrow_array("SELECT ferry.state('$t', jsonb_build_object('id', ${key}::int))"); }

my $judge = $dbh{judge};
$judge->do('CREATE TABLE pool (t text, key int, n int, s jsonb, PRIMARY KEY (t, key, n))');
my $n_keys = 25;
for my $t (map { $_->[0] } @tables)
{
	for my $key (1 .. $n_keys)
	{
		my %seen;
		my @states;
		for my $step (1 .. pick(10 .. 40))
		{
			my $db = pick(qw(a b c));
			if (rand() < 0.7) { random_write($db, $t, $key); }
			else
			{
				# not only what a node holds now, but also what somebody kept
				my $s = @states && rand() < 0.3 ? pick(@states) : state_of(pick(qw(a b c)), $t, $key);
				$dbh{$db}->do("SELECT ferry.merge('$t', ?)", undef, $s) if defined $s;
			}
			my $s = state_of($db, $t, $key);
			push @states, $s if defined $s && !$seen{$s}++;
		}
		$judge->do('INSERT INTO pool VALUES (?, ?, ?, ?)', undef, $t, $key, $_ + 1, $states[$_]) for 0 .. $#states;
	}
	my ($n) = $judge->selectrow_array('SELECT count(*) FROM pool WHERE t = ?', undef, $t);
	cmp_ok($n, '>', 3 * $n_keys, "$t: $n states");
}

# --- the laws ---

# each try has keys of its own, far from those of the pool
$judge->do(q{
	CREATE SEQUENCE fresh START 1000000;
	CREATE FUNCTION at(s jsonb, id bigint) RETURNS jsonb LANGUAGE sql IMMUTABLE RETURN jsonb_set(s, '{key,id}', to_jsonb(id));
	CREATE FUNCTION held(t regclass, id bigint) RETURNS jsonb LANGUAGE sql RETURN at(ferry.state(t, jsonb_build_object('id', id)), 0);
	CREATE FUNCTION merged(t regclass, VARIADIC s jsonb[]) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE
		id bigint := nextval('fresh');
		one jsonb;
	BEGIN
		FOREACH one IN ARRAY s LOOP
			PERFORM ferry.merge(t, at(one, id));
		END LOOP;
		RETURN held(t, id);
	END $$;
	CREATE FUNCTION again(t regclass, x jsonb, y jsonb) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		id bigint := nextval('fresh');
	BEGIN
		PERFORM ferry.merge(t, at(x, id));
		PERFORM ferry.merge(t, at(y, id));
		RETURN ferry.merge(t, at(x, id)) || ' ' || ferry.merge(t, at(y, id)) || ' ' || ferry.merge(t, at(held(t, id), id));
	END $$;
	CREATE TABLE broken (t regclass, law text, x jsonb, y jsonb, z jsonb, one jsonb, other jsonb);
	CREATE FUNCTION try(t regclass, x jsonb, y jsonb, z jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		xyz jsonb := merged(t, x, y, z);
		xy jsonb := merged(t, x, y);
		way jsonb;
		got text;
	BEGIN
		FOREACH way IN ARRAY ARRAY[merged(t, x, z, y), merged(t, y, x, z), merged(t, y, z, x), merged(t, z, x, y), merged(t, z, y, x)] LOOP
			IF way <> xyz THEN INSERT INTO broken VALUES (t, 'commutative', x, y, z, xyz, way); END IF;
		END LOOP;
		FOREACH way IN ARRAY ARRAY[merged(t, x, merged(t, y, z)), merged(t, merged(t, y, z), x), merged(t, xy, z), merged(t, xy, merged(t, y, z)), merged(t, xyz, x, z)] LOOP
			IF way <> xyz THEN INSERT INTO broken VALUES (t, 'associative', x, y, z, xyz, way); END IF;
		END LOOP;
		got := again(t, x, y);
		IF got <> 'ignored ignored ignored' THEN INSERT INTO broken VALUES (t, 'idempotent', x, y, z, to_jsonb(got), xy); END IF;
		way := merged(t, x);
		IF way <> at(x, 0) THEN INSERT INTO broken VALUES (t, 'as it came', x, NULL, NULL, way, at(x, 0)); END IF;
		RETURN xy->'vv' <> x->'vv' AND xy->'vv' <> y->'vv';
	END $$});

for my $t (map { $_->[0] } @tables)
{
	my $todo = $triples;
	my $concurrent = 0;
	$judge->do('SELECT setseed(?)', undef, ($seed % 1000) / 1000);
	while ($todo > 0)
	{
		my ($n) = $judge->selectrow_array(q{
			SELECT count(*) FILTER (WHERE try(x.t::regclass, x.s, y.s, z.s))
			FROM (SELECT * FROM pool WHERE t = ? ORDER BY random() LIMIT 100) x,
				LATERAL (SELECT * FROM pool p WHERE p.t = x.t AND p.key = x.key AND x.n > 0 ORDER BY random() LIMIT 1) y,
				LATERAL (SELECT * FROM pool p WHERE p.t = x.t AND p.key = x.key AND y.n > 0 ORDER BY random() LIMIT 1) z}, undef, $t);
		$concurrent += $n;
		$todo -= 100;
	}
	cmp_ok($concurrent, '>', $triples / 10, "$t: $concurrent of $triples triples began with two that know nothing of each other");
	my ($broken) = $judge->selectrow_array('SELECT count(*) FROM broken WHERE t = ?::regclass', undef, $t);
	is($broken, '0', "$t: merging is commutative, associative and idempotent");
	next if !$broken;
	my @b = $judge->selectrow_array('SELECT law, x, y, z, one, other FROM broken WHERE t = ?::regclass LIMIT 1', undef, $t);
	diag "SEED=$seed $b[0]:\n x     $b[1]\n y     " . ($b[2] // '') . "\n z     " . ($b[3] // '') . "\n one   $b[4]\n other $b[5]";
	diag join(', ', map { "$_->[0]: $_->[1]" } @{ $judge->selectall_arrayref('SELECT law, count(*) FROM broken WHERE t = ?::regclass GROUP BY 1', undef, $t) });
}
is($judge->selectrow_array('SELECT count(*) FROM ferry.quarantine'), '0', 'nothing in quarantine');
$_->disconnect for values %dbh;
$server->stop;
done_testing();
