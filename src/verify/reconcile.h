/*
 * reconcile.h
 *		One table of this node compared with one peer's, and both repaired.
 */
#ifndef FERRY_VERIFY_RECONCILE_H
#define FERRY_VERIFY_RECONCILE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "verify/remote.h"
#include "verify/take.h"

typedef struct Comparison
{
	/* what is wanted */
	Oid			relid;
	bool		deep;			/* values too */
	bool		repair;
	bool		paced;
	bool		may_skip;		/* what nobody has touched since it was last read (known.c); not if deep */

	/* what came of it; true to the moment even if reconcile_table() raised */
	bool		is_here;		/* the table is under ferry here, still */
	bool		compared;		/* and the peer has it, too */
	TimestampTz scanned_at;		/* before the scans began */
	uint64		rows;			/* items compared: rows and tombstones */
	uint64		rows_known;		/* of those, not read again */
	uint64		ranges;			/* fingerprints compared */
	TakeCounts	here;
	TakeCounts	there;
} Comparison;

/* are the two sides proven equal as of scanned_at? */
static inline bool
comparison_is_clean(const Comparison *c)
{
	return c->compared && c->here.differing + c->there.differing == 0 &&
		c->here.mismatched == 0 && c->here.undecided + c->there.undecided == 0;
}

/*
 * Runs transactions of its own: the caller has none open.  Raises what the peer
 * or our tables raise; whatever was repaired until then stays.  r->bytes goes on
 * counting.  Memory comes from the current context, which should not live
 * long.
 */
extern void reconcile_table(Remote *r, Comparison *c);

#endif							/* FERRY_VERIFY_RECONCILE_H */
