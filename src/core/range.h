/*
 * range.h
 *		Range tombstones: what one version says of all rows of a table.
 */
#ifndef FERRY_CORE_RANGE_H
#define FERRY_CORE_RANGE_H

#include "core/version.h"

/* does the range include the version: is a state with it dead? */
extern bool range_covers(const Version *range, const Version *v);

/*
 * Did a state with this version go on from something that the range covers without
 * knowing of it: was it changed beside the TRUNCATE?  Of what was dropped from a
 * pruned one nothing is known but that it may be so.
 */
extern bool range_was_outlived(const Version *range, const Version *v);

/* the join of a's vector and these dots (sorted by node), entry by entry; a's other parts */
extern Version range_join(const Version *a, const Dot *dots, int ndots);

/*
 * The successor of v, which was changed beside the TRUNCATE, and of the range, written
 * at d: as by version_write, of no column.  Of what the range covers and v holds all
 * the same it takes over what would else be gone for whoever has the range already.
 */
extern void range_succeed(const Version *v, const Version *range, Dot d, const uint16_t *ids, int n,
						  bool track_columns, bool update_wins, bool alive, Version *out);

/* v is of a row that is born while these ranges are in force: it includes them */
extern void range_begin(Version *v, const Version *ranges, int n);

#endif							/* FERRY_CORE_RANGE_H */
