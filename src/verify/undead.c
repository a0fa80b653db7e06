/*-------------------------------------------------------------------------
 *
 * undead.c
 *		Rows that stand although a TRUNCATE that is in force here covers them.
 *
 * A range tombstone kills what it covers when it is put into force, and whatever
 * covered arrives later is ignored.  A row that stands all the same was put there
 * behind ferry's back: restored from an old dump, say.  The other side, which has
 * the range too, holds nothing of it that could be merged, so that nobody but the
 * side that has the row can mend it: by deleting it, as the range should have.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "apply/conflict.h"
#include "apply/range_merge.h"
#include "apply/target.h"
#include "state/range_tombstone.h"
#include "verify/undead.h"

/* delete one row if it still stands and is covered; put that on record */
static bool
bury(ApplyTarget *t, const KeyEntry *entry, const char *peer)
{
	Relation	rel = target_relation(t);
	const FerryTable *table = target_table(t);
	Conflict	conflict = {CONFLICT_DIVERGENCE};
	WireReader	r;
	RowState   *row;

	wire_reader_init(&r, entry->bytes, entry->len);
	row = range_bury(t, digest_key_read(table, rel, &r));
	if (row == NULL)
		return false;
	conflict.winner = WINNER_REMOTE;
	conflict.rule = "truncated_row";
	conflict_record(table, rel, peer, row, range_key_state(t, row), &conflict);
	return true;
}

void
undead_bury(Side *h, const char *peer, bool repair, TakeCounts *counts)
{
	Relation	rel;
	ApplyTarget *t;
	MemoryContext cxt;
	MemoryContext oldcontext;
	ListCell   *lc;
	int			nest_level;

	counts->differing += list_length(h->undead);
	if (h->undead == NIL || !repair)
	{
		h->undead = NIL;
		return;
	}
	nest_level = NewGUCNestLevel();
	(void) set_config_option("session_replication_role", "replica", PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	rel = table_open(h->relid, RowExclusiveLock);
	cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry undead", ALLOCSET_DEFAULT_SIZES);
	oldcontext = MemoryContextSwitchTo(cxt);
	t = target_open(rel, table_lookup_required(h->relid));
	target_enter(t);
	foreach(lc, h->undead)
	{
		CHECK_FOR_INTERRUPTS();
		if (bury(t, lfirst(lc), peer))
			counts->repaired++;
	}
	target_leave(t);
	target_close(t);
	h->undead = NIL;
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(cxt);
	table_close(rel, NoLock);
	AtEOXact_GUC(true, nest_level);
}
