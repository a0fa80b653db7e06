/*-------------------------------------------------------------------------
 *
 * wake.c
 *		Waking those whom a change concerns: launcher and supervisors.
 *
 * What a transaction changed counts when it has committed, so the waking is
 * noted and done then.  Latches are read and set under the lock "ferry"[0]:
 * their owner takes itself off under it before it is gone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"

#include "node/node.h"
#include "node/private.h"

/* what this transaction will tell when it commits */
static bool config_changed = false;
static bool nodes_changed = false;

void
node_set_launcher(Latch *latch)
{
	LWLockAcquire(node_array->lock, LW_EXCLUSIVE);
	node_array->launcher = latch;
	LWLockRelease(node_array->lock);
}

void
node_set_supervisor(Latch *latch)
{
	NodeShared *node = node_current_or_null();

	if (node == NULL)
		return;
	pg_atomic_write_u32(&node->looks_soon, 0);
	LWLockAcquire(node_array->lock, LW_EXCLUSIVE);
	node->supervisor_latch = latch;
	LWLockRelease(node_array->lock);
}

static void
wake_launcher(void)
{
	LWLockAcquire(node_array->lock, LW_SHARED);
	if (node_array->launcher)
		SetLatch(node_array->launcher);
	LWLockRelease(node_array->lock);
}

void
node_wake_supervisor(void)
{
	if (node_array == NULL)
		return;
	LWLockAcquire(node_array->lock, LW_SHARED);
	for (int i = 0; i < ferry_max_nodes; i++)
	{
		NodeShared *n = &node_array->nodes[i];

		if (n->dboid == MyDatabaseId && n->supervisor_latch)
			SetLatch(n->supervisor_latch);
	}
	LWLockRelease(node_array->lock);
}

/* who tells has changed what is looked at before he asks, who looks has taken this back before he reads */
void
node_wake_supervisor_later(void)
{
	NodeShared *node = node_current_or_null();

	pg_memory_barrier();
	if (node == NULL || pg_atomic_read_u32(&node->looks_soon) == 0)
		node_wake_supervisor();
}

void
node_supervisor_looks_soon(bool soon)
{
	NodeShared *node = node_current_or_null();

	if (node == NULL)
		return;
	pg_atomic_write_u32(&node->looks_soon, soon);
	pg_memory_barrier();
}

static void
at_end_of_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && config_changed)
	{
		node_bump_generation();
		node_wake_supervisor();
	}
	if (event == XACT_EVENT_COMMIT && nodes_changed)
		wake_launcher();
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		config_changed = nodes_changed = false;
}

static void
listen(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(at_end_of_transaction, NULL);
	registered = true;
}

void
node_config_changed(void)
{
	listen();
	(void) node_current_or_null();
	config_changed = true;
}

void
node_list_changed(void)
{
	listen();
	nodes_changed = (node_array != NULL);
	node_config_changed();
}
