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
	bool		whole;			/* any key may be one of ours */
	uint64		clear_at;		/* it had no tombstone when we had written so many; -1: not known */
	struct BirthTable *next;
} BirthTable;

/* note a birth, before its tombstone is looked for */
extern void births_note(const FerryTable *table, uint32 key_hash);

/* any key of the table may be born in this transaction (COPY) */
extern void births_note_table(const FerryTable *table);

/*
 * May a key that is born now, and is noted, have a tombstone that the check
 * before commit would not find?  Cheap where there was none when the
 * transaction's first birth in this table was noted.
 */
extern bool births_meet_tombstones(const FerryTable *table);

/* how many keys had died when the first birth was noted; false if there was none */
extern bool births_since(uint64 *deaths);

extern const BirthTable *births_tables(void);	/* the first, NULL if there is none */

/* may a key of this table with this hash be one of ours? */
extern bool births_may_include(const BirthTable *table, uint32 key_hash);

/* the transaction ends */
extern void births_forget(void);

#endif							/* FERRY_STATE_BIRTHS_H */
