/*-------------------------------------------------------------------------
 *
 * holding.c
 *		What this node holds: for each origin the stamp up to which it holds
 *		every write.
 *
 * Two vectors in shared memory, which only grow:
 *
 *	received	what has arrived, committed and durable: readers who wait for a
 *				write (ferry.wait_for) look here.
 *	promised	what others may rely on: it is in the tables.  It stays behind
 *				received while a state of that origin is in quarantine, and while
 *				the peer that told us has tables that are not under ferry here:
 *				their rows went past us.
 *
 * This node's own entry is not kept but read from the watermark.
 *
 * The supervisor writes what is promised into our row of ferry.holding from time
 * to time.  That row is what is left after a restart; and since it is in the log
 * behind everything that it promises, the output plugin makes the message of it
 * that tells the peers.  The other rows of the table say what is known of other
 * nodes.
 *
 * A token is the vector of a node, as text: "<node id>:<stamp>,...".  While
 * transactions are open, own stamps that have been committed may lie above the
 * watermark: then "+<node id>:<stamp>" says what to wait for so as to read them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/lmgr.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "node/holding.h"
#include "node/horizon.h"
#include "node/private.h"
#include "node/table.h"
#include "node/watermark.h"

/* an own entry, or the end of the time, is looked at so often; the rest wakes us */
#define POLL_MS 10

typedef struct Holding
{
	bool		loaded;
	NodeVector	received;
	NodeVector	promised;
	NodeVector	quarantined;	/* the least stamps that wait in quarantine */
	NodeVector	horizon;		/* see node/horizon.c */
	pg_atomic_uint32 horizon_generation;
	pg_atomic_uint32 generation;	/* bumped when promised grows, or is to be told again */
	pg_atomic_uint32 streams;	/* that have begun */
	ConditionVariable arrived;
} Holding;

typedef struct HoldingArray
{
	LWLock	   *lock;
	Holding		holdings[FLEXIBLE_ARRAY_MEMBER];
} HoldingArray;

static HoldingArray *array = NULL;

Size
holding_shmem_size(void)
{
	return add_size(offsetof(HoldingArray, holdings), mul_size(ferry_max_nodes, sizeof(Holding)));
}

