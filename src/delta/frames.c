/*-------------------------------------------------------------------------
 *
 * frames.c
 *		ferry._delta_frames(tables): whole tables as frames: rows and
 *		tombstones, under one snapshot.
 *
 * A frame holds relation messages and rows until it is DELTA_FRAME_BYTES long.
 * It describes every relation of which it has rows, so that it can be merged
 * without those before it (a bundle that is taken up again).
 * Merging is idempotent, so that nothing needs to be agreed upon with the live
 * stream: what both bring is merged twice.
 *
 * Value per call, so that COPY streams it: memory is one frame and one row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "delta/delta.h"
#include "node/node.h"
#include "node/table.h"
#include "state/codec.h"

/* one relation to be read: a leaf of a table under ferry, or its tombstones */
typedef struct Source
{
	Oid			relid;
	Oid			owner;			/* the table under ferry if these are tombstones */
} Source;

typedef struct DeltaScan
{
	List	   *sources;		/* still to be read */
	Relation	rel;
	Relation	owner_rel;
	RelationEncoder *encoder;
	MemoryContext rel_cxt;		/* of the encoder */
	MemoryContext row_cxt;
	TableScanDesc scan;
	TupleTableSlot *slot;
	WireWriter	frame;
} DeltaScan;

/* --- what to read --- */

static void
add_source(DeltaScan *d, Oid relid, Oid owner)
{
	Source	   *s = palloc(sizeof(Source));

	s->relid = relid;
	s->owner = owner;
	d->sources = lappend(d->sources, s);
}

/* a table's leaves and tombstones; later: locked until the end of the transaction */
static void
add_table(DeltaScan *d, Oid relid)
{
	FerryTable *table;
	Oid			tombid;
	List	   *leaves;
	ListCell   *lc;

	LockRelationOid(relid, AccessShareLock);
	table = table_lookup(relid);
	if (table == NULL)
		return;
	tombid = table->tombid;
	leaves = find_all_inheritors(relid, AccessShareLock, NULL);
	foreach(lc, leaves)
	{
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_RELATION)
			add_source(d, lfirst_oid(lc), InvalidOid);
	}
	add_source(d, tombid, relid);
}

/* {schema, name, schema, name, ...}: tables that are not under ferry here are left out */
static void
add_named_tables(DeltaScan *d, ArrayType *names)
{
	Datum	   *elems;
	bool	   *nulls;
	int			n;

	deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &n);
	if (n % 2 != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("tables must be given as pairs of schema and name")));
	for (int i = 0; i < n; i += 2)
	{
		Oid			nspid;
		Oid			relid;

		if (nulls[i] || nulls[i + 1])
			continue;
		nspid = get_namespace_oid(TextDatumGetCString(elems[i]), true);
		relid = OidIsValid(nspid) ? get_relname_relid(TextDatumGetCString(elems[i + 1]), nspid) : InvalidOid;
		if (OidIsValid(relid))
			add_table(d, relid);
	}
}

