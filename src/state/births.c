/*-------------------------------------------------------------------------
 *
 * births.c
 *		The keys that this transaction has inserted, for apply/birth_check.c.
 *
 * Hashes only, 4 bytes a key, and up to BIRTHS_NOTED of them; beyond that, and
 * where a COPY does not look at its keys, every key may be one of ours.  A
 * subtransaction that aborts leaves its keys behind, which costs a look at most.
 * A transaction of few rows in one table needs no memory but ours.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "node/deaths.h"
#include "state/births.h"
#include "state/tombstone.h"

#define BIRTHS_NOTED 262144
#define FEW_BIRTHS 64

static BirthTable *tables = NULL;	/* the latest first; NULL: no birth in this transaction */
static BirthTable first_table;
static uint64 since;
static uint32 few_hashes[FEW_BIRTHS];
static uint32 *hashes = few_hashes;
static int	nhashes = 0;
static int	room = FEW_BIRTHS;
static bool sorted;
static bool too_many;

/* the table's entry */
static BirthTable *
note_table(const FerryTable *table)
{
	BirthTable *t;

	for (t = tables; t; t = t->next)
		if (t->tombid == table->tombid)
			return t;
	if (tables == NULL)
	{
		since = deaths_count();
		t = &first_table;
	}
	else
		t = MemoryContextAlloc(TopTransactionContext, sizeof(BirthTable));
	t->relid = table->rootid;
	t->tombid = table->tombid;
	t->whole = false;
	t->clear_at = PG_UINT64_MAX;
	t->next = tables;
	tables = t;
	return t;
}

/* goes with the transaction */
static void
make_room(void)
{
	uint32	   *more = MemoryContextAlloc(TopTransactionContext, sizeof(uint32) * room * 2);

	memcpy(more, hashes, sizeof(uint32) * nhashes);
	if (hashes != few_hashes)
		pfree(hashes);
	hashes = more;
	room *= 2;
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
		make_room();
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
 *
 * So a table that had no tombstone when d keys had died needs no second look while
 * no more have: what has been written since is not reported yet.
 */
bool
births_meet_tombstones(const FerryTable *table)
{
	BirthTable *t = note_table(table);
	TombstonesClear *clear = table->clear;
	uint64		written_here = tombstone_written_here();
	uint64		deaths;

	if (t->clear_at == written_here)
		return false;
	deaths = deaths_count();
	if (!clear->known || clear->deaths != deaths || clear->written_here != written_here)
	{
		clear->known = false;
		if (tombstone_any(table))
			return true;
		clear->deaths = deaths;
		clear->written_here = tombstone_written_here();
		clear->known = true;
	}
	t->clear_at = clear->written_here;
	return false;
}

bool
births_since(uint64 *deaths)
{
	*deaths = since;
	return tables != NULL;
}

const BirthTable *
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
	tables = NULL;
	hashes = few_hashes;
	nhashes = 0;
	room = FEW_BIRTHS;
	too_many = false;
}
