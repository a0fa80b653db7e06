/*-------------------------------------------------------------------------
 *
 * housekeeping.c
 *		What a supervisor does for its node besides tending links.
 *
 * A few times a second at most, and only if there is news, it writes what this
 * node promises into our row of ferry.holding: that is what is left of it after a
 * restart, and what our streams tell the peers.  The log is flushed, since only
 * then it is sent, but standbys are not waited for.  When a stream begins, what we
 * know of others is written again for it: it begins behind those rows, and what was
 * asked for beside the stream would come before what it rests on (claims.c).
 *
 * Every ferry.housekeeping_ms it works out from ferry.holding what all members
 * hold, raises the horizon to that (stable.c), and removes the tombstones, of rows
 * and of tables, that lie under it; and conflicts that are kept no longer
 * (apply/conflict_keep.c).
 *
 * Every second it judges rows whose parents died elsewhere (apply/orphan.c).  Where that
 * is wanted, it takes a stamp after what was merged, so that nobody waits for a node
 * that has nothing to say.
 *
 * In a round it also tries again a bounded number of states that wait in quarantine
 * for something that arrives by itself (apply/quarantine.c), each in a transaction of
 * its own.
 *
 * Every ferry.housekeeping_ms it also looks at the slots that this node keeps for its
 * peers: who is away for so long that more than ferry.max_slot_wal would have to
 * be kept loses its slot, and copies what it lacks when it is back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/relation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apply/conflict_keep.h"
#include "apply/orphan.h"
#include "apply/quarantine.h"
#include "link/housekeeping.h"
#include "link/local_work.h"
#include "link/stable.h"
#include "node/holding.h"
#include "node/horizon.h"
#include "node/node.h"
#include "node/table.h"
#include "node/watermark.h"
#include "state/range_tombstone.h"
#include "state/tombstone.h"

#define TELL_EVERY_MS 200

/* tombstones of a table that are looked at in one round, and the time between rounds while there are more */
#define SWEEP_TOMBSTONES 2000
#define SWEEP_EVERY_MS 100
#define LOOK_EVERY_MS 1000

/* states in quarantine that are tried again in one round */
#define RETRY_STATES 100

/*
 * A node that writes nothing takes a stamp now and then all the same, and tells: what
 * others hold of it shows then how old a backup of theirs is (succession.sql).
 */
#define TICK_EVERY_MS (60 * 60 * 1000)

/* --- what we promise --- */

static void
write_own_row(const NodeVector *v)
{
	Oid			types[2] = {INT8OID, TEXTOID};
	Datum		args[2] = {Int64GetDatum(node_id()), 0};
	char		buf[VECTOR_TEXT_BYTES];

	local_work_begin();
	vector_format(v, buf);
	args[1] = CStringGetTextDatum(buf);
	SPI_execute_with_args("INSERT INTO ferry.holding (node_id, vector) VALUES ($1, $2) "
						  "ON CONFLICT (node_id) DO UPDATE SET vector = excluded.vector, at = excluded.at",
						  2, types, args, NULL, false, 0);
	local_work_end(TopMemoryContext);
}

/* what we know of others, once more, in the order in which links lock these rows: for a stream that begins */
static void
rewrite_other_rows(void)
{
	Oid			types[1] = {INT8OID};
	Datum		args[1] = {Int64GetDatum(node_id())};

	local_work_begin();
	SPI_execute_with_args("SELECT node_id FROM ferry.holding WHERE node_id <> $1 ORDER BY node_id FOR UPDATE",
						  1, types, args, NULL, false, 0);
	SPI_execute_with_args("UPDATE ferry.holding SET vector = vector WHERE node_id <> $1", 1, types, args, NULL, false, 0);
	local_work_end(TopMemoryContext);
}

/* a stamp that stands for no row */
static void
tick(void)
{
	local_work_begin();
	(void) node_stamp();
	local_work_end(TopMemoryContext);
}

/*
 * What we merged is later than all that we wrote, and there are those who wait until
 * they hold everything up to it.  (A stamp that stands for no row is merged by nobody,
 * so that this comes to an end.)
 */
static bool
owes_stamp(NodeShared *node)
{
	static Hlc	looked_at = 0;
	Hlc			clock = pg_atomic_read_u64(&node->clock);
	bool		owes;

	if (clock == looked_at || clock <= pg_atomic_read_u64(&node->last_stamp) ||
		pg_atomic_read_u32(&node->doubt) != NODE_IS_SURE)
		return false;
	looked_at = clock;
	local_work_begin();
	SPI_execute("SELECT FROM ferry.column_merge WHERE attnum = 0 AND kind IN ('V', 'R')", true, 1);
	owes = SPI_processed > 0;
	local_work_end(TopMemoryContext);
	return owes;
}

