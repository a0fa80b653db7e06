# Random writes, pauses, crashes and wrong clocks on N nodes from a printed seed: at
# the end every node equals every other and what a small model says.
#
# The model (FerryModel.pm).  Every write returns the dot (hlc, node) under which it
# was stamped.  In a table of column mode the value of a column is that of the
# acknowledged write of this column with the greatest dot; in row mode the whole
# row is; a row is alive if the write with the greatest dot was no deletion.  A
# changed key is the death of one row and the birth of another.  Columns that merge
# by a strategy hold what all writes make of them.  A TRUNCATE kills the rows all of
# whose writes it covers.  Of rows that took the same unique value all but one die,
# on record.  Columns that a CHECK ties together fit together; where they would not
# have, one side's values stand, on record.  Who refers to a parent has one: that was
# made to live again, or the child died, on record.  That is all: no order of
# arrival, no crash and no pause may change it.
#
# What clients were told counts: "ok" writes must be there, "failed" ones must
# not, "unknown" ones (the connection died in COMMIT) may or may not.
#
# The nodes' tables differ in the order of columns, in columns that were dropped, and
# in how they are partitioned.  States are kept by hand and merged much later, twice,
# in any order, anywhere.
#
# SEED, NODES, OPS, CRASHES, KEYS, SHAPE (mesh, chain, ring, star), SKEW (0, 1), PRUNE
# (0, 7d: ferry.prune_after) and ORPHANS (revive_parent, remove_child) come from the environment; what is
# not given follows from the seed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);
use List::Util qw(shuffle max);
use JSON::PP;
use DBI;
use FerryModel;
use FerryNodes;

my $seed = $ENV{SEED} // int(rand(1 << 30));
my $n_nodes = $ENV{NODES} // 3;
my $n_ops = $ENV{OPS} // 3000;
my $n_crashes = $ENV{CRASHES} // 4;
my $n_keys = $ENV{KEYS} // 16;
my @shapes = $n_nodes >= 3 ? qw(mesh chain ring star) : ('mesh');
my $shape = $ENV{SHAPE} // $shapes[ $seed % @shapes ];
my $skewed = $ENV{SKEW} // (int($seed / 4) % 2);
my $prune = $ENV{PRUNE} // ($seed % 2 ? '0' : '7d');
my $orphans = $ENV{ORPHANS} // (qw(revive_parent remove_child))[ int($seed / 8) % 2 ];
srand($seed);
my $setup = "SEED=$seed NODES=$n_nodes OPS=$n_ops CRASHES=$n_crashes KEYS=$n_keys SHAPE=$shape SKEW=$skewed PRUNE=$prune ORPHANS=$orphans";
note $setup;
diag "020_convergence: SEED=$seed" if $ENV{CI};

# --- the nodes, and who pulls from whom ---

my @registers = (
	{ name => 'by_column', mode => 'column' },
	{ name => 'by_row', mode => 'row' });
my %strategy = (n => 'counter', m => 'counter', hi => 'max', lo => 'min',
	tags => 'set', attrs => 'map', f => 'public.bor(integer,integer)');
my %columns = (
	by_column => [qw(a b c)], by_row => [qw(a b c)], uniq => [qw(v w)], cut => [qw(a b)],
	stock => [qw(n m hi lo tags attrs f p)],
	span => [qw(low high remark)], parent => [qw(name)], child => [qw(parent v)]);
my (@node, @dbh);

sub peers_of
{
	my ($i) = @_;
	return grep {
		$_ != $i && ($shape eq 'mesh' || ($shape eq 'chain' && abs($i - $_) == 1)
			  || ($shape eq 'ring' && (($i + 1) % $n_nodes == $_ || ($_ + 1) % $n_nodes == $i))
			  || ($shape eq 'star' && ($i == 0 || $_ == 0)))
	} 0 .. $n_nodes - 1;
}

# a clock that is wrong by up to half an hour either way, so that two differ by up to one
my $skew_library = PostgreSQL::Test::Utils::tempdir() . '/skew.so';
system_or_bail('gcc', '-shared', '-fPIC', '-O1', '-o', $skew_library, "$FindBin::RealBin/../lib/skew.c", '-ldl') if $skewed;
my @clock = map { int(rand(3600)) - 1800 } 1 .. $n_nodes;

sub with_clock
{
	my ($i, $what) = @_;
	return $what->() if !$skewed;
	local $ENV{LD_PRELOAD} = $skew_library;
	local $ENV{FERRY_TEST_SKEW} = $clock[$i];
	return $what->();
}

