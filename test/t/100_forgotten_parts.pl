# What columns that merge keep is forgotten once every node has it, and not before:
# tombstones of counters, and the keys that were removed from maps; at one node sooner
# than at the other, so that a key is born again at both beside each other.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

# c knows of no horizon until it is told to look
my %n;
my @name = qw(a b c);
for my $name (@name)
{
	$n{$name} = ferry_cluster($name, "ferry.prune_after = 0\nferry.housekeeping_ms = " . ($name eq 'c' ? '3600000' : '100') . "\n");
	ferry_node($n{$name}, $name);
	$n{$name}->safe_psql('postgres', q{CREATE TABLE s (id int PRIMARY KEY, n int, attrs jsonb, p text);
		SELECT ferry.add_table('s')});
}
for my $to (@name)
{
	for my $from (@name) { ferry_link($n{$to}, $n{$from}, $from) if $to ne $from; }
}
sub sql { my ($name, $q) = @_; return $n{$name}->safe_psql('postgres', $q); }
sub alike { my ($q) = @_; return join(' ', map { sql($_, $q) } @name); }
sub until_true { my ($name, $q) = @_; return $n{$name}->poll_query_until('postgres', $q); }

sub settle
{
	my @tokens = map { sql($_, 'SELECT ferry.token()') } @name;
	for my $name (@name)
	{
		for my $token (@tokens) { sql($name, "SELECT ferry.wait_for('$token', '60 s')") eq 't' or return 0; }
	}
	return 1;
}

# everybody's horizon but c's covers all that was written so far
sub stable
{
	settle() or return 0;
	for my $name (qw(a b))
	{
		my $held = sql($name, 'SELECT ferry.token()');
		$held =~ s/[+].*//;
		until_true($name, "SELECT bool_and(coalesce(h.hlc, 0) >= t.hlc) FROM ferry._vector_entries('$held') t LEFT JOIN "
			. '(ferry.horizon z CROSS JOIN LATERAL ferry._vector_entries(z.vector) h) USING (origin)') or return 0;
	}
	return 1;
}

sql('a', "SELECT ferry.set_merge('s', 'n', 'counter'), ferry.set_merge('s', 'attrs', 'map')");
until_true($_, "SELECT count(*) = 2 FROM ferry.columns WHERE relation = 's'::regclass AND strategy <> 'lww'") for @name;
my %tombs = map { $_ => sql($_, "SELECT tombstones FROM ferry.tables WHERE relation = 's'::regclass") } @name;
sub tombstones { my ($name) = @_; return sql($name, "SELECT count(*) FROM $tombs{$name}"); }

# --- the tombstone of a counter ---

sql('a', q{INSERT INTO s VALUES (1, 100, '{"x": 1}', 'first')});
ok(settle(), 'a row');
sql('b', 'UPDATE s SET n = n - 30 WHERE id = 1');
sql('c', 'UPDATE s SET n = n - 20 WHERE id = 1');
ok(settle(), 'to which all have added');
is(alike('SELECT n FROM s'), '50 50 50', 'adds up');
my $alive = sql('c', q{SELECT ferry.state('s', '{"id": 1}')});
sql('b', 'DELETE FROM s');
ok(settle(), 'is deleted');
until_true($_, "SELECT count(*) = 0 FROM $tombs{$_}") for qw(a b);
is(join(',', map { tombstones($_) } @name), '0,0,1', 'its tombstone goes where the horizon says so, and stays where it lags');
my $dead = sql('c', q{SELECT ferry.state('s', '{"id": 1}')});
is(sql('a', "SELECT ferry.merge('s', '$_')"), 'ignored', 'what it was, and that it died, is old news there') for $alive, $dead;
is(sql('a', q{SELECT ferry.state('s', '{"id": 1}')}), '', 'and brings nothing back');

