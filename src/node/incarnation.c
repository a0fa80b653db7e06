/*-------------------------------------------------------------------------
 *
 * incarnation.c
 *		Are we still who we were?
 *
 * A node's writes are told apart by node id and stamp, and what others hold of a
 * node is a stamp: "all of its writes up to there".  Both break if a database
 * goes back in time and goes on under the same id, or if two copies of it live.
 * So a database that was restored from a backup, promoted from a standby, copied
 * or rolled back takes a new incarnation: a new id, under the same name.  The
 * old id becomes a former member, whose writes, as far as anybody has them, come
 * back from there like everybody else's.
 *
 * How it shows:
 *
 *	at the start	another system identifier, timeline or database than on record
 *				(promotion, recovery to a point in time, a dump restored); a
 *				clock file that was written in another folder (a base backup or
 *				a copied data directory, started on the same timeline);
 *	by a peer	before a link, a copier or the verifier takes anything from the
 *				other side, each says what it has seen of the other: a run of the
 *				server that we do not know, more of a run's log than there is
 *				here, or a stamp that we cannot have given (a disk or a virtual
 *				machine that was set back; node/runs.c).
 *
 * Until the supervisor has found out (link/succession.c) writers wait: no stamp
 * is given under an id that may be someone else's.
 *
 * A disk that was set back does not show at the start, and writers cannot wait for a
 * peer.  What they write before one has been met has gone nowhere, and is
 * found by its stamps when it shows: it becomes the new incarnation's (apply/rename.c), so
 * that to everybody else the old one ended where it was set back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "node/holding.h"
#include "node/node.h"
#include "node/private.h"
#include "node/runs.h"
#include "node/table.h"

#define PATIENCE_MS 30000
#define POLL_MS 10

bool
incarnation_is_here(uint64 system_id, uint32 timeline, Oid dboid)
{
	return !RecoveryInProgress() && system_id == GetSystemIdentifier() && timeline == GetWALInsertionTimeLine() && dboid == MyDatabaseId;
}

void
incarnation_wait(NodeShared *node)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PATIENCE_MS);

	for (;;)
	{
		uint32		doubt = pg_atomic_read_u32(&node->doubt);

		if (doubt == NODE_IS_SURE)
			return;
		if (doubt == NODE_IS_COPY && node->id == node->settled_id)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("database \"%s\" is a copy of the ferry node \"%s\", which lives",
							get_database_name(MyDatabaseId), node_name()),
					 errdetail("The original answers at the dsn of the node."),
					 errhint("Call ferry.become_node(name, dsn) to make this database a node of its own.")));
		if (GetCurrentTimestamp() >= end)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("it is not certain that this database is still the ferry node \"%s\"", node_name()),
					 errdetail("It was restored, promoted or copied, and ferry's supervisor has not found out yet."),
					 errhint("See the server's log; ferry.check() says what is set wrong.")));
		node_wake_supervisor();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
incarnation_settled(void)
{
	NodeShared *node;

	(void) node_refresh();
	node = node_current();
	holding_forget(node);
	holding_load(node);
	node_clock_confirm();
	node->settled_id = node->id;
	pg_atomic_write_u32(&node->went_back, 0);
	pg_atomic_write_u32(&node->doubt, NODE_IS_SURE);
}

PG_FUNCTION_INFO_V1(ferry_here);

/* SQL: ferry._here(): server, timeline and database as they are */
Datum
ferry_here(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {0};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = Int64GetDatum((int64) GetSystemIdentifier());
	values[1] = Int64GetDatum(RecoveryInProgress() ? 0 : (int64) GetWALInsertionTimeLine());
	values[2] = ObjectIdGetDatum(MyDatabaseId);
	values[3] = Int64GetDatum(node_array ? (int64) node_array->instance : 0);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

PG_FUNCTION_INFO_V1(ferry_check_sight);

/*
 * SQL: ferry._check_sight(lsn, hlc, runs): a peer has seen our log up to there, heard
 * of writes of ours up to that stamp, and of these runs.  If that cannot be, we went
 * back in time (node/runs.c).
 */
Datum
ferry_check_sight(PG_FUNCTION_ARGS)
{
	NodeShared *node = node_current();
	XLogRecPtr	lsn = PG_ARGISNULL(0) ? 0 : PG_GETARG_LSN(0);
	Hlc			hlc = PG_ARGISNULL(1) ? 0 : (Hlc) PG_GETARG_INT64(1);
	RunList		list;
	int			since;

	(void) runs_read(node, &list);
	since = runs_judge(&list, lsn, hlc, PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2)));
	if (since < 0)
		PG_RETURN_BOOL(true);
	if (pg_atomic_read_u32(&node->doubt) == NODE_IS_SURE)
		ereport(LOG,
				(errmsg("a peer holds more of ferry node \"%s\" than was ever written here", node_name()),
				 errdetail("This database went back in time: it takes a new incarnation.")));
	LWLockAcquire(node_array->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&node->went_back) == 0 || (uint32) since < pg_atomic_read_u32(&node->back_since))
		pg_atomic_write_u32(&node->back_since, (uint32) since);
	pg_atomic_write_u32(&node->went_back, 1);
	LWLockRelease(node_array->lock);
	pg_atomic_write_u32(&node->doubt, NODE_IS_DOUBTFUL);
	node_wake_supervisor();
	PG_RETURN_BOOL(false);
}