static long
tell(TimestampTz now)
{
	static TimestampTz told_at = 0;
	static uint32 streams = 0;
	static uint32 told_generation = 0;
	static Hlc	told_own = 0;
	NodeShared *node = node_current();
	uint32		generation = holding_generation();
	TimestampTz due = TimestampTzPlusMilliseconds(told_at, TELL_EVERY_MS);
	NodeVector	v;

	if (now >= due && owes_stamp(node))
		tick();
	if (told_at != 0 && generation == told_generation &&
		(pg_atomic_read_u64(&node->last_stamp) <= told_own || watermark_visible(node) <= told_own))
	{
		if (TimestampDifferenceExceeds(told_at, now, TICK_EVERY_MS) && pg_atomic_read_u32(&node->doubt) == NODE_IS_SURE)
			tick();
		return LOOK_EVERY_MS;
	}
	if (now < due)
		return Max(TimestampDifferenceMilliseconds(now, due), 1);
	holding_promised(&v);
	write_own_row(&v);
	if (streams != holding_streams())
	{
		streams = holding_streams();
		rewrite_other_rows();
	}
	told_at = now;
	told_generation = generation;
	told_own = vector_get(&v, node->id);

	/* where there was something there is more, most likely */
	return TELL_EVERY_MS;
}

/* --- the round --- */

/* tables that have been copied from every peer are new no more: tell those who have them cached */
static void
settle_new_tables(void)
{
	SPI_execute("SELECT ferry._settle_new_tables()", false, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		CacheInvalidateRelcacheByRelid(DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
																	  SPI_tuptable->tupdesc, 1, &isnull)));
	}
}

/*
 * Of former members this node holds, once all others have been asked, all that
 * there is: no stamp of theirs is later than our clock, which merging has raised.
 * Once in the life of this process.
 */
static void
promise_formers(void)
{
	static List *promised = NIL;	/* of NodeId */
	MemoryContext oldcontext;
	NodeVector	v;

	vector_clear(&v);
	SPI_execute("SELECT ferry._settled_formers()", true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		NodeId		id = (NodeId) DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));

		if (list_member_oid(promised, id))
			continue;
		(void) vector_raise(&v, id, pg_atomic_read_u64(&node_current()->clock));
		oldcontext = MemoryContextSwitchTo(TopMemoryContext);
		promised = lappend_oid(promised, id);
		MemoryContextSwitchTo(oldcontext);
	}
	if (v.n > 0)
		holding_promise(&v);
}

/* what is known of a member, and what of that counts */
typedef struct Known
{
	NodeId		node;
	NodeVector	heard;			/* does not count yet */
	NodeVector	counts;
} Known;

static List *known = NIL;		/* of Known; as long as the process lives */

static Known *
known_of(NodeId node)
{
	MemoryContext oldcontext;
	ListCell   *lc;
	Known	   *k;

	foreach(lc, known)
	{
		k = lfirst(lc);
		if (k->node == node)
			return k;
	}
	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	k = palloc0(sizeof(Known));
	k->node = node;
	known = lappend(known, k);
	MemoryContextSwitchTo(oldcontext);
	return k;
}

/*
 * What a member holds counts when all that it had written by then is here
 * (core/horizon.c).  By a stream that forwards, we may have heard of it earlier: what
 * waits in quarantine at the node between us comes later.  What was heard first is
 * kept for so long, not what came since: who goes on writing is always ahead.
 */
static const NodeVector *
what_counts(NodeId node, const NodeVector *heard, const NodeVector *promised)
{
	Known	   *k = known_of(node);

	for (int i = 0; i < 2 && vector_get(promised, node) >= vector_get(&k->heard, node); i++)
	{
		(void) vector_merge(&k->counts, &k->heard);
		vector_copy(&k->heard, heard);
	}
	return &k->counts;
}

/* what every member that was not dropped is known to hold; of one that was never heard of that is nothing */
static void
compute_horizon(NodeVector *h)
{
	NodeId		us = node_id();
	NodeVector	promised;

	holding_promised(&promised);
	vector_copy(h, &promised);
	SPI_execute("SELECT m.node_id, coalesce(h.vector, '') FROM ferry.member m "
				"LEFT JOIN ferry.holding h ON h.node_id = m.node_id WHERE NOT m.is_dropped", true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		NodeVector	v;
		bool		isnull;

		if ((NodeId) DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull)) == us)
			continue;
		holding_parse(TextDatumGetCString(SPI_getbinval(tuple, desc, 2, &isnull)), &v, NULL);
		vector_limit(h, what_counts((NodeId) DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull)), &v, &promised));
	}
}

/* --- tombstones --- */

/* how far the tombstones of a table have been looked through, and under which horizon */
typedef struct Sweep
{
	Oid			relid;
	ItemPointerData next;
	uint32		generation;		/* of the horizon when this pass began */
	bool		under_way;
	bool		listed;
} Sweep;

static List *sweeps = NIL;

