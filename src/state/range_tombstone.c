/*-------------------------------------------------------------------------
 *
 * range_tombstone.c
 *		What TRUNCATE leaves behind: one tombstone for all rows of a table.
 *
 * Why a row that is partly covered needs care: its vector holds a write that the
 * range covers and one that it does not.  Such a row lives.  But a node that
 * applied the range before the second write came has nothing of the first any
 * more, and would merge later states without it.  So whoever meets such a row
 * while putting a range into force writes it again, as a successor of both
 * (apply/range_merge.c), and every node ends with that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "state/range_tombstone.h"

#define RANGE_NATTS 3

typedef struct CacheEntry
{
	Oid			rootid;			/* hash key */
	bool		valid;
	MemoryContext cxt;			/* NULL: never filled */
	RangeList	list;
} CacheEntry;

static HTAB *cache = NULL;

static void
invalidate(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS seq;
	CacheEntry *e;

	if (OidIsValid(relid))
	{
		e = hash_search(cache, &relid, HASH_FIND, NULL);
		if (e)
			e->valid = false;
		return;
	}
	hash_seq_init(&seq, cache);
	while ((e = hash_seq_search(&seq)) != NULL)
		e->valid = false;
}

static void
make_cache(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(CacheEntry);
	ctl.hcxt = CacheMemoryContext;
	cache = hash_create("ferry range tombstones", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
}

void
range_decode(Datum *values, Oid *rootid, Version *range)
{
	*rootid = DatumGetObjectId(values[0]);
	state_version_read(values[1], range);
}

/* --- reading --- */

/* call f for each that is stored for rootid (InvalidOid: all); f may delete */
static void
for_each(Oid rootid, LOCKMODE lock, void (*f) (Relation rel, HeapTuple tuple, Oid rootid, Version *range, void *arg), void *arg)
{
	Relation	rel = table_open(ferry_relation("range_tombstone"), lock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple	tuple;

	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Datum		values[RANGE_NATTS];
		bool		nulls[RANGE_NATTS];
		Oid			of;
		Version		range;

		heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
		range_decode(values, &of, &range);
		if (!OidIsValid(rootid) || of == rootid)
			f(rel, tuple, of, &range, arg);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
}

static void
collect(Relation rel, HeapTuple tuple, Oid rootid, Version *range, void *arg)
{
	RangeList  *list = arg;

	if (list->ranges == NULL)
		list->ranges = palloc(sizeof(Version));
	else
		list->ranges = repalloc(list->ranges, sizeof(Version) * (list->n + 1));
	list->ranges[list->n++] = *range;
}

const RangeList *
ranges_of(Oid rootid)
{
	CacheEntry *e;
	bool		found;
	MemoryContext oldcontext;

	if (cache == NULL)
		make_cache();
	e = hash_search(cache, &rootid, HASH_ENTER, &found);
	if (found && e->valid)
		return &e->list;
	if (!found)
		e->cxt = NULL;
	e->valid = false;
	if (e->cxt)
		MemoryContextReset(e->cxt);
	else
		e->cxt = AllocSetContextCreate(CacheMemoryContext, "ferry range tombstones", ALLOCSET_SMALL_SIZES);
	memset(&e->list, 0, sizeof(e->list));
	oldcontext = MemoryContextSwitchTo(e->cxt);

	/* set first: an invalidation while we read leaves it false */
	e->valid = true;
	for_each(rootid, AccessShareLock, collect, &e->list);
	MemoryContextSwitchTo(oldcontext);
	return &e->list;
}

/* --- what they say --- */

static bool
includes(const Version *range, const Version *v)
{
	VersionOrder order = version_compare(v, range);

	return order == VERSION_BEFORE || order == VERSION_EQUAL;
}

bool
ranges_cover(const RangeList *list, const Version *v)
{
	for (int i = 0; i < list->n; i++)
		if (includes(&list->ranges[i], v))
			return true;
	return false;
}

bool
range_was_outlived(const Version *range, const Version *v)
{
	bool		in = false;
	bool		out = false;

	if (version_covers(v, range->last))
		return false;
	for (int i = 0; i < v->nvv; i++)
	{
		if (version_covers(range, v->vv[i]))
			in = true;
		else
			out = true;
	}
	/* a writer's later entry hides its earlier one, but not where that wrote a column */
	for (int c = 0; c < v->ncols && !in; c++)
		in = version_covers(range, v->cols[c].dot);
	return in && out;
}

Version
range_join(const Version *a, const Dot *dots, int ndots)
{
	Version		out = *a;
	int			i = 0;
	int			j = 0;

	out.vv = palloc(sizeof(Dot) * (a->nvv + ndots));
	out.nvv = 0;
	while (i < a->nvv || j < ndots)
	{
		if (j >= ndots || (i < a->nvv && a->vv[i].node < dots[j].node))
			out.vv[out.nvv++] = a->vv[i++];
		else if (i >= a->nvv || dots[j].node < a->vv[i].node)
			out.vv[out.nvv++] = dots[j++];
		else
		{
			out.vv[out.nvv++] = a->vv[i].hlc > dots[j].hlc ? a->vv[i] : dots[j];
			i++;
			j++;
		}
	}
	return out;
}

/* --- writing --- */

static void
remove_included(Relation rel, HeapTuple tuple, Oid rootid, Version *range, void *arg)
{
	if (includes(arg, range))
		CatalogTupleDelete(rel, &tuple->t_self);
}

bool
ranges_add(Oid rootid, const Version *range)
{
	Relation	rel;
	Datum		values[RANGE_NATTS];
	bool		nulls[RANGE_NATTS] = {false, false, false};

	if (ranges_cover(ranges_of(rootid), range))
		return false;
	for_each(rootid, RowExclusiveLock, remove_included, unconstify(Version *, range));

	rel = table_open(ferry_relation("range_tombstone"), RowExclusiveLock);
	values[0] = ObjectIdGetDatum(rootid);
	values[1] = state_version_datum(range);
	values[2] = TimestampTzGetDatum(GetCurrentTimestamp());
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values, nulls));
	table_close(rel, NoLock);

	/* so that every backend reads them anew */
	CacheInvalidateRelcacheByRelid(rootid);
	CommandCounterIncrement();
	return true;
}

typedef struct Prune
{
	const Version *horizon;
	int			removed;
} Prune;

static void
remove_below(Relation rel, HeapTuple tuple, Oid rootid, Version *range, void *arg)
{
	Prune	   *p = arg;

	if (!includes(p->horizon, range))
		return;
	CatalogTupleDelete(rel, &tuple->t_self);
	CacheInvalidateRelcacheByRelid(rootid);
	p->removed++;
}

int
ranges_prune(const Version *horizon)
{
	Prune		p = {horizon, 0};

	for_each(InvalidOid, RowExclusiveLock, remove_below, &p);
	CommandCounterIncrement();
	return p.removed;
}
