/*-------------------------------------------------------------------------
 *
 * insert_run.c
 *		New rows, many at a time.
 *
 * What comes in with one writer and one dot is most likely the birth of a row.
 * Such states gather, per table and beyond the ends of remote transactions; then
 * the heap takes them page by page, with one WAL record a page, and the index is
 * not asked before it is told: each key goes in as under a deferred unique
 * constraint, and the index says whether it may be there already.  One descent of
 * the index a row instead of two.
 *
 * A state of one dot may also be an update of all columns of a row that one node
 * writes, and a row written in vain is dear.  So runs are used only after a number
 * of births in a row, and no more when a key turned out to be held.
 *
 * Where the key may be there, or has a tombstone, our row is deleted again (in the
 * transaction that wrote it: nobody has seen it) and its state is merged as any
 * other.  Those who insert the same key beside us find our entry in the index and
 * wait for us, or we find theirs; those who bury it look into the index after
 * they have written, as we look for tombstones after we have.
 *
 * Rows change places by this: a run is written after other tables' rows that came
 * later.  That is sound because merging commutes, no trigger fires and nobody sees
 * the local transaction before it is whole.  Within a table the order is kept:
 * any state that is not a birth flushes the run first.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "apply/insert_run.h"
#include "apply/merge_row.h"
#include "compat.h"
#include "node/seen.h"
#include "state/range_tombstone.h"

#define RUN_ROWS 256
#define RUN_BYTES (256 * 1024)
#define RUN_AFTER_BIRTHS 8

struct InsertRun
{
	ApplyTarget *target;
	ResultRelInfo *rri;
	List	   *arbiter;		/* OID of the primary key's index */
	MemoryContext cxt;			/* of the states; reset when flushed */
	int			n;
	RowState   *states[RUN_ROWS];
	TupleTableSlot *slots[RUN_ROWS];	/* made at first need */
};

InsertRun *
insert_run_create(ApplyTarget *t)
{
	ResultRelInfo *rri = target_takes_runs(t);
	MemoryContext oldcontext;
	InsertRun  *run;

	if (rri == NULL)
		return NULL;
	oldcontext = MemoryContextSwitchTo(target_estate(t)->es_query_cxt);
	run = palloc0(sizeof(InsertRun));
	run->target = t;
	run->rri = rri;
	run->arbiter = list_make1_oid(RelationGetPrimaryKeyIndex(rri->ri_RelationDesc COMPAT_PK_ARG));
	run->cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry insert run", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(oldcontext);
	return run;
}

MemoryContext
insert_run_context(InsertRun *run)
{
	return run->cxt;
}

bool
insert_run_is_likely(InsertRun *run)
{
	return run->n > 0 || target_births(run->target) >= RUN_AFTER_BIRTHS;
}

/* one writer, one dot, every value here */
static bool
is_birth(const FerryTable *table, const RowState *state)
{
	if (!state->alive || state->version.nvv != 1 || state->version.ncols != 0 || state->version.nlive != 0)
		return false;
	for (int c = 0; c < table->nplain; c++)
		if (state->kinds[table->plain_attnos[c] - 1] != VALUE_HERE)
			return false;
	return true;
}

bool
insert_run_add(InsertRun *run, RowState *state)
{
	if (!is_birth(target_table(run->target), state) ||
		ranges_cover(ranges_of(target_table(run->target)->rootid), &state->version) ||
		merge_is_old_news(target_table(run->target), state))
		return false;
	Assert(run->n < RUN_ROWS);
	merge_raise_clock(state);
	seen_note(&state->version);
	run->states[run->n++] = state;
	return true;
}

bool
insert_run_is_full(const InsertRun *run)
{
	return run->n == RUN_ROWS || MemoryContextMemAllocated(run->cxt, false) > RUN_BYTES;
}

/* the states as rows, in the heap */
static void
write_heap(InsertRun *run)
{
	MemoryContext oldcontext = CurrentMemoryContext;

	for (int i = 0; i < run->n; i++)
	{
		if (run->slots[i] == NULL)
		{
			EState	   *estate = target_estate(run->target);

			MemoryContextSwitchTo(estate->es_query_cxt);
			run->slots[i] = table_slot_create(run->rri->ri_RelationDesc, &estate->es_tupleTable);
			MemoryContextSwitchTo(oldcontext);
		}
		target_fill(run->target, run->slots[i], run->states[i]);
	}
	table_multi_insert(run->rri->ri_RelationDesc, run->slots, run->n, GetCurrentCommandId(true), 0, NULL);
}

/* is the row's key held otherwise: as a row (the index may say so) or as a tombstone? */
static bool
is_held(InsertRun *run, int i, bool any_tombstones)
{
	Datum		key[INDEX_MAX_KEYS];

	if (!any_tombstones)
		return false;
	state_key_values(target_table(run->target), run->states[i], key);
	return !tombstones_key_is_free(target_tombstones(run->target), key);
}

/* take our row back and merge its state as any other */
static ApplyResult
merge_instead(InsertRun *run, int i, const char *peer)
{
	TM_FailureData tmfd;
	ItemPointerData tid = run->slots[i]->tts_tid;

	(void) compat_tuple_delete(run->rri->ri_RelationDesc, &tid, GetCurrentCommandId(true), &tmfd);
	CommandCounterIncrement();
	return merge_row(run->target, run->states[i], peer);
}

void
insert_run_flush(InsertRun *run, const char *peer, uint64 *results)
{
	EState	   *estate = target_estate(run->target);
	bool		held[RUN_ROWS];
	bool		any_tombstones;

	if (run->n == 0)
		return;
	write_heap(run);
	for (int i = 0; i < run->n; i++)
	{
		held[i] = compat_insert_index_tuples_soft(run->rri, run->slots[i], estate, false,
												  COMPAT_UPDATE_ALL_INDEXES, run->arbiter) != NIL;
		ResetPerTupleExprContext(estate);
	}
	CommandCounterIncrement();

	target_set_births(run->target, target_births(run->target) + run->n);
	any_tombstones = tombstones_any(target_tombstones(run->target));
	for (int i = 0; i < run->n; i++)
	{
		if (held[i] || is_held(run, i, any_tombstones))
		{
			target_set_births(run->target, 0);
			results[merge_instead(run, i, peer)]++;
		}
		else
			results[APPLY_APPLIED]++;
		ExecClearTuple(run->slots[i]);
	}
	run->n = 0;
	MemoryContextReset(run->cxt);
}
