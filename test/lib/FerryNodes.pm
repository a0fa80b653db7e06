# FerryNodes: clusters with ferry, for the TAP tests.
package FerryNodes;
use strict;
use warnings;
use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(ferry_cluster ferry_node ferry_dsn ferry_link ferry_settled ferry_error ferry_meshed ferry_equal ferry_load ferry_end_load ferry_kill
	ferry_settle_all ferry_verify ferry_plant ferry_tombstones);

# a running server that preloads ferry
sub ferry_cluster
{
	my ($name, $more) = @_;
	my $n = PostgreSQL::Test::Cluster->new($name);
	$n->init(allows_streaming => 'logical');
	$n->append_conf('postgresql.conf', <<EOC);
shared_preload_libraries = 'ferry'
restart_after_crash = on
max_worker_processes = 32
max_replication_slots = 16
max_wal_senders = 16
EOC
	my ($known) = run_command([ 'postgres', '-D', $n->data_dir, '-C', 'output_plugin_libraries' ]);
	$n->append_conf('postgresql.conf', "output_plugin_libraries = 'pgoutput, test_decoding, ferry'\n")
	  if defined $known && $known ne '';
	$n->append_conf('postgresql.conf', $more) if $more;
	$n->start;
	return $n;
}

sub ferry_dsn
{
	my ($n, $db) = @_;
	$db //= 'postgres';
	return 'host=' . $n->host . ' port=' . $n->port . " dbname=$db";
}

# a database of it becomes a node
sub ferry_node
{
	my ($n, $node, $db) = @_;
	$db //= 'postgres';
	my $dsn = ferry_dsn($n, $db);
	$n->safe_psql($db, "CREATE EXTENSION ferry; SELECT ferry.create_node('$node', '$dsn')");
	return;
}

# $to pulls from $from, the node $name
sub ferry_link
{
	my ($to, $from, $name, %o) = @_;
	my $dsn = ferry_dsn($from, $o{from_db});
	my $forward = $o{forward} // 'local';
	$to->safe_psql($o{to_db} // 'postgres', "SELECT ferry.add_peer('$name', '$dsn', forward => '$forward')");
	return;
}

# all that is committed on $n is at its peers
sub ferry_settled
{
	my ($n, $db) = @_;
	return $n->safe_psql($db // 'postgres', "SELECT ferry.wait_for_peers('60 s')") eq 't';
}

# what a statement that must fail says, with SQLSTATE, detail and hint, as one line
sub ferry_error
{
	my ($n, $sql, $db) = @_;
	my ($rc, $out, $err) = $n->psql($db // 'postgres', $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	$err =~ s/\s+/ /g;
	return $err;
}

# every one of these streams from all the others
sub ferry_meshed
{
	my (@n) = @_;
	for my $n (@n)
	{
		$n->poll_query_until('postgres', 'SELECT count(*) = ' . (@n - 1) . " AND bool_and(state = 'streaming') FROM ferry.lag") or return 0;
	}
	return 1;
}

# checks that a query gives the same on all of them, when all has arrived
sub ferry_equal
{
	my ($what, $query, @n) = @_;
	ok(ferry_meshed(@n), "$what: all links stream");
	for my $round (1, 2) { for (@n) { ferry_settled($_) or fail("$what: " . $_->name . ' is not settled'); } }
	my ($sum) = my @all = map { $_->safe_psql('postgres', "SELECT count(*) || ' ' || md5(string_agg(r::text, '|' ORDER BY r::text)) FROM ($query) r") } @n;
	is("@all", join(' ', ($sum) x @n), "$what: the same on all");
	return $sum =~ s/ .*//r;
}

# a pgbench script in the background
sub ferry_load
{
	my ($n, $script, %o) = @_;
	my $file = $n->basedir . '/load.sql';
	open my $f, '>', $file or die;
	print $f $script;
	close $f;
	return IPC::Run::start([ 'pgbench', '-n', '-R', $o{rate} // 150, '-T', 600, '-c', 2, '-f', $file, '-h', $n->host, '-p', $n->port, 'postgres' ],
		'>', \my $out, '2>', \my $err);
}

sub ferry_end_load { my ($load) = @_; $load->signal('INT'); $load->finish; return; }

# kill a server's postmaster; returns when nothing is left of it, so that it can be started again
sub ferry_kill
{
	my ($n) = @_;
	my ($postmaster) = slurp_file($n->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @pids = ($postmaster, split ' ', (run_command([ 'pgrep', '-P', $postmaster ]))[0]);
	$n->kill9;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if !grep { kill 0, $_ } @pids;
		usleep(100_000);
	}
	die "something is left of $postmaster";
}

# each of these holds what all of them had committed
sub ferry_settle_all
{
	my (@n) = @_;
	for my $token (map { $_->safe_psql('postgres', 'SELECT ferry.token()') } @n)
	{
		$_->safe_psql('postgres', "SELECT ferry.wait_for('$token', '60 s')") for @n;
	}
	return;
}

# what a verification on demand finds, where it finds something
sub ferry_verify
{
	my ($n, $args) = @_;
	return $n->safe_psql('postgres',
		"SET client_min_messages = error; SELECT peer, relation, differing, repaired, mismatched, undecided, error FROM ferry.verify($args) WHERE differing + undecided > 0 OR error IS NOT NULL");
}

# a change behind ferry's back
sub ferry_plant { my ($n, $sql) = @_; $n->safe_psql('postgres', "SET session_replication_role = replica; $sql"); return; }

# the table of a table's tombstones
sub ferry_tombstones
{
	my ($n, $table) = @_;
	return $n->safe_psql('postgres', "SELECT tombstones FROM ferry.tables WHERE relation = '$table'::regclass");
}

1;
