/*-------------------------------------------------------------------------
 *
 * changes.c
 *		ferry.changes(since): the states since a vector (scan.c) as jsonb, for
 *		whoever carries them over another transport and calls ferry.merge there.
 *
 * What TRUNCATE left comes first, then rows and tombstones.  Value per call:
 * memory is one row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "apply/apply.h"
#include "delta/scan.h"
#include "node/node.h"
#include "state/range_tombstone.h"
#include "state/state.h"
#include "state/tombstone.h"

typedef struct Changes
{
	DeltaScan  *scan;
	List	   *ranges;			/* of ChangedTable: still to be told */
} Changes;

/* a range tombstone since the vector */
typedef struct ChangedTable
{
	Oid			relid;
	Datum		state;			/* jsonb */
} ChangedTable;

static List *
ranges_since(DeltaScan *d)
{
	List	   *tables = delta_scan_tables(d);
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, tables)
	{
		const RangeList *list = ranges_of(lfirst_oid(lc));

		for (int i = 0; i < list->n; i++)
		{
			ChangedTable *t;

			if (d->has_since && vector_covers(&d->since, &list->ranges[i]))
				continue;
			t = palloc(sizeof(ChangedTable));
			t->relid = lfirst_oid(lc);
			t->state = range_to_jsonb(&list->ranges[i]);
			result = lappend(result, t);
		}
	}
	return result;
}

static Datum
state_of(DeltaScan *d)
{
	RowState   *s;

	if (d->owner_rel)
		s = tombstone_decode(d->table, d->slot->tts_values, d->slot->tts_isnull);
	else
		s = state_from_slot(d->table, d->slot);
	s->version.horizon = &d->horizon;
	return state_to_jsonb(d->table, d->owner_rel ? d->owner_rel : d->rel, s);
}

/* the caller may stop early (LIMIT, cursor): let go of what is open */
static void
end_early(Datum arg)
{
	delta_scan_end(((Changes *) DatumGetPointer(arg))->scan);
}

static HeapTuple
make_row(TupleDesc desc, Oid relid, Datum state)
{
	Datum		values[2] = {ObjectIdGetDatum(relid), state};
	bool		nulls[2] = {false, false};

	return heap_form_tuple(desc, values, nulls);
}

PG_FUNCTION_INFO_V1(ferry_changes);

/*
 * SQL: ferry.changes(since text) returns setof (rel regclass, state jsonb).  Needs
 * SELECT on every table under ferry.
 */
Datum
ferry_changes(PG_FUNCTION_ARGS)
{
	ExprContext *econtext = ((ReturnSetInfo *) fcinfo->resultinfo)->econtext;
	FuncCallContext *call;
	Changes    *c;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext oldcontext;

		(void) node_current();
		call = SRF_FIRSTCALL_INIT();
		oldcontext = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &call->tuple_desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		call->tuple_desc = BlessTupleDesc(call->tuple_desc);
		c = palloc0(sizeof(Changes));
		c->scan = delta_scan_begin(PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0)));
		delta_scan_add_all(c->scan);
		delta_scan_check_access(c->scan);
		delta_scan_warn(c->scan);
		c->ranges = ranges_since(c->scan);
		call->user_fctx = c;
		MemoryContextSwitchTo(oldcontext);
		RegisterExprContextCallback(econtext, end_early, PointerGetDatum(c));
	}
	call = SRF_PERCALL_SETUP();
	c = call->user_fctx;
	if (c->ranges != NIL)
	{
		ChangedTable *t = linitial(c->ranges);

		c->ranges = list_delete_first(c->ranges);
		SRF_RETURN_NEXT(call, HeapTupleGetDatum(make_row(call->tuple_desc, t->relid, t->state)));
	}
	if (delta_scan_next(c->scan))
		SRF_RETURN_NEXT(call, HeapTupleGetDatum(make_row(call->tuple_desc, c->scan->table->rootid, state_of(c->scan))));
	UnregisterExprContextCallback(econtext, end_early, PointerGetDatum(c));
	delta_scan_end(c->scan);
	SRF_RETURN_DONE(call);
}
