/*-------------------------------------------------------------------------
 *
 * truncate.c
 *		TRUNCATE of a table under ferry leaves one range tombstone.
 *
 * Its vector must include every row that goes, or the row would live on
 * elsewhere, and as little as possible of what has not come here yet: our own
 * clock (the table is locked: all that was written here is here), the latest
 * stamp of every other node that was merged here (node/seen.c), what we have said to
 * hold (core/range.c says why), and what earlier range tombstones cover.  No row is
 * looked at, but for the first TRUNCATE of a table after the server has started.
 * Tombstones are: the range takes their place, and they go.
 *
 * A partition that is truncated alone leaves a tombstone for each of its rows: no
 * range could tell them from those of other partitions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/heap.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_inherits.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "capture/truncate.h"
#include "node/holding.h"
#include "node/node.h"
#include "node/seen.h"
#include "state/local_write.h"
#include "state/range_tombstone.h"
#include "state/tombstone.h"

/* call f for every row of a leaf, in a context that is reset after it */
static void
for_each_row(Oid relid, void (*f) (const FerryTable *table, TupleTableSlot *slot))
{
	Relation	rel = table_open(relid, NoLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry truncate", ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(cxt);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		f(table_lookup_required(relid), slot);
		MemoryContextReset(cxt);
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(cxt);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
}

/* --- a whole table --- */

static void
note_row(const FerryTable *table, TupleTableSlot *slot)
{
	Version		v;

	state_version_read(slot->tts_values[table->version_attno - 1], &v);
	seen_note(&v);
}

static void
read_table_once(Oid rootid)
{
	List	   *leaves;
	ListCell   *lc;

	if (seen_is_complete(rootid))
		return;
	leaves = find_all_inheritors(rootid, AccessShareLock, NULL);
	foreach(lc, leaves)
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_RELATION)
			for_each_row(lfirst_oid(lc), note_row);
	seen_complete(rootid);
}

/* what this node holds of others, by whose writes the clock goes */
static void
hold_now(NodeVector *held)
{
	NodeId		us = node_id();

	holding_promised(held);
	vector_remove(held, us);
	for (uint32 i = 0; i < held->n;)
	{
		if (node_clock_too_far(held->entries[i].hlc))
			vector_remove(held, held->entries[i].node);
		else
			node_clock_raise(held->entries[i++].hlc);
	}
}

PG_FUNCTION_INFO_V1(ferry_truncate_trigger);

/* BEFORE TRUNCATE, when the table is locked */
Datum
ferry_truncate_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Oid			relid;
	Version		range;
	Dot		   *dots;
	int			ndots;
	NodeVector	held;
	const RangeList *earlier;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by TRUNCATE", "ferry._truncate_trigger")));
	relid = RelationGetRelid(trigger->tg_relation);
	(void) table_lookup_required(relid);

	read_table_once(relid);
	hold_now(&held);
	version_init(&range, node_stamp());
	range = range_join(&range, held.entries, (int) held.n);
	ndots = seen_get(&dots);
	range = range_join(&range, dots, ndots);
	earlier = ranges_of(relid);
	for (int i = 0; i < earlier->n; i++)
		range = range_join(&range, earlier->ranges[i].vv, earlier->ranges[i].nvv);
	(void) ranges_add(relid, &range);
	tombstone_remove_covered(table_lookup_required(relid), &range);
	return PointerGetDatum(NULL);
}

/* --- single partitions --- */

static void
bury_row(const FerryTable *table, TupleTableSlot *slot)
{
	Version		before;
	Version		after;

	state_version_read(slot->tts_values[table->version_attno - 1], &before);
	state_local_delete(table, &before, node_stamp(), &after);
	tombstone_put(table, tombstone_from_row(table, state_from_values(table, slot->tts_values, slot->tts_isnull), &after), NULL);
}

/* relid and what is below it, if it is part of a table under ferry that is not truncated as a whole */
static void
bury_partition(Oid relid, List *truncated)
{
	FerryTable *table;
	List	   *leaves;
	ListCell   *lc;

	if (!get_rel_relispartition(relid) || list_member_oid(truncated, llast_oid(get_partition_ancestors(relid))))
		return;
	table = table_lookup(relid);
	if (table == NULL)
		return;
	leaves = find_all_inheritors(relid, AccessExclusiveLock, NULL);
	foreach(lc, leaves)
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_RELATION)
			for_each_row(lfirst_oid(lc), bury_row);
}

void
capture_truncate_partitions(const TruncateStmt *stmt)
{
	List	   *relids = NIL;
	ListCell   *lc;

	if (!OidIsValid(ferry_version_type()) || SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
		return;
	foreach(lc, stmt->relations)
	{
		/* what is missing or forbidden is the server's to report */
		Oid			relid = RangeVarGetRelid(lfirst(lc), NoLock, true);

		if (!OidIsValid(relid) || pg_class_aclcheck(relid, GetUserId(), ACL_TRUNCATE) != ACLCHECK_OK)
			return;
		LockRelationOid(relid, AccessExclusiveLock);
		relids = list_append_unique_oid(relids, relid);
	}
	if (stmt->behavior == DROP_CASCADE)
	{
		List	   *more;

		while ((more = heap_truncate_find_FKs(relids)) != NIL)
		{
			foreach(lc, more)
			{
				LockRelationOid(lfirst_oid(lc), AccessExclusiveLock);
				relids = list_append_unique_oid(relids, lfirst_oid(lc));
			}
		}
	}
	foreach(lc, relids)
		bury_partition(lfirst_oid(lc), relids);
}
