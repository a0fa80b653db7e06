/*
 * range_tombstone.h
 *		What TRUNCATE leaves behind: one tombstone for all rows of a table.
 *
 * A range tombstone is a version: its dot is that of the TRUNCATE, its vector
 * says what the truncating node held.  A state whose vector is included in it is
 * dead, whenever it arrives; others live.  ferry.range_tombstone keeps those in
 * force, of each table a short list of which none includes another.
 */
#ifndef FERRY_STATE_RANGE_TOMBSTONE_H
#define FERRY_STATE_RANGE_TOMBSTONE_H

#include "state/state.h"

typedef struct RangeList
{
	int			n;
	Version    *ranges;
} RangeList;

/*
 * Those of a registered table, cached per backend: hold a lock on the table, and
 * do not keep the pointer across statements.  Who writes one holds a lock that
 * excludes writers of rows.
 */
extern const RangeList *ranges_of(Oid rootid);

/* is a state with this version dead by one of them? */
extern bool ranges_cover(const RangeList *list, const Version *v);

/*
 * Did a state with this version go on from something that a range covers without
 * knowing of it: was it changed beside the TRUNCATE?
 */
extern bool range_was_outlived(const Version *range, const Version *v);

/*
 * Put one into force; false if one that stands includes it.  Those that it
 * includes are removed.  The caller excludes writers of rows.
 */
extern bool ranges_add(Oid rootid, const Version *range);

/* remove those that every member has: vv at or below the stable horizon; returns how many */
extern int	ranges_prune(const Version *horizon);

/* a tuple of ferry.range_tombstone */
extern void range_decode(Datum *values, Oid *rootid, Version *range);

/* the join of two vectors, entry by entry; a's other parts */
extern Version range_join(const Version *a, const Dot *dots, int ndots);

#endif							/* FERRY_STATE_RANGE_TOMBSTONE_H */
