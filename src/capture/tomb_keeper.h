/*
 * tomb_keeper.h
 *		A table's tombstones, open for as long as a statement writes its rows.
 */
#ifndef FERRY_CAPTURE_TOMB_KEEPER_H
#define FERRY_CAPTURE_TOMB_KEEPER_H

#include "postgres.h"

#include "nodes/execnodes.h"
#include "state/tombstone.h"

typedef struct TombKeeper TombKeeper;

/* lives in the current context, the statement's; what it opens is closed when econtext ends well */
extern TombKeeper *tomb_keeper_create(ExprContext *econtext);

/*
 * The tombstones of the table, to be given back by tomb_keeper_release().  A
 * keeper is always asked for the same table; NULL: they are opened for now.
 */
extern Tombstones *tomb_keeper_get(TombKeeper *keeper, const FerryTable *table);
extern void tomb_keeper_release(TombKeeper *keeper, Tombstones *ts);

/* write what waits (tombstones_put_later) */
extern void tomb_keeper_flush(TombKeeper *keeper);

#endif							/* FERRY_CAPTURE_TOMB_KEEPER_H */
