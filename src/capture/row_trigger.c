/*-------------------------------------------------------------------------
 *
 * row_trigger.c
 *		The BEFORE ROW trigger that stamps local writes (stamp.c).
 *
 * Named so that it fires after all others: what counts is the row as it will be
 * stored.  It is what always holds.  The statements that the executor can stamp
 * more cheaply (statement.c, copy.c) do without it.
 *
 * In session_replication_role = replica the trigger does not fire: rows that
 * ferry merges carry their own versions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/rel.h"

#include "capture/stamp.h"
#include "node/node.h"

/* a deformed row */
typedef struct Row
{
	Datum	   *values;
	bool	   *nulls;
} Row;

static Row
deform(HeapTuple tuple, TupleDesc desc)
{
	Row			row;

	row.values = palloc(sizeof(Datum) * desc->natts);
	row.nulls = palloc(sizeof(bool) * desc->natts);
	heap_deform_tuple(tuple, desc, row.values, row.nulls);
	return row;
}

/* the tuple with its version, and with the values that strategies adjusted */
static HeapTuple
stamped_tuple(const FerryTable *table, HeapTuple tuple, TupleDesc desc, Row *row, Stamped stamped)
{
	int			attno = table->version_attno;
	bool	   *replaced;

	if (stamped == STAMPED_ALREADY)
		return tuple;
	if (stamped == STAMPED_VERSION)
		return heap_modify_tuple_by_cols(tuple, desc, 1, &attno, &row->values[attno - 1], &row->nulls[attno - 1]);
	replaced = palloc(sizeof(bool) * desc->natts);
	memset(replaced, true, sizeof(bool) * desc->natts);
	return heap_modify_tuple(tuple, desc, row->values, row->nulls, replaced);
}

PG_FUNCTION_INFO_V1(ferry_row_trigger);

Datum
ferry_row_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TombKeeper *keeper = fcinfo->flinfo->fn_extra;	/* given by statement.c, or NULL */
	TupleDesc	desc;
	FerryTable *table;
	Row			row;
	Row			new;
	Stamped		stamped;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called as a BEFORE ROW trigger", "ferry._row_trigger")));
	(void) node_current();
	table = table_lookup_required(RelationGetRelid(trigger->tg_relation));
	desc = RelationGetDescr(trigger->tg_relation);
	row = deform(trigger->tg_trigtuple, desc);

	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
	{
		stamped = stamp_birth(table, desc, row.values, row.nulls, true, keeper);
		return PointerGetDatum(stamped_tuple(table, trigger->tg_trigtuple, desc, &row, stamped));
	}
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
	{
		new = deform(trigger->tg_newtuple, desc);
		stamped = stamp_update(table, desc, row.values, row.nulls, new.values, new.nulls, keeper);
		return PointerGetDatum(stamped_tuple(table, trigger->tg_newtuple, desc, &new, stamped));
	}
	stamp_death(table, row.values, row.nulls, keeper);
	return PointerGetDatum(trigger->tg_trigtuple);
}
