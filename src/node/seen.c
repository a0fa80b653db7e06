/*-------------------------------------------------------------------------
 *
 * seen.c
 *		The latest stamp of each other node that was merged here.
 *
 * TRUNCATE has to say what it covers without looking at the rows: a version
 * vector that includes every row of the table, and as little as possible of what
 * has not come here yet.  The latest stamp merged from each node is that vector.
 * (What a node has surely sent in full, its watermark, would be too little:
 * rows above it may be here.)
 *
 * Kept in shared memory only, since it is written for every row that is merged.
 * After a restart it starts empty: then a table is read once, the first time
 * that it is truncated (seen_complete), and from then on it is known again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "node/private.h"
#include "node/seen.h"

/* nodes that are told apart; with more of them every TRUNCATE reads its table */
#define SEEN_NODES 128
#define SEEN_TABLES 256

typedef struct SeenNode
{
	NodeId		node;			/* set once, under the lock */
	pg_atomic_uint64 hlc;
} SeenNode;

/* of one database that is a node */
typedef struct Seen
{
	Oid			dboid;
	pg_atomic_uint32 nnodes;
	bool		overflow;
	int			ntables;
	SeenNode	nodes[SEEN_NODES];
	Oid			tables[SEEN_TABLES];
} Seen;

static Seen *seen_array = NULL;
static SeenNode *last_noted = NULL; /* rows of one origin come in runs */

Size
seen_shmem_size(void)
{
	return mul_size(ferry_max_nodes, sizeof(Seen));
}

void
seen_shmem_init(void)
{
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	seen_array = ShmemInitStruct("ferry seen", seen_shmem_size(), &found);
	if (!found)
	{
		memset(seen_array, 0, seen_shmem_size());
		for (int i = 0; i < ferry_max_nodes; i++)
		{
			pg_atomic_init_u32(&seen_array[i].nnodes, 0);
			for (int n = 0; n < SEEN_NODES; n++)
				pg_atomic_init_u64(&seen_array[i].nodes[n].hlc, 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

/* this database's entry; what another database left in it is forgotten */
static Seen *
mine(void)
{
	Seen	   *s = &seen_array[node_current() - node_array->nodes];

	if (s->dboid == MyDatabaseId)
		return s;
	LWLockAcquire(node_array->lock, LW_EXCLUSIVE);
	if (s->dboid != MyDatabaseId)
	{
		for (int n = 0; n < SEEN_NODES; n++)
			pg_atomic_write_u64(&s->nodes[n].hlc, 0);
		pg_atomic_write_u32(&s->nnodes, 0);
		s->overflow = false;
		s->ntables = 0;
		s->dboid = MyDatabaseId;
	}
	LWLockRelease(node_array->lock);
	return s;
}

static SeenNode *
find(Seen *s, NodeId node)
{
	uint32		n = pg_atomic_read_u32(&s->nnodes);

	pg_read_barrier();
	for (uint32 i = 0; i < n; i++)
		if (s->nodes[i].node == node)
			return &s->nodes[i];
	return NULL;
}

static SeenNode *
find_or_add(Seen *s, NodeId node)
{
	SeenNode   *entry = find(s, node);

	if (entry)
		return entry;
	LWLockAcquire(node_array->lock, LW_EXCLUSIVE);
	entry = find(s, node);
	if (entry == NULL)
	{
		uint32		n = pg_atomic_read_u32(&s->nnodes);

		if (n < SEEN_NODES)
		{
			entry = &s->nodes[n];
			entry->node = node;
			pg_write_barrier();
			pg_atomic_write_u32(&s->nnodes, n + 1);
		}
		else
			s->overflow = true;
	}
	LWLockRelease(node_array->lock);
	return entry;
}

void
seen_note(const Version *v)
{
	NodeId		me = node_id();

	for (int i = 0; i < v->nvv; i++)
	{
		SeenNode   *entry = last_noted;
		uint64		old;

		if (v->vv[i].node == me)
			continue;
		if (entry == NULL || entry->node != v->vv[i].node)
			entry = last_noted = find_or_add(mine(), v->vv[i].node);
		if (entry == NULL)
			continue;
		old = pg_atomic_read_u64(&entry->hlc);
		while (old < v->vv[i].hlc &&
			   !pg_atomic_compare_exchange_u64(&entry->hlc, &old, v->vv[i].hlc))
			;
	}
}

static int
compare_by_node(const void *a, const void *b)
{
	NodeId		x = ((const Dot *) a)->node;
	NodeId		y = ((const Dot *) b)->node;

	return (x > y) - (x < y);
}

int
seen_get(Dot **dots)
{
	Seen	   *s = mine();
	uint32		n = pg_atomic_read_u32(&s->nnodes);
	int			count = 0;

	pg_read_barrier();
	*dots = palloc(sizeof(Dot) * Max(n, 1));
	for (uint32 i = 0; i < n; i++)
	{
		(*dots)[count].node = s->nodes[i].node;
		(*dots)[count].hlc = pg_atomic_read_u64(&s->nodes[i].hlc);
		if ((*dots)[count].hlc != 0)
			count++;
	}
	qsort(*dots, count, sizeof(Dot), compare_by_node);
	return count;
}

bool
seen_is_complete(Oid relid)
{
	Seen	   *s = mine();
	bool		complete = false;

	LWLockAcquire(node_array->lock, LW_SHARED);
	for (int i = 0; i < s->ntables && !s->overflow; i++)
		complete |= s->tables[i] == relid;
	LWLockRelease(node_array->lock);
	return complete;
}

void
seen_complete(Oid relid)
{
	Seen	   *s = mine();

	if (seen_is_complete(relid))
		return;
	LWLockAcquire(node_array->lock, LW_EXCLUSIVE);
	if (s->ntables < SEEN_TABLES)
		s->tables[s->ntables++] = relid;
	LWLockRelease(node_array->lock);
}
