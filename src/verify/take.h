/*
 * take.h
 *		States from the other side of a comparison: what should be here and is
 *		not is a divergence, and is merged.
 */
#ifndef FERRY_VERIFY_TAKE_H
#define FERRY_VERIFY_TAKE_H

#include "postgres.h"

#include "verify/digest.h"

#define TAKE_PATIENCE_MS 2000

/* a repair gives way to whoever holds a row for longer than that */
#define VERIFY_LOCK_TIMEOUT "5s"

typedef struct TakeCounts
{
	int64		differing;		/* states that this node should hold and does not */
	int64		repaired;		/* of those, merged now */
	int64		mismatched;		/* same version, different content: merging cannot tell who is right */
	int64		undecided;		/* writes in them have not arrived here: in flight */
} TakeCounts;

typedef struct Take Take;

/*
 * A mismatch was found.  Both states are in the root table's layout; neither
 * is kept.  Returns whether it was settled by a write.
 */
typedef bool (*TakeMismatch) (Take *t, Relation rel, const FerryTable *table,
							  RowState *local, RowState *remote);

struct Take
{
	const char *peer;			/* for the records */
	NodeId		peer_id;
	Oid			relid;
	const VerifyShape *shape;
	bool		repair;
	int			patience_ms;	/* how long to wait for writes to arrive; 0 once that was in vain */
	const uint64 *asked;		/* sorted: hashes of the keys that may come; NULL: all */
	size_t		nasked;
	TakeMismatch on_mismatch;	/* may be NULL */
	void	   *arg;
	TakeCounts	counts;
};

/*
 * Judge the states of a frame and merge those that are missing here, in the
 * current transaction, which has written nothing yet: it waits for links.  Raises ERRCODE_PROTOCOL_VIOLATION on bytes
 * that no honest peer sends.
 */
extern void take_frame(Take *t, const void *data, size_t len);

#endif							/* FERRY_VERIFY_TAKE_H */
