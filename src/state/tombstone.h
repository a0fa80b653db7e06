/*
 * tombstone.h
 *		Where dead rows live: one table ferry.tombstone_N per registered table.
 *
 *		k1 .. kn	the key, same types and collations, unique index with the
 *					same operator classes as the primary key
 *		_ferry		ferry.version not null
 *		image		bytea: the last values; NULL in row mode under last_wins.
 *					{varint column id, varint OID of the column's type then,
 *					value as wire_put_value()}*.  A value of a type that the
 *					column has no more, and that cannot be taken over, counts as
 *					absent.
 *
 * A key has a row or a tombstone, not both, but for races between a local
 * insert and a merged delete; whoever finds both merges them.
 */
#ifndef FERRY_STATE_TOMBSTONE_H
#define FERRY_STATE_TOMBSTONE_H

#include "state/state.h"
#include "storage/itemptr.h"
#include "utils/snapshot.h"

/*
 * A table's tombstones, opened (at first use, with RowExclusiveLock, which stays
 * until the transaction ends) to be looked through and written many times.  The
 * table's entry must live as long, and so must the current context.  An abort
 * needs no tombstones_close().
 */
typedef struct Tombstones Tombstones;

extern Tombstones *tombstones_open(const FerryTable *table);
extern void tombstones_close(Tombstones *ts);

/* false only if the table surely has no tombstone (it has no block at all) */
extern bool tombstones_any(Tombstones *ts);

/* how many this process has written or let wait, in whatever transaction */
extern uint64 tombstone_written_here(void);

/*
 * The tombstone of a key, or NULL.  key_values in key order.  Sees what is
 * committed now and this transaction's own work; never misses one that stands.
 * Fills *tid for put and remove.  Needs an active snapshot.
 */
extern RowState *tombstones_find(Tombstones *ts, const Datum *key_values, ItemPointer tid);

/* the same as of a registered snapshot */
extern RowState *tombstones_find_as_of(Tombstones *ts, const Datum *key_values, Snapshot snapshot, ItemPointer tid);

/* has the key no tombstone?  Waits for those who are writing one. */
extern bool tombstones_key_is_free(Tombstones *ts, const Datum *key_values);

/*
 * Write a dead state: insert (tid NULL or invalid) or replace the one at tid.
 * In a race with another transaction's insert of the same key waits for it,
 * then merges with what it wrote.
 */
extern void tombstones_put(Tombstones *ts, const RowState *dead, ItemPointer tid);

/* write over the one at tid; false, and nothing is done, if someone else was faster: find again */
extern bool tombstones_rewrite(Tombstones *ts, const RowState *dead, ItemPointer tid);

/*
 * As tombstones_put for a key that has no tombstone, as far as the caller knows, written
 * together with others: when there are enough, when somebody looks for one of the
 * table's, by tombstones_flush() and tombstones_close().  Until then nothing may
 * need it to stand: not the end of a statement, of the transaction, or of the
 * subtransaction.
 */
extern void tombstones_put_later(Tombstones *ts, const RowState *dead);
extern void tombstones_flush(Tombstones *ts);

extern void tombstones_remove(Tombstones *ts, ItemPointer tid);

/* the same for a single step */
extern bool tombstone_any(const FerryTable *table);
extern RowState *tombstone_find(const FerryTable *table, const Datum *key_values, ItemPointer tid);
extern void tombstone_put(const FerryTable *table, const RowState *dead, ItemPointer tid);
extern void tombstone_remove(const FerryTable *table, ItemPointer tid);

/* the tombstone a row leaves behind: key, image (where it is kept) and version */
extern RowState *tombstone_from_row(const FerryTable *table, const RowState *row, const Version *version);

/*
 * Remove those that every member holds, of the next "most" tombstones from *from
 * on, which moves.  False when the end was reached: *from is the beginning again.
 */
extern bool tombstone_sweep(const FerryTable *table, ItemPointer from, int most, int64 *removed);

/* remove those that a range includes: it is in force, and takes their place */
extern void tombstone_remove_covered(const FerryTable *table, const Version *range);

/* decode a tombstone table's tuple into a state */
extern RowState *tombstone_decode(const FerryTable *table, Datum *values, bool *nulls);


#endif							/* FERRY_STATE_TOMBSTONE_H */
