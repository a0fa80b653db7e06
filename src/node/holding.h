/*
 * holding.h
 *		What this node holds of every origin, and what it waits for.
 */
#ifndef FERRY_NODE_HOLDING_H
#define FERRY_NODE_HOLDING_H

#include "postgres.h"

#include "core/vector.h"
#include "node/node.h"

extern Size holding_shmem_size(void);
extern void holding_shmem_init(void);

/* a node's entry is in use: read what it held when the server stopped; once, in a transaction */
extern void holding_load(NodeShared *node);

/* up to where our own writes are promised in the row on record; in a transaction */
extern Hlc	holding_on_record(NodeId id);

/* the entry is free again */
extern void holding_forget(NodeShared *node);

/*
 * What this node promises to others: every write up to these stamps is in its
 * tables, committed and durable; its own entry included.
 */
extern void holding_promised(NodeVector *out);

/*
 * What has arrived, own entry (all that is visible) included: at least what is
 * promised, and what waits in quarantine too.
 */
extern void holding_received(NodeVector *out);

/*
 * This has arrived, committed and durable.  Unless whole, the peer that says so
 * has tables that are not here, and nothing is promised on the strength of it.
 */
extern void holding_raise(const NodeVector *received, bool whole);

/* this node holds all that there is of some nodes that write no more; not told to those who wait for it */
extern void holding_promise(const NodeVector *v);

/*
 * A state with this version waits in quarantine, in this transaction: what it
 * holds is not promised.  The caller has ferry.quarantined locked.
 */
extern void holding_quarantined(const Version *version);

/* look again at what is in quarantine: nothing, if somebody is writing there */
extern void holding_review_quarantine(void);

/* the same for own writes that were to be made once more: if none is left, the watermark may go on */
extern void holding_review_own_writes(void);

/* have what we promise told */
extern void holding_tell(NodeShared *node);

/* a stream begins: have that told again, and what we know of others; counted */
extern void holding_tell_stream(NodeShared *node);
extern uint32 holding_streams(void);

/* counts the reasons to tell */
extern uint32 holding_generation(void);

/* the horizon in shared memory: use node/horizon.h */
extern void holding_horizon(NodeShared *node, NodeVector *out);
extern uint32 holding_horizon_generation(NodeShared *node);
extern void holding_publish_horizon(const NodeVector *h);

/*
 * A vector, or a token, in text; raises ERRCODE_INVALID_TEXT_REPRESENTATION.  Of
 * a token: holds is what its node held, awaited what must have arrived before
 * everything that was committed there is here (NULL: not wanted).
 */
extern void holding_parse(const char *text, NodeVector *holds, NodeVector *awaited);

#endif							/* FERRY_NODE_HOLDING_H */
