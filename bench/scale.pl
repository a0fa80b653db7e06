# What a row costs as things grow: nodes in one server, tables, rows of the table,
# writers of the row.  (bench/run scale)
#
# Cost is the processor time of receivers and senders per row that is applied, so
# that it does not hang on how many of them share the machine's cores.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use BenchMesh;
use Time::HiRes qw(time);

$| = 1;
my $rows = 10000 * $ENV{SCALE};
my $bulk = 'CREATE TABLE bulk (id bigint PRIMARY KEY, a int, b text, c numeric, d timestamptz)';
sub insert { my ($n, $table) = @_; return "INSERT INTO $table SELECT i, i, 'row ' || md5(i::text), i * 1.01, '2026-01-01'::timestamptz + i * interval '1 s' FROM generate_series(1, $n) i"; }

# processor time of links and senders while the work is carried, per row and receiver
sub cost
{
	my ($mesh, $n, $work, $only) = @_;
	$mesh->settle;
	my $before = $mesh->cpu_us($only);
	$work->();
	$mesh->settle;
	return ($mesh->cpu_us($only) - $before) / ($n * ($only ? 1 : $mesh->{n} - 1));
}

printf "%-40s %12s %14s %14s\n", '', 'us per row', 'insert', 'update';
for my $nodes (2 .. 8)
{
	my $mesh = BenchMesh->new($nodes, servers => 1);
	$mesh->make_tables($bulk);
	$mesh->link;
	my $insert = cost($mesh, $rows, sub { $mesh->dbh(1)->do(insert($rows, 'bulk')) });
	my $update = cost($mesh, $rows, sub { $mesh->dbh(1)->do('UPDATE bulk SET a = a + 1') });
	$mesh->check_equal;
	printf "%-53s %14.2f %14.2f\n", "$nodes nodes in one server", $insert, $update;
	$mesh->stop;
}
for my $tables (1, 10, 100, 1000)
{
	my $mesh = BenchMesh->new(2);
	$mesh->make_tables(map { $bulk =~ s/bulk/t$_/r } 1 .. $tables);
	$mesh->link;
	my $each = $rows / $tables;
	my $insert = cost($mesh, $rows, sub { $mesh->dbh(1)->do(insert($each, "t$_")) for 1 .. $tables });
	my $update = cost($mesh, $rows, sub { $mesh->dbh(1)->do("UPDATE t$_ SET a = a + 1") for 1 .. $tables });
	$mesh->check_equal;
	printf "%-53s %14.2f %14.2f\n", "$tables tables", $insert, $update;
	$mesh->stop;
}
for my $size (map { 10**$_ } 4 .. ($ENV{MAX_POWER} || 7))
{
	my $mesh = BenchMesh->new(2);
	$mesh->make_tables($bulk);
	$mesh->link;
	my $insert = cost($mesh, $size, sub { $mesh->dbh(1)->do(insert($size, 'bulk')) });
	my $n = $size < $rows ? $size : $rows;
	my $step = int($size / $n);
	my $update = cost($mesh, $n, sub { $mesh->dbh(1)->do("UPDATE bulk SET a = a + 1 WHERE id % $step = 0") });
	$mesh->check_equal;
	printf "%-53s %14.2f %14.2f\n", "a table of 10^" . int(log($size) / log(10) + 0.5) . " rows", $insert, $update;
	$mesh->stop;
}

# one after the other, all write each row; then it is updated once more on the first, and
# what the second pays for that is counted.  Those two have servers of their own.
my $mesh = BenchMesh->new(10, servers => 3, place => sub { $_[0] < 3 ? $_[0] - 1 : 2 });
$mesh->make_tables($bulk);
$mesh->link(star => 1);
$mesh->dbh(1)->do(insert($rows, 'bulk'));
$mesh->settle;
for my $writers (1 .. 10)
{
	$mesh->dbh($writers)->do("UPDATE bulk SET b = 'by $writers'");
	my $update = cost($mesh, $rows, sub { $mesh->dbh(1)->do('UPDATE bulk SET a = a + 1') }, 2);
	my ($bytes) = $mesh->dbh(2)->selectrow_array('SELECT avg(pg_column_size(_ferry)) FROM bulk');
	printf "%-53s %14s %14.2f   %.0f bytes of metadata a row\n", "$writers writers of each row", '', $update, $bytes;
}
$mesh->check_equal;
$mesh->stop;
