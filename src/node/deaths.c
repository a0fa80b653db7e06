/*-------------------------------------------------------------------------
 *
 * deaths.c
 *		Which keys died lately on this server: a ring in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "node/deaths.h"

typedef struct DeathRing
{
	LWLock	   *lock;
	uint64		count;
	Death		deaths[DEATHS_KEPT];
} DeathRing;

static DeathRing *ring = NULL;

Size
deaths_shmem_size(void)
{
	return sizeof(DeathRing);
}

void
deaths_shmem_init(void)
{
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	ring = ShmemInitStruct("ferry deaths", sizeof(DeathRing), &found);
	if (!found)
	{
		ring->count = 0;
		ring->lock = &(GetNamedLWLockTranche("ferry")[2].lock);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
deaths_report(Oid tombid, uint32 key_hash, ItemPointer tid)
{
	Death	   *death;

	if (ring == NULL)
		return;
	LWLockAcquire(ring->lock, LW_EXCLUSIVE);
	death = &ring->deaths[ring->count++ % DEATHS_KEPT];
	death->dboid = MyDatabaseId;
	death->tombid = tombid;
	death->key_hash = key_hash;
	death->tid = *tid;
	LWLockRelease(ring->lock);
}

uint64
deaths_count(void)
{
	uint64		count;

	if (ring == NULL)
		return 0;
	LWLockAcquire(ring->lock, LW_SHARED);
	count = ring->count;
	LWLockRelease(ring->lock);
	return count;
}

bool
deaths_get(uint64 n, Death *death)
{
	bool		kept;

	LWLockAcquire(ring->lock, LW_SHARED);
	kept = n + DEATHS_KEPT >= ring->count;
	*death = ring->deaths[n % DEATHS_KEPT];
	LWLockRelease(ring->lock);
	return kept;
}
