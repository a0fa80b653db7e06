/*-------------------------------------------------------------------------
 *
 * early.c
 *		Large transactions that leave before their commit has been decoded.
 *
 * The reorder buffer gathers a transaction until it meets the commit, and beyond
 * logical_decoding_work_mem puts it on disk, change by change.  Its way out is to
 * stream what it has to the receiver, who then must put it aside himself, or merge it
 * into an open transaction that may have to be rolled back, holding locks against
 * local writers for as long as the writer elsewhere takes.
 *
 * But whoever is behind decodes what was committed long ago.  The log has not said so
 * yet, the commit log (clog) has: such a transaction will not be rolled back, nor does
 * anybody wait for its writer.  So those, and no others, leave in parts as they are
 * decoded: the receiver merges while we decode, and we need neither the memory nor the
 * disk.  It commits when the transaction's commit has come.
 *
 * The order stays causal.  A part leaves when all of the log before it has been
 * decoded, so that whatever its rows were made from has left already: other
 * transactions' commits stand between the parts where they stand in the log.
 *
 * How.  The server streams the largest transaction when memory is over the limit and
 * ctx->streaming says that the plugin can take it; both are looked at for each change
 * that is queued.  It asks the filter by origin before it queues the changes of a
 * record, and that is where we choose: for just this record, ctx->streaming is set
 * and the limit lowered to what all others have in memory and a little more.  So:
 *
 *	- The largest transaction must be the one that we mean, when the record has been
 *	  queued, too: the record must be one of its own.
 *	- It must not be in the middle of a row.  The server keeps account of TOAST chunks
 *	  whose row is still to come, and of speculative insertions, but only while
 *	  ctx->streaming is set.  So the record must be neither, and the change before it
 *	  must have completed a row (is_between_rows()).
 *	- Of a transaction that was committed, subtransactions may have been rolled back
 *	  whose ROLLBACK has not been decoded: early_change_counts() asks the commit log.
 *	- The state of a transaction in the commit log is final once it is not among the
 *	  running ones any more, in this order (access/transam/README, and see
 *	  TransactionIdIsInProgress()).  That the log is long enough is what the slot's
 *	  catalog_xmin holds back.
 *	- Transactions that change catalogs, or have many subtransactions, would cost a
 *	  walk over those for each part.  They take the old way.
 *
 * Should the server choose another one all the same, or tell us that one that left in
 * parts is not for this receiver after all (a commit can have an origin where its rows
 * had none), we raise: the receiver throws away what it has of it, and asks for
 * everything to come whole (link/worker.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam_xlog.h"
#include "access/transam.h"
#include "access/xlogreader.h"
#include "replication/snapbuild.h"
#include "storage/procarray.h"

#include "compat.h"
#include "send/early.h"

/* a part is this share of logical_decoding_work_mem: 1 MB by default */
#define PART_SHARE 64

#define MAX_SUBTRANSACTIONS 64

/* columns of a TOAST table */
#define TOAST_COLUMNS 3

static void
restore_limit(void *arg)
{
	Early	   *e = arg;

	/* unless the operator has set another one meanwhile */
	if (e->lowered_kb != 0 && logical_decoding_work_mem == e->lowered_kb)
		logical_decoding_work_mem = e->given_kb;
	e->lowered_kb = 0;
}

void
early_start(Early *e, MemoryContext cxt)
{
	MemoryContextCallback *callback = MemoryContextAllocZero(cxt, sizeof(MemoryContextCallback));

	memset(e, 0, sizeof(*e));
	callback->func = restore_limit;
	callback->arg = e;
	MemoryContextRegisterResetCallback(cxt, callback);
}

/* the transaction of which the server would stream: see ReorderBufferLargestTopTXN() */
static ReorderBufferTXN *
largest_transaction(ReorderBuffer *rb)
{
	ReorderBufferTXN *largest = NULL;
	dlist_iter	iter;

	dlist_foreach(iter, &rb->txns_by_base_snapshot_lsn)
	{
		ReorderBufferTXN *txn = dlist_container(ReorderBufferTXN, base_snapshot_node, iter.cur);

		if (largest == NULL || txn->total_size > largest->total_size)
			largest = txn;
	}
	return largest;
}

static bool
was_committed(TransactionId xid)
{
	return !TransactionIdIsInProgress(xid) && TransactionIdDidCommit(xid);
}

/* the transaction or one of its subtransactions by its id; NULL if it is none of them */
static ReorderBufferTXN *
branch_of(ReorderBufferTXN *top, TransactionId xid)
{
	dlist_iter	iter;

	if (top->xid == xid)
		return top;
	dlist_foreach(iter, &top->subtxns)
	{
		ReorderBufferTXN *sub = dlist_container(ReorderBufferTXN, node, iter.cur);

		if (sub->xid == xid)
			return sub;
	}
	return NULL;
}

/* does the record make, change or delete rows of a table (not of its TOAST), without waiting for another record? */
static bool
is_row_record(XLogReaderState *record, bool *is_multi)
{
	uint8		info = XLogRecGetInfo(record) & XLOG_HEAP_OPMASK;

	*is_multi = false;
	if (XLogRecGetRmid(record) == RM_HEAP2_ID)
	{
		*is_multi = true;
		return info == XLOG_HEAP2_MULTI_INSERT;
	}
	if (XLogRecGetRmid(record) != RM_HEAP_ID)
		return false;
	if (info == XLOG_HEAP_INSERT)
		return (((xl_heap_insert *) XLogRecGetData(record))->flags &
				(XLH_INSERT_ON_TOAST_RELATION | XLH_INSERT_IS_SPECULATIVE)) == 0;
	if (info == XLOG_HEAP_DELETE)
		return (((xl_heap_delete *) XLogRecGetData(record))->flags & XLH_DELETE_CONTAINS_OLD) != 0;
	return info == XLOG_HEAP_UPDATE || info == XLOG_HEAP_HOT_UPDATE;
}

