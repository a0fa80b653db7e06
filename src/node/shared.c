/*-------------------------------------------------------------------------
 *
 * shared.c
 *		Nodes in shared memory: one entry per database that is a node.
 *
 * An entry is made by whoever first asks for it, from ferry.local_node, and
 * stays until the node is forgotten.  Entries never move, so that backends keep
 * a pointer.  The lock "ferry"[0] guards the array and the slow path of the
 * clock; reading one's own entry needs no lock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "node/holding.h"
#include "node/node.h"
#include "node/private.h"
#include "node/runs.h"
#include "node/table.h"
#include "node/watermark.h"

NodeArray  *node_array = NULL;

/* this backend's database, once known; and what ferry.local_node says of it */
static NodeShared *mine = NULL;
static char my_name[NAMEDATALEN];

Size
node_shmem_size(void)
{
	return add_size(offsetof(NodeArray, nodes),
					mul_size(ferry_max_nodes, sizeof(NodeShared)));
}

void
node_shmem_init(void)
{
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	node_array = ShmemInitStruct("ferry nodes", node_shmem_size(), &found);
	if (!found)
	{
		memset(node_array, 0, node_shmem_size());
		node_array->lock = &(GetNamedLWLockTranche("ferry")[0].lock);
		if (!pg_strong_random(&node_array->instance, sizeof(node_array->instance)))
			elog(ERROR, "could not generate a random number");
		for (int i = 0; i < ferry_max_nodes; i++)
		{
			pg_atomic_init_u64(&node_array->nodes[i].clock, 0);
			pg_atomic_init_u64(&node_array->nodes[i].last_stamp, 0);
			pg_atomic_init_u64(&node_array->nodes[i].unpublished, 0);
			pg_atomic_init_u64(&node_array->nodes[i].high_water, 0);
			pg_atomic_init_u32(&node_array->nodes[i].config_generation, 0);
			pg_atomic_init_u32(&node_array->nodes[i].doubt, NODE_IS_SURE);
			pg_atomic_init_u32(&node_array->nodes[i].went_back, 0);
			pg_atomic_init_u32(&node_array->nodes[i].back_since, 0);
			pg_atomic_init_u32(&node_array->nodes[i].met, 0);
			pg_atomic_init_u32(&node_array->nodes[i].looks_soon, 0);
			pg_atomic_init_u64(&node_array->nodes[i].verify_due, 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

bool
node_is_preloaded(void)
{
	return node_array != NULL;
}

/*
 * What ferry.local_node holds: read by a plain scan, since this happens inside
 * triggers and defaults.  Returns false if there is no such table or row.
 */
static bool
read_local_node(NodeId *id, char *name, bool *is_here)
{
	Oid			relid = get_relname_relid("local_node", get_namespace_oid("ferry", true));
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	Snapshot	snapshot;
	bool		found = false;

	if (!OidIsValid(relid) || !OidIsValid(get_extension_oid("ferry", true)))
		return false;
	rel = table_open(relid, AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	if ((tuple = systable_getnext(scan)) != NULL)
	{
		bool		isnull;
		int			id_attno = get_attnum(relid, "node_id");
		int			name_attno = get_attnum(relid, "name");

		*is_here = incarnation_is_here((uint64) DatumGetInt64(heap_getattr(tuple, get_attnum(relid, "system_id"), RelationGetDescr(rel), &isnull)),
									   (uint32) DatumGetInt64(heap_getattr(tuple, get_attnum(relid, "timeline"), RelationGetDescr(rel), &isnull)),
									   DatumGetObjectId(heap_getattr(tuple, get_attnum(relid, "database"), RelationGetDescr(rel), &isnull)));
		*id = (NodeId) DatumGetInt64(heap_getattr(tuple, id_attno, RelationGetDescr(rel), &isnull));
		strlcpy(name, NameStr(*DatumGetName(heap_getattr(tuple, name_attno, RelationGetDescr(rel), &isnull))),
				NAMEDATALEN);
		found = true;
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return found;
}

/* the entry of this database, made if it is not there yet */
static NodeShared *
attach(NodeId id, bool is_here)
{
	NodeShared *entry = NULL;
	NodeShared *free_entry = NULL;
	Hlc			held = node_attached() ? 0 : holding_on_record(id);

	LWLockAcquire(node_array->lock, LW_EXCLUSIVE);
	for (int i = 0; i < ferry_max_nodes && entry == NULL; i++)
	{
		NodeShared *n = &node_array->nodes[i];

		if (n->dboid == MyDatabaseId)
			entry = n;
		else if (n->dboid == InvalidOid && free_entry == NULL)
			free_entry = n;
	}
	if (entry == NULL && free_entry != NULL)
	{
		entry = free_entry;
		entry->supervisor_latch = NULL;
		pg_atomic_write_u64(&entry->verify_due, 0);
		is_here &= node_clock_load(entry, MyDatabaseId);
		pg_atomic_write_u32(&entry->doubt, is_here ? NODE_IS_SURE : NODE_IS_DOUBTFUL);
		pg_atomic_write_u32(&entry->went_back, 0);
		pg_atomic_write_u32(&entry->met, 0);
		runs_begin(entry, MyDatabaseId, held);
		entry->settled_id = id;
		watermark_load(MyDatabaseId);
		entry->dboid = MyDatabaseId;
	}
	if (entry)
		entry->id = id;
	LWLockRelease(node_array->lock);
	if (entry == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many ferry nodes on this server"),
				 errhint("Increase ferry.max_nodes (currently %d) and restart the server.", ferry_max_nodes)));
	holding_load(entry);
	return entry;
}

NodeShared *
node_current_or_null(void)
{
	NodeId		id;
	bool		is_here;

	if (mine != NULL && mine->dboid == MyDatabaseId && mine->id != NODE_ID_NONE)
		return mine;
	mine = NULL;
	if (node_array == NULL || !OidIsValid(MyDatabaseId) || !IsTransactionState())
		return NULL;
	if (!read_local_node(&id, my_name, &is_here))
		return NULL;
	mine = attach(id, is_here);
	return mine;
}

NodeShared *
node_attached(void)
{
	NodeShared *entry = NULL;

	if (node_array == NULL)
		return NULL;
	LWLockAcquire(node_array->lock, LW_SHARED);
	for (int i = 0; i < ferry_max_nodes && entry == NULL; i++)
		if (node_array->nodes[i].dboid == MyDatabaseId && node_array->nodes[i].id != NODE_ID_NONE)
			entry = &node_array->nodes[i];
	LWLockRelease(node_array->lock);
	return entry;
}

NodeShared *
node_current(void)
{
	NodeShared *node = node_current_or_null();

	if (node)
		return node;
	if (node_array == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("ferry must be loaded via \"shared_preload_libraries\""),
				 errhint("Add ferry to shared_preload_libraries in postgresql.conf and restart the server; SELECT * FROM ferry.check() lists all that is missing.")));
	/* a worker whose node is dropped may ask outside a transaction, where no name can be looked up */
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 IsTransactionState() ?
			 errmsg("database \"%s\" is not a ferry node", get_database_name(MyDatabaseId)) :
			 errmsg("this database is not a ferry node"),
			 errhint("Call ferry.create_node(name, dsn) first.")));
}

bool
node_refresh(void)
{
	mine = NULL;
	if (node_current_or_null() != NULL)
		return true;
	node_forget(MyDatabaseId);
	return false;
}

NodeId
node_id(void)
{
	return node_current()->id;
}

const char *
node_name(void)
{
	(void) node_current();
	return my_name;
}

void
node_forget(Oid dboid)
{
	if (node_array == NULL)
		return;
	LWLockAcquire(node_array->lock, LW_EXCLUSIVE);
	for (int i = 0; i < ferry_max_nodes; i++)
	{
		NodeShared *n = &node_array->nodes[i];

		if (n->dboid == dboid)
		{
			holding_forget(n);
			n->dboid = InvalidOid;
			n->id = NODE_ID_NONE;
		}
	}
	LWLockRelease(node_array->lock);
	mine = NULL;
}

/* --- names of cluster-wide objects --- */

void
node_slot_name(char *buf, NodeId sender, NodeId receiver)
{
	snprintf(buf, NAMEDATALEN, "ferry_%08x_%08x", sender, receiver);
}

void
node_origin_name(char *buf, NodeId here, NodeId peer)
{
	snprintf(buf, NAMEDATALEN, "ferry_%08x_%08x", here, peer);
}

void
node_bump_generation(void)
{
	if (mine)
		pg_atomic_fetch_add_u32(&mine->config_generation, 1);
}