# shapes of tables: column order and columns that are gone differ, and so do partitions
sub table_sql
{
	my ($i, $name, $columns, $partitioned) = @_;
	my @c = ('id int', @$columns);
	splice(@c, 1 + $i % 2, 0, 'junk text') if $i;
	@c = (@c[ $i % @c .. $#c ], @c[ 0 .. $i % @c - 1 ]);
	my $list = join(', ', @c);
	my $drop = $i ? "ALTER TABLE $name DROP COLUMN junk;" : '';
	return "CREATE TABLE $name ($list, PRIMARY KEY (id)); $drop" if !$partitioned;
	my $part = join(', ', grep { !/^junk/ } reverse @c);
	return "CREATE TABLE $name ($list, PRIMARY KEY (id)) PARTITION BY RANGE (id); $drop
		CREATE TABLE ${name}_low PARTITION OF $name FOR VALUES FROM (MINVALUE) TO (6);
		CREATE TABLE ${name}_high ($part, gone int, PRIMARY KEY (id)); ALTER TABLE ${name}_high DROP COLUMN gone;
		ALTER TABLE $name ATTACH PARTITION ${name}_high FOR VALUES FROM (6) TO (MAXVALUE);";
}

for my $i (0 .. $n_nodes - 1)
{
	push @node, with_clock($i, sub {
		ferry_cluster("n$i", "autovacuum_naptime = 1\nferry.housekeeping_ms = 200\nferry.prune_after = $prune\nlogical_decoding_work_mem = 64kB\n"
			  . ($skewed ? "ferry.max_clock_skew = '2h'\n" : '')) });
	ferry_node($node[$i], "n$i");
	$node[$i]->safe_psql('postgres', "CREATE FUNCTION bor(int, int) RETURNS int LANGUAGE sql IMMUTABLE STRICT AS 'SELECT \$1 | \$2';
		CREATE DOMAIN money2 AS numeric(12,2);"
		  . table_sql($i, 'by_column', [ 'a int', 'b text', 'c numeric' ], $i % 2)
		  . table_sql($i, 'by_row', [ 'a int', 'b text', 'c numeric' ], !($i % 2))
		  . table_sql($i, 'stock', [ 'n int', 'm money2', 'hi text', 'lo int', 'tags int[]', 'attrs jsonb', 'f int', 'p text' ])
		  . table_sql($i, 'uniq', [ 'v int UNIQUE', 'w int' ])
		  . table_sql($i, 'cut', [ 'a int', 'b int' ], $i == 2)
		  . table_sql($i, 'span', [ 'low int', 'high int CONSTRAINT ordered CHECK (low <= high)', 'remark int' ], $i == 1)
		  . table_sql($i, 'parent', ['name int'])
		  . table_sql($i, 'child', [ 'parent int REFERENCES parent ON DELETE CASCADE', 'v int' ], $i == 2)
		  . "SELECT ferry.add_table(t::regclass) FROM unnest('{by_column,stock,uniq,cut,span,parent,child}'::text[]) t;
		SELECT ferry.add_table('by_row', merge => 'row');
		ALTER TABLE by_column ALTER b SET STORAGE EXTERNAL; ALTER TABLE by_row ALTER b SET STORAGE EXTERNAL;
		CREATE TABLE bulk (id int PRIMARY KEY, v int); SELECT ferry.add_table('bulk')");
	for my $leaf ($node[$i]->safe_psql('postgres', "SELECT relid FROM pg_partition_tree('by_column') UNION ALL SELECT relid FROM pg_partition_tree('by_row')") =~ /(\S+)/g)
	{
		$node[$i]->safe_psql('postgres', "ALTER TABLE $leaf ALTER b SET STORAGE EXTERNAL");
	}
}

sub connect_to
{
	my ($i) = @_;
	return $dbh[$i] if $dbh[$i] && $dbh[$i]->ping;
	my $host = $node[$i]->host;
	my $port = $node[$i]->port;
	$dbh[$i] = DBI->connect("dbi:Pg:dbname=postgres;host=$host;port=$port",
		scalar(getpwuid($<)), '', { RaiseError => 1, PrintError => 0, AutoCommit => 1, pg_server_prepare => 0 });
	return $dbh[$i];
}

# --- what was written ---

my %history;	# {table}{key} = list of writes
my @truncates;	# { hlc, node, vv, status } of table cut
my %reborn;		# keys of stock born where nothing was held of them any more
my %count = (ok => 0, failed => 0, unknown => 0, noop => 0);
my $unique = 0;
my $json = JSON::PP->new->allow_nonref;

sub write_of
{
	my ($dot, $alive, $cols) = @_;
	my ($hlc, $by) = ref $dot ? @$dot : split /@/, $dot;
	return { hlc => $hlc, node => $by, alive => $alive, cols => $cols };
}

sub state_of
{
	my ($d, $t, $key) = @_;
	my ($text) = $d->selectrow_array("SELECT ferry.state('$t', ?::jsonb)", undef, "{\"id\": $key}");
	return defined $text ? $json->decode($text) : undef;
}

# rows that every node makes before it knows of any other
for my $i (0 .. $#node)
{
	for my $t (qw(by_column by_row))
	{
		my $dot = $node[$i]->safe_psql('postgres',
			"INSERT INTO $t (id, a, b, c) VALUES ($n_keys, $i, 'first$i', $i) RETURNING ferry.version_dot(_ferry)");
		my $w = write_of($dot, 1, { a => $i, b => "first$i", c => $i });
		$w->{status} = 'ok';
		push @{ $history{$t}{$n_keys} }, $w;
	}
}
for my $i (0 .. $#node)
{
	ferry_link($node[$i], $node[$_], "n$_", forward => $shape eq 'mesh' ? 'local' : 'all') for peers_of($i);
}
$node[0]->safe_psql('postgres', "SELECT ferry.set_merge('stock', '$_', '$strategy{$_}')") for sort keys %strategy;
$node[0]->safe_psql('postgres', "SELECT ferry.set_orphans('child', '$orphans')");
for my $n (@node)
{
	$n->poll_query_until('postgres', "SELECT count(*) = 7 FROM ferry.columns WHERE strategy <> 'lww'") or die 'strategies do not arrive';
	$n->poll_query_until('postgres', "SELECT orphans = '$orphans' FROM ferry.foreign_keys") or die 'the policy of orphans does not arrive';
}

# --- writes: each returns what it wrote as ([table, key, write], ...), nothing if it found nothing to do ---

sub random_key { return 1 + int(rand($n_keys)); }

sub dead
{
	my ($d, $t, $key) = @_;
	return [ $t, $key, write_of(state_of($d, $t, $key)->{last}, 0, {}) ];
}

# one register table: insert, update, delete
sub write_register
{
	my ($d, $t, $key) = @_;
	my $kind = rand();
	my $v = ++$unique;
	my $text = rand() < 0.2 ? "$v:" . 'x' x 2500 : $v;	# some are out of line
	if ($kind < 0.35)
	{
		my ($dot) = $d->selectrow_array(
			"INSERT INTO $t (id, a, b, c) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING ferry.version_dot(_ferry)",
			undef, $key, $v, "i$text", $v);
		return defined $dot ? [ $t, $key, write_of($dot, 1, { a => $v, b => "i$text", c => $v }) ] : ();
	}
	if ($kind < 0.80)
	{
		my $col = (qw(a b c))[ int(rand(3)) ];
		my $val = $col eq 'b' ? "u$text" : $v;
		my $row = $d->selectrow_hashref(
			"UPDATE $t SET $col = ? WHERE id = ? RETURNING a, b, c, ferry.version_dot(_ferry) AS dot", undef, $val, $key);
		return if !$row;
		return [ $t, $key, write_of($row->{dot}, 1,
			$t eq 'by_row' ? { map { $_ => $row->{$_} } qw(a b c) } : { $col => $val }) ];
	}
	return $d->do("DELETE FROM $t WHERE id = ?", undef, $key) > 0 ? dead($d, $t, $key) : ();
}

# a row gets another key: a death and a birth
sub change_key
{
	my ($d, $t, $from, $to) = @_;
	my $row = $d->selectrow_hashref(
		"UPDATE $t SET id = ? WHERE id = ? AND NOT EXISTS (SELECT FROM $t WHERE id = ?) RETURNING a, b, c, ferry.version_dot(_ferry) AS dot",
		undef, $to, $from, $to);
	return if !$row;
	return (dead($d, $t, $from), [ $t, $to, write_of($row->{dot}, 1, { map { $_ => $row->{$_} } qw(a b c) }) ]);
}

# two rows exchange their keys
sub swap_keys
{
	my ($d, $t, $x, $y) = @_;
	return if $x == $y;
	my @first = change_key($d, $t, $x, -$x) or return;
	return (@first, change_key($d, $t, $y, $x), change_key($d, $t, -$x, $y));
}

sub write_registers
{
	my ($d) = @_;
	my $t = (qw(by_column by_row))[ int(rand(2)) ];
	my $kind = rand();
	my @done;
	if (rand() < 0.1)
	{
		# what is rolled back leaves nothing behind
		$d->do('SAVEPOINT s');
		write_register($d, $t, random_key()) for 1, 2;
		swap_keys($d, $t, random_key(), random_key());
		$d->do('ROLLBACK TO s');
	}
	return change_key($d, $t, random_key(), random_key()) if $kind < 0.08;
	return swap_keys($d, $t, random_key(), random_key()) if $kind < 0.12;
	if ($kind < 0.2)
	{
		# several rows, and one of them more than once
		my @keys = (random_key(), random_key());
		push @done, write_register($d, $t, $_) for @keys, $keys[0];
		$d->do('SAVEPOINT t');
		push @done, write_register($d, $t, $keys[1]);
		return @done;
	}
	return write_register($d, $t, random_key());
}

# columns that merge: keys 1 to 3 are never deleted, 4 to 6 are
sub write_stock
{
	my ($d) = @_;
	my $key = 1 + int(rand(6));
	my @all = @{ $columns{stock} };
	# nothing comes in between the look at the row and its write
	$d->do('LOCK TABLE stock IN SHARE ROW EXCLUSIVE MODE');
	my $before = state_of($d, 'stock', $key);
	my $old = $before ? $before->{row} : {};
	my (@cols, %wanted, $changed);
	if (!$before || !$before->{alive})
	{
		$reborn{$key} = 1 if !$before && $history{stock}{$key} && $prune eq '0';
		@cols = @all;
		$wanted{$_} = model_random_value($_, $old) for @cols;
		$changed = $d->do('INSERT INTO stock (id, ' . join(', ', @all) . ') VALUES (?' . ', ?' x @all . ')', undef, $key, @wanted{@all});
	}
	elsif ($key <= 3 || rand() < 0.85)
	{
		@cols = grep { rand() < 0.4 } @all;
		@cols = ('n') if !@cols;
		$wanted{$_} = model_random_value($_, $old) for @cols;
		$changed = $d->do('UPDATE stock SET ' . join(', ', map { /^[nm]$/ ? "$_ = $_ + ?" : "$_ = ?" } @cols) . ' WHERE id = ?',
			undef, @wanted{@cols}, $key);
	}
	else { $changed = $d->do('DELETE FROM stock WHERE id = ?', undef, $key); }
	return if $changed < 1;
	my $after = state_of($d, 'stock', $key);
	my $w = write_of($after->{last}, $after->{alive} ? 1 : 0);
	$w->{seen} = $before ? $before->{vv} : {};
	$w->{$_} = $wanted{$_} for grep { /^(hi|lo|f|p)$/ } @cols;
	model_difference($w, $old, $after->{row}, !$before || !$before->{alive}, \@cols);
	return [ 'stock', $key, $w ];
}

# few values for many rows, under a unique constraint
sub write_uniq
{
	my ($d) = @_;
	my $key = random_key();
	my $kind = rand();
	my $v = rand() < 0.1 ? undef : 1 + int(rand($n_keys));
	my $w = ++$unique;
	if ($kind < 0.35)
	{
		my ($dot) = $d->selectrow_array(
			'INSERT INTO uniq (id, v, w) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING ferry.version_dot(_ferry)', undef, $key, $v, $w);
		return defined $dot ? [ 'uniq', $key, write_of($dot, 1, { v => $v, w => $w }) ] : ();
	}
	if ($kind < 0.75)
	{
		my ($col, $val) = $kind < 0.6 ? ('v', $v) : ('w', $w);
		$d->do('SAVEPOINT u');
		my ($dot) = eval { $d->selectrow_array("UPDATE uniq SET $col = ? WHERE id = ? AND $col IS DISTINCT FROM ? RETURNING ferry.version_dot(_ferry)", undef, $val, $key, $val) };
		$d->do('ROLLBACK TO u') if $@;
		return defined $dot ? [ 'uniq', $key, write_of($dot, 1, { $col => $val }) ] : ();
	}
	if ($kind < 0.88)
	{
		# two rows exchange their values, which clashes on the way
		my @rows = @{ $d->selectall_arrayref('SELECT id, v FROM uniq WHERE v IS NOT NULL ORDER BY random() LIMIT 2 FOR UPDATE') };
		return if @rows < 2;
		my @done;
		for my $step ([ 0, undef ], [ 1, $rows[0][1] ], [ 0, $rows[1][1] ])
		{
			my ($dot) = $d->selectrow_array('UPDATE uniq SET v = ? WHERE id = ? RETURNING ferry.version_dot(_ferry)', undef, $step->[1], $rows[ $step->[0] ][0]);
			push @done, [ 'uniq', $rows[ $step->[0] ][0], write_of($dot, 1, { v => $step->[1] }) ];
		}
		return @done;
	}
	return $d->do('DELETE FROM uniq WHERE id = ?', undef, $key) > 0 ? dead($d, 'uniq', $key) : ();
}

# a table that is truncated now and then
sub write_cut
{
	my ($d) = @_;
	my $key = random_key();
	my $kind = rand();
	my $v = ++$unique;
	if ($kind < 0.4)
	{
		my ($dot) = $d->selectrow_array(
			'INSERT INTO cut (id, a, b) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING ferry.version_dot(_ferry)', undef, $key, $v, $v);
		return defined $dot ? [ 'cut', $key, write_of($dot, 1, { a => $v, b => $v }) ] : ();
	}
	if ($kind < 0.8)
	{
		my $col = (qw(a b))[ int(rand(2)) ];
		my $row = $d->selectrow_hashref("UPDATE cut SET $col = ? WHERE id = ? RETURNING a, b, ferry.version_dot(_ferry) AS dot", undef, $v, $key);
		return $row ? [ 'cut', $key, write_of($row->{dot}, 1, { $col => $v }) ] : ();
	}
	if ($kind < 0.93)
	{
		return $d->do('DELETE FROM cut WHERE id = ?', undef, $key) > 0 ? dead($d, 'cut', $key) : ();
	}
	$d->do('TRUNCATE cut');
	my ($text) = $d->selectrow_array("SELECT version::text FROM ferry.range_tombstone WHERE relid = 'cut'::regclass ORDER BY version DESC LIMIT 1");
	my ($dot) = $text =~ /^(\d+\@\d+)/;
	my $w = write_of($dot, 0);
	$w->{vv} = { $text =~ /vv\{/ ? map { split /:/ } split(/,/, ($text =~ /vv\{([^}]*)\}/)[0]) : (), $w->{node} => $w->{hlc} };
	return [ 'cut', undef, $w ];
}

# a CHECK ties two columns; what is written fits where it is written
sub write_span
{
	my ($d) = @_;
	my $key = 1 + int(rand(4));
	my $kind = rand();
	my $v = int(rand(20));
	my $w = ++$unique;
	if ($kind < 0.15)
	{
		my $high = $v + int(rand(20));
		my ($dot) = $d->selectrow_array(
			'INSERT INTO span (id, low, high, remark) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING ferry.version_dot(_ferry)',
			undef, $key, $v, $high, $w);
		return defined $dot ? [ 'span', $key, write_of($dot, 1, { low => $v, high => $high, remark => $w }) ] : ();
	}
	return $d->do('DELETE FROM span WHERE id = ?', undef, $key) > 0 ? dead($d, 'span', $key) : () if $kind > 0.95;

	# as far as it goes, or not
	my $near = $v % 3;
	my ($col, $to, $fits) = @{
		([ 'low', "high - $near", 'true' ], [ 'high', "low + $near", 'true' ], [ 'low', $v, "$v <= high" ], [ 'high', $v + 10, "low <= $v + 10" ],
		 [ 'remark', $w, 'true' ])[ int(rand(5)) ] };
	my ($dot, $val) = $d->selectrow_array("UPDATE span SET $col = $to WHERE id = ? AND $col <> $to AND $fits RETURNING ferry.version_dot(_ferry), $col",
		undef, $key);
	return defined $dot ? [ 'span', $key, write_of($dot, 1, { $col => $val }) ] : ();
}

# parents that die with the children that are known, and children
sub write_family
{
	my ($d) = @_;
	my ($parent, $child) = (1 + int(rand(5)), random_key());
	my $kind = rand();
	my $v = ++$unique;
	my $returning = 'RETURNING ferry.version_dot(_ferry)';
	my ($dot, $w);
	if ($kind < 0.2)
	{
		($dot) = $d->selectrow_array("INSERT INTO parent (id, name) VALUES (?, ?) ON CONFLICT DO NOTHING $returning", undef, $parent, $v);
		return defined $dot ? [ 'parent', $parent, write_of($dot, 1, { name => $v }) ] : ();
	}
	if ($kind < 0.28)
	{
		($dot) = $d->selectrow_array("UPDATE parent SET name = ? WHERE id = ? $returning", undef, $v, $parent);
		return defined $dot ? [ 'parent', $parent, write_of($dot, 1, { name => $v }) ] : ();
	}
	if ($kind < 0.4)
	{
		# no child comes in between the look and the cascade
		$d->do('LOCK TABLE child IN SHARE ROW EXCLUSIVE MODE');
		my @children = map { $_->[0] } @{ $d->selectall_arrayref('SELECT id FROM child WHERE parent = ?', undef, $parent) };
		return if $d->do('DELETE FROM parent WHERE id = ?', undef, $parent) < 1;
		return (dead($d, 'parent', $parent), map { dead($d, 'child', $_) } @children);
	}
	if ($kind < 0.7)
	{
		($dot) = $d->selectrow_array("INSERT INTO child (id, parent, v) SELECT ?, id, ? FROM parent WHERE id = ? ON CONFLICT DO NOTHING $returning",
			undef, $child, $v, $parent);
		return defined $dot ? [ 'child', $child, write_of($dot, 1, { parent => $parent, v => $v }) ] : ();
	}
	if ($kind < 0.82)
	{
		($dot) = $d->selectrow_array("UPDATE child SET v = ? WHERE id = ? $returning", undef, $v, $child);
		return defined $dot ? [ 'child', $child, write_of($dot, 1, { v => $v }) ] : ();
	}
	if ($kind < 0.92)
	{
		($dot) = $d->selectrow_array('UPDATE child SET parent = p.id FROM parent p WHERE p.id = ? AND child.id = ? AND child.parent <> p.id
			RETURNING ferry.version_dot(child._ferry)', undef, $parent, $child);
		return defined $dot ? [ 'child', $child, write_of($dot, 1, { parent => $parent }) ] : ();
	}
	return $d->do('DELETE FROM child WHERE id = ?', undef, $child) > 0 ? dead($d, 'child', $child) : ();
}

# --- one transaction ---

sub one_write
{
	my ($wanted) = @_;
	my $i = int(rand(@node));
	my $d = eval { connect_to($i) };
	my $kind = rand();
	my @done;
	if (!$d)
	{
		note "no connection: $@" unless $count{failed};
		$count{failed}++;
		return;
	}
	my $body = $wanted // ($kind < 0.35 ? \&write_registers : $kind < 0.52 ? \&write_stock : $kind < 0.66 ? \&write_uniq
	  : $kind < 0.79 ? \&write_cut : $kind < 0.88 ? \&write_span : \&write_family);
	if (!eval { $d->begin_work; @done = $body->($d); 1 })
	{
		note "failure: $@" if !$count{failed} || $@ !~ /server closed|connection|terminat|unique|foreign key|deadlock|recovery|startup|shutting/;
		$count{failed}++;
		eval { $d->rollback };
		$dbh[$i] = undef if !eval { $d->ping };
		return;
	}
	if (!@done || rand() < 0.02)
	{
		eval { $d->rollback };
		return $count{noop}++;
	}
	my $status = eval { $d->commit; 1 } ? 'ok' : 'unknown';
	$count{$status}++;
	$dbh[$i] = undef if $status ne 'ok';
	for my $w (@done)
	{
		$w->[2]{status} = $status;
		if (defined $w->[1]) { push @{ $history{ $w->[0] }{ $w->[1] } }, $w->[2]; }
		else { push @truncates, $w->[2]; }
	}
	return;
}

# --- chaos ---

my %paused;
my $retries_seen = 0;

sub start_again
{
	my ($i) = @_;
	$clock[$i] = int(rand(3600)) - 1800 if rand() < 0.5;	# set forward, set back
	with_clock($i, sub { $node[$i]->start });
	$dbh[$i] = undef;
	return;
}

sub pause_or_resume
{
	my $i = int(rand(@node));
	my @p = peers_of($i);
	my $j = $p[ int(rand(@p)) ];
	my $what = $paused{"$i-$j"} ? 'resume' : 'pause';
	$node[$i]->safe_psql('postgres', "SELECT ferry.${what}_peer('n$j')");
	$paused{"$i-$j"} = !$paused{"$i-$j"};
	return;
}

# a node is away: some running peer of it says that it tries again
sub see_retries
{
	my ($i) = @_;
	for my $j (peers_of($i))
	{
		next if $paused{"$j-$i"};
		$retries_seen = 1 if $node[$j]->poll_query_until('postgres',
			"SELECT bool_or(failures > 0) FROM ferry.lag WHERE peer = 'n$i'");
		return;
	}
	return;
}

# a psql that is refused may be gone before it has read the question
sub comes_back
{
	my ($i, $query) = @_;
	for (1 .. 20) { last if eval { $node[$i]->poll_query_until('postgres', $query) }; }
	$dbh[$i] = undef;
	return;
}

sub crash
{
	my $i = int(rand(@node));
	if (rand() < 0.5)
	{
		# one of ferry's own processes, or a walsender
		my $pid = $node[$i]->safe_psql('postgres', q{
			SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'ferry%' OR backend_type = 'walsender'
			ORDER BY random() LIMIT 1});
		note "kill -9 of a worker of n$i";
		kill 'KILL', $pid if $pid;
		# the postmaster restarts everything
		comes_back($i, 'SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = ' . ($pid || 0) . ')');
	}
	else
	{
		note "immediate stop of n$i";
		$node[$i]->stop('immediate');
		# the others go on writing while it is away
		for (1 .. 60) { one_write(); }
		see_retries($i);
		start_again($i);
	}
	return;
}

# kill -9 of a link's worker while its transaction has written something
my $bulk_rows = 0;
my $crashed_in_batch = 0;

sub crash_in_batch
{
	my $killed = 0;
	my $i = int(rand(@node));
	my @p = peers_of($i);
	my $j = $p[ int(rand(@p)) ];
	$node[$i]->safe_psql('postgres', "SELECT ferry.pause_peer('n$j')") if !$paused{"$i-$j"};
	$node[$j]->safe_psql('postgres', "INSERT INTO bulk SELECT i, 1 FROM generate_series($bulk_rows + 1, $bulk_rows + 20000) i");
	$bulk_rows += 20000;
	my $d = connect_to($i);
	my $find = $d->prepare(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'ferry link' AND backend_xid IS NOT NULL AND application_name = ?});
	$d->do("SELECT ferry.resume_peer('n$j')");
	$paused{"$i-$j"} = 0;
	my $end = time + 60;
	while (time < $end && !$d->selectrow_array('SELECT EXISTS (SELECT FROM bulk WHERE id = ?)', undef, $bulk_rows))
	{
		my ($pid) = $d->selectrow_array($find, undef, "ferry link from n$j");
		next if !$pid;
		note "kill -9 of the worker of n$i in mid-batch";
		kill 'KILL', $pid;
		$killed = $pid;
		$crashed_in_batch++;
		last;
	}
	# the postmaster may not have noticed yet
	comes_back($i, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $killed)");
	return;
}

# --- states that somebody keeps, and merges somewhere much later ---

my @kept;
my $kept_merged = 0;

sub keep
{
	my ($table, $state) = @_;
	$kept[ @kept < 300 ? scalar(@kept) : int(rand(@kept)) ] = [ $table, $state ];
	return;
}

sub keep_state
{
	my $d = eval { connect_to(int(rand(@node))) } or return;
	my $t = (qw(by_column by_row stock uniq cut span parent child))[ int(rand(8)) ];
	my ($state) = eval { $d->selectrow_array("SELECT ferry.state('$t', ?::jsonb)", undef, '{"id": ' . random_key() . '}') };
	keep($t, $state) if defined $state;
	return;
}

# some of all that a node has got since some moment
my @tokens;

sub keep_changes
{
	my $d = eval { connect_to(int(rand(@node))) } or return;
	eval {
		my $since = @tokens ? $tokens[ int(rand(@tokens)) ] : undef;
		$since =~ s/,?\+.*// if defined $since;
		push @tokens, $d->selectrow_array('SELECT ferry.token()');
		keep($_->[0], $_->[1]) for @{ $d->selectall_arrayref('SELECT rel, state FROM ferry.changes(?) ORDER BY random() LIMIT 20', undef, $since) };
		1;
	} or note "changes: $@";
	return;
}

sub merge_kept
{
	my ($n) = @_;
	my $d = eval { connect_to(int(rand(@node))) } or return;
	for my $k ((shuffle(@kept))[ 0 .. $n - 1 ])
	{
		next if !$k;
		if (eval { $d->selectrow_array('SELECT ferry.merge(?::regclass, ?)', undef, @$k); 1 }) { $kept_merged++; }
		else
		{
			note "merge: $@" if $@ !~ /server closed|connection|terminat|deadlock|recovery|startup|shutting/;
			return;
		}
	}
	return;
}

# --- go ---

my @crash_at = sort { $a <=> $b } map { int(rand($n_ops)) } 1 .. $n_crashes;
for my $op (1 .. $n_ops)
{
	one_write();
	pause_or_resume() if rand() < 0.01;
	keep_state() if rand() < 0.03;
	keep_changes() if rand() < 0.004;
	merge_kept(1) if rand() < 0.02;
	merge_kept(20) if rand() < 0.003;
	while (@crash_at && $crash_at[0] <= $op) { shift @crash_at; crash(); }
}
# what is rare where everybody soon knows all
for my $i (0 .. $#node)
{
	for my $j (grep { !$paused{"$i-$_"} } peers_of($i))
	{
		$node[$i]->safe_psql('postgres', "SELECT ferry.pause_peer('n$j')");
		$node[$i]->poll_query_until('postgres', "SELECT pid IS NULL FROM ferry.lag WHERE peer = 'n$j'");
		$paused{"$i-$j"} = 1;
	}
}
one_write(\&write_span) for 1 .. $n_ops / 30;
one_write(\&write_family) for 1 .. $n_ops / 15;

cmp_ok($count{ok}, '>', $n_ops / 3, 'most writes were acknowledged');
note "writes: " . join(', ', map { "$_ $count{$_}" } sort keys %count) . ', truncates ' . scalar(@truncates);

for my $pair (grep { $paused{$_} } keys %paused)
{
	my ($i, $j) = split /-/, $pair;
	$node[$i]->safe_psql('postgres', "SELECT ferry.resume_peer('n$j')");
}
%paused = ();
for (1 .. 3) { last if !$n_crashes || $crashed_in_batch; crash_in_batch(); }
$_ && $_->disconnect for @dbh;
@dbh = ();
if ($n_crashes && !$retries_seen)
{
	$node[0]->stop('immediate');
	see_retries(0);
	start_again(0);
}

# as many rounds as the chain is long, so that forwarded changes arrive too
sub settle
{
	my $ok = 1;
	for my $round (0 .. $n_nodes)
	{
		for my $n (@node) { $ok &&= $n->safe_psql('postgres', "SELECT ferry.wait_for_peers('120 s')") eq 't'; }
	}
	return $ok;
}
ok(settle(), 'every node holds what the others committed');

# all that a node holds, by table and key: what everybody must hold alike.  Of a
# version vector everybody keeps what he has not forgotten yet.
sub content
{
	my ($i) = @_;
	my %held;
	for my $t (keys %columns)
	{
		my %keys = map { $_ => 1 } keys %{ $history{$t} }, split /\n/, $node[$i]->safe_psql('postgres', "SELECT id FROM $t");
		my $list = join(',', sort { $a <=> $b } keys %keys);
		for my $line (split /\n/, $node[$i]->safe_psql('postgres', qq{
			SELECT id || '=' || (s - 'vv' - 'horizon' - 'pruned') FROM unnest('{$list}'::int[]) id,
				LATERAL ferry.state('$t', jsonb_build_object('id', id)) s ORDER BY id}))
		{
			my ($id, $state) = split /=/, $line, 2;
			# a tombstone goes sooner here and later there, or was left by a TRUNCATE
			my $dead = $state =~ /"alive": false/;
			next if $dead && ($prune eq '0' || $t eq 'cut');
			# and so does what says that a key was removed from a map
			$state =~ s/"removed": \{[^}]*\}/"removed": .../g if $prune eq '0';
			$held{"$t $id"} = $state;
		}
		$held{"$t rows"} = $node[$i]->safe_psql('postgres', "SELECT string_agg(id::text, ' ' ORDER BY id) FROM $t");
	}
	return \%held;
}

sub differences
{
	my @c = map { content($_) } 0 .. $#node;
	my @found;
	for my $what (sort keys %{ { map { %$_ } @c } })
	{
		my @v = map { $_->{$what} // '(nothing)' } @c;
		push @found, "$what:\n" . join('', map { "    n$_: " . substr($v[$_], 0, 1500) . "\n" } 0 .. $#v) if grep { $_ ne $v[0] } @v;
	}
	return @found;
}

# a death that resolves a clash is a write of its own, which travels after what it
# resolves, and so is what is done for an orphan, once its parent's death is judged
sub same_everywhere
{
	my ($what) = @_;
	my @found;
	my $end = time + 60;
	for (1 .. 3)
	{
		$_->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM ferry.orphan_note)') or last for @node;
		settle() or last;
	}
	do { @found = differences(); usleep(200_000) if @found; } while (@found && time < $end);
	is(scalar(@found), 0, "$what: all nodes hold the same, versions included");
	diag join('', @found[ 0 .. ($#found > 5 ? 5 : $#found) ]) if @found;
	return;
}
same_everywhere('settled');

# when all is known everywhere, no tombstone is left; and what was kept is old news
if ($prune eq '0' && $n_nodes > 1)
{
	my $swept = 1;
	for my $n (@node)
	{
		my @tombs = split /\n/, $n->safe_psql('postgres',
			'SELECT tombstones FROM ferry.tables');
		$swept &&= $n->poll_query_until('postgres',
			'SELECT NOT EXISTS (SELECT FROM ' . join(' UNION ALL SELECT FROM ', @tombs, 'ferry.range_tombstone') . ')');
	}
	ok($swept, 'once every node has them, no tombstone is left') or diag map {
		join("\n", $_->name, $_->safe_psql('postgres', 'SELECT node_id, name, is_dropped, holds_back_horizon, lacks_writes_of FROM ferry.nodes;
			SELECT * FROM ferry.horizon; SELECT * FROM ferry.holding; SELECT count(*) FROM ferry.quarantined; SELECT count(*) FROM ferry.own_write;
			SELECT * FROM ferry.range_tombstone; SELECT peer, state, last_error FROM ferry.lag; SELECT clock_timestamp()'), '') } @node;
}
merge_kept(100) for 1 .. 3;
cmp_ok($kept_merged, '>', $n_ops / 200, 'states that were kept were merged again');
settle();
same_everywhere('after what was kept');

# --- judge ---

sub is_latest { my ($x, @w) = @_; return !grep { $_->{hlc} > $x->{hlc} || ($_->{hlc} == $x->{hlc} && $_->{node} > $x->{node}) } @w; }
sub covers { my ($t, $w) = @_; return ($t->{vv}{ $w->{node} } // 0) >= $w->{hlc}; }

my %rows;	# {table}{key} = values as the model writes them
my %clash_key;	# keys of which a clash is on record
for my $t (keys %columns)
{
	next if $t eq 'stock';
	my @c = @{ $columns{$t} };
	my $values = join(", '|', ", map { "coalesce($_\::text, 'NULL')" } @c);
	for (split /\n/, $node[0]->safe_psql('postgres', "SELECT id || '=' || concat($values) FROM $t")) { /^(-?\d+)=(.*)$/s and $rows{$t}{$1} = $2; }
}
for my $n (@node)
{
	$clash_key{$_} = 1 for split /\n/, $n->safe_psql('postgres', "SELECT DISTINCT key->>'id' FROM ferry.conflicts WHERE kind = 'unique_key'");
}

my %wrong;
sub judge
{
	my ($t, $key, $holds, $allowed) = @_;
	return if $allowed->{$holds};
	$wrong{$t}++;
	diag substr("$t key $key holds '$holds'; the model allows '" . join("' or '", sort keys %$allowed) . "'", 0, 3000);
	return;
}
for my $t (qw(by_column by_row))
{
	judge($t, $_, $rows{$t}{$_} // '', model_possible(sub { model_register($columns{$t}, @_) }, @{ $history{$t}{$_} // [] }))
	  for keys %{ { %{ $history{$t} }, %{ $rows{$t} // {} } } };
	is($wrong{$t} // 0, 0, "$t: every row is what the model says");
}

my $judged = 0;
for my $key (1 .. 6)
{
	next if $reborn{$key};
	my $allowed = model_possible(\&model_strategies, @{ $history{stock}{$key} // [] });
	my $holds = model_held(state_of(connect_to(0), 'stock', $key));
	# a tombstone that is gone says no more than that
	$allowed = { map { (/^dead/ ? '' : $_) => 1 } keys %$allowed } if $prune eq '0';
	judge('stock', $key, $prune eq '0' && $holds =~ /^dead/ ? '' : $holds, $allowed);
	$judged++;
}
is($wrong{stock} // 0, 0, "stock: each of $judged rows is what the model says");

# who lost a clash is dead, or was made again since; who lives has what was written last
for my $key (keys %{ { %{ $history{uniq} // {} }, %{ $rows{uniq} // {} } } })
{
	my @w = @{ $history{uniq}{$key} // [] };
	my $holds = $rows{uniq}{$key} // '';
	my $allowed = model_possible(sub { model_register($columns{uniq}, @_) }, @w);
	if ($clash_key{$key})
	{
		$allowed->{''} = 1;
		# a death by a clash may hide a deletion, never what the columns hold
		$allowed = { %$allowed, %{ model_possible(sub { model_register($columns{uniq}, map { { %$_, alive => 1 } } @_) }, @w) } };
	}
	judge('uniq', $key, $holds, $allowed);
}
is($wrong{uniq} // 0, 0, 'uniq: every row is what the model says, or has lost a clash that is on record');
is($node[0]->safe_psql('postgres', 'SELECT count(*) FROM (SELECT v FROM uniq WHERE v IS NOT NULL GROUP BY v HAVING count(*) > 1) x'), '0', 'uniq: no value twice');

# what the model says, unless one side's values were taken for both, on record
my %resolved;
my (%revived, %removed);
for my $n (@node)
{
	$resolved{$_} = 1 for split /\n/, $n->safe_psql('postgres', "SELECT DISTINCT key->>'id' FROM ferry.conflicts WHERE kind = 'check' AND relation = 'public.span'");
	for (split /\n/, $n->safe_psql('postgres', q{
		SELECT DISTINCT rule, key->>'id', coalesce(local_row, remote_row)->>'parent' FROM ferry.conflicts WHERE kind = 'foreign_key'}))
	{
		my ($rule, $child, $parent) = split /\|/;
		if ($rule eq 'revive_parent') { $revived{$parent} = 1; }
		elsif ($rule eq 'remove_child') { $removed{$child} = 1; }
	}
}

sub alive_all_along { return map { { %$_, alive => 1 } } @_; }

for my $key (keys %{ { %{ $history{span} // {} }, %{ $rows{span} // {} } } })
{
	my @w = @{ $history{span}{$key} // [] };
	my $holds = $rows{span}{$key} // '';
	my $allowed = model_possible(sub { model_register($columns{span}, @_) }, @w);
	if (!$resolved{$key} || $holds eq '') { judge('span', $key, $holds, $allowed); next; }

	# a resolution is a write: it may hide a deletion, never what no constraint ties
	my ($low, $high, $remark) = split /\|/, $holds;
	judge('span', $key, $remark, model_possible(sub { model_register(['remark'], alive_all_along(@_)) }, @w));
	for ([ 'low', $low ], [ 'high', $high ])
	{
		my ($col, $v) = @$_;
		judge('span', "$key ($col)", $v, { map { ($_->{cols}{$col} // '') => 1 } @w });
	}
}
is($wrong{span} // 0, 0, 'span: every row is what the model says, or what a CHECK made of it, on record');

for my $t (qw(parent child))
{
	for my $key (keys %{ { %{ $history{$t} // {} }, %{ $rows{$t} // {} } } })
	{
		my @w = @{ $history{$t}{$key} // [] };
		my $allowed = model_possible(sub { model_register($columns{$t}, @_) }, @w);
		$allowed = { %$allowed, %{ model_possible(sub { model_register($columns{$t}, alive_all_along(@_)) }, @w) } } if $t eq 'parent' && $revived{$key};
		$allowed->{''} = 1 if $t eq 'child' && $removed{$key};
		judge($t, $key, $rows{$t}{$key} // '', $allowed);
	}
	is($wrong{$t} // 0, 0, "$t: every row is what the model says, or what became of an orphan, on record");
}
for my $i (0 .. $#node)
{
	is($node[$i]->safe_psql('postgres', 'SELECT count(*) FROM span WHERE low > high'), '0', "n$i: span fulfils its CHECK");
	is($node[$i]->safe_psql('postgres', 'SELECT relation, key, missing FROM ferry.orphans()'), '', "n$i: no orphan");
	ok($node[$i]->poll_query_until('postgres', q{SELECT bool_and(state = 'streaming') FROM ferry.lag}), "n$i: all links stream");
}

# covered by one TRUNCATE: dead; by none: as elsewhere; in part: at least what was written last, if nothing covers it
my ($covered, $in_part) = (0, 0);
for my $key (keys %{ { %{ $history{cut} // {} }, %{ $rows{cut} // {} } } })
{
	my @w = @{ $history{cut}{$key} // [] };
	my $holds = $rows{cut}{$key} // '';
	my @touching = grep { my $t = $_; grep { covers($t, $_) } @w } @truncates;
	next if grep { $_->{status} eq 'unknown' } @touching, @w;
	my ($last) = grep { is_latest($_, @w) } @w;
	if (!@touching) { judge('cut', $key, $holds, model_possible(sub { model_register($columns{cut}, @_) }, @w)); }
	elsif (grep { my $t = $_; !grep { !covers($t, $_) } @w } @truncates)
	{
		$covered++;
		# unless a node had made it a successor of an earlier TRUNCATE meanwhile
		judge('cut', $key, $holds, { '' => 1 }) if @touching == 1;
	}
	elsif ($last->{alive} && !grep { covers($_, $last) } @touching)
	{
		$in_part++;
		my @v = split /\|/, $holds;
		my %v = map { $columns{cut}[$_] => $v[$_] } 0 .. $#v;
		my @lost = grep { ($v{$_} // '') ne $last->{cols}{$_} } keys %{ $last->{cols} };
		next if $holds ne '' && !@lost;
		$wrong{cut}++;
		diag "cut key $key holds '$holds'; its last write, which no TRUNCATE covers, set " . join(', ', map { "$_=$last->{cols}{$_}" } sort keys %{ $last->{cols} });
	}
}
is($wrong{cut} // 0, 0, "cut: every row is what the model says ($covered covered by a TRUNCATE, $in_part in part)");

for my $i (0 .. $#node)
{
	is($node[$i]->safe_psql('postgres', 'SELECT count(*) FROM bulk'), $bulk_rows, "n$i: every row of the bulk, none twice");
	is($node[$i]->safe_psql('postgres', 'SELECT count(*) FROM ferry.quarantine'), '0', "n$i: nothing stays in quarantine");
}

# verification comes to the same judgement
for my $i (0 .. $#node)
{
	is($node[$i]->safe_psql('postgres', 'SET client_min_messages = error; SELECT count(*), count(differing), sum(differing), count(error) FROM ferry.verify(deep => true)'),
		join('|', ((1 + keys %columns) * peers_of($i)) x 2, 0, 0), "n$i: verification compares every table with every peer, and finds nothing");
}

# --- was it interesting? ---

my %kinds;
for my $n (@node)
{
	$kinds{$_}++ for split /\n/, $n->safe_psql('postgres', 'SELECT DISTINCT kind FROM ferry.conflicts');
}
if ($n_ops >= 2000)
{
	ok($kinds{$_}, "there was a conflict of kind $_")
	  for qw(insert_insert update_update update_delete delete_update unique_key truncate check);
	note $kinds{foreign_key} ? "there was an orphan" : "there was no orphan";
}
ok($retries_seen || !$n_crashes, 'a peer that was away was retried');
ok($crashed_in_batch || !$n_crashes, 'a worker was killed in mid-batch');

if (!Test::More->builder->is_passing)
{
	diag $setup;
	for my $n (@node)
	{
		diag $n->name . ":\n" . $n->safe_psql('postgres', 'SELECT peer, state, last_error FROM ferry.lag') . "\n"
		  . $n->safe_psql('postgres', 'SELECT relation, key, error FROM ferry.quarantine LIMIT 5');
	}
}
$_ && $_->disconnect for @dbh;
$_->stop for @node;
done_testing();
