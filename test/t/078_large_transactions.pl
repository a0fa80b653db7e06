# Rows that pass on a unique value in one transaction, any number of them, take no
# memory at the receiver.  AFTER triggers there fire as the rows are merged, and run
# as the table's owner.  A row that raises does not make millions of subtransactions
# of the others.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use PostgreSQL::Test::Utils;
use Test::More;
use FerryNodes;

my $rows = 60000;
my %node = map { $_ => ferry_cluster($_, "work_mem = 64kB\nautovacuum = off\n") } qw(a b);
sub one { my ($n, $sql) = @_; return $node{$n}->safe_psql('postgres', $sql); }
for my $n (sort keys %node)
{
	ferry_node($node{$n}, $n);
	one($n, "CREATE TABLE ticket (id int PRIMARY KEY, seat int CONSTRAINT seat UNIQUE DEFERRABLE INITIALLY DEFERRED); SELECT ferry.add_table('ticket')");
	one($n, "CREATE TABLE part (id int PRIMARY KEY, seat int) PARTITION BY RANGE (id);
		CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (1000); CREATE UNIQUE INDEX part_seat ON part_1 (seat); SELECT ferry.add_table('part')");
	one($n, "CREATE ROLE keeper; CREATE TABLE watched (id int PRIMARY KEY, a int); ALTER TABLE watched OWNER TO keeper; SELECT ferry.add_table('watched')");
}
ferry_link($node{b}, $node{a}, 'a');
ok($node{b}->poll_query_until('postgres', "SELECT bool_and(state = 'streaming') FROM ferry.lag"), 'linked');

# kB of its own that the link takes more than before, at most, until b has merged what $sql writes
sub growth
{
	my ($sql) = @_;
	my $link = one('b', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'ferry link'");
	my $own = sub { return (slurp_file("/proc/$link/status") =~ /^RssAnon:\s+(\d+)/m)[0]; };
	my $before = $own->();
	my $most = $before;
	my $token = one('a', "$sql; SELECT ferry.token()");
	for (1 .. 6000)
	{
		my $kb = $own->();
		$most = $kb if $kb > $most;
		return $most - $before if one('b', "SELECT ferry.wait_for('$token', '10 ms')") eq 't';
	}
	die 'not merged';
}
my $picture = "SELECT count(*), sum(hashtextextended(to_jsonb(t)::text, 0)::numeric) FROM ticket t";

growth("INSERT INTO ticket SELECT i, i FROM generate_series(1, $rows) i");
cmp_ok(growth("UPDATE ticket SET seat = seat + 1"), '<', 8 * 1024, 'each row passes its unique value on: no memory for it');
is(one('b', $picture), one('a', $picture), 'the same rows');
is(one('b', 'SELECT count(*) FROM ferry.conflicts'), '0', 'and none has clashed');

# clashes among the many, and in partitions
one('b', "INSERT INTO ticket VALUES (-1, 100000), (-2, 100001); INSERT INTO part VALUES (1, 7)");
growth("UPDATE ticket SET seat = seat + 100000 - 2 WHERE id <= 2000");
is(one('b', 'SELECT count(*) FROM ticket WHERE seat IN (100000, 100001)'), '2', 'of rows that clash among many one is left each');
is(one('b', "SELECT count(*) FROM ferry.conflicts WHERE kind = 'unique_key'"), '2', 'and both are told');
growth('INSERT INTO part SELECT i, i + 6 FROM generate_series(2, 300) i; UPDATE part SET seat = 7 WHERE id = 2; INSERT INTO part VALUES (400, 8)');
is(one('b', 'SELECT string_agg(id::text, $$ $$ ORDER BY id) FROM part WHERE seat IN (7, 8)'), one('a', 'SELECT string_agg(id::text, $$ $$ ORDER BY id) FROM part WHERE seat IN (7, 8)'), 'nor two rows of a partition');

# triggers
one('b', "CREATE TABLE seen (id int, who name, is_there bool); GRANT INSERT, SELECT ON seen TO keeper;
	CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.seen SELECT NEW.id, current_user, NEW.a = (SELECT a FROM public.watched WHERE id = NEW.id); RETURN NULL; END';
	CREATE TRIGGER see AFTER INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION see(); ALTER TABLE watched ENABLE ALWAYS TRIGGER see");
growth('BEGIN; INSERT INTO watched SELECT i, i FROM generate_series(1, 500) i; UPDATE watched SET a = -a; COMMIT');
is(one('b', 'SELECT count(*), bool_and(is_there), string_agg(DISTINCT who, $$ $$) FROM seen'), '1000|t|keeper', 'AFTER triggers run as the owner of the table, each when its row is merged');

# one row of many that raises: it goes to quarantine, and not each of the others takes
# a subtransaction, of which who decodes b's log would hear
one('b', "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
	CREATE TRIGGER refuse BEFORE UPDATE ON ticket FOR EACH ROW WHEN (OLD.id = 3000) EXECUTE FUNCTION refuse(); ALTER TABLE ticket ENABLE ALWAYS TRIGGER refuse");
my $xid = one('b', 'SELECT pg_current_xact_id()');
my $token = one('a', 'UPDATE ticket SET seat = -id WHERE id BETWEEN 2001 AND 42000; SELECT ferry.token()');
is(one('b', "SELECT ferry.wait_for('$token', '60 s')"), 't', 'a large transaction with a row that raises has come');
is(one('b', "SELECT count(*), (SELECT count(*) FROM ferry.quarantine) FROM ticket WHERE seat = -id"), '39999|1', 'all rows but one are merged');
cmp_ok(one('b', 'SELECT pg_current_xact_id()') - $xid, '<', 8000, 'in few subtransactions');
one('b', 'DROP TRIGGER refuse ON ticket; SELECT ferry.retry_quarantine()');
is(one('b', $picture), one('a', $picture), 'and the last one when it can be');
done_testing();
