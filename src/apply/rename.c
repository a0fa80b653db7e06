/*-------------------------------------------------------------------------
 *
 * rename.c
 *		What this node wrote as its former incarnation, not knowing that it was set
 *		back, becomes its present one's.
 *
 * Why, and what a rename is: core/rename.c.  When the node has found out it takes a new
 * id at once, and its writers go on.  ferry.renaming, written by the same transaction, says
 * what is still to be done here: all tables are looked through for states that
 * know of a write of the former id since the start in question.  Until that is done
 * the node is linked with nobody (link/greeting.c): what it would say of itself is
 * not true yet.
 *
 * It comes seldom, and tables may be large: they are read without a lock that
 * anybody would notice; the keys of what is found are kept (so many bytes of them at
 * a time), and the rows are written a thousand at a time, each as it is found then.
 * Then all is read once more, until nothing is found.  A crash begins anew, which does no harm.
 *
 * Transactions that took a stamp under the former id, and are open still, are waited
 * for first: nobody could find what they write afterwards.
 *
 * If nobody has been told anything since the start, nobody else ever knows of this: to
 * the peers, the former incarnation ended when the disk was set back.  If some had been (they knew of
 * nothing that was lost, nor had they heard that another did), they hold such
 * states under the former id, and keep what those claim.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_inherits.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "apply/rename.h"
#include "apply/target.h"
#include "core/rename.h"
#include "node/node.h"
#include "node/watermark.h"
#include "state/counter_note.h"
#include "state/range_tombstone.h"
#include "state/strategy.h"
#include "state/tombstone.h"

#define RENAME_KEYS_BYTES (64 * 1024 * 1024)
#define RENAME_ROWS 1000

typedef struct Order
{
	VersionRename rename;
	bool		noted;			/* ferry.counter_note has all */
} Order;

typedef struct Place
{
	Oid			rootid;
	Datum		key;			/* jsonb */
} Place;

static MemoryContext keys_cxt = NULL;	/* of places */
static List *places = NIL;

/* --- transactions of our own --- */

static void
begin_work(void)
{
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
}

static void
end_work(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* --- what is to be done --- */

static bool
read_order(Order *o)
{
	bool		found;
	bool		isnull;

	begin_work();
	SPI_execute("SELECT old_id, new_id, since, held, noted FROM ferry.renaming ORDER BY since LIMIT 1", true, 1);
	found = SPI_processed == 1;
	if (found)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;

		o->rename.from = (NodeId) DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		o->rename.to = (NodeId) DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));
		o->rename.since = (Hlc) DatumGetInt64(SPI_getbinval(tuple, desc, 3, &isnull));
		o->rename.held = (Hlc) DatumGetInt64(SPI_getbinval(tuple, desc, 4, &isnull));
		o->noted = DatumGetBool(SPI_getbinval(tuple, desc, 5, &isnull));
	}
	end_work();
	return found;
}

/* --- finding --- */

static bool
is_full(void)
{
	return MemoryContextMemAllocated(keys_cxt, true) > RENAME_KEYS_BYTES;
}

static void
add_place(Oid rootid, const FerryTable *table, Relation rel, const RowState *row)
{
	Datum		key = state_key_to_jsonb(table, rel, row);
	MemoryContext oldcontext = MemoryContextSwitchTo(keys_cxt);
	Place	   *p = palloc(sizeof(Place));

	p->rootid = rootid;
	p->key = datumCopy(key, false, -1);
	places = lappend(places, p);
	MemoryContextSwitchTo(oldcontext);
}

