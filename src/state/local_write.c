/*-------------------------------------------------------------------------
 *
 * local_write.c
 *		What a local write makes of a row's version, and of its values.
 *
 * Whoever stamps a write, a trigger or the executor, calls this with what the
 * write found and what it is about to store.  What counts is bytes: a column
 * set to what it holds already was not written, and 1.0 that became 1.00 was.
 *
 *	birth			every column takes the dot
 *	update			the columns whose bytes differ take it
 *	birth after a	every column takes it; the version includes the tombstone's,
 *	death			so that no state of the dead row wins against the new one
 *	death			only the row takes it: its columns keep theirs
 *
 * Columns with a strategy take the dot in the same way; what else they keep, and
 * what is stored of the value that was written, is theirs to say (strategy.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tupdesc.h"
#include "utils/datum.h"

#include "node/horizon.h"
#include "state/local_write.h"
#include "state/range_tombstone.h"
#include "state/strategy.h"

FoundRow
state_found_dead(const RowState *tomb)
{
	FoundRow	found = {&tomb->version, false, tomb->values, tomb->nulls, tomb->kinds};

	return found;
}

static bool
is_same(const FoundRow *old, const Datum *values, const bool *nulls, int i, Form_pg_attribute attr)
{
	if (old->nulls[i] || nulls[i])
		return old->nulls[i] && nulls[i];
	return datumIsEqual(old->values[i], values[i], attr->attbyval, attr->attlen) ||
		datum_image_eq(old->values[i], values[i], attr->attbyval, attr->attlen);
}

/* the ids of the columns that an UPDATE changed, in ids (room for all) */
static int
changed_columns(const FerryTable *table, TupleDesc desc, const FoundRow *old,
				const Datum *values, const bool *nulls, uint16 *ids)
{
	int			n = 0;

	for (int c = 0; c < table->nplain; c++)
	{
		int			i = table->plain_attnos[c] - 1;

		if (!is_same(old, values, nulls, i, TupleDescAttr(desc, i)))
			ids[n++] = table->plain_ids[c];
	}
	return n;
}

/* forget of a version's writers whom everybody has heard of; last, when all parts are in it */
static void
settle_version(const Version *before, Version *after)
{
	after->horizon = horizon_current();
	version_prune(after, after->horizon, before);
}

/* the columns that are no registers; returns whether a value was adjusted */
static bool
write_strategies(const FerryTable *table, TupleDesc desc, const FoundRow *found,
				 const uint16 *changed, int nchanged,
				 Datum *values, bool *nulls, Dot d, Version *after)
{
	bool		adjusted = false;
	int			c = 0;

	/* both are sorted by column id */
	for (int s = 0; s < table->nstrategies; s++)
	{
		const ColumnStrategy *strategy = &table->strategies[s];
		int			i = table->id_attnos[strategy->id - 1] - 1;

		while (c < nchanged && changed[c] < strategy->id)
			c++;
		if (c < nchanged && changed[c] == strategy->id && strategy->kind != KIND_LWW)
			adjusted |= strategy_write(table, desc, strategy, found, d, after, &values[i], &nulls[i]);
	}
	return adjusted;
}

bool
state_local_write(const FerryTable *table, TupleDesc desc, const FoundRow *found,
				  Datum *values, bool *nulls, Dot d, Version *after)
{
	const uint16 *changed = table->plain_ids;
	int			nchanged = table->nplain;
	bool		adjusted = false;

	if (found == NULL)
		version_init(after, d);
	else if (found->alive)
	{
		uint16	   *ids = palloc(sizeof(uint16) * Max(table->nplain, 1));

		nchanged = changed_columns(table, desc, found, values, nulls, ids);
		changed = ids;
	}
	if (found)
		version_write(found->version, d, changed, nchanged, table->plain_ids, table->nplain,
					  table->mode == MERGE_MODE_COLUMN, table->life == LIFE_UPDATE_WINS, true, after);
	if (table->has_strategies && table->mode == MERGE_MODE_COLUMN)
		adjusted = write_strategies(table, desc, found, changed, nchanged, values, nulls, d, after);
	if (found)
		settle_version(found->version, after);
	else if (after->nparts > 0 || table->life == LIFE_UPDATE_WINS)
	{
		const RangeList *list = ranges_of(table->rootid);

		range_begin(after, list->ranges, list->n);
	}
	return adjusted;
}

bool
state_birth_is_dot(const FerryTable *table)
{
	return state_plain_birth(table) &&
		(table->life != LIFE_UPDATE_WINS || ranges_of(table->rootid)->n == 0);
}

void
state_local_delete(const FerryTable *table, const Version *before, Dot d, Version *after)
{
	version_write(before, d, NULL, 0, table->plain_ids, table->nplain,
				  table->mode == MERGE_MODE_COLUMN, table->life == LIFE_UPDATE_WINS, false, after);
	settle_version(before, after);
}
