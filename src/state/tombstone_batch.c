/*-------------------------------------------------------------------------
 *
 * tombstone_batch.c
 *		Tombstones that wait to be written together, page by page.
 *
 * A tombstone that is written by itself costs a record of the log for the heap
 * and one for the index, a command counter, and a look by everyone who decodes.
 * Those of one statement, or of one run of merged deaths, share the heap's: one a
 * page.  So they wait here, 512 at most.
 *
 * Nobody may see that they wait.  Other transactions see neither the death of the
 * rows nor their tombstones before we commit.  In ours
 *
 *	- whoever looks into a table of tombstones has everything written first that
 *	  waits for it, whoever lets it wait (tomb_batch_flush_table);
 *	- the statement's end comes before its AFTER triggers, and writes;
 *	- a commit at which something waits is refused: it would be a deletion that
 *	  no other node hears of.
 *
 * Subtransactions.  A function that a statement calls may begin one, look, and
 * so write what the statement lets wait, and abort: the tombstones are gone, the
 * rows are still deleted by the statement.  So what was written from within a
 * subtransaction is kept until that has become part of the one in which the rows
 * died (written_in), and waits again if it aborts.  What is added within a deeper
 * subtransaction than what waits cannot wait with it.
 *
 *		n == 0							nothing waits; not on the list
 *		n > 0, written_in invalid		waits
 *		n > 0, written_in valid			written, perhaps to be written again
 *
 * Memory goes with the executor's state; after an error sometimes before we are
 * told of the abort, hence the callback on the context.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "lib/ilist.h"
#include "utils/memutils.h"

#include "state/tombstone_batch.h"

struct TombBatch
{
	Relation	rel;
	List	  **slot_list;		/* the slots' owner */
	MemoryContext cxt;			/* in which the batch lives */
	TombBatchWrite write;
	void	   *arg;
	dlist_node	node;
	bool		is_listed;
	bool		is_writing;
	SubTransactionId subid;		/* in which its rows died */
	SubTransactionId written_in;	/* one below that has written it */
	Size		bytes;
	int			n;
	TupleTableSlot *slots[TOMB_BATCH_ROWS]; /* made at first need */
};

/* those in which something waits, or is kept */
static dlist_head waiting = DLIST_STATIC_INIT(waiting);

static void
forget_rows(TombBatch *b)
{
	for (int i = 0; i < b->n; i++)
		ExecClearTuple(b->slots[i]);
	b->n = 0;
	b->bytes = 0;
	b->written_in = InvalidSubTransactionId;
}

static void
unlist(TombBatch *b)
{
	if (b->is_listed)
		dlist_delete(&b->node);
	b->is_listed = false;
}

/* --- the end of what they live in --- */

static void
memory_goes(void *arg)
{
	unlist(arg);
}

static void
transaction_ends(XactEvent event, void *arg)
{
	if (dlist_is_empty(&waiting))
		return;
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		elog(ERROR, "deleted rows were left without tombstones");
	if (event == XACT_EVENT_ABORT)
		while (!dlist_is_empty(&waiting))
			unlist(dlist_head_element(TombBatch, node, &waiting));
}

static void
subtransaction_ends(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	dlist_mutable_iter iter;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	dlist_foreach_modify(iter, &waiting)
	{
		TombBatch  *b = dlist_container(TombBatch, node, iter.cur);

		if (event == SUBXACT_EVENT_ABORT_SUB)
		{
			b->is_writing = false;
			if (b->subid == subid)
				unlist(b);		/* its rows live again */
			else if (b->written_in == subid)
				b->written_in = InvalidSubTransactionId;
			continue;
		}
		if (b->subid == subid)
			b->subid = parent;
		if (b->written_in == subid)
			b->written_in = parent;
		if (b->written_in == b->subid)
		{
			unlist(b);
			forget_rows(b);
		}
	}
}

/* --- waiting --- */

TombBatch *
tomb_batch_create(Relation rel, List **slots, TombBatchWrite write, void *arg)
{
	static bool watching = false;
	TombBatch  *b = palloc0(sizeof(TombBatch));
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));

	if (!watching)
	{
		RegisterXactCallback(transaction_ends, NULL);
		RegisterSubXactCallback(subtransaction_ends, NULL);
		watching = true;
	}
	b->rel = rel;
	b->slot_list = slots;
	b->cxt = CurrentMemoryContext;
	b->write = write;
	b->arg = arg;
	callback->func = memory_goes;
	callback->arg = b;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	return b;
}

bool
tomb_batch_add(TombBatch *b, Datum *values, bool *nulls)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	MemoryContext oldcontext;
	HeapTuple	tuple;

	/* while one is written, what it meets is written at once */
	if (b->is_writing || (b->n > 0 && (b->subid != subid || b->written_in != InvalidSubTransactionId)))
		return false;
	oldcontext = MemoryContextSwitchTo(b->cxt);
	if (b->slots[b->n] == NULL)
		b->slots[b->n] = ExecAllocTableSlot(b->slot_list, RelationGetDescr(b->rel), &TTSOpsHeapTuple);
	tuple = heap_form_tuple(RelationGetDescr(b->rel), values, nulls);
	ExecStoreHeapTuple(tuple, b->slots[b->n], true);
	MemoryContextSwitchTo(oldcontext);
	b->n++;
	b->bytes += HEAPTUPLESIZE + tuple->t_len;
	b->subid = subid;
	if (!b->is_listed)
		dlist_push_head(&waiting, &b->node);
	b->is_listed = true;
	if (b->n == TOMB_BATCH_ROWS || b->bytes > TOMB_BATCH_BYTES)
		tomb_batch_flush(b);
	return true;
}

/* what waits, and is not being written just now */
static bool
is_due(const TombBatch *b)
{
	return b->n > 0 && !b->is_writing && b->written_in == InvalidSubTransactionId;
}

void
tomb_batch_flush(TombBatch *b)
{
	if (!is_due(b))
		return;
	b->is_writing = true;
	b->write(b->arg, b->slots, b->n);
	b->is_writing = false;
	if (b->subid != GetCurrentSubTransactionId())
	{
		b->written_in = GetCurrentSubTransactionId();
		return;
	}
	unlist(b);
	forget_rows(b);
}

static TombBatch *
find_due(Oid tombid)
{
	dlist_iter	iter;

	dlist_foreach(iter, &waiting)
	{
		TombBatch  *b = dlist_container(TombBatch, node, iter.cur);

		if (is_due(b) && RelationGetRelid(b->rel) == tombid)
			return b;
	}
	return NULL;
}

void
tomb_batch_flush_table(Oid tombid)
{
	TombBatch  *b;

	/* writing looks for itself, and so changes the list */
	while ((b = find_due(tombid)) != NULL)
		tomb_batch_flush(b);
}
