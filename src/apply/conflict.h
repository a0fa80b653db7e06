/*
 * conflict.h
 *		The record of conflicts: one shape, one place.
 */
#ifndef FERRY_APPLY_CONFLICT_H
#define FERRY_APPLY_CONFLICT_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "state/state.h"

typedef enum ConflictKind
{
	CONFLICT_INSERT_INSERT,		/* both made the row, neither knew of the other */
	CONFLICT_UPDATE_UPDATE,		/* both changed the same columns to different values */
	CONFLICT_UPDATE_DELETE,		/* changed here, deleted there */
	CONFLICT_DELETE_UPDATE,		/* deleted here, changed there */
	CONFLICT_UNIQUE_KEY,		/* two rows, one value in a unique or exclusion constraint */
	CONFLICT_FOREIGN_KEY,		/* a row refers to one that died elsewhere */
	CONFLICT_CHECK,				/* each side's row is valid, the merged one is not */
	CONFLICT_TRUNCATE,			/* changed here or there beside a TRUNCATE */
	CONFLICT_DIVERGENCE			/* found by verification: what should have been equal was not */
} ConflictKind;

typedef enum ConflictWinner
{
	WINNER_LOCAL,
	WINNER_REMOTE,
	WINNER_MERGED,				/* some columns from each */
	WINNER_NONE					/* nobody yet: left to ferry.heal() */
} ConflictWinner;

typedef struct Conflict
{
	ConflictKind kind;
	ConflictWinner winner;
	const char *rule;
	List	   *columns;		/* of char *: what both sides wrote differently, or what the constraint is on */
	const char *constraint;		/* the constraint's name, or NULL */
	const RowState *subject;	/* whose key is recorded where the two states are of different rows, or NULL */
} Conflict;

/*
 * Write a conflict to ferry.conflict in the current transaction: both images,
 * both dots.  peer may be NULL.
 */
extern void conflict_record(const FerryTable *table, Relation rel, const char *peer,
							const RowState *local, const RowState *remote,
							const Conflict *conflict);

/* the same about a row of rel whose parent is dead; key and image are jsonb, columns text[], the others text */
extern void conflict_record_orphan(Relation rel, Datum key, Datum columns, Datum image, Datum dot, Datum death,
								   Datum winner, Datum rule, Datum constraint);

/*
 * Write a row of ferry.conflict about a row of rel, and call the table's hook.
 * values and nulls are the columns of ferry.conflict, in its order.
 */
extern void conflict_write(Relation rel, const Datum *values, const bool *nulls);

/* insert a formed row into one of ferry's own tables, indexes included */
extern void apply_log_insert(const char *table, const Datum *values, const bool *nulls);

#endif							/* FERRY_APPLY_CONFLICT_H */
