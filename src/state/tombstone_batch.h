/*
 * tombstone_batch.h
 *		Tombstones that wait to be written together; for tombstone.c alone.
 */
#ifndef FERRY_STATE_TOMBSTONE_BATCH_H
#define FERRY_STATE_TOMBSTONE_BATCH_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "nodes/pg_list.h"
#include "utils/rel.h"

/* how many wait at most, and how many bytes of them */
#define TOMB_BATCH_ROWS 512
#define TOMB_BATCH_BYTES (256 * 1024)

typedef struct TombBatch TombBatch;

/* stores what waits; may raise */
typedef void (*TombBatchWrite) (void *arg, TupleTableSlot **slots, int n);

/* for one table of tombstones, open; lives in the current context, its slots in *slots */
extern TombBatch *tomb_batch_create(Relation rel, List **slots, TombBatchWrite write, void *arg);

/*
 * Let a tombstone wait (what it points to is copied).  False if it cannot: it is
 * to be written at once.
 */
extern bool tomb_batch_add(TombBatch *b, Datum *values, bool *nulls);

/* write what waits in b; in every batch of a table, before someone looks into it */
extern void tomb_batch_flush(TombBatch *b);
extern void tomb_batch_flush_table(Oid tombid);

#endif							/* FERRY_STATE_TOMBSTONE_BATCH_H */
