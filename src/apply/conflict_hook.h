/*
 * conflict_hook.h
 *		A user's function that hears of a table's conflicts.
 */
#ifndef FERRY_APPLY_CONFLICT_HOOK_H
#define FERRY_APPLY_CONFLICT_HOOK_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "utils/rel.h"

/*
 * Call the hook of rel, if it has one, with a row of ferry.conflict.  Raises
 * nothing that the hook does, but for a user who cancels his own query.
 * Allocates in the current context.
 */
extern void conflict_hook_call(Relation rel, HeapTuple conflict, TupleDesc desc);

#endif							/* FERRY_APPLY_CONFLICT_HOOK_H */
