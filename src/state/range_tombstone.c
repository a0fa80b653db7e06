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
 * When every member has a range it goes: what it kills is old news by the horizon
 * alone then, as with tombstones.  Until then the horizon stays where it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "storage/lmgr.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "node/horizon.h"
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
range_encode(WireWriter *w, uint32 relation, const Version *range)
{
	struct varlena *bytes = (struct varlena *) DatumGetPointer(state_version_datum(range));

	wire_put_range(w, relation, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	pfree(bytes);
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
	/* the output plugin sees what was committed at its point of the log */
	Snapshot	snapshot = HistoricSnapshotActive() ? NULL : RegisterSnapshot(GetLatestSnapshot());
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
	if (snapshot)
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

bool
ranges_cover(const RangeList *list, const Version *v)
{
	for (int i = 0; i < list->n; i++)
		if (range_covers(&list->ranges[i], v))
			return true;
	return false;
}

/* --- writing --- */

static void
remove_included(Relation rel, HeapTuple tuple, Oid rootid, Version *range, void *arg)
{
	if (range_covers(arg, range))
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

static void
rename_one(Relation rel, HeapTuple tuple, Oid rootid, Version *range, void *arg)
{
	const VersionRename *r = arg;
	Datum		values[RANGE_NATTS];
	bool		nulls[RANGE_NATTS];
	bool		replaces[RANGE_NATTS] = {false, true, false};
	Version		renamed;

	if (!version_must_rename(r, range))
		return;
	heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
	version_rename(r, range, &renamed);
	values[1] = state_version_datum(&renamed);
	CatalogTupleUpdate(rel, &tuple->t_self, heap_modify_tuple(tuple, RelationGetDescr(rel), values, nulls, replaces));
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(rootid)))
		CacheInvalidateRelcacheByRelid(rootid);
}

void
ranges_rename(const VersionRename *r)
{
	for_each(InvalidOid, RowExclusiveLock, rename_one, unconstify(VersionRename *, r));
	CommandCounterIncrement();
}

typedef struct Beyond
{
	const NodeVector *horizon;
	int			n;
} Beyond;

static void
count_beyond(Relation rel, HeapTuple tuple, Oid rootid, Version *range, void *arg)
{
	Beyond	   *b = arg;

	b->n += !vector_covers(b->horizon, range);
}

bool
ranges_allow_horizon(const NodeVector *horizon)
{
	Beyond		b = {horizon, 0};

	for_each(InvalidOid, AccessShareLock, count_beyond, &b);
	return b.n == 0;
}

static void
collect_below(Relation rel, HeapTuple tuple, Oid rootid, Version *range, void *arg)
{
	List	  **below = arg;

	if (vector_covers(horizon_current(), range))
		*below = list_append_unique_oid(*below, rootid);
}

static void
remove_below(Relation rel, HeapTuple tuple, Oid rootid, Version *range, void *arg)
{
	int		   *removed = arg;

	if (!vector_covers(horizon_current(), range))
		return;
	CatalogTupleDelete(rel, &tuple->t_self);
	(*removed)++;
}

int
ranges_prune(void)
{
	List	   *below = NIL;
	ListCell   *lc;
	int			removed = 0;

	for_each(InvalidOid, AccessShareLock, collect_below, &below);
	foreach(lc, below)
	{
		/* whoever is writing another one goes first, and may have removed it */
		if (!ConditionalLockRelationOid(lfirst_oid(lc), RowExclusiveLock))
			continue;
		for_each(lfirst_oid(lc), RowExclusiveLock, remove_below, &removed);
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(lfirst_oid(lc))))
			CacheInvalidateRelcacheByRelid(lfirst_oid(lc));
	}
	CommandCounterIncrement();
	return removed;
}
