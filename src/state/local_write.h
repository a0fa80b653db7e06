/*
 * local_write.h
 *		What a local write makes of a row's version, and of its values.
 */
#ifndef FERRY_STATE_LOCAL_WRITE_H
#define FERRY_STATE_LOCAL_WRITE_H

#include "state/state.h"

/* the state that a write finds: the live row, or the key's tombstone */
typedef struct FoundRow
{
	const Version *version;
	bool		alive;
	const Datum *values;		/* [attno - 1] */
	const bool *nulls;
	const uint8 *kinds;			/* ValueKind; NULL: every value is here */
} FoundRow;

/*
 * A local INSERT or UPDATE at dot d: the row as it is about to be stored is
 * values/nulls, found (NULL: the key was never seen) is what it replaces.
 * Fills *after, allocated in the current context.  Where a column's strategy
 * wants another value than was written (ferry.set_merge: a lowered maximum
 * stays), that is put into values/nulls; returns whether any was.
 *
 * An INSERT into a table without strategies whose key was never seen needs no
 * call: its version is the dot alone (state_birth_is_dot).
 */
extern bool state_local_write(const FerryTable *table, TupleDesc desc, const FoundRow *found,
							  Datum *values, bool *nulls, Dot d, Version *after);

static inline bool
state_plain_birth(const FerryTable *table)
{
	return !table->has_strategies;
}

/* the same, but for rows that begin with what a TRUNCATE killed (core/range.h) */
extern bool state_birth_is_dot(const FerryTable *table);

/* a local DELETE at dot d of a row with version before */
extern void state_local_delete(const FerryTable *table, const Version *before, Dot d, Version *after);

/* of a tombstone */
extern FoundRow state_found_dead(const RowState *tomb);

#endif							/* FERRY_STATE_LOCAL_WRITE_H */