static void
add_all_tables(DeltaScan *d)
{
	Relation	rel = table_open(ferry_relation("registered_table"), AccessShareLock);
	TableScanDesc scan = table_beginscan(rel, GetActiveSnapshot(), 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;

		add_table(d, DatumGetObjectId(slot_getattr(slot, 1, &isnull)));
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* --- reading --- */

static void
close_source(DeltaScan *d)
{
	if (d->rel == NULL)
		return;
	ExecDropSingleTupleTableSlot(d->slot);
	table_endscan(d->scan);
	if (d->owner_rel)
		table_close(d->owner_rel, NoLock);
	table_close(d->rel, NoLock);
	d->rel = d->owner_rel = NULL;
	MemoryContextReset(d->rel_cxt);
}

/* open the next source; false if there is none */
static bool
open_source(DeltaScan *d)
{
	Source	   *s;
	FerryTable *table;
	MemoryContext oldcontext;

	close_source(d);
	for (;;)
	{
		if (d->sources == NIL)
			return false;
		s = linitial(d->sources);
		d->sources = list_delete_first(d->sources);
		d->rel = table_open(s->relid, AccessShareLock);
		d->owner_rel = OidIsValid(s->owner) ? table_open(s->owner, AccessShareLock) : NULL;
		table = table_lookup(OidIsValid(s->owner) ? s->owner : s->relid);
		if (table)
			break;
		table_close(d->rel, NoLock);	/* dropped from ferry since */
		if (d->owner_rel)
			table_close(d->owner_rel, NoLock);
		d->rel = d->owner_rel = NULL;
	}
	oldcontext = MemoryContextSwitchTo(d->rel_cxt);
	d->encoder = relation_encoder_create(table, d->owner_rel ? d->owner_rel : d->rel, d->rel_cxt);
	d->scan = table_beginscan(d->rel, GetActiveSnapshot(), 0, NULL);
	d->slot = table_slot_create(d->rel, NULL);
	MemoryContextSwitchTo(oldcontext);
	wire_put_relation(&d->frame, &d->encoder->wire);
	return true;
}

static void
put_row(DeltaScan *d)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(d->row_cxt);

	slot_getallattrs(d->slot);
	if (d->owner_rel)
		relation_encode_dead(&d->frame, d->encoder, d->slot->tts_values, d->slot->tts_isnull);
	else
		relation_encode_alive(&d->frame, d->encoder, d->slot->tts_values, d->slot->tts_isnull, true);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(d->row_cxt);
}

/* fill a frame; false at the end: descriptions without a row behind them are not sent */
static bool
fill_frame(DeltaScan *d)
{
	bool		has_rows = false;

	d->frame.len = 0;
	if (d->rel)
		wire_put_relation(&d->frame, &d->encoder->wire);
	while (d->frame.len < DELTA_FRAME_BYTES)
	{
		CHECK_FOR_INTERRUPTS();
		if (d->rel && table_scan_getnextslot(d->scan, ForwardScanDirection, d->slot))
		{
			put_row(d);
			has_rows = true;
		}
		else if (!open_source(d))
			return has_rows;
	}
	return true;
}

/* the caller may stop early (LIMIT, cursor): let go of what is open */
static void
end_early(Datum arg)
{
	close_source((DeltaScan *) DatumGetPointer(arg));
}

PG_FUNCTION_INFO_V1(ferry_delta_frames);

/*
 * SQL: ferry._delta_frames(tables text[]) returns setof bytea.  NULL: every
 * table under ferry.
 */
Datum
ferry_delta_frames(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	DeltaScan  *d;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext oldcontext;

		(void) node_current();
		call = SRF_FIRSTCALL_INIT();
		oldcontext = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		d = palloc0(sizeof(DeltaScan));
		d->rel_cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry delta relation", ALLOCSET_DEFAULT_SIZES);
		d->row_cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry delta row", ALLOCSET_DEFAULT_SIZES);
		wire_writer_init(&d->frame, DELTA_FRAME_BYTES);
		if (PG_ARGISNULL(0))
			add_all_tables(d);
		else
			add_named_tables(d, PG_GETARG_ARRAYTYPE_P(0));
		call->user_fctx = d;
		MemoryContextSwitchTo(oldcontext);
		RegisterExprContextCallback(((ReturnSetInfo *) fcinfo->resultinfo)->econtext,
									end_early, PointerGetDatum(d));
	}
	call = SRF_PERCALL_SETUP();
	d = call->user_fctx;
	if (fill_frame(d))
	{
		bytea	   *frame = palloc(VARHDRSZ + d->frame.len);

		SET_VARSIZE(frame, VARHDRSZ + d->frame.len);
		memcpy(VARDATA(frame), d->frame.data, d->frame.len);
		SRF_RETURN_NEXT(call, PointerGetDatum(frame));
	}
	UnregisterExprContextCallback(((ReturnSetInfo *) fcinfo->resultinfo)->econtext,
								  end_early, PointerGetDatum(d));
	SRF_RETURN_DONE(call);
}
