/*
 * merged_check.h
 *		Merged rows that violate a CHECK constraint which each side's row fulfils.
 */
#ifndef FERRY_APPLY_MERGED_CHECK_H
#define FERRY_APPLY_MERGED_CHECK_H

#include "apply/conflict.h"
#include "apply/relation_map.h"
#include "apply/target.h"

/*
 * merged is what plan makes of two concurrent states, alive, and about to be
 * stored; base is the row that it replaces, NULL if none stands.  If it violates
 * a CHECK that can be met by taking the columns concerned from one side, that is
 * done: merged becomes a write of our own, for the caller to store and to put on
 * the list of own writes, *conflict says what happened, and the result is true.
 * With explain it is only said what merged would be, without a stamp.
 * Otherwise merged is left alone; storing it raises if it is not valid.
 * Allocates in the current context.
 */
extern bool merged_check(ApplyTarget *t, const MergePlan *plan, const RowState *local, const RowState *remote,
						 TupleTableSlot *base, RowState *merged, bool explain, Conflict *conflict);

/* a constraint sent a state into quarantine: if that is because of what is held here, put it on record */
extern void merged_check_report(const char *peer, RelationMap *map, const WireRow *row,
								const NodeVector *horizon, const ErrorData *error);

#endif							/* FERRY_APPLY_MERGED_CHECK_H */
