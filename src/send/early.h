/*
 * early.h
 *		Large transactions that leave before their commit has been decoded.
 */
#ifndef FERRY_SEND_EARLY_H
#define FERRY_SEND_EARLY_H

#include "postgres.h"

#include "replication/logical.h"
#include "replication/reorderbuffer.h"

typedef struct Early
{
	TransactionId leaving;		/* it leaves in parts and is not over; or InvalidTransactionId */
	TransactionId chosen;		/* what is in memory of it leaves with the record that is decoded now */
	Size		look_at;		/* bytes in memory before which there is nothing to look for */
	int			given_kb;		/* logical_decoding_work_mem as it was ... */
	int			lowered_kb;		/* ... when we lowered it to this; 0: we have not */
	TransactionId judged;		/* a subtransaction, and whether it counts */
	bool		judged_counts;
} Early;

/* cxt is the decoding context's: when it goes, all is as it was */
extern void early_start(Early *e, MemoryContext cxt);

/*
 * Before a record is queued: is it time for a part?  ctx->streaming is true when it is,
 * and while commits and aborts are decoded, if something leaves in parts.
 */
extern void early_before_record(LogicalDecodingContext *ctx, Early *e);

/* a part begins; raises if it is not of the transaction that was chosen.  True if it is the first. */
extern bool early_part_begins(Early *e, ReorderBufferTXN *txn);

/* the transaction is over */
extern void early_ends(Early *e);

/* was this change not rolled back to a savepoint?  The transaction's own always count. */
extern bool early_change_counts(Early *e, ReorderBufferTXN *top, ReorderBufferTXN *txn);

#endif							/* FERRY_SEND_EARLY_H */
