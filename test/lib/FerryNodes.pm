# FerryNodes: clusters with ferry, for the TAP tests.
package FerryNodes;
use strict;
use warnings;
use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(ferry_cluster ferry_node ferry_dsn ferry_link ferry_settled);

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

1;