PG_FUNCTION_INFO_V1(ferry_went_back);

/*
 * SQL: ferry._went_back(): null unless a peer has shown that; else the first stamp of
 * the run since which this database did not know of it, what it held of its own writes
 * then, and whether a peer has met it since.  The first is null if not even that is known.
 */
Datum
ferry_went_back(PG_FUNCTION_ARGS)
{
	NodeShared *node = node_current();
	TupleDesc	desc;
	Datum		values[3] = {0};
	bool		nulls[3] = {true, true, false};
	uint32		since = pg_atomic_read_u32(&node->back_since);
	bool		met = true;
	RunList		list;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (pg_atomic_read_u32(&node->went_back) == 0)
		PG_RETURN_NULL();
	if (runs_read(node, &list) && since < list.n)
	{
		met = false;
		for (uint32 i = since; i < list.n; i++)
			met |= list.run[i].met != 0;
		values[0] = Int64GetDatum((int64) list.run[since].first);
		values[1] = Int64GetDatum((int64) list.run[since].held);
		nulls[0] = nulls[1] = false;
	}
	values[2] = BoolGetDatum(met);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

PG_FUNCTION_INFO_V1(ferry_meet);

/* SQL: ferry._meet(): see node/runs.h */
Datum
ferry_meet(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(runs_met(node_current()));
}

void
incarnation_require_renamed(void)
{
	Relation	rel = table_open(ferry_relation("renaming"), AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	bool		any = HeapTupleIsValid(systable_getnext(scan));

	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	if (any)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_EXCEPTION),
				 errmsg("node \"%s\" went back in time and is looking through what it has written since", node_name())));
}

PG_FUNCTION_INFO_V1(ferry_require_renamed);

/* SQL: ferry._require_renamed() */
Datum
ferry_require_renamed(PG_FUNCTION_ARGS)
{
	(void) node_current();
	incarnation_require_renamed();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ferry_new_node_id);

/* SQL: ferry._new_node_id(): a random one */
Datum
ferry_new_node_id(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(node_random_id());
}

PG_FUNCTION_INFO_V1(ferry_incarnation_settled);

/* SQL: ferry._incarnation_settled(), in a transaction after the one that wrote ferry.local_node */
Datum
ferry_incarnation_settled(PG_FUNCTION_ARGS)
{
	incarnation_settled();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ferry_is_in_doubt);

/* SQL: ferry._is_in_doubt() */
Datum
ferry_is_in_doubt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(pg_atomic_read_u32(&node_current()->doubt) != NODE_IS_SURE);
}
