/*-------------------------------------------------------------------------
 *
 * frames.c
 *		ferry._delta_frames(tables, since): the states since a vector (scan.c) as
 *		frames.
 *
 * A frame holds relation messages and rows until it is DELTA_FRAME_BYTES long.
 * It describes every relation of which it has rows, so that it can be merged
 * without those before it (a bundle that is taken up again).
 * Then come the states that wait in quarantine here (waiting.c), one a frame.
 * The last frame says what the receiver holds when it has merged all of them, as
 * far as these tables go.  Merging is idempotent, so that nothing needs to be
 * agreed upon with the live stream: what both bring is merged twice.
 *
 * Value per call, so that COPY streams it: memory is one frame and one row.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "delta/delta.h"
#include "delta/scan.h"
#include "delta/waiting.h"
#include "node/node.h"
#include "state/codec.h"
#include "state/range_tombstone.h"

typedef struct DeltaFrames
{
	DeltaScan  *scan;
	RelationEncoder *encoder;
	MemoryContext rel_cxt;		/* of the encoder */
	WireWriter	frame;
	bool		tables_told;	/* their strategies, and what TRUNCATE left of them */
	bool		some_tables;	/* not all */
	List	   *names;			/* (char *) of the tables, qualified */
	WaitingScan *waiting;		/* once the tables have been read */
	bool		ended;
} DeltaFrames;

static void
make_encoder(DeltaFrames *f)
{
	DeltaScan  *d = f->scan;

	MemoryContextReset(f->rel_cxt);
	f->encoder = relation_encoder_create(d->table, d->owner_rel ? d->owner_rel : d->rel, f->rel_cxt);
}

static void
put_row(DeltaFrames *f)
{
	DeltaScan  *d = f->scan;
	MemoryContext oldcontext = MemoryContextSwitchTo(d->row_cxt);

	if (d->owner_rel)
		relation_encode_dead(&f->frame, f->encoder, d->slot->tts_values, d->slot->tts_isnull);
	else
		relation_encode_alive(&f->frame, f->encoder, d->slot->tts_values, d->slot->tts_isnull);
	MemoryContextSwitchTo(oldcontext);
}

/* at the head of a frame that describes relations: what follows is read under it */
static void
put_horizon(DeltaFrames *f)
{
	if (f->frame.len == 0 && f->scan->horizon.n > 0)
		wire_put_horizon(&f->frame, &f->scan->horizon);
}

/*
 * What is told of tables without a row to be sent too: how columns merge and what
 * becomes of orphans (the next to write or judge one may be the receiver), and what
 * TRUNCATE left, before the rows.
 */
static void
put_tables(DeltaFrames *f)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(GetMemoryChunkContext(f));
	ListCell   *lc;

	foreach(lc, delta_scan_tables(f->scan))
	{
		FerryTable *table = table_lookup(lfirst_oid(lc));
		const RangeList *list = ranges_of(lfirst_oid(lc));
		RelationEncoder *encoder;
		Relation	rel;

		f->names = lappend(f->names, quote_qualified_identifier(get_namespace_name(get_rel_namespace(lfirst_oid(lc))),
																get_rel_name(lfirst_oid(lc))));
		if (table == NULL || (table->nstrategies == 0 && table->orphans_dot.hlc == 0 && list->n == 0))
			continue;
		rel = table_open(table->relid, AccessShareLock);
		encoder = relation_encoder_create(table, rel, f->rel_cxt);
		put_horizon(f);
		relation_encode_description(&f->frame, encoder);
		for (int i = 0; i < list->n; i++)
			range_encode(&f->frame, encoder->wire.id, &list->ranges[i]);
		table_close(rel, NoLock);
	}
	MemoryContextReset(f->rel_cxt);
	MemoryContextSwitchTo(oldcontext);
	f->tables_told = true;
}

/* a state that waits in quarantine, as the frame; false if there is none any more */
static bool
put_waiting(DeltaFrames *f)
{
	bytea	   *frame;

	if (f->waiting == NULL)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(GetMemoryChunkContext(f));

		f->waiting = waiting_begin(f->scan, !f->some_tables, f->names);
		MemoryContextSwitchTo(oldcontext);
	}
	frame = waiting_next(f->waiting);
	if (frame)
		wire_put_bytes(&f->frame, VARDATA(frame), VARSIZE(frame) - VARHDRSZ);
	return frame != NULL;
}

/* fill a frame; false if there is none any more */
static bool
fill_frame(DeltaFrames *f)
{
	bool		described = false;

	f->frame.len = 0;
	if (!f->tables_told)
		put_tables(f);
	while (f->frame.len < DELTA_FRAME_BYTES && !f->ended)
	{
		if (delta_scan_next(f->scan))
		{
			if (f->scan->opened)
			{
				make_encoder(f);
				described = false;
			}
			put_horizon(f);
			if (!described)
				relation_encode_description(&f->frame, f->encoder);
			described = true;
			put_row(f);
			continue;
		}
		if (f->frame.len > 0 && f->waiting == NULL)
			break;
		if (put_waiting(f))
			break;
		wire_put_holds(&f->frame, node_id(), &f->scan->holds);
		f->ended = true;
	}
	return f->frame.len > 0;
}

static void
end_scans(DeltaFrames *f)
{
	if (f->waiting)
		waiting_end(f->waiting);
	delta_scan_end(f->scan);
}

/* the caller may stop early (LIMIT, cursor): let go of what is open */
static void
end_early(Datum arg)
{
	end_scans((DeltaFrames *) DatumGetPointer(arg));
}

PG_FUNCTION_INFO_V1(ferry_delta_frames);

/*
 * SQL: ferry._delta_frames(tables text[], since text) returns setof bytea.
 * tables NULL: every table under ferry.  since NULL: every state.
 */
Datum
ferry_delta_frames(PG_FUNCTION_ARGS)
{
	ExprContext *econtext = ((ReturnSetInfo *) fcinfo->resultinfo)->econtext;
	FuncCallContext *call;
	DeltaFrames *f;

	if (SRF_IS_FIRSTCALL())
	{
		MemoryContext oldcontext;

		(void) node_current();
		call = SRF_FIRSTCALL_INIT();
		oldcontext = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		f = palloc0(sizeof(DeltaFrames));
		f->rel_cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry delta relation", ALLOCSET_DEFAULT_SIZES);
		f->scan = delta_scan_begin(PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)));
		delta_scan_warn(f->scan);
		wire_writer_init(&f->frame, DELTA_FRAME_BYTES);
		if (PG_ARGISNULL(0))
			delta_scan_add_all(f->scan);
		else
		{
			f->some_tables = true;
			delta_scan_add_named(f->scan, PG_GETARG_ARRAYTYPE_P(0));
		}
		delta_scan_check_access(f->scan);
		call->user_fctx = f;
		MemoryContextSwitchTo(oldcontext);
		RegisterExprContextCallback(econtext, end_early, PointerGetDatum(f));
	}
	call = SRF_PERCALL_SETUP();
	f = call->user_fctx;
	if (fill_frame(f))
		SRF_RETURN_NEXT(call, PointerGetDatum(bytea_of(f->frame.data, f->frame.len)));
	UnregisterExprContextCallback(econtext, end_early, PointerGetDatum(f));
	end_scans(f);
	SRF_RETURN_DONE(call);
}