# born again where it is forgotten and where it is not, beside each other
sub link_all { my ($what) = @_; for my $to (@name) { for (grep { $_ ne $to } @name) { sql($to, "SELECT ferry.${what}_peer('$_')"); } } return; }
link_all('pause');
until_true($_, 'SELECT bool_and(pid IS NULL) FROM ferry.lag') for @name;
sql('a', q{INSERT INTO s VALUES (1, 3, '{"a": 1}', 'a')});
sql('c', q{INSERT INTO s VALUES (1, 4, '{"c": 1}', 'c')});
sql('b', q{INSERT INTO s VALUES (1, 5, '{"b": 1}', 'b')});
sql('a', 'UPDATE s SET n = n + 10');
sql('c', 'UPDATE s SET n = n + 20');
link_all('resume');
ok(settle(), 'births beside each other');
is(scalar(keys %{ { map { $_ => 1 } map { sql($_, "SELECT (s - 'vv' - 'horizon' - 'pruned')::text FROM ferry.state('s', '{\"id\": 1}') s") } @name } }),
	1, 'make one row everywhere, versions included');
is(sql('c', "SELECT ferry.merge('s', '$_')"), 'ignored', 'of which the old one is old news') for $alive, $dead;
# 3 + 5 + 4 less the 70 that a and b had in the old sum, which c took back and the others had forgotten; 30 since
my $n = -28;
is(alike('SELECT n FROM s'), "$n $n $n", 'one sum');
sql('b', 'UPDATE s SET n = n + 1');
sql('c', 'UPDATE s SET n = n + 1');
ok(settle(), 'and go on');
is(alike('SELECT n FROM s'), join(' ', ($n + 2) x 3), 'to count');

# --- removed keys ---

sub removed { my ($name, $id) = @_; return sql($name, "SELECT count(*) FROM ferry.state('s', '{\"id\": $id}') s, jsonb_object_keys(s->'strategies'->'attrs'->'removed')"); }
sql('a', q{INSERT INTO s SELECT 2, 0, jsonb_object_agg('key ' || i, i), 'x' FROM generate_series(1, 200) i});
ok(settle(), 'a map');
my $full = sql('b', q{SELECT ferry.state('s', '{"id": 2}')});
sql('b', q{UPDATE s SET attrs = '{"key 1": 1}' WHERE id = 2});
is(removed('b', 2), '199', 'keys that were removed are remembered');
ok(stable(), 'until every node has that');
sql('a', q{UPDATE s SET p = 'written' WHERE id = 2});
ok(settle(), 'when the row is written again');
is(removed($_, 2), '0', "$_ forgets them") for @name;
cmp_ok(sql('a', 'SELECT pg_column_size(_ferry) FROM s WHERE id = 2'), '<', 120, 'and the row is small again');
sql('c', q{UPDATE s SET attrs = attrs || '{"new": 1}' WHERE id = 2});
ok(settle(), 'written where the horizon lags');
is(alike('SELECT attrs FROM s WHERE id = 2'), join(' ', ('{"new": 1, "key 1": 1}') x 3), 'nobody has them back');
is(join(',', map { sql($_, "SELECT ferry.merge('s', '$full')") } @name), 'ignored,ignored,ignored', 'nor by an old state');

# while one is away they stay, and what it does beside the removal is merged with it
ok(stable(), 'all know all');
sql('c', "SELECT ferry.pause_peer('$_')") for qw(a b);
until_true('c', 'SELECT bool_and(pid IS NULL) FROM ferry.lag');
sql('a', q{UPDATE s SET attrs = attrs - 'key 1' WHERE id = 2});
sql('c', q{UPDATE s SET p = 'beside' WHERE id = 2});
sql('b', q{SELECT ferry.wait_for(token, '60 s') FROM (VALUES ('} . sql('a', 'SELECT ferry.token()') . q{')) t (token)});
sql('b', "UPDATE s SET n = $_ WHERE id = 2") for 1 .. 5;
is(removed('b', 2), '1', 'a removal that one has not got yet is kept');
sql('c', "SELECT ferry.resume_peer('$_')") for qw(a b);
ok(settle(), 'it is back');
is(alike('SELECT n, attrs, p FROM s WHERE id = 2'), join(' ', ('5|{"new": 1}|beside') x 3), 'and has lost the key, and nothing else');

# c is told to look
sql('c', 'ALTER SYSTEM SET ferry.housekeeping_ms = 100');
sql('c', 'SELECT pg_reload_conf()');
sql('b', 'DELETE FROM s');
ok(settle(), 'all is deleted');
for my $name (@name)
{
	ok(until_true($name, "SELECT count(*) = 0 FROM $tombs{$name}"), "$name: no tombstone is left");
}
$_->stop for values %n;
done_testing();
