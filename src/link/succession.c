/*-------------------------------------------------------------------------
 *
 * succession.c
 *		Finding out who we are, where that is in doubt.
 *
 * This database is not where or when it was (node/incarnation.c).  Either it goes
 * on as the node that it was, after a restore or a failover: then it takes a new
 * incarnation and its peers follow.  Or it is a copy, and the original lives: then
 * it must keep quiet, since two that go on as the same node would overwrite each
 * other's writes.
 *
 * What tells them apart is the node's dsn: who answers there is the node.  If a
 * server answers that runs the same node and is not this one, we are the copy.  If
 * this one answers (the dsn names several hosts, or an address has moved here),
 * or nobody does, we are the successor.  Should the original come back later, it
 * finds that it has been succeeded: its peers refuse it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "link/connection.h"
#include "link/succession.h"
#include "node/node.h"

#define ASK_EVERY_MS 2000

/* one value of type text by SQL here; NULL if null; allocated in the current context */
static char *
run(const char *sql)
{
	MemoryContext cxt = CurrentMemoryContext;
	char	   *text = NULL;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	SPI_execute(sql, false, 1);
	if (SPI_processed == 1)
		text = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (text)
		text = MemoryContextStrdup(cxt, text);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return text;
}

/* does the node, under this dsn, run in another server than this one? */
static bool
lives_elsewhere(const char *dsn, NodeId id, const char *instance)
{
	MemoryContext cxt = CurrentMemoryContext;
	PGconn	   *volatile conn = NULL;
	volatile bool elsewhere = false;

	PG_TRY();
	{
		PGresult   *res;

		conn = connection_open(dsn);
		res = connection_query(conn,
							   "SELECT n.node_id, h.instance FROM ferry.local_node n, ferry._here() h "
							   "WHERE NOT pg_catalog.pg_is_in_recovery()",
							   PGRES_TUPLES_OK);
		elsewhere = PQntuples(res) == 1 &&
			(NodeId) strtoul(PQgetvalue(res, 0, 0), NULL, 10) == id &&
			strcmp(PQgetvalue(res, 0, 1), instance) != 0;
		PQclear(res);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		if (QueryCancelPending || ProcDiePending)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
	if (conn)
		PQfinish(conn);
	return elsewhere;
}

/* has the database been given another identity by hand? */
static bool
was_renamed(void)
{
	StartTransactionCommand();
	(void) node_refresh();
	CommitTransactionCommand();
	return node_current()->id != node_current()->settled_id;
}

static void
settle(void)
{
	(void) run("SELECT ferry._incarnation_settled()::pg_catalog.text");
}

void
succession_resolve(void)
{
	static TimestampTz ask_due = 0;
	NodeShared *node = node_current();
	MemoryContext cxt;
	MemoryContext oldcontext;
	char	   *dsn;
	char	   *instance;

	if (was_renamed())
	{
		settle();
		return;
	}
	if (GetCurrentTimestamp() < ask_due)
		return;
	cxt = AllocSetContextCreate(TopMemoryContext, "ferry succession", ALLOCSET_SMALL_SIZES);
	oldcontext = MemoryContextSwitchTo(cxt);
	dsn = run("SELECT dsn FROM ferry.local_node");
	instance = run("SELECT instance::pg_catalog.text FROM ferry._here()");
	if (dsn && instance && lives_elsewhere(dsn, node->id, instance))
	{
		if (pg_atomic_read_u32(&node->doubt) != NODE_IS_COPY)
			ereport(LOG,
					(errmsg("this database is a copy of the ferry node \"%s\", which lives: it links with nobody and refuses writes", node_name()),
					 errdetail("The original answers at the dsn of the node."),
					 errhint("Call ferry.become_node(name, dsn) to make this database a node of its own.")));
		pg_atomic_write_u32(&node->doubt, NODE_IS_COPY);
	}
	else
	{
		char	   *id = run("SELECT ferry._succeed_self()::pg_catalog.text");

		settle();
		if (id)
			ereport(LOG,
					(errmsg("ferry node \"%s\" goes on under the id %s: it was restored, promoted or rolled back", node_name(), id)));
	}
	ask_due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ASK_EVERY_MS);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(cxt);
}
