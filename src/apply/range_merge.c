/*-------------------------------------------------------------------------
 *
 * range_merge.c
 *		A range tombstone of a peer, merged.
 *
 * The table is locked against writers first.  A transaction in flight may hold
 * rows with stamps that the range covers (the truncating node has seen a later
 * stamp of ours) and that no scan of ours shows: we wait for it.  Whoever writes
 * afterwards has a later stamp, or sees the range.
 *
 * What is covered is deleted and leaves no tombstone: the range is its tombstone.
 * What is not stays.  In between are rows that were changed beside the TRUNCATE:
 * their vectors hold writes on both sides of it.  See state/range_tombstone.c for
 * why they are written again, under a stamp of our own and including the range.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "apply/conflict.h"
#include "apply/merge_row.h"
#include "apply/orphan.h"
#include "apply/own_write.h"
#include "apply/range_merge.h"
#include "node/horizon.h"
#include "node/node.h"
#include "node/seen.h"
#include "state/range_tombstone.h"
#include "state/tombstone.h"

static void
record(ApplyTarget *t, const RowState *local, const RowState *remote, ConflictWinner winner, const char *peer)
{
	Conflict	conflict = {0};

	conflict.kind = CONFLICT_TRUNCATE;
	conflict.winner = winner;
	conflict.rule = "changed_beside_truncate";
	conflict_record(target_table(t), target_relation(t), peer, local, remote, &conflict);
}

RowState *
range_as_state(const FerryTable *table, const Version *range, const RowState *key)
{
	RowState   *s = state_create(table);

	for (int k = 0; k < table->nkeys; k++)
	{
		int			i = table->key_attnos[k] - 1;

		s->values[i] = key->values[i];
		s->kinds[i] = VALUE_HERE;
	}
	s->version = *range;
	return s;
}

void
range_report_outlived(ApplyTarget *t, const RowState *remote, const char *peer)
{
	const RangeList *list = ranges_of(RelationGetRelid(target_relation(t)));

	for (int i = 0; i < list->n; i++)
	{
		if (!range_was_outlived(&list->ranges[i], &remote->version))
			continue;
		record(t, range_as_state(target_table(t), &list->ranges[i], remote), remote, WINNER_REMOTE, peer);
		orphan_note_return(t, remote);
		break;
	}
}

RowState *
range_key_state(ApplyTarget *t, const RowState *key)
{
	const RangeList *list = ranges_of(RelationGetRelid(target_relation(t)));
	const Version *latest = NULL;

	for (int i = 0; i < list->n; i++)
		if (latest == NULL || dot_compare(list->ranges[i].last, latest->last) > 0)
			latest = &list->ranges[i];
	return latest ? range_as_state(target_table(t), latest, key) : NULL;
}

/* a row of the leaf that is scanned: delete it, write it again, or leave it */
static void
meet_row(ApplyTarget *t, const RowState *row, const Version *range, const char *peer)
{
	const FerryTable *table = target_table(t);
	ApplyFound	found;
	RowState   *next;
	bool		written;

	if (!range_covers(range, &row->version) && !range_was_outlived(range, &row->version))
		return;
	if (!target_find(t, row, &found))
		elog(ERROR, "row of table \"%s\" is not in its primary key's index", RelationGetRelationName(target_relation(t)));
	if (range_covers(range, &row->version))
		written = target_delete(t, &found);
	else
	{
		next = state_create(table);
		*next = *row;
		range_succeed(&row->version, range, node_stamp(), table->plain_ids, table->nplain,
					  table->mode == MERGE_MODE_COLUMN, table->life == LIFE_UPDATE_WINS, true, &next->version);
		seen_note(&next->version);
		record(t, row, range_as_state(table, range, row), WINNER_LOCAL, peer);
		written = target_update(t, &found, next);
		own_write_note(t, row);
		orphan_note_return(t, next);
	}
	if (!written)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a row of table \"%s\" changed while it was locked", RelationGetRelationName(target_relation(t)))));
}

