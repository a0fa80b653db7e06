/*-------------------------------------------------------------------------
 *
 * gather.c
 *		Joining through a sponsor: its copy brings what the others wrote.
 *
 * When a node joins a group (ferry.join), all rows come from one peer, the
 * sponsor; the other links only stream (ferry.peer.copy_via).  For that to be the
 * whole, the sponsor must hold, before its copy begins, all that each of the
 * others wrote before our slot there.  So: first every link makes its slot; then
 * we ask the sponsor until its own links have passed the places where these begin
 * (via_lsn); then we copy.  Peers of which this could not be had in time, or
 * whose slot was made anew meanwhile, are copied from directly, afterwards.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "link/connection.h"
#include "link/gather.h"
#include "link/local_work.h"
#include "node/node.h"

/* how long the sponsor may take to hold what the others had, and how often we ask */
#define PATIENCE_MS 60000
#define ASK_MS 200

/* a peer of which the sponsor's copy is to bring all that was before its slot */
typedef struct Gathered
{
	char	   *name;
	uint32		id;
	char	   *slot_lsn;		/* NULL: it has no slot there yet */
} Gathered;

/* a value of the current SPI result, as text in a context that lasts; NULL if null */
static char *
spi_text(uint64 row, int column, MemoryContext cxt)
{
	char	   *text = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);

	return text ? MemoryContextStrdup(cxt, text) : NULL;
}

/* the peers that are to be brought by this one's copy; NIL if that has been seen to, or was begun */
static List *
read_gathered(const char *sponsor, bool *wait)
{
	Oid			types[1] = {NAMEOID};
	Datum		args[1] = {CStringGetDatum(sponsor)};
	MemoryContext cxt = CurrentMemoryContext;
	List	   *others = NIL;

	*wait = false;
	local_work_begin();
	SPI_execute_with_args("SELECT p.name::pg_catalog.text, p.node_id::pg_catalog.text, p.slot_lsn::pg_catalog.text, "
						  "(p.slot_lsn IS NULL AND coalesce(l.failures, 0) < 3 AND NOT p.is_paused)::pg_catalog.text "
						  "FROM ferry.peer p LEFT JOIN ferry._links() l ON l.peer = p.name "
						  "WHERE p.copy_via = $1 AND p.via_lsn IS DISTINCT FROM p.slot_lsn "
						  "AND NOT EXISTS (SELECT FROM ferry.copied_table c WHERE c.peer = $1)",
						  1, types, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(cxt);
		Gathered   *g = palloc(sizeof(Gathered));
		char	   *is_coming = spi_text(i, 4, cxt);

		g->name = spi_text(i, 1, cxt);
		g->id = (uint32) strtoul(spi_text(i, 2, cxt), NULL, 10);
		g->slot_lsn = spi_text(i, 3, cxt);
		*wait |= is_coming && strcmp(is_coming, "true") == 0;
		if (g->slot_lsn)
			others = lappend(others, g);
		MemoryContextSwitchTo(oldcontext);
	}
	local_work_end(cxt);
	return others;
}

static void
record_gathered(const Gathered *g)
{
	Oid			types[2] = {NAMEOID, TEXTOID};
	Datum		args[2] = {CStringGetDatum(g->name), CStringGetTextDatum(g->slot_lsn)};
	MemoryContext cxt = CurrentMemoryContext;

	local_work_begin();
	SPI_execute_with_args("UPDATE ferry.peer SET via_lsn = $2::pg_catalog.pg_lsn WHERE name = $1",
						  2, types, args, NULL, false, 0);
	local_work_end(cxt);
}

void
gather_others(PGconn *conn, const char *sponsor)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PATIENCE_MS);

	for (;;)
	{
		bool		wait;
		List	   *others = read_gathered(sponsor, &wait);
		ListCell   *lc;

		foreach(lc, others)
		{
			Gathered   *g = lfirst(lc);
			PGresult   *res = connection_query(conn,
											   psprintf("SELECT ferry._holds_until(%u, '%s')", g->id, g->slot_lsn),
											   PGRES_TUPLES_OK);
			bool		holds = PQntuples(res) == 1 && *PQgetvalue(res, 0, 0) == 't';

			PQclear(res);
			if (holds)
				record_gathered(g);
			else
				wait = true;
		}
		if (!wait || GetCurrentTimestamp() >= end)
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ASK_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* the sponsor's copy is complete: the others' links are, too, or have to copy for themselves */
void
gather_release(const char *sponsor)
{
	Oid			types[1] = {NAMEOID};
	Datum		args[1] = {CStringGetDatum(sponsor)};
	MemoryContext cxt = CurrentMemoryContext;

	local_work_begin();
	/* what they hold of former members the sponsor may lack: formers stays 0 */
	SPI_execute_with_args("INSERT INTO ferry.copied_table (peer, relid) "
						  "SELECT p.name, c.relid FROM ferry.peer p JOIN ferry.copied_table c ON c.peer = $1 "
						  "WHERE p.copy_via = $1 AND p.via_lsn = p.slot_lsn ON CONFLICT DO NOTHING",
						  1, types, args, NULL, false, 0);
	SPI_execute_with_args("UPDATE ferry.peer SET copy_via = NULL, via_lsn = NULL WHERE copy_via = $1",
						  1, types, args, NULL, false, 0);
	if (SPI_processed > 0)
		node_config_changed();
	local_work_end(cxt);
}
