/*
 * key_lookup.h
 *		Find rows by their key, one after the other, through one open scan.
 */
#ifndef FERRY_STATE_KEY_LOOKUP_H
#define FERRY_STATE_KEY_LOOKUP_H

#include "postgres.h"

#include "access/genam.h"
#include "access/skey.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

typedef struct KeyLookup
{
	Relation	rel;
	Relation	index;			/* unique, btree; both stay open with the caller */
	MemoryContext cxt;			/* of the scan */
	int			nkeys;
	ScanKeyData keys[INDEX_MAX_KEYS];
	IndexScanDesc scan;			/* NULL before the first find */
	TupleTableSlot *slot;		/* rel's layout: the row found, until the next find */
} KeyLookup;

/*
 * The slot is the caller's, made by table_slot_create(); the current context must
 * live until key_lookup_end().
 */
extern void key_lookup_init(KeyLookup *l, Relation rel, Relation index, TupleTableSlot *slot);

/*
 * The row with this key (values in the index's order) as of now, into l->slot;
 * false if none is committed or ours.  Never misses a row that stands.  Needs an
 * active snapshot.
 */
extern bool key_lookup_find(KeyLookup *l, const Datum *key_values);

/* the same as of a registered snapshot, for those who ask two tables one question */
extern bool key_lookup_find_as_of(KeyLookup *l, const Datum *key_values, Snapshot snapshot);

/* ends the scan, if there is one, and lets go of the row; an abort needs no call */
extern void key_lookup_end(KeyLookup *l);

#endif							/* FERRY_STATE_KEY_LOOKUP_H */
