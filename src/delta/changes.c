/*-------------------------------------------------------------------------
 *
 * changes.c
 *		ferry.changes(since): the states since a vector (scan.c) as jsonb, for
 *		whoever carries them over another transport and calls ferry.merge there.
 *
 * Value per call: memory is one row.
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
#include "state/state.h"
#include "state/tombstone.h"

/* every table under ferry must be readable: a state that is left out in silence is lost */
static void
check_access(DeltaScan *d)
{
	List	   *tables = delta_scan_tables(d);
	ListCell   *lc;

	foreach(lc, tables)
	{
		Relation	rel = table_open(lfirst_oid(lc), NoLock);

		apply_check_access(rel, ACL_SELECT);
		table_close(rel, NoLock);
	}
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
	delta_scan_end((DeltaScan *) DatumGetPointer(arg));
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
	DeltaScan  *d;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext oldcontext;

		(void) node_current();
		call = SRF_FIRSTCALL_INIT();
		oldcontext = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &call->tuple_desc) != TYPEFUNC_COMPOSITE)
			elog(ERROR, "return type must be a row type");
		call->tuple_desc = BlessTupleDesc(call->tuple_desc);
		d = delta_scan_begin(PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0)));
		delta_scan_add_all(d);
		check_access(d);
		call->user_fctx = d;
		MemoryContextSwitchTo(oldcontext);
		RegisterExprContextCallback(econtext, end_early, PointerGetDatum(d));
	}
	call = SRF_PERCALL_SETUP();
	d = call->user_fctx;
	if (delta_scan_next(d))
	{
		Datum		values[2];
		bool		nulls[2] = {false, false};

		values[0] = ObjectIdGetDatum(d->table->rootid);
		values[1] = state_of(d);
		SRF_RETURN_NEXT(call, HeapTupleGetDatum(heap_form_tuple(call->tuple_desc, values, nulls)));
	}
	UnregisterExprContextCallback(econtext, end_early, PointerGetDatum(d));
	delta_scan_end(d);
	SRF_RETURN_DONE(call);
}
