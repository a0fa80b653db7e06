/*
 * deaths.h
 *		Which keys died lately on this server: a ring in shared memory, for
 *		those whose insert of the same key ran beside (apply/birth_check.c).
 */
#ifndef FERRY_NODE_DEATHS_H
#define FERRY_NODE_DEATHS_H

#include "postgres.h"

#include "storage/itemptr.h"

typedef struct Death
{
	Oid			dboid;
	Oid			tombid;			/* the tombstone table */
	uint32		key_hash;
	ItemPointerData tid;		/* of the tombstone, when it was written */
} Death;

/* so many are remembered */
#define DEATHS_KEPT 16384

extern Size deaths_shmem_size(void);
extern void deaths_shmem_init(void);

/* a tombstone of this database stands in its table and its index */
extern void deaths_report(Oid tombid, uint32 key_hash, ItemPointer tid);

/* how many there were since the server started; 0 if ferry is not preloaded */
extern uint64 deaths_count(void);

/* the nth, counted from 0; false if it is forgotten */
extern bool deaths_get(uint64 n, Death *death);

#endif							/* FERRY_NODE_DEATHS_H */
