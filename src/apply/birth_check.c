/*-------------------------------------------------------------------------
 *
 * birth_check.c
 *		Before commit: did a key that we inserted die while we inserted it?
 *
 * The row trigger stamps an insert and looks for the key's tombstone before the
 * row is in the key's index.  In between another transaction may delete the old
 * row of that key, or ferry merge a deletion from elsewhere: the row then stands
 * beside a tombstone of which it knows nothing, and which may even have the later
 * stamp, so that the insert would be lost on all other nodes.
 *
 * What closes the gap: who writes a tombstone reports it (node/deaths.c) and,
 * where the key is not his by a lock on its row, looks into the key's index
 * afterwards; who inserts looks at the reports when all his keys are in the index.
 * One of the two sees the other.  The row is then made the tombstone's successor,
 * by a new write.
 *
 * It costs a comparison of two numbers when nothing has died meanwhile, and a
 * binary search for each key that has.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "apply/apply.h"
#include "apply/birth_check.h"
#include "apply/merge_row.h"
#include "node/deaths.h"
#include "node/node.h"
#include "state/births.h"
#include "state/tombstone.h"

/* make our row the successor of its tombstone */
static void
succeed(Relation rel, FerryTable *table, const RowState *row, const RowState *tomb)
{
	RowState   *next = state_create(table);
	ItemPointerData tid;
	Datum		key[INDEX_MAX_KEYS];

	/* a write of the whole row, which has seen both */
	*next = *row;
	if (version_compare(&tomb->version, &row->version) != VERSION_BEFORE)
	{
		const RowState *both = merge_states(table, rel, row, tomb);

		version_write(&both->version, node_stamp(), table->plain_ids, table->nplain,
					  table->plain_ids, table->nplain, table->mode == MERGE_MODE_COLUMN,
					  table->life == LIFE_UPDATE_WINS, true, &next->version);
		(void) apply_state(rel, table, next, NULL);
	}
	for (int k = 0; k < table->nkeys; k++)
		key[k] = row->values[table->key_attnos[k] - 1];
	if (tombstone_find(table, key, &tid))
		tombstone_remove(table, &tid);
}

/* do the row and the tombstone of a key both stand, and is the row ours? */
static void
settle(Relation rel, const RowState *key)
{
	FerryTable *table = table_lookup_required(RelationGetRelid(rel));
	ApplyTarget *t = target_open(rel, table);
	RowState   *row;
	RowState   *tomb;

	merge_row_held(t, key, &row, &tomb);
	if (row && tomb && row->version.last.node == node_id() &&
		row->version.last.hlc >= node_transaction_first_stamp())
		succeed(rel, table, row, tomb);
	target_close(t);			/* what was found lies in its slots */
}

/*
 * The key of the tombstone at tid, after whoever wrote it has ended; NULL if it
 * is no more, or our own: our trigger has seen that.
 */
static RowState *
dead_key(const FerryTable *table, Relation tombs, ItemPointer tid)
{
	TupleTableSlot *slot = table_slot_create(tombs, NULL);
	RowState   *key = NULL;
	bool		isnull;

	if (table_tuple_fetch_row_version(tombs, tid, SnapshotAny, slot))
	{
		TransactionId xmin = DatumGetTransactionId(slot_getsysattr(slot, MinTransactionIdAttributeNumber, &isnull));

		if (!TransactionIdIsCurrentTransactionId(xmin))
		{
			HeapTuple	tuple = ExecCopySlotHeapTuple(slot);
			TupleDesc	desc = RelationGetDescr(tombs);
			Datum	   *values = palloc(sizeof(Datum) * desc->natts);
			bool	   *nulls = palloc(sizeof(bool) * desc->natts);

			heap_deform_tuple(tuple, desc, values, nulls);
			key = tombstone_decode(table, values, nulls);
			ExecClearTuple(slot);
			if (TransactionIdIsInProgress(xmin))
				XactLockTableWait(xmin, tombs, tid, XLTW_FetchUpdated);
		}
	}
	ExecDropSingleTupleTableSlot(slot);
	return key;
}

/* one tombstone of one of our tables */
static void
check_death(const BirthTable *births, ItemPointer tid)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry death", ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(cxt);
	Relation	rel = table_open(births->relid, RowExclusiveLock);
	Relation	tombs = table_open(births->tombid, RowExclusiveLock);
	FerryTable *table = table_lookup(births->relid);
	RowState   *key = table ? dead_key(table, tombs, tid) : NULL;

	if (key)
		settle(rel, key);
	table_close(tombs, NoLock);
	table_close(rel, NoLock);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(cxt);
}

/* more died than is remembered: look at every tombstone */
static void
check_all(const BirthTable *births)
{
	Relation	tombs = table_open(births->tombid, RowExclusiveLock);
	TableScanDesc scan = table_beginscan(tombs, SnapshotAny, 0, NULL);
	TupleTableSlot *slot = table_slot_create(tombs, NULL);
	int			nkeys = table_lookup_required(births->relid)->nkeys;
	AttrNumber	attnos[INDEX_MAX_KEYS];

	for (int k = 0; k < nkeys; k++)
		attnos[k] = k + 1;
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		if (births_may_include(births, key_hash(RelationGetDescr(tombs), attnos, nkeys, slot->tts_values)))
			check_death(births, &slot->tts_tid);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	table_close(tombs, NoLock);
}

static void
check_births(void)
{
	uint64		next;
	uint64		end;
	MemoryContext cxt;
	MemoryContext oldcontext;

	if (!births_since(&next))
		return;
	end = deaths_count();
	if (next == end)
		return;
	cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry birth check", ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(cxt);
	PushActiveSnapshot(GetTransactionSnapshot());
	for (; next < end; next++)
	{
		Death		death;

		if (!deaths_get(next, &death))
		{
			for (const BirthTable *births = births_tables(); births; births = births->next)
				check_all(births);
			break;
		}
		if (death.dboid != MyDatabaseId)
			continue;
		for (const BirthTable *births = births_tables(); births; births = births->next)
		{
			if (births->tombid == death.tombid && births_may_include(births, death.key_hash))
				check_death(births, &death.tid);
		}
	}
	PopActiveSnapshot();
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(cxt);
}

static void
at_end_of_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		check_births();
	else if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		births_forget();
}

void
birth_check_install(void)
{
	RegisterXactCallback(at_end_of_transaction, NULL);
}
