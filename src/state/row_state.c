/*-------------------------------------------------------------------------
 *
 * row_state.c
 *		Row states: made empty, or from a live row; what merging two means.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "node/horizon.h"
#include "state/state.h"

RowState *
state_create(const FerryTable *table)
{
	/* one piece: head, values, nulls, kinds */
	Size		head = MAXALIGN(sizeof(RowState));
	Size		values = sizeof(Datum) * table->natts;
	RowState   *s = palloc0(head + values + (sizeof(bool) + sizeof(uint8)) * table->natts);

	s->natts = table->natts;
	s->values = (Datum *) ((char *) s + head);
	s->nulls = (bool *) ((char *) s->values + values);
	s->kinds = (uint8 *) (s->nulls + table->natts);
	return s;
}

RowState *
state_from_values(const FerryTable *table, const Datum *values, const bool *nulls)
{
	RowState   *s = state_create(table);

	s->alive = true;
	for (int i = 0; i < table->natts; i++)
	{
		if (table->column_ids[i] == 0)
			continue;
		s->kinds[i] = VALUE_HERE;
		s->values[i] = values[i];
		s->nulls[i] = nulls[i];
	}
	return s;
}

RowState *
state_from_slot(const FerryTable *table, TupleTableSlot *slot)
{
	RowState   *s;

	slot_getallattrs(slot);
	s = state_from_values(table, slot->tts_values, slot->tts_isnull);
	state_version_read(slot->tts_values[table->version_attno - 1], &s->version);
	s->version.horizon = horizon_current();
	return s;
}

void
state_merge_plan(const FerryTable *table, const RowState *local, const RowState *remote, MergePlan *plan)
{
	MergeRules	rules = {table->mode, table->life, table->plain_ids, table->nplain, horizon_current()};
	MergeSide	l = {&local->version, local->alive};
	MergeSide	r = {&remote->version, remote->alive};

	merge_plan(&rules, &l, &r, plan);
}
