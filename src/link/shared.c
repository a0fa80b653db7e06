/*-------------------------------------------------------------------------
 *
 * shared.c
 *		Links in shared memory: what ferry.lag reads and the supervisor steers by.
 *
 * The lock "ferry"[1] guards which entry belongs to whom; the contents of an
 * entry are guarded by its mutex.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "link/link.h"
#include "node/node.h"

typedef struct LinkArray
{
	LWLock	   *lock;
	LinkShared	links[FLEXIBLE_ARRAY_MEMBER];
} LinkArray;

static LinkArray *array = NULL;

static const char *const state_names[] = {
	[LINK_STOPPED] = "stopped",
	[LINK_STARTING] = "starting",
	[LINK_CONNECTING] = "connecting",
	[LINK_COPYING] = "copying",
	[LINK_STREAMING] = "streaming",
	[LINK_WAITING] = "waiting",
	[LINK_PAUSED] = "paused",
	[LINK_HELD] = "held",
};

Size
link_shmem_size(void)
{
	return add_size(offsetof(LinkArray, links), mul_size(ferry_max_links, sizeof(LinkShared)));
}

void
link_shmem_init(void)
{
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	array = ShmemInitStruct("ferry links", link_shmem_size(), &found);
	if (!found)
	{
		memset(array, 0, link_shmem_size());
		array->lock = &(GetNamedLWLockTranche("ferry")[1].lock);
		for (int i = 0; i < ferry_max_links; i++)
			SpinLockInit(&array->links[i].mutex);
	}
	LWLockRelease(AddinShmemInitLock);
}

const char *
link_state_name(LinkState s)
{
	return state_names[s];
}

LinkShared *
link_shared_next(int *i)
{
	while (array && *i < ferry_max_links)
	{
		LinkShared *link = &array->links[(*i)++];

		if (link->dboid == MyDatabaseId)
			return link;
	}
	return NULL;
}

LinkShared *
link_shared_find(const char *peer)
{
	int			i = 0;
	LinkShared *link;

	while ((link = link_shared_next(&i)) != NULL)
		if (strcmp(link->peer, peer) == 0)
			return link;
	return NULL;
}

LinkShared *
link_shared_require(const char *peer)
{
	LinkShared *link;

	LWLockAcquire(array->lock, LW_EXCLUSIVE);
	link = link_shared_find(peer);
	for (int i = 0; link == NULL && i < ferry_max_links; i++)
	{
		if (array->links[i].dboid != InvalidOid)
			continue;
		link = &array->links[i];
		memset((char *) link + offsetof(LinkShared, peer_id), 0,
			   sizeof(LinkShared) - offsetof(LinkShared, peer_id));
		strlcpy(link->peer, peer, NAMEDATALEN);
		link->dboid = MyDatabaseId;
	}
	LWLockRelease(array->lock);
	if (link == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many ferry links on this server"),
				 errhint("Increase ferry.max_links (currently %d) and restart the server.", ferry_max_links)));
	return link;
}

void
link_shared_release(LinkShared *link)
{
	LWLockAcquire(array->lock, LW_EXCLUSIVE);
	link->dboid = InvalidOid;
	LWLockRelease(array->lock);
}

int
link_shared_pids(LinkShared *link, pid_t *pids)
{
	int			n = 0;

	SpinLockAcquire(&link->mutex);
	if (link->pid != 0 && link->pid != MyProcPid)
		pids[n++] = link->pid;
	for (int i = 1; i < LINK_MAX_COPIERS; i++)
		if (link->copiers[i].pid != 0 && link->copiers[i].pid != MyProcPid)
			pids[n++] = link->copiers[i].pid;
	SpinLockRelease(&link->mutex);
	return n;
}

void
link_wake_peer(NodeId peer)
{
	int			i = 0;
	LinkShared *link;
	bool		any = false;

	while ((link = link_shared_next(&i)) != NULL)
	{
		SpinLockAcquire(&link->mutex);
		if (link->peer_id == peer && link->state == LINK_WAITING)
		{
			link->next_retry = GetCurrentTimestamp();
			any = true;
		}
		SpinLockRelease(&link->mutex);
	}
	if (any)
		node_wake_supervisor();
}
