/*-------------------------------------------------------------------------
 *
 * tombstone_sweep.c
 *		Tombstones that every member holds are removed.
 *
 * A tombstone is kept so that older states of its key, which may still be on
 * their way, do not bring the row back.  When all of its version lies under the
 * horizon every node has it, and states that it includes are known to be old news
 * by the horizon alone (apply/merge_row.c).
 *
 * Races: the tombstone may be changed by a merge, or go because its key is born
 * again, between our look and our deletion.  Then the tuple that we saw is not
 * the latest any more, and tombstone_remove() leaves it alone.  A merge or a birth
 * that has found the tombstone which we remove goes on with what it read; where it
 * would replace it, it finds it gone and looks again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "core/range.h"
#include "node/horizon.h"
#include "state/tombstone.h"

void
tombstone_remove_covered(const FerryTable *table, const Version *range)
{
	Relation	rel = table_open(table->tombid, RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	MemoryContext row_cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry sweep", ALLOCSET_DEFAULT_SIZES);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(row_cxt);
		Version		version;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		state_version_read(slot_getattr(slot, table->nkeys + 1, &isnull), &version);
		version.horizon = horizon_current();
		if (range_covers(range, &version))
			tombstone_remove(table, &slot->tts_tid);
		MemoryContextSwitchTo(oldcontext);
		MemoryContextReset(row_cxt);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);
	MemoryContextDelete(row_cxt);
}

bool
tombstone_sweep(const FerryTable *table, ItemPointer from, int most, int64 *removed)
{
	Relation	rel = table_open(table->tombid, RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	MemoryContext row_cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry sweep", ALLOCSET_DEFAULT_SIZES);
	ItemPointerData *found = palloc(sizeof(ItemPointerData) * most);
	ItemPointerData end;
	TableScanDesc scan;
	int			nfound = 0;
	int			seen = 0;
	bool		more = true;

	ItemPointerSet(&end, MaxBlockNumber, MaxOffsetNumber);
	scan = table_beginscan_tidrange(rel, GetActiveSnapshot(), from, &end);
	while (seen < most && (more = table_scan_getnextslot_tidrange(scan, ForwardScanDirection, slot)))
	{
		MemoryContext oldcontext;
		Version		version;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(row_cxt);
		oldcontext = MemoryContextSwitchTo(row_cxt);
		state_version_read(slot_getattr(slot, table->nkeys + 1, &isnull), &version);
		version.horizon = horizon_current();
		if (version_is_stable(&version, version.horizon))
			found[nfound++] = slot->tts_tid;
		MemoryContextSwitchTo(oldcontext);
		seen++;
		*from = slot->tts_tid;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	for (int i = 0; i < nfound; i++)
		tombstone_remove(table, &found[i]);
	*removed += nfound;
	if (more)
		ItemPointerSetOffsetNumber(from, OffsetNumberNext(ItemPointerGetOffsetNumber(from)));
	else
		ItemPointerSet(from, 0, 1);
	table_close(rel, NoLock);
	pfree(found);
	MemoryContextDelete(row_cxt);
	return more;
}
