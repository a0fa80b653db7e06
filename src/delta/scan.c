/*-------------------------------------------------------------------------
 *
 * scan.c
 *		States since a vector: rows and tombstones that hold a write which the
 *		vector does not include.
 *
 * Every entry of a row's version vector counts: the last dot alone is not enough,
 * since a merged row may owe an older dot of a third node.  What was dropped from a
 * pruned one lies somewhere up to the horizon: it is included if the horizon is.
 *
 * First what this node holds is sampled, then the snapshot is taken: so all that
 * was promised by then is visible in it, and who takes every state of the scan
 * holds what we held.  The snapshot is registered with the caller's resource
 * owner and serves the whole scan; tables are locked for reading until the end of
 * the transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "apply/apply.h"
#include "delta/scan.h"
#include "node/holding.h"
#include "node/horizon.h"
#include "node/node.h"
#include "node/runs.h"
#include "state/state.h"

/* one relation to be read: a leaf of a table under ferry, or its tombstones */
typedef struct Source
{
	Oid			relid;
	Oid			owner;			/* the table under ferry if these are tombstones */
} Source;

DeltaScan *
delta_scan_begin(const char *since)
{
	DeltaScan  *d = palloc0(sizeof(DeltaScan));

	d->row_cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry delta row", ALLOCSET_DEFAULT_SIZES);
	if (since)
	{
		holding_parse(since, &d->since, NULL);
		d->has_since = true;
	}
	/* whoever gets these states, and how: what we write from here on is told */
	incarnation_require_renamed();
	(void) runs_met(node_current());
	holding_promised(&d->holds);
	d->snapshot = RegisterSnapshot(GetLatestSnapshot());
	horizon_read(d->snapshot, &d->horizon);
	d->beyond = !vector_includes(&d->since, &d->horizon);
	return d;
}

void
delta_scan_warn(const DeltaScan *d)
{
	/* whoever has nothing yet needs no deletions */
	if (d->since.n > 0 && d->beyond)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("deletions since this vector may be missing"),
				 errdetail("It is older than what every member of the group holds, and tombstones up to there are removed."),
				 errhint("Whoever is to be brought up to date this way should be a member, or be brought up to date within ferry.prune_after.")));
}

/* --- what to read --- */

static void
add_source(DeltaScan *d, Oid relid, Oid owner)
{
	Source	   *s = palloc(sizeof(Source));

	s->relid = relid;
	s->owner = owner;
	d->sources = lappend(d->sources, s);
}

/* a table's leaves and tombstones; later: locked until the end of the transaction */
void
delta_scan_add(DeltaScan *d, Oid relid)
{
	FerryTable *table;
	Oid			tombid;
	List	   *leaves;
	ListCell   *lc;

	LockRelationOid(relid, AccessShareLock);
	table = table_lookup(relid);
	if (table == NULL)
		return;
	tombid = table->tombid;
	leaves = find_all_inheritors(relid, AccessShareLock, NULL);
	foreach(lc, leaves)
	{
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_RELATION)
			add_source(d, lfirst_oid(lc), InvalidOid);
	}
	add_source(d, tombid, relid);
}

void
delta_scan_add_named(DeltaScan *d, ArrayType *names)
{
	Datum	   *elems;
	bool	   *nulls;
	int			n;

	deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	if (n % 2 != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("tables must be given as pairs of schema and name")));
	for (int i = 0; i < n; i += 2)
	{
		Oid			nspid;
		Oid			relid;

		if (nulls[i] || nulls[i + 1])
			continue;
		nspid = get_namespace_oid(TextDatumGetCString(elems[i]), true);
		relid = OidIsValid(nspid) ? get_relname_relid(TextDatumGetCString(elems[i + 1]), nspid) : InvalidOid;
		if (OidIsValid(relid))
			delta_scan_add(d, relid);
	}
}

void
delta_scan_add_all(DeltaScan *d)
{
	Relation	rel = table_open(ferry_relation("registered_table"), AccessShareLock);
	TableScanDesc scan = table_beginscan(rel, d->snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;

		delta_scan_add(d, DatumGetObjectId(slot_getattr(slot, 1, &isnull)));
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	table_close(rel, AccessShareLock);
}

List *
delta_scan_tables(DeltaScan *d)
{
	List	   *tables = NIL;
	ListCell   *lc;

	foreach(lc, d->sources)
	{
		Source	   *s = lfirst(lc);

		if (OidIsValid(s->owner))
			tables = lappend_oid(tables, s->owner);
	}
	return tables;
}

void
delta_scan_check_access(DeltaScan *d)
{
	ListCell   *lc;

	foreach(lc, delta_scan_tables(d))
	{
		Relation	rel = table_open(lfirst_oid(lc), NoLock);

		apply_check_access(rel, ACL_SELECT);
		table_close(rel, NoLock);
	}
}

/* --- reading --- */

static void
close_source(DeltaScan *d)
{
	if (d->rel == NULL)
		return;
	ExecDropSingleTupleTableSlot(d->slot);
	table_endscan(d->scan);
	if (d->owner_rel)
		table_close(d->owner_rel, NoLock);
	table_close(d->rel, NoLock);
	d->rel = d->owner_rel = NULL;
}

/* open the next source; false if there is none */
static bool
open_source(DeltaScan *d)
{
	MemoryContext oldcontext;

	close_source(d);
	for (;;)
	{
		Source	   *s;

		if (d->sources == NIL)
			return false;
		s = linitial(d->sources);
		d->sources = list_delete_first(d->sources);
		d->rel = table_open(s->relid, AccessShareLock);
		d->owner_rel = OidIsValid(s->owner) ? table_open(s->owner, AccessShareLock) : NULL;
		d->table = table_lookup(OidIsValid(s->owner) ? s->owner : s->relid);
		if (d->table)
			break;
		table_close(d->rel, NoLock);	/* dropped from ferry since */
		if (d->owner_rel)
			table_close(d->owner_rel, NoLock);
		d->rel = d->owner_rel = NULL;
	}
	oldcontext = MemoryContextSwitchTo(GetMemoryChunkContext(d));
	d->scan = table_beginscan(d->rel, d->snapshot, 0, NULL);
	d->slot = table_slot_create(d->rel, NULL);
	MemoryContextSwitchTo(oldcontext);
	d->opened = true;
	return true;
}

/* does the state in the slot hold a write that "since" does not include? */
static bool
is_news(DeltaScan *d)
{
	int			version_attno = d->owner_rel ? d->table->nkeys + 1 : d->table->version_attno;
	MemoryContext oldcontext;
	Version		version;

	if (!d->has_since)
		return true;
	oldcontext = MemoryContextSwitchTo(d->row_cxt);
	state_version_read(d->slot->tts_values[version_attno - 1], &version);
	MemoryContextSwitchTo(oldcontext);
	return !vector_covers(&d->since, &version) || (version.pruned && d->beyond);
}

bool
delta_scan_next(DeltaScan *d)
{
	d->opened = false;
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(d->row_cxt);
		if (d->rel && table_scan_getnextslot(d->scan, ForwardScanDirection, d->slot))
		{
			slot_getallattrs(d->slot);
			if (is_news(d))
				return true;
		}
		else if (!open_source(d))
			return false;
	}
}

void
delta_scan_end(DeltaScan *d)
{
	close_source(d);
	if (d->snapshot)
		UnregisterSnapshot(d->snapshot);
	d->snapshot = NULL;
}
