/*
 * target.h
 *		A local table, opened to have states merged into it.
 */
#ifndef FERRY_APPLY_TARGET_H
#define FERRY_APPLY_TARGET_H

#include "postgres.h"

#include "core/vector.h"
#include "executor/executor.h"
#include "executor/execPartition.h"
#include "nodes/execnodes.h"
#include "state/state.h"
#include "state/tombstone.h"

typedef struct ApplyTarget ApplyTarget;

/*
 * A row found here.  slot is in the root table's layout; leaf and tid say where
 * the tuple lies.
 */
typedef struct ApplyFound
{
	ResultRelInfo *leaf;
	ItemPointerData tid;
	TupleTableSlot *slot;
} ApplyFound;

/*
 * Open a registered table (already opened and locked by the caller) for the
 * rest of the local transaction.  target_close releases what it holds; an abort
 * needs no call.
 */
extern ApplyTarget *target_open(Relation rel, const FerryTable *table);
extern void target_close(ApplyTarget *t);
extern Relation target_relation(ApplyTarget *t);
extern const FerryTable *target_table(ApplyTarget *t);
extern Tombstones *target_tombstones(ApplyTarget *t);

/*
 * A guess: how many states of one dot were births, one after the other, until
 * now?  Such a state may as well be an update of all columns.  Who guesses right
 * saves a look into the index.
 */
extern int	target_births(ApplyTarget *t);
extern void target_set_births(ApplyTarget *t, int births);

/* write as the table's owner, in a security-restricted context; target_leave fires AFTER triggers */
extern void target_enter(ApplyTarget *t);
extern void target_leave(ApplyTarget *t);

/*
 * The row with this state's key as of now; false if none is committed (or ours).
 * found->slot holds until the next target_find.
 */
extern bool target_find(ApplyTarget *t, const RowState *key, ApplyFound *found);

/* the same as of a registered snapshot */
extern bool target_find_as_of(ApplyTarget *t, const RowState *key, Snapshot snapshot, ApplyFound *found);

/*
 * Is the key free in the primary key's index?  Waits for transactions that are
 * inserting it.
 */
extern bool target_key_is_free(ApplyTarget *t, const RowState *key);

/* write; update and delete return false when someone else was faster: find again */
extern void target_insert(ApplyTarget *t, RowState *row);
extern bool target_update(ApplyTarget *t, ApplyFound *found, RowState *row);
extern bool target_delete(ApplyTarget *t, ApplyFound *found);

/*
 * For merged_check.c.  The row as it would be stored, in the root's layout, with
 * its generated columns; absent columns are base's, or their defaults where that is
 * NULL.  Holds until the next call that reads or writes the target.
 * target_checks is the place of what that file keeps with the target.
 */
extern TupleTableSlot *target_row(ApplyTarget *t, RowState *row, TupleTableSlot *base);
/* raises if such a row violates a constraint */
extern void target_check(ApplyTarget *t, RowState *row, TupleTableSlot *base);
struct TargetChecks;
extern struct TargetChecks **target_checks(ApplyTarget *t);

/*
 * For insert_run.c.  The table to insert into, or NULL if its rows must go in one
 * by one: it is partitioned, has triggers that fire, or constraints between rows
 * besides its key.  target_fill makes a new row and checks it.
 */
extern ResultRelInfo *target_takes_runs(ApplyTarget *t);
extern EState *target_estate(ApplyTarget *t);
extern void target_fill(ApplyTarget *t, TupleTableSlot *slot, RowState *row);

/*
 * Rows that were written although another row may have the same value in one of
 * target_constraints(): their keys, one by one, NULL at the end.  A key is in the
 * current memory context, its values hold until the next is taken.  Who writes
 * must take them all before the local transaction commits (unique_settle).
 */
extern bool target_has_suspects(const ApplyTarget *t);
extern RowState *target_take_suspect(ApplyTarget *t);

/* OIDs of a leaf's unique and exclusion indexes besides the primary key */
extern List *target_constraints(ApplyTarget *t, ResultRelInfo *leaf);

/* do foreign keys refer to the table? */
extern bool target_is_referenced(ApplyTarget *t);

/* for orphan.c: deaths in the table, and rows that live again, since orphan_note_rest() */
typedef struct TargetDeaths
{
	int			noted;			/* one by one */
	int			returned;		/* the same */
	NodeVector	rest;			/* the others', together */
} TargetDeaths;

extern TargetDeaths *target_deaths(ApplyTarget *t);

#endif							/* FERRY_APPLY_TARGET_H */
