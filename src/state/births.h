/*
 * births.h
 *		The keys that this transaction has inserted, for apply/birth_check.c.
 */
#ifndef FERRY_STATE_BIRTHS_H
#define FERRY_STATE_BIRTHS_H

#include "postgres.h"

#include "state/key_hash.h"

/* a table into which this transaction inserted */
typedef struct BirthTable
{
	Oid			relid;			/* under ferry; of partitions: the root */
	Oid			tombid;
} BirthTable;

/* note a birth, before its tombstone is looked for */
extern void births_note(const FerryTable *table, uint32 key_hash);

/* how many keys had died when the first birth was noted; false if there was none */
extern bool births_since(uint64 *deaths);

extern List *births_tables(void);	/* of BirthTable */

/* may a key with this hash be one of ours? */
extern bool births_may_include(uint32 key_hash);

/* the transaction ends */
extern void births_forget(void);

#endif							/* FERRY_STATE_BIRTHS_H */