static void
scan_leaf(ApplyTarget *t, Oid relid, const Version *range, const char *peer)
{
	Relation	rel = table_open(relid, NoLock);
	FerryTable *leaf = table_lookup_required(relid);
	const FerryTable *table = target_table(t);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry range", ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(cxt);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		RowState   *row = state_create(table);
		RowState   *stored = state_from_slot(leaf, slot);

		CHECK_FOR_INTERRUPTS();
		/* by column id: the leaf's layout may differ from the root's */
		for (int i = 0; i < leaf->natts; i++)
		{
			uint16		id = leaf->column_ids[i];

			if (id == 0 || id > table->natts)
				continue;
			row->values[id - 1] = stored->values[i];
			row->nulls[id - 1] = stored->nulls[i];
			row->kinds[id - 1] = VALUE_HERE;
		}
		row->alive = true;
		row->version = stored->version;
		meet_row(t, row, range, peer);
		MemoryContextReset(cxt);
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(cxt);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
}

/* deaths are met as rows are: those that the range includes go, others beside it are written again */
static void
scan_tombstones(ApplyTarget *t, const Version *range)
{
	const FerryTable *table = target_table(t);
	Relation	rel;
	Snapshot	snapshot;
	TableScanDesc scan;
	TupleTableSlot *slot;
	MemoryContext cxt;
	MemoryContext oldcontext;

	tombstones_flush(target_tombstones(t));
	CommandCounterIncrement();
	rel = table_open(table->tombid, RowExclusiveLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = table_beginscan(rel, snapshot, 0, NULL);
	slot = table_slot_create(rel, NULL);
	cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry range", ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(cxt);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		RowState   *tomb;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		tomb = tombstone_decode(table, slot->tts_values, slot->tts_isnull);
		if (range_covers(range, &tomb->version))
			tombstone_remove(table, &slot->tts_tid);
		else if (range_was_outlived(range, &tomb->version))
		{
			Version		before = tomb->version;

			range_succeed(&before, range, node_stamp(), table->plain_ids, table->nplain,
						  table->mode == MERGE_MODE_COLUMN, table->life == LIFE_UPDATE_WINS, false, &tomb->version);
			seen_note(&tomb->version);
			tombstone_put(table, tomb, &slot->tts_tid);
			own_write_note(t, tomb);
		}
		MemoryContextReset(cxt);
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(cxt);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
}

ApplyResult
range_tombstone_merge(ApplyTarget *t, const Version *range, const char *peer)
{
	Oid			relid = RelationGetRelid(target_relation(t));
	List	   *leaves;
	ListCell   *lc;
	RowState	dated = {0};

	dated.version = *range;
	merge_raise_clock(&dated);

	/* it travels with every description of the table: most have been here */
	if (ranges_cover(ranges_of(relid), range))
		return APPLY_IGNORED;
	LockRelationOid(relid, ExclusiveLock);
	leaves = find_all_inheritors(relid, ExclusiveLock, NULL);

	/* everybody has had it, and so have we: it has been here and is gone */
	if (!target_table(t)->is_new && vector_covers(horizon_current(), range))
		return APPLY_IGNORED;
	if (!ranges_add(relid, range))
		return APPLY_IGNORED;
	foreach(lc, leaves)
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_RELATION)
			scan_leaf(t, lfirst_oid(lc), range, peer);
	scan_tombstones(t, range);
	orphan_note(t, NULL, range->last);
	return APPLY_APPLIED;
}

ApplyResult
apply_range(Relation rel, FerryTable *table, const Version *range, const char *peer)
{
	ApplyTarget *t;
	ApplyResult result;
	int			nest_level = NewGUCNestLevel();

	(void) set_config_option("session_replication_role", "replica", PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	t = target_open(rel, table);
	target_enter(t);
	result = range_tombstone_merge(t, range, peer);
	orphan_note_rest(t);
	target_leave(t);
	target_close(t);
	AtEOXact_GUC(true, nest_level);
	return result;
}

RowState *
range_bury(ApplyTarget *t, const RowState *key)
{
	ApplyFound	found;

	while (target_find(t, key, &found))
	{
		RowState   *row = state_from_slot(target_table(t), found.slot);

		if (!ranges_cover(ranges_of(RelationGetRelid(target_relation(t))), &row->version))
			return NULL;
		if (target_delete(t, &found))
			return row;
	}
	return NULL;
}
