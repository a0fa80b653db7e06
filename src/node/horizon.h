/*
 * horizon.h
 *		What every member of the group holds, as far as this node knows.
 */
#ifndef FERRY_NODE_HORIZON_H
#define FERRY_NODE_HORIZON_H

#include "postgres.h"

#include "core/horizon.h"
#include "utils/snapshot.h"

/*
 * The horizon under which rows here are read, now.  Read a row first, then this:
 * so it is never older than the one under which the row was pruned.  The vector
 * belongs to this process and changes when this is called again.
 */
extern const NodeVector *horizon_current(void);

/* counts its changes */
extern uint32 horizon_generation(void);

/* the horizon on record, under a snapshot; NULL: a historic one, or the latest catalog snapshot */
extern void horizon_read(Snapshot snapshot, NodeVector *out);

/*
 * Every member holds this, says a peer, or our own reckoning: raise ours to it, as
 * far as we hold it ourselves.  A transaction of its own, without replication
 * origin, if that changes anything; not to be called within one.
 */
extern void horizon_raise(const NodeVector *h);

#endif							/* FERRY_NODE_HORIZON_H */
