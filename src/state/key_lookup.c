/*-------------------------------------------------------------------------
 *
 * key_lookup.c
 *		Find rows by their key, one after the other, through one open scan.
 *
 * Which snapshot.  The server's RelationFindReplTupleByIndex scans the index under
 * a dirty snapshot.  Such a scan can miss a row that is being updated right now:
 * it has passed the place of the new index entry before that entry exists, and
 * finds the old version dead when it comes to it.  We scan under a fresh MVCC
 * snapshot instead, which sees exactly one version of every row that stands
 * throughout.  What it finds may be outdated by the time that the caller writes;
 * the write tells, and the caller finds again.
 *
 * What it costs.  An index scan of its own for each row would allocate and free
 * some 30 kB of the btree's workspace, register a snapshot, and copy the row that
 * it finds.  So the scan stays open from row to row and is only rescanned; the
 * row stays in its buffer, which the slot keeps pinned until the next find; and
 * the snapshot is not registered.  That is sound because it is used up within
 * key_lookup_find(), before anything else can ask for a newer one, and because
 * the transaction's active snapshot, which is older, keeps back the horizon of
 * what may be removed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relscan.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "state/key_lookup.h"

void
key_lookup_init(KeyLookup *l, Relation rel, Relation index, TupleTableSlot *slot)
{
	l->rel = rel;
	l->index = index;
	l->slot = slot;
	l->scan = NULL;
	l->cxt = CurrentMemoryContext;
	l->nkeys = IndexRelationGetNumberOfKeyAttributes(index);
	for (int i = 0; i < l->nkeys; i++)
	{
		Oid			opcintype = index->rd_opcintype[i];
		Oid			op = get_opfamily_member(index->rd_opfamily[i], opcintype, opcintype,
											 BTEqualStrategyNumber);

		if (!OidIsValid(op))
			elog(ERROR, "no equality operator for column %d of index \"%s\"",
				 i + 1, RelationGetRelationName(index));
		ScanKeyInit(&l->keys[i], i + 1, BTEqualStrategyNumber, get_opcode(op), (Datum) 0);
		l->keys[i].sk_collation = index->rd_indcollation[i];
	}
}

bool
key_lookup_find(KeyLookup *l, const Datum *key_values)
{
	return key_lookup_find_as_of(l, key_values, GetLatestSnapshot());
}

bool
key_lookup_find_as_of(KeyLookup *l, const Datum *key_values, Snapshot snapshot)
{
	MemoryContext oldcontext;
	bool		found;

	Assert(ActiveSnapshotSet());
	for (int i = 0; i < l->nkeys; i++)
		l->keys[i].sk_argument = key_values[i];

	/* our own pin would keep the page from being pruned */
	ExecClearTuple(l->slot);
	oldcontext = MemoryContextSwitchTo(l->cxt); /* the scan allocates as it goes */
	if (l->scan == NULL)
		l->scan = compat_index_beginscan(l->rel, l->index, snapshot, l->nkeys);
	l->scan->xs_snapshot = snapshot;
	index_rescan(l->scan, l->keys, l->nkeys, NULL, 0);
	found = index_getnext_slot(l->scan, ForwardScanDirection, l->slot);
	MemoryContextSwitchTo(oldcontext);
	return found;
}

void
key_lookup_end(KeyLookup *l)
{
	ExecClearTuple(l->slot);
	if (l->scan)
		index_endscan(l->scan);
	l->scan = NULL;
}