/* a leaf of a table, or (owner) its tombstones */
static void
look_through(const VersionRename *r, Oid relid, Oid rootid, bool dead)
{
	Relation	rel = table_open(relid, AccessShareLock);
	Relation	root = table_open(rootid, NoLock);
	FerryTable *table = table_lookup_required(dead ? rootid : relid);
	TableScanDesc scan = table_beginscan(rel, GetActiveSnapshot(), 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry rename", ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(cxt);
	AttrNumber	attno = dead ? table->nkeys + 1 : table->version_attno;

	while (!is_full() && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Version		version;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		state_version_read(slot_getattr(slot, attno, &isnull), &version);
		if (version_must_rename(r, &version))
		{
			slot_getallattrs(slot);
			if (dead)
				add_place(rootid, table, root, tombstone_decode(table, slot->tts_values, slot->tts_isnull));
			else
				add_place(rootid, table, rel, state_from_slot(table, slot));
		}
		MemoryContextReset(cxt);
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(cxt);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	table_close(root, NoLock);
	table_close(rel, NoLock);
}

static void
look_through_table(const VersionRename *r, Oid rootid)
{
	FerryTable *table;
	Oid			tombid;
	ListCell   *lc;

	LockRelationOid(rootid, AccessShareLock);
	table = table_lookup(rootid);
	if (table == NULL)
		return;
	tombid = table->tombid;
	foreach(lc, find_all_inheritors(rootid, AccessShareLock, NULL))
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_RELATION)
			look_through(r, lfirst_oid(lc), rootid, false);
	look_through(r, tombid, rootid, true);
}

/* as many as there is room for */
static void
find_places(const VersionRename *r)
{
	List	   *tables = NIL;
	ListCell   *lc;
	bool		isnull;

	if (keys_cxt == NULL)
		keys_cxt = AllocSetContextCreate(TopMemoryContext, "ferry keys to rename", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(keys_cxt);
	places = NIL;
	begin_work();
	SPI_execute("SELECT relid::pg_catalog.oid FROM ferry.registered_table ORDER BY 1", true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
		tables = lappend_oid(tables, DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)));
	foreach(lc, tables)
		look_through_table(r, lfirst_oid(lc));
	end_work();
}

/* --- writing --- */

/* what of a row's contribution to a counter is the former id's; NULL: all */
static const Part *
what_stays(const Order *o, const Place *p, const RowState *row, uint16 col, Part *note)
{
	Dot			d = version_column_dot(&row->version, col);

	if (!o->noted)
		return NULL;
	memset(note, 0, sizeof(*note));
	if (counter_note_find(p->rootid, p->key, col, o->rename.from, o->rename.since, note))
		return note;

	/* the row was born since: nothing; or nobody has counted here since */
	return dot_rename(&o->rename, d).node == o->rename.to ? note : NULL;
}

typedef struct Stays
{
	uint16		col;
	const Part *part;			/* NULL: all */
} Stays;

/* of all counters of the row; *n of them */
static Stays *
what_all_stays(const Order *o, const Place *p, const RowState *row, int *n)
{
	Stays	   *stays = palloc0(sizeof(Stays) * (row->version.nparts + 1));

	*n = 0;
	for (int i = 0; i < row->version.nparts; i++)
	{
		if (row->version.parts[i].kind != KIND_COUNTER)
			continue;
		stays[*n].col = row->version.parts[i].col;
		stays[*n].part = what_stays(o, p, row, stays[*n].col, palloc(sizeof(Part)));
		(*n)++;
	}
	return stays;
}

static void
rename_state(ApplyTarget *t, const Order *o, const Stays *stays, int n, RowState *row)
{
	const FerryTable *table = target_table(t);
	Version		before = row->version;

	version_rename(&o->rename, &before, &row->version);
	for (int c = 0; c < n; c++)
	{
		int			i = table->id_attnos[stays[c].col - 1] - 1;
		StrategyColumn col;
		StrategySide side;

		/* a dead row may have lost the value, when the column's type was changed */
		if (i < 0 || row->kinds[i] != VALUE_HERE)
			continue;
		col = strategy_column(table, RelationGetDescr(target_relation(t)), stays[c].col, KIND_COUNTER);
		side = (StrategySide) {&before, row->values[i], row->nulls[i]};
		counter_hand_over(&col, &side, &o->rename, stays[c].part, &row->version);
	}
}

/* the state as it stands now, alive or dead, of a key that needs it; NULL if there is none */
static RowState *
find_state(ApplyTarget *t, const Order *o, const RowState *key, bool dead, ApplyFound *found, ItemPointer tid)
{
	RowState   *row = NULL;

	if (dead)
	{
		Datum		values[INDEX_MAX_KEYS];

		state_key_values(target_table(t), key, values);
		row = tombstones_find(target_tombstones(t), values, tid);
	}
	else if (target_find(t, key, found))
		row = state_from_slot(target_table(t), found->slot);
	return row && version_must_rename(&o->rename, &row->version) ? row : NULL;
}

static void
rename_at(ApplyTarget *t, const Order *o, const Place *p, bool dead)
{
	RowState   *key = state_key_from_jsonb(target_table(t), target_relation(t), p->key);
	RowState   *row;
	ApplyFound	found;
	ItemPointerData tid;
	bool		done;

	while ((row = find_state(t, o, key, dead, &found, &tid)) != NULL)
	{
		int			n;
		Stays	   *stays = what_all_stays(o, p, row, &n);

		CHECK_FOR_INTERRUPTS();
		rename_state(t, o, stays, n, row);
		target_enter(t);
		done = dead ? tombstones_rewrite(target_tombstones(t), row, &tid) : target_update(t, &found, row);
		target_leave(t);
		if (done)
			break;
	}
}

static void
rename_place(const Order *o, const Place *p)
{
	Relation	rel = try_table_open(p->rootid, RowExclusiveLock);
	FerryTable *table = rel ? table_lookup(p->rootid) : NULL;

	if (table && table->rootid == p->rootid)
	{
		ApplyTarget *t = target_open(rel, table);

		rename_at(t, o, p, false);
		if (tombstones_any(target_tombstones(t)))
			rename_at(t, o, p, true);
		target_close(t);
	}
	if (rel)
		table_close(rel, NoLock);
}

static void
rename_places(const Order *o)
{
	ListCell   *lc = list_head(places);

	while (lc)
	{
		MemoryContext cxt;
		int			nest_level;

		begin_work();
		nest_level = NewGUCNestLevel();
		(void) set_config_option("session_replication_role", "replica", PGC_SUSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
		cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry rename", ALLOCSET_DEFAULT_SIZES);
		for (int i = 0; i < RENAME_ROWS && lc; i++)
		{
			MemoryContext oldcontext = MemoryContextSwitchTo(cxt);

			rename_place(o, lfirst(lc));
			MemoryContextSwitchTo(oldcontext);
			MemoryContextReset(cxt);
			lc = lnext(places, lc);
		}
		AtEOXact_GUC(true, nest_level);
		end_work();
	}
}

/* what TRUNCATE left; and it is done */
static void
finish(const Order *o)
{
	Oid			types[2] = {INT8OID, INT8OID};
	Datum		args[2] = {Int64GetDatum(o->rename.from), Int64GetDatum((int64) o->rename.since)};

	begin_work();
	ranges_rename(&o->rename);
	SPI_execute_with_args("DELETE FROM ferry.renaming WHERE old_id = $1 AND since = $2", 2, types, args, NULL, false, 0);
	SPI_execute_with_args("DELETE FROM ferry.counter_note WHERE node_id = $1", 1, types, args, NULL, false, 0);
	end_work();
}

bool
rename_own_writes(void)
{
	static Hlc	until = 0;		/* stamps up to here may be the former id's */
	NodeShared *node = node_current();
	uint64		n = 0;
	Order		o;

	while (read_order(&o))
	{
		if (until == 0)
			until = pg_atomic_read_u64(&node->clock);
		if (!watermark_is_over(node, until))
			return false;
		for (find_places(&o.rename); places != NIL; find_places(&o.rename))
		{
			n += list_length(places);
			rename_places(&o);
		}
		finish(&o);
		ereport(LOG,
				(errmsg("ferry node \"%s\" has taken over %llu rows that it had written since it was set back",
						node_name(), (unsigned long long) n)));
	}
	until = 0;
	return true;
}
