/*-------------------------------------------------------------------------
 *
 * deaths.c
 *		Which keys died lately on this server: a ring in shared memory.
 *
 * How many there were is asked by every transaction that inserts, twice, and is an
 * atomic for that: a lock that is shared is still written by all who take it.  It is
 * raised when the entry is there, under the lock.  Who asks has a barrier before,
 * so that what he wrote himself is seen by whoever is not counted yet.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "node/deaths.h"

typedef struct DeathRing
{
	LWLock	   *lock;
	pg_atomic_uint64 count;
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
		pg_atomic_init_u64(&ring->count, 0);
		ring->lock = &(GetNamedLWLockTranche("ferry")[2].lock);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
deaths_report(Oid tombid, uint32 key_hash, ItemPointer tid)
{
	Death	   *death;
	uint64		n;

	if (ring == NULL)
		return;
	LWLockAcquire(ring->lock, LW_EXCLUSIVE);
	n = pg_atomic_read_u64(&ring->count);
	death = &ring->deaths[n % DEATHS_KEPT];
	death->dboid = MyDatabaseId;
	death->tombid = tombid;
	death->key_hash = key_hash;
	death->tid = *tid;
	pg_write_barrier();
	pg_atomic_write_u64(&ring->count, n + 1);
	LWLockRelease(ring->lock);
}

uint64
deaths_count(void)
{
	uint64		count;

	if (ring == NULL)
		return 0;
	pg_memory_barrier();
	count = pg_atomic_read_u64(&ring->count);
	pg_memory_barrier();
	return count;
}

bool
deaths_get(uint64 n, Death *death)
{
	bool		kept;

	LWLockAcquire(ring->lock, LW_SHARED);
	kept = n + DEATHS_KEPT >= pg_atomic_read_u64(&ring->count);
	*death = ring->deaths[n % DEATHS_KEPT];
	LWLockRelease(ring->lock);
	return kept;
}
