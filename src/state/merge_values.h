/*
 * merge_values.h
 *		The values of a row that a merge plan makes of two states.
 */
#ifndef FERRY_STATE_MERGE_VALUES_H
#define FERRY_STATE_MERGE_VALUES_H

#include "compat.h"
#include "state/state.h"

/*
 * The state that a plan (MERGE_TAKEN or MERGE_MERGED) makes of two; allocates in
 * the current context, values may point into both.  Raises
 * ERRCODE_NO_DATA_FOUND if a value is in neither, and what strategies raise.
 */
extern RowState *state_merge(const FerryTable *table, Relation rel, const MergePlan *plan,
							 const RowState *local, const RowState *remote);

/*
 * Does the plan (NULL: nothing is held, local NULL) need a value that remote does
 * not bring, being unchanged, and local does not have either?  image_too: for a
 * row that will be dead, too.
 */
extern bool state_lacks_value(const FerryTable *table, const MergePlan *plan,
							  const RowState *local, const RowState *remote, bool image_too);

/*
 * remote with the values that it does not bring, where local surely has the same;
 * whole: it lacks none now.  Points into both.
 */
extern const RowState *state_completed(const FerryTable *table, const RowState *remote,
									   const RowState *local, bool *whole);

/* raise: a state cannot be merged because it does not carry this column's value */
pg_noreturn extern void state_missing_value(const FerryTable *table, Relation rel, AttrNumber attno);

#endif							/* FERRY_STATE_MERGE_VALUES_H */