void
holding_shmem_init(void)
{
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	array = ShmemInitStruct("ferry holdings", holding_shmem_size(), &found);
	if (!found)
	{
		memset(array, 0, holding_shmem_size());
		array->lock = &(GetNamedLWLockTranche("ferry")[4].lock);
		for (int i = 0; i < ferry_max_nodes; i++)
		{
			pg_atomic_init_u32(&array->holdings[i].generation, 0);
			pg_atomic_init_u32(&array->holdings[i].streams, 0);
			pg_atomic_init_u32(&array->holdings[i].horizon_generation, 0);
			ConditionVariableInit(&array->holdings[i].arrived);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

static Holding *
holding_of(NodeShared *node)
{
	return &array->holdings[node - node_array->nodes];
}

/* --- reading what is on record --- */

/* our own row of ferry.holding */
static void
read_own_row(NodeId id, NodeVector *out)
{
	Relation	rel = table_open(ferry_relation("holding"), AccessShareLock);
	int			id_attno = get_attnum(RelationGetRelid(rel), "node_id");
	int			vector_attno = get_attnum(RelationGetRelid(rel), "vector");
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple	tuple;

	vector_clear(out);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		bool		isnull;

		if ((NodeId) DatumGetInt64(heap_getattr(tuple, id_attno, RelationGetDescr(rel), &isnull)) != id)
			continue;
		holding_parse(TextDatumGetCString(heap_getattr(tuple, vector_attno, RelationGetDescr(rel), &isnull)),
					  out, NULL);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
}

Hlc
holding_on_record(NodeId id)
{
	NodeVector	v;

	read_own_row(id, &v);
	return vector_get(&v, id);
}

static void
lessen(NodeVector *v, NodeId node, Hlc hlc)
{
	Hlc			before = vector_get(v, node);

	if (before != 0 && before <= hlc)
		return;
	vector_remove(v, node);
	(void) vector_raise(v, node, hlc);
}

/* the least stamps of the states in ferry.quarantined, which the caller has open */
static void
read_quarantine(Relation rel, NodeVector *out)
{
	int			attno = get_attnum(RelationGetRelid(rel), "vector");
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	vector_clear(out);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, attno, &isnull);
		NodeVector	v;

		holding_parse(TextDatumGetCString(value), &v, NULL);
		for (uint32 i = 0; i < v.n; i++)
			lessen(out, v.entries[i].node, v.entries[i].hlc);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
}

/* does something stand in ferry.own_write? */
static bool
own_writes_wait(Relation rel)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	bool		found = table_scan_getnextslot(scan, ForwardScanDirection, slot);

	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	return found;
}

void
holding_load(NodeShared *node)
{
	Holding    *h = holding_of(node);
	NodeVector	held;
	NodeVector	quarantined;
	NodeVector	horizon;
	Relation	rel;
	bool		loaded;
	bool		own_writes;

	LWLockAcquire(array->lock, LW_SHARED);
	loaded = h->loaded;
	LWLockRelease(array->lock);
	if (loaded)
		return;
	read_own_row(node->id, &held);
	horizon_read(NULL, &horizon);
	rel = table_open(ferry_relation("quarantined"), AccessShareLock);
	read_quarantine(rel, &quarantined);
	table_close(rel, AccessShareLock);
	rel = table_open(ferry_relation("own_write"), AccessShareLock);
	own_writes = own_writes_wait(rel);
	table_close(rel, AccessShareLock);

	LWLockAcquire(array->lock, LW_EXCLUSIVE);
	if (!h->loaded)
	{
		vector_copy(&h->received, &held);
		vector_copy(&h->promised, &held);
		vector_copy(&h->quarantined, &quarantined);
		vector_copy(&h->horizon, &horizon);
		pg_atomic_fetch_add_u32(&h->horizon_generation, 1);

		/* left by a crash: what was promised before it was published is still true */
		pg_atomic_write_u64(&node->unpublished, own_writes ? vector_get(&held, node->id) + 1 : 0);
		h->loaded = true;
	}
	LWLockRelease(array->lock);
}

void
holding_forget(NodeShared *node)
{
	Holding    *h = holding_of(node);

	LWLockAcquire(array->lock, LW_EXCLUSIVE);
	h->loaded = false;
	vector_clear(&h->received);
	vector_clear(&h->promised);
	vector_clear(&h->quarantined);
	vector_clear(&h->horizon);
	pg_atomic_fetch_add_u32(&h->horizon_generation, 1);
	LWLockRelease(array->lock);
}

/* --- growing --- */

/* take this into promised, but for what waits in quarantine; lock held */
static bool
promise(Holding *h, const NodeVector *v)
{
	bool		grew = false;

	for (uint32 i = 0; i < v->n; i++)
	{
		Hlc			hlc = v->entries[i].hlc;
		Hlc			waiting = vector_get(&h->quarantined, v->entries[i].node);

		if (waiting != 0 && hlc >= waiting)
			hlc = waiting - 1;
		grew |= vector_raise(&h->promised, v->entries[i].node, hlc);
	}
	return grew;
}

void
holding_raise(const NodeVector *received, bool whole)
{
	NodeShared *node = node_current();
	Holding    *h = holding_of(node);
	NodeVector	others;
	bool		arrived;
	bool		promised = false;

	vector_copy(&others, received);
	vector_remove(&others, node->id);
	LWLockAcquire(array->lock, LW_EXCLUSIVE);
	arrived = vector_merge(&h->received, &others);
	if (whole)
		promised = promise(h, &others);
	LWLockRelease(array->lock);
	if (arrived)
		ConditionVariableBroadcast(&h->arrived);
	if (promised)
		holding_tell(node);
}

void
holding_promise(const NodeVector *v)
{
	NodeShared *node = node_current();
	bool		grew;

	LWLockAcquire(array->lock, LW_EXCLUSIVE);
	grew = promise(holding_of(node), v);
	LWLockRelease(array->lock);
	if (grew)
		holding_tell(node);
}

void
holding_quarantined(const Version *version)
{
	Holding    *h = holding_of(node_current());

	LWLockAcquire(array->lock, LW_EXCLUSIVE);
	for (int i = 0; i < version->nvv; i++)
		lessen(&h->quarantined, version->vv[i].node, version->vv[i].hlc);
	LWLockRelease(array->lock);
}

void
holding_review_quarantine(void)
{
	Holding    *h = holding_of(node_current());
	Oid			relid = ferry_relation("quarantined");
	NodeVector	quarantined;
	Relation	rel;
	bool		any;

	LWLockAcquire(array->lock, LW_SHARED);
	any = h->quarantined.n > 0;
	LWLockRelease(array->lock);

	/* whoever is writing there holds a lock that excludes ours until he has committed */
	if (!any || !ConditionalLockRelationOid(relid, ShareLock))
		return;
	rel = table_open(relid, NoLock);
	read_quarantine(rel, &quarantined);
	LWLockAcquire(array->lock, LW_EXCLUSIVE);
	vector_copy(&h->quarantined, &quarantined);
	LWLockRelease(array->lock);
	table_close(rel, ShareLock);
}

void
holding_review_own_writes(void)
{
	NodeShared *node = node_current();
	Oid			relid = ferry_relation("own_write");
	Relation	rel;

	/* whoever is writing there holds a lock that excludes ours until he has committed */
	if (pg_atomic_read_u64(&node->unpublished) == 0 || !ConditionalLockRelationOid(relid, ShareLock))
		return;
	rel = table_open(relid, NoLock);
	if (!own_writes_wait(rel))
		watermark_published(node);
	table_close(rel, ShareLock);
}

/* --- reading --- */

static void
read_shared(NodeVector *out, bool promised)
{
	NodeShared *node = node_current();
	Holding    *h = holding_of(node);
	Hlc			own = watermark_visible(node);

	LWLockAcquire(array->lock, LW_SHARED);
	vector_copy(out, promised ? &h->promised : &h->received);
	LWLockRelease(array->lock);
	vector_remove(out, node->id);
	(void) vector_raise(out, node->id, own);
}

void
holding_promised(NodeVector *out)
{
	read_shared(out, true);
}

void
holding_received(NodeVector *out)
{
	read_shared(out, false);
}

void
holding_tell(NodeShared *node)
{
	pg_atomic_fetch_add_u32(&holding_of(node)->generation, 1);
	node_wake_supervisor_later();
}

void
holding_tell_stream(NodeShared *node)
{
	pg_atomic_fetch_add_u32(&holding_of(node)->streams, 1);
	holding_tell(node);
}

uint32
holding_streams(void)
{
	return pg_atomic_read_u32(&holding_of(node_current())->streams);
}

uint32
holding_generation(void)
{
	return pg_atomic_read_u32(&holding_of(node_current())->generation);
}

void
holding_horizon(NodeShared *node, NodeVector *out)
{
	LWLockAcquire(array->lock, LW_SHARED);
	vector_copy(out, &holding_of(node)->horizon);
	LWLockRelease(array->lock);
}

uint32
holding_horizon_generation(NodeShared *node)
{
	return pg_atomic_read_u32(&holding_of(node)->horizon_generation);
}

void
holding_publish_horizon(const NodeVector *horizon)
{
	Holding    *h = holding_of(node_current());

	LWLockAcquire(array->lock, LW_EXCLUSIVE);
	(void) vector_merge(&h->horizon, horizon);
	pg_atomic_fetch_add_u32(&h->horizon_generation, 1);
	LWLockRelease(array->lock);
}

/* --- tokens --- */

void
holding_parse(const char *text, NodeVector *holds, NodeVector *awaited)
{
	char	   *first = pstrdup(text);
	char	   *plus = strchr(first, '+');
	const char *error = "Something must follow the plus sign.";
	NodeVector	more;

	vector_clear(&more);
	if (plus)
		*plus = '\0';
	if (!vector_parse(first, holds, &error) ||
		(plus && !vector_parse(plus + 1, &more, &error)) || (plus && more.n == 0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid token: \"%s\"", text),
				 errdetail_internal("%s", error),
				 errhint("Tokens come from ferry.token().")));
	if (awaited)
	{
		vector_copy(awaited, holds);
		(void) vector_merge(awaited, &more);
	}
	pfree(first);
}