static Sweep *
sweep_of(Oid relid)
{
	ListCell   *lc;
	Sweep	   *s;
	MemoryContext oldcontext;

	foreach(lc, sweeps)
	{
		s = lfirst(lc);
		if (s->relid == relid)
			return s;
	}
	oldcontext = MemoryContextSwitchTo(TopMemoryContext);
	s = palloc0(sizeof(Sweep));
	s->relid = relid;
	ItemPointerSet(&s->next, 0, 1);
	s->generation = horizon_generation() - 1;
	sweeps = lappend(sweeps, s);
	MemoryContextSwitchTo(oldcontext);
	return s;
}

/* the tables under ferry, and none that is not any more */
static void
list_sweeps(void)
{
	ListCell   *lc;

	foreach(lc, sweeps)
		((Sweep *) lfirst(lc))->listed = false;
	SPI_execute("SELECT relid::pg_catalog.oid FROM ferry.registered_table", true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		sweep_of(DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)))->listed = true;
	}
	foreach(lc, sweeps)
	{
		Sweep	   *s = lfirst(lc);

		if (s->listed)
			continue;
		sweeps = foreach_delete_current(sweeps, lc);
		pfree(s);
	}
}

/* a part of one table's tombstones; true if there is more to be looked at under this horizon */
static bool
sweep_some(Sweep *s)
{
	Relation	rel;
	FerryTable *table;
	int64		removed = 0;

	if (!s->under_way)
	{
		if (s->generation == horizon_generation())
			return false;
		s->generation = horizon_generation();
		s->under_way = true;
	}

	/* whoever changes or drops the table goes first */
	if (!ConditionalLockRelationOid(s->relid, AccessShareLock))
		return false;
	rel = try_relation_open(s->relid, NoLock);
	if (rel == NULL)
		return false;
	table = table_lookup(s->relid);
	s->under_way = table && tombstone_sweep(table, &s->next, SWEEP_TOMBSTONES, &removed);
	relation_close(rel, NoLock);
	return s->under_way;
}

/* bounded work: so many tombstones of each table, each part in a transaction of its own */
static bool
sweep(void)
{
	ListCell   *lc;
	bool		more = false;

	foreach(lc, sweeps)
	{
		local_work_begin();
		more |= sweep_some(lfirst(lc));
		local_work_end(TopMemoryContext);
	}
	return more;
}

/* some of what waits in quarantine for what arrives by itself; true if there may be more */
static bool
retry_waiting(void)
{
	bool		any = true;

	for (int i = 0; i < RETRY_STATES && any; i++)
	{
		CHECK_FOR_INTERRUPTS();
		local_work_begin();
		any = quarantine_retry_due();
		local_work_end(TopMemoryContext);
	}
	return any;
}

/* returns whether another one should follow soon */
static bool
do_round(void)
{
	NodeVector	h;
	bool		more;
	bool		waiting = retry_waiting();

	local_work_begin();
	holding_review_quarantine();
	holding_review_own_writes();
	settle_new_tables();
	promise_formers();
	SPI_execute("SELECT ferry._limit_slots()", false, 0);
	more = conflict_trim() || waiting;
	if (ferry_prune_after_s >= 0)
	{
		compute_horizon(&h);
		list_sweeps();
	}
	local_work_end(TopMemoryContext);
	if (ferry_prune_after_s < 0)
		return more;
	stable_raise(&h);
	local_work_begin();
	(void) ranges_prune();
	local_work_end(TopMemoryContext);
	return sweep() || more;
}

/* rows whose parents died elsewhere: soon, as they are in the way of whoever reads them */
static long
judge(TimestampTz now)
{
	static TimestampTz due = 0;
	bool		more = false;
	long		wait_ms;

	if (now < due)
		return Max(TimestampDifferenceMilliseconds(now, due), 1);
	local_work_begin();
	if (orphans_wait())
	{
		bool		isnull;

		SPI_execute("SELECT ferry._all_held_until()", false, 1);
		more = orphans_judge((Hlc) DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)));
	}
	local_work_end(TopMemoryContext);

	/* notes that wait for a node that is away are looked through again and again: not all the time */
	wait_ms = more ? SWEEP_EVERY_MS :
		Max(LOOK_EVERY_MS, 20 * TimestampDifferenceMilliseconds(now, GetCurrentTimestamp()));
	due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms);
	return wait_ms;
}

long
housekeeping(void)
{
	static TimestampTz round_due = 0;
	TimestampTz now = GetCurrentTimestamp();
	long		wait_ms;

	wait_ms = Min(tell(now), judge(now));

	/* the setting may have been lowered since */
	round_due = Min(round_due, TimestampTzPlusMilliseconds(now, ferry_housekeeping_ms));
	if (now >= round_due)
	{
		bool		more = do_round();

		round_due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												more ? Min(SWEEP_EVERY_MS, ferry_housekeeping_ms) : ferry_housekeeping_ms);
	}
	return Min(wait_ms, Max(TimestampDifferenceMilliseconds(now, round_due), 1));
}
