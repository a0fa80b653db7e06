/*-------------------------------------------------------------------------
 *
 * horizon.c
 *		What every member of the group holds, as far as this node knows.
 *
 * See core/horizon.c for what it is good for.  It is on record in ferry.horizon,
 * one row, and, for those who read and write rows, in shared memory.  A change is
 * committed first and published then: whoever prunes a row under a horizon writes
 * it behind that horizon's commit, in the log and for every snapshot, so that who
 * reads the row reads the horizon too.  The output plugin sends the change where
 * it stands in the log (ferry.horizon is a user catalog table, for it to know the
 * horizon at the start of a stream).
 *
 * A peer's horizon is taken over as far as this node holds the same itself: what
 * every member holds is a fact, whoever has found it out, but a node that has just
 * been linked to others may not be the member that they mean.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "replication/origin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "node/holding.h"
#include "node/horizon.h"
#include "node/table.h"

const NodeVector *
horizon_current(void)
{
	static NodeVector mine;
	static uint32 seen;
	static NodeShared *of = NULL;
	NodeShared *node = node_current();
	uint32		generation = holding_horizon_generation(node);

	if (of != node || seen != generation)
	{
		holding_horizon(node, &mine);
		of = node;
		seen = generation;
	}
	return &mine;
}

uint32
horizon_generation(void)
{
	return holding_horizon_generation(node_current());
}

void
horizon_read(Snapshot snapshot, NodeVector *out)
{
	Relation	rel = table_open(ferry_relation("horizon"), AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple	tuple;

	vector_clear(out);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		int			attno = get_attnum(RelationGetRelid(rel), "vector");
		bool		isnull;

		holding_parse(TextDatumGetCString(heap_getattr(tuple, attno, RelationGetDescr(rel), &isnull)), out, NULL);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* raise the row; false if it is as high already; h becomes what it says now */
static bool
raise_row(NodeVector *h)
{
	Oid			types[1] = {TEXTOID};
	Datum		args[1];
	NodeVector	known;
	bool		isnull;
	bool		exists;
	char		buf[VECTOR_TEXT_BYTES];

	/* not only the row: there may be none yet */
	SPI_execute("LOCK TABLE ferry.horizon IN SHARE ROW EXCLUSIVE MODE", false, 0);
	SPI_execute("SELECT vector FROM ferry.horizon", false, 1);
	vector_clear(&known);
	exists = SPI_processed > 0;
	if (exists)
		holding_parse(TextDatumGetCString(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)),
					  &known, NULL);
	if (!vector_merge(&known, h))
		return false;
	vector_copy(h, &known);
	vector_format(h, buf);
	args[0] = CStringGetTextDatum(buf);
	SPI_execute_with_args(exists ? "UPDATE ferry.horizon SET vector = $1, at = pg_catalog.clock_timestamp()" :
						  "INSERT INTO ferry.horizon (vector) VALUES ($1)",
						  1, types, args, NULL, false, 0);
	return true;
}

void
horizon_raise(const NodeVector *h)
{
	RepOriginId origin = replorigin_session_origin;
	NodeVector	ours;
	NodeVector	held;
	bool		raised = false;

	Assert(!IsTransactionState());
	vector_copy(&ours, h);
	replorigin_session_origin = InvalidRepOriginId;
	PG_TRY();
	{
		StartTransactionCommand();
		holding_promised(&held);
		vector_limit(&ours, &held);
		if (!vector_includes(horizon_current(), &ours))
		{
			PushActiveSnapshot(GetTransactionSnapshot());
			SPI_connect();
			raised = raise_row(&ours);
			SPI_finish();
			PopActiveSnapshot();
		}
		CommitTransactionCommand();
	}
	PG_FINALLY();
	{
		replorigin_session_origin = origin;
	}
	PG_END_TRY();
	if (raised)
		holding_publish_horizon(&ours);
}