PG_FUNCTION_INFO_V1(ferry_token);

/* SQL: ferry.token() returns text: what this node holds */
Datum
ferry_token(PG_FUNCTION_ARGS)
{
	NodeShared *node = node_current();
	Hlc			last = pg_atomic_read_u64(&node->last_stamp);
	NodeVector	v;
	StringInfoData text;
	char		buf[VECTOR_TEXT_BYTES];

	holding_received(&v);
	initStringInfo(&text);
	vector_format(&v, buf);
	appendStringInfoString(&text, buf);
	if (last > vector_get(&v, node->id))
		appendStringInfo(&text, "+%u:" UINT64_FORMAT, node->id, last);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(text.data, text.len));
}

PG_FUNCTION_INFO_V1(ferry_wait_for);

/*
 * SQL: ferry.wait_for(token text, timeout interval) returns boolean: wait until
 * all that was committed where the token was taken can be read here; false if
 * the time is over before.
 */
Datum
ferry_wait_for(PG_FUNCTION_ARGS)
{
	Holding    *h = holding_of(node_current());
	Interval   *timeout = PG_GETARG_INTERVAL_P(1);
	TimestampTz end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
															  TimestampTzGetDatum(GetCurrentTimestamp()),
															  IntervalPGetDatum(timeout)));
	NodeVector	holds;
	NodeVector	awaited;
	NodeVector	here;
	bool		arrived;

	holding_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)), &holds, &awaited);
	ConditionVariablePrepareToSleep(&h->arrived);
	for (;;)
	{
		holding_received(&here);
		arrived = vector_includes(&here, &awaited);
		if (arrived || GetCurrentTimestamp() >= end)
			break;
		(void) ConditionVariableTimedSleep(&h->arrived, POLL_MS, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	PG_RETURN_BOOL(arrived);
}
