/*
 * stamp.h
 *		Local writes, stamped: what the row trigger and the executor's own
 *		projections (statement.c) do to a row that is about to be stored.
 */
#ifndef FERRY_CAPTURE_STAMP_H
#define FERRY_CAPTURE_STAMP_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "fmgr.h"
#include "capture/tomb_keeper.h"
#include "node/table.h"

/* the row trigger: row_trigger.c */
extern Datum ferry_row_trigger(PG_FUNCTION_ARGS);

/* what became of the values */
typedef enum Stamped
{
	STAMPED_ALREADY,			/* nothing: the default's stamp stands */
	STAMPED_VERSION,			/* the version was set */
	STAMPED_VALUES				/* and a strategy wants other values than were written */
} Stamped;

/*
 * A row is born: values and nulls, by attribute number of the table, get their
 * version.  If the key has a tombstone, the row is its successor and the
 * tombstone goes.  keep_fresh: a version that this transaction's default gave
 * may stay.  Allocates in the current context, in which the result lives.
 * keeper, here and below, is the statement's, or NULL.
 */
extern Stamped stamp_birth(const FerryTable *table, TupleDesc desc, Datum *values, bool *nulls,
						   bool keep_fresh, TombKeeper *keeper);

/*
 * A row is updated: the columns whose bytes changed get a new dot.  A changed
 * key is the death of the old key and the birth of the new one.  As above.
 */
extern Stamped stamp_update(const FerryTable *table, TupleDesc desc,
							const Datum *old_values, const bool *old_nulls,
							Datum *values, bool *nulls, TombKeeper *keeper);

/*
 * The same where it is known which columns the statement assigns, and that the
 * key's are not among them: columns[0..n) are indexes into table->plain_attnos,
 * ascending.
 */
extern Stamped stamp_update_of(const FerryTable *table, TupleDesc desc, const int *columns, int n,
							   const Datum *old_values, const bool *old_nulls,
							   Datum *values, bool *nulls);

/* a row is about to be deleted: it leaves a tombstone */
extern void stamp_death(const FerryTable *table, const Datum *values, const bool *nulls,
						TombKeeper *keeper);

/* a row was deleted, by a statement that calls tomb_keeper_flush() when it ends */
extern void stamp_deleted(const FerryTable *table, const Datum *values, const bool *nulls,
						  TombKeeper *keeper);

#endif							/* FERRY_CAPTURE_STAMP_H */
