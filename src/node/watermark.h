/*
 * watermark.h
 *		Up to which stamp everything that this node wrote is decided: committed
 *		and visible, or never to be.
 */
#ifndef FERRY_NODE_WATERMARK_H
#define FERRY_NODE_WATERMARK_H

#include "postgres.h"

#include "node/node.h"

extern Size watermark_shmem_size(void);
extern void watermark_shmem_init(void);
extern void watermark_install(void);	/* from _PG_init */

/* this transaction is about to take its first stamp, which is at least lower */
extern void watermark_enter(NodeShared *node, Hlc lower);

/* it took one */
extern void watermark_note(Hlc stamp);

/*
 * This transaction's stamps go to the log under a peer's origin, so that not all
 * streams carry them, and are to be written once more (apply/own_write.c): until
 * watermark_published() the watermark stays below them.  The caller of either
 * holds a lock that excludes the other's, the first to the end of his transaction.
 */
extern void watermark_withhold(void);
extern void watermark_published(NodeShared *node);

/* a node's entry is made: learn of transactions that were prepared before the server started */
extern void watermark_load(Oid dboid);

/*
 * Every own write with a stamp up to the result is visible to snapshots that are
 * taken from now on, or will never be.
 */
extern Hlc	watermark_visible(NodeShared *node);

/*
 * The same for the log: the commit of every own write with a stamp up to the
 * result has been inserted into it, or never will be.  at_least is an own stamp
 * whose transaction is known to be so.
 */
extern Hlc	watermark_logged(NodeShared *node, Hlc at_least);

/* have all transactions ended that took their first stamp up to this? */
extern bool watermark_is_over(NodeShared *node, Hlc hlc);

#endif							/* FERRY_NODE_WATERMARK_H */