/*
 * Did the change before this record complete a row, so that nothing waits for this
 * one?  (Of several rows inserted by one call, the server says it of the last.)  A row
 * of the same table as this record's is no TOAST chunk, nor is one of other than three
 * columns.  Deletions of TOAST chunks, which stand between the new chunks of an updated
 * row and the row, log no key.
 */
static bool
is_between_rows(ReorderBufferTXN *txn, XLogReaderState *record)
{
	ReorderBufferChange *before;
	CompatRelFile file;

	if (dlist_is_empty(&txn->changes))
		return false;
	before = dlist_tail_element(ReorderBufferChange, node, &txn->changes);
	switch (before->action)
	{
		case REORDER_BUFFER_CHANGE_UPDATE:
			return before->data.tp.clear_toast_afterwards;
		case REORDER_BUFFER_CHANGE_DELETE:
			return before->data.tp.oldtuple != NULL;
		case REORDER_BUFFER_CHANGE_INSERT:
			if (!before->data.tp.clear_toast_afterwards)
				return false;
			if (HeapTupleHeaderGetNatts(compat_change_newtuple(before)->t_data) != TOAST_COLUMNS)
				return true;
			XLogRecGetBlockTag(record, 0, &file, NULL, NULL);
			return compat_rel_file_equals(file, compat_change_rel_file(before));
		default:
			return false;
	}
}

/* may a part of this transaction leave with this record? */
static bool
is_moment(ReorderBufferTXN *txn, XLogReaderState *record)
{
	ReorderBufferTXN *branch;
	bool		is_multi;

	if (!is_row_record(record, &is_multi))
		return false;
	branch = branch_of(txn, XLogRecGetXid(record));

	/* what was rolled back may have left TOAST chunks, which the first of several rows does not clear */
	return branch != NULL && is_between_rows(branch, record) && !(is_multi && txn->nsubtxns > 0);
}

static bool
may_leave(LogicalDecodingContext *ctx, Early *e, ReorderBufferTXN *txn)
{
	if (e->leaving != InvalidTransactionId)
		return txn->xid == e->leaving;
	return !rbtxn_has_catalog_changes(txn) && txn->nsubtxns <= MAX_SUBTRANSACTIONS &&
		SnapBuildCurrentState(ctx->snapshot_builder) == SNAPBUILD_CONSISTENT &&
		!SnapBuildXactNeedsSkip(ctx->snapshot_builder, ctx->reader->ReadRecPtr) &&
		was_committed(txn->xid);
}

/* look whether a part is due, now that there is enough in memory */
static void
look(LogicalDecodingContext *ctx, Early *e, Size part_bytes)
{
	ReorderBuffer *rb = ctx->reorder;
	ReorderBufferTXN *txn = largest_transaction(rb);
	Size		others;

	if (txn == NULL || txn->total_size < part_bytes || !may_leave(ctx, e, txn))
	{
		e->look_at = rb->size + part_bytes / 4;
		return;
	}
	if (!is_moment(txn, ctx->reader))
		return;					/* at the next record, perhaps */
	others = rb->size - txn->total_size;
	e->chosen = txn->xid;
	e->given_kb = logical_decoding_work_mem;
	e->lowered_kb = (int) ((others + part_bytes) / 1024);
	logical_decoding_work_mem = e->lowered_kb;
	e->look_at = others + part_bytes;
}

void
early_before_record(LogicalDecodingContext *ctx, Early *e)
{
	Size		size = ctx->reorder->size;
	Size		part_bytes;

	restore_limit(e);
	e->chosen = InvalidTransactionId;
	ctx->streaming = e->leaving != InvalidTransactionId && XLogRecGetRmid(ctx->reader) == RM_XACT_ID;
	part_bytes = (Size) logical_decoding_work_mem * 1024 / PART_SHARE;
	if (size < e->look_at)
	{
		/* memory may have been freed since */
		e->look_at = Min(e->look_at, size + part_bytes);
		return;
	}
	if (ctx->streaming || size < part_bytes)
		return;
	look(ctx, e, part_bytes);
	ctx->streaming = e->chosen != InvalidTransactionId;
}

bool
early_part_begins(Early *e, ReorderBufferTXN *txn)
{
	if (txn->xid == e->leaving)
		return false;
	if (txn->xid != e->chosen || e->leaving != InvalidTransactionId)
		elog(ERROR, "transaction %u was to leave in parts, not %u", e->chosen, txn->xid);
	e->leaving = txn->xid;
	e->judged = InvalidTransactionId;
	return true;
}

void
early_ends(Early *e)
{
	e->leaving = InvalidTransactionId;
}

bool
early_change_counts(Early *e, ReorderBufferTXN *top, ReorderBufferTXN *txn)
{
	if (txn == top)
		return true;
	if (txn->xid != e->judged)
	{
		e->judged_counts = TransactionIdDidCommit(txn->xid);
		if (!e->judged_counts && !TransactionIdDidAbort(txn->xid))
			elog(ERROR, "subtransaction %u of committed transaction %u is neither committed nor rolled back",
				 txn->xid, top->xid);
		e->judged = txn->xid;
	}
	return e->judged_counts;
}
