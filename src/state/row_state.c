/*-------------------------------------------------------------------------
 *
 * row_state.c
 *		Row states: made empty, or from a live row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "state/state.h"

RowState *
state_create(const FerryTable *table)
{
	RowState   *s = palloc0(sizeof(RowState));

	s->natts = table->natts;
	s->values = palloc0(sizeof(Datum) * table->natts);
	s->nulls = palloc0(sizeof(bool) * table->natts);
	s->kinds = palloc0(sizeof(uint8) * table->natts);
	return s;
}

RowState *
state_from_slot(const FerryTable *table, TupleTableSlot *slot)
{
	RowState   *s = state_create(table);

	slot_getallattrs(slot);
	s->alive = true;
	for (int i = 0; i < table->natts; i++)
	{
		if (table->column_ids[i] == 0)
			continue;
		s->kinds[i] = VALUE_HERE;
		s->values[i] = slot->tts_values[i];
		s->nulls[i] = slot->tts_isnull[i];
	}
	state_version_read(slot->tts_values[table->version_attno - 1], &s->version);
	return s;
}
