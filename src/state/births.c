/*-------------------------------------------------------------------------
 *
 * births.c
 *		The keys that this transaction has inserted, for apply/birth_check.c.
 *
 * Hashes only, 4 bytes a key, and up to BIRTHS_NOTED of them; beyond that, and
 * where a COPY does not look at its keys, every key may be one of ours.  A subtransaction that aborts leaves its keys behind,
 * which costs a look at most.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "node/deaths.h"
#include "state/births.h"
#include "state/tombstone.h"

#define BIRTHS_NOTED 262144

static MemoryContext births_cxt = NULL; /* NULL: none in this transaction */
static List *tables = NIL;
static uint64 since;
static uint32 *hashes;
static int	nhashes;
static int	room;
static bool sorted;
static bool too_many;

static void
start(void)
{
	births_cxt = AllocSetContextCreate(TopTransactionContext, "ferry births", ALLOCSET_SMALL_SIZES);
	since = deaths_count();
	tables = NIL;
	room = 64;
	hashes = MemoryContextAlloc(births_cxt, sizeof(uint32) * room);
	nhashes = 0;
	too_many = false;
}

/* the table's entry; the latest is first */
static BirthTable *
note_table(const FerryTable *table)
{
	ListCell   *lc;
	BirthTable *t;
	MemoryContext oldcontext;

	if (births_cxt == NULL)
		start();
	foreach(lc, tables)
		if (((BirthTable *) lfirst(lc))->tombid == table->tombid)
			return lfirst(lc);
	oldcontext = MemoryContextSwitchTo(births_cxt);
	t = palloc(sizeof(BirthTable));
	t->relid = table->rootid;
	t->tombid = table->tombid;
	t->whole = false;
	t->clear_at = PG_UINT64_MAX;
	tables = lcons(t, tables);
	MemoryContextSwitchTo(oldcontext);
	return t;
}

void
births_note(const FerryTable *table, uint32 key_hash)
{
	(void) note_table(table);
	sorted = false;
	if (nhashes == BIRTHS_NOTED)
	{
		too_many = true;
		return;
	}
	if (nhashes == room)
	{
		room *= 2;
		hashes = repalloc(hashes, sizeof(uint32) * room);
	}
	hashes[nhashes++] = key_hash;
}

void
births_note_table(const FerryTable *table)
{
	note_table(table)->whole = true;
}

/*
 * Others' tombstones that come after the transaction's first birth are reported
 * after it, so that the check finds them; our own it leaves out.
 */
bool
births_meet_tombstones(const FerryTable *table)
{
	BirthTable *t = note_table(table);

	if (t->clear_at == tombstone_written_here())
		return false;
	if (tombstone_any(table))
		return true;
	t->clear_at = tombstone_written_here();
	return false;
}

bool
births_since(uint64 *deaths)
{
	*deaths = since;
	return births_cxt != NULL;
}

List *
births_tables(void)
{
	return tables;
}

static int
compare_hashes(const void *a, const void *b)
{
	uint32		x = *(const uint32 *) a;
	uint32		y = *(const uint32 *) b;

	return x < y ? -1 : x > y;
}

bool
births_may_include(const BirthTable *table, uint32 key_hash)
{
	if (too_many || table->whole)
		return true;
	if (!sorted)
		qsort(hashes, nhashes, sizeof(uint32), compare_hashes);
	sorted = true;
	return bsearch(&key_hash, hashes, nhashes, sizeof(uint32), compare_hashes) != NULL;
}

void
births_forget(void)
{
	/* the memory goes with the transaction */
	births_cxt = NULL;
	tables = NIL;
}
