/*-------------------------------------------------------------------------
 *
 * plugin.c
 *		The output plugin: committed changes of tables under ferry, as frames.
 *
 * What leaves is row states.  An INSERT or UPDATE of a table under ferry is the
 * state of a live row; an INSERT or UPDATE of its tombstone table is the state
 * of a dead one.  DELETEs leave nothing behind in the stream: a deletion is the
 * writing of its tombstone, a TRUNCATE an INSERT into
 * ferry.range_tombstone.  A new row in ferry.registered_table tells the
 * receiver that there is a table to copy, one in ferry.column_merge how a column
 * merges; each description of a relation tells that too, so that nobody merges
 * what came from elsewhere without knowing.  Behind it stand the range tombstones in
 * force: who merged one that came from elsewhere has written on under it since, and
 * nobody may get that before he has the range (core/range.c).  A new one invalidates
 * the relation, so that it is described again.
 *
 * One frame per transaction, or per PLUGIN_FRAME_BYTES of it: each frame is a
 * message of the replication protocol, and each of those a system call.
 * Transactions that touch nothing of ours send nothing, unless commits here wait
 * for standbys: then they send begin and commit.
 *
 * A large transaction may leave in parts, as it is decoded, if it is committed already
 * (early.c).  Its begin says so; other transactions stand between its parts.
 *
 * Options: proto_version (1), node (the receiver's id: its own writes are never
 * sent back), forward (local: only what was written here; all: also what came
 * from other nodes), compression (off, zstd: frames go as 'Z' messages), rows
 * (whole; narrow: without values that the receiver holds, see core/narrow.c), parts (on,
 * off: may transactions leave in parts).
 *
 * A frame is never held back for the next transaction's, though the receiver
 * would be glad of fewer: what a keepalive says is then ahead of what was sent,
 * and nobody would call us when the log ends.
 *
 * Memory: one frame, which is at most PLUGIN_FRAME_BYTES and one row; large
 * transactions that are not committed yet spill to disk in the server's reorder buffer.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "commands/defrem.h"
#include "replication/logical.h"
#include "replication/origin.h"
#include "replication/output_plugin.h"
#include "replication/syncrep.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "compat.h"
#include "core/zip.h"
#include "link/link.h"
#include "node/node.h"
#include "send/early.h"
#include "send/news.h"
#include "send/reread.h"
#include "send/sent_relation.h"
#include "state/range_tombstone.h"

#define PLUGIN_FRAME_BYTES (64 * 1024)
#define PLUGIN_KEEP_BYTES (1024 * 1024)

/* rows shorter than that are sent whole */
#define NARROW_FROM_BYTES 256

/* changes that are not ours between two chances for a keepalive */
#define QUIET_CHANGES 100

typedef struct PluginData
{
	MemoryContext row_cxt;		/* reset after each change */
	WireWriter	frame;
	NodeId		receiver;
	bool		forward_all;
	bool		narrow;
	NarrowStream stream;		/* what may be left out of rows */
	bool		zip;
	ZipWriter	zip_writer;
	WireWriter	zipped;
	bool		began;			/* this transaction's begin is written */
	bool		parts;			/* may transactions leave in parts? */
	Early		early;
	bool		in_part;		/* this is a part of one */
	bool		part_began;		/* the begin of that one is written */
	int			quiet;
} PluginData;

PGDLLEXPORT void _PG_output_plugin_init(OutputPluginCallbacks *cb);

/* --- options --- */

static NodeId
parse_node(const char *text)
{
	char	   *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno != 0 || *end != '\0' || n == 0 || n > PG_UINT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\": \"%s\"", "node", text)));
	return (NodeId) n;
}

static void
parse_options(PluginData *data, List *options)
{
	ListCell   *lc;
	bool		version_given = false;

	foreach(lc, options)
	{
		DefElem    *option = lfirst(lc);
		const char *value = defGetString(option);

		if (strcmp(option->defname, "proto_version") == 0)
		{
			if (strcmp(value, CppAsString2(WIRE_PROTOCOL)) != 0)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("ferry protocol version \"%s\" is not supported", value),
						 errdetail("This node speaks version %d.", WIRE_PROTOCOL),
						 errhint("Install the same version of ferry on both nodes.")));
			version_given = true;
		}
		else if (strcmp(option->defname, "node") == 0)
			data->receiver = parse_node(value);
		else if (strcmp(option->defname, "forward") == 0)
		{
			if (strcmp(value, "local") != 0 && strcmp(value, "all") != 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("invalid value for option \"%s\": \"%s\"", "forward", value)));
			data->forward_all = strcmp(value, "all") == 0;
		}
		else if (strcmp(option->defname, "compression") == 0)
		{
			if (strcmp(value, "off") != 0 && strcmp(value, "zstd") != 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("invalid value for option \"%s\": \"%s\"", "compression", value)));
			data->zip = strcmp(value, "zstd") == 0;
		}
		else if (strcmp(option->defname, "rows") == 0)
		{
			if (strcmp(value, "whole") != 0 && strcmp(value, "narrow") != 0)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("invalid value for option \"%s\": \"%s\"", "rows", value)));
			data->narrow = strcmp(value, "narrow") == 0;
		}
		else if (strcmp(option->defname, "parts") == 0)
			data->parts = defGetBoolean(option);
		else
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unrecognized option of output plugin ferry: \"%s\"", option->defname)));
	}
	if (!version_given || data->receiver == NODE_ID_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("output plugin ferry needs the options \"proto_version\" and \"node\""),
				 errhint("Slots of this plugin are read by ferry's links only.")));
}

/* --- callbacks, in stream order --- */

/* the decoding context goes, by its end or by an error */
static void
free_zip(void *arg)
{
	zip_writer_free(arg);
}

static void
start_zip(PluginData *data, MemoryContext cxt)
{
	MemoryContextCallback *callback = MemoryContextAllocZero(cxt, sizeof(MemoryContextCallback));

	callback->func = free_zip;
	callback->arg = &data->zip_writer;
	MemoryContextRegisterResetCallback(cxt, callback);
	if (!zip_writer_init(&data->zip_writer))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("Compression of the stream could not be set up.")));
	wire_writer_init(&data->zipped, PLUGIN_FRAME_BYTES);
}

static void
startup(LogicalDecodingContext *ctx, OutputPluginOptions *opt, bool is_init)
{
	PluginData *data = palloc0(sizeof(PluginData));

	opt->output_type = OUTPUT_PLUGIN_BINARY_OUTPUT;
	ctx->output_plugin_private = data;
	ctx->streaming = false;		/* early.c says when */
	if (is_init)
		return;
	parse_options(data, ctx->output_plugin_options);
	data->row_cxt = AllocSetContextCreate(ctx->context, "ferry change", ALLOCSET_DEFAULT_SIZES);
	wire_writer_init(&data->frame, PLUGIN_FRAME_BYTES);
	if (data->zip)
		start_zip(data, ctx->context);
	if (data->parts)
		early_start(&data->early, ctx->context);
	data->stream.receiver = data->receiver;
	data->stream.forwards = data->forward_all;
	sent_relations_start(ctx->context);
	news_start();
	reread_start();

	/* who connects to us can be connected to: our link to it need not wait longer */
	link_wake_peer(data->receiver);
}

static bool
filter_by_origin(LogicalDecodingContext *ctx, RepOriginId origin)
{
	PluginData *data = ctx->output_plugin_private;

	if (data->parts)
		early_before_record(ctx, &data->early);
	return !data->forward_all && origin != InvalidRepOriginId;
}

static void
begin(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	PluginData *data = ctx->output_plugin_private;

	data->began = false;
	data->frame.len = 0;
}

/* hand the frame to the server */
static void
flush_frame(LogicalDecodingContext *ctx, PluginData *data, bool last)
{
	const WireWriter *out = &data->frame;

	if (data->zip && data->frame.len > 0 && data->frame.len <= ZIP_MAX_FRAME)
	{
		data->zipped.len = 0;
		if (!zip_put(&data->zip_writer, &data->zipped, data->frame.data, data->frame.len))
			elog(ERROR, "could not compress a frame of %zu bytes", data->frame.len);
		out = &data->zipped;
	}
	OutputPluginPrepareWrite(ctx, last);
	appendBinaryStringInfo(ctx->out, (const char *) out->data, out->len);
	OutputPluginWrite(ctx, last);
	data->frame.len = 0;
	if (data->frame.cap > PLUGIN_KEEP_BYTES)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(ctx->context);

		pfree(data->frame.data);
		wire_writer_init(&data->frame, PLUGIN_FRAME_BYTES);
		MemoryContextSwitchTo(oldcontext);
	}
}

static void
ensure_began(PluginData *data, ReorderBufferTXN *txn)
{
	bool	   *began = data->in_part ? &data->part_began : &data->began;
	WireTxn		t = {0};

	if (*began)
		return;
	if (!data->in_part)
	{
		t.commit_lsn = txn->final_lsn;
		t.commit_us = compat_txn_commit_time(txn);
	}
	t.xid = txn->xid;
	wire_put_begin(&data->frame, &t);
	*began = true;
}

/* a version that only the receiver wrote: it has it */
static bool
is_receivers_own(const PluginData *data, Datum version)
{
	struct varlena *v = PG_DETOAST_DATUM_PACKED(version);

	return VARSIZE_ANY_EXHDR(v) == VERSION_SIMPLE_BYTES &&
		version_get_last((const uint8_t *) VARDATA_ANY(v)).node == data->receiver;
}

static Dot
last_dot(Datum version)
{
	struct varlena *v = PG_DETOAST_DATUM_PACKED(version);

	return version_get_last((const uint8_t *) VARDATA_ANY(v));
}

/* how we send the rows of a table; NULL if we do not, or if it is gone */
static SentRelation *
sent_rows_of(Oid relid)
{
	Relation	rel = RelationIdGetRelation(relid);
	SentRelation *r;

	if (!RelationIsValid(rel))
		return NULL;
	r = sent_relation(rel);
	RelationClose(rel);
	return r->kind == SENT_ROWS ? r : NULL;
}

static void
describe(PluginData *data, SentRelation *r)
{
	relation_encode_description(&data->frame, r->encoder);
	r->described = true;
}

/* what TRUNCATE left, as far as it is committed at this point of the log */
static void
put_ranges_in_force(PluginData *data, Oid rootid)
{
	const RangeList *list = ranges_of(rootid);
	SentRelation *r = list->n > 0 ? sent_rows_of(rootid) : NULL;

	if (r == NULL)
		return;
	if (!r->described)
		describe(data, r);
	for (int i = 0; i < list->n; i++)
		if (list->ranges[i].last.node != data->receiver)
			range_encode(&data->frame, r->encoder->wire.id, &list->ranges[i]);
}

static void
ensure_described(PluginData *data, SentRelation *r)
{
	if (r->described)
		return;
	describe(data, r);
	put_ranges_in_force(data, r->rootid);
}

/* may values be left out of this row?  Not worth a look where it is short. */
static const NarrowStream *
narrow_stream(PluginData *data, HeapTuple tuple)
{
	if (!data->narrow || tuple->t_len < NARROW_FROM_BYTES)
		return NULL;
	data->stream.sender = node_id();
	return &data->stream;
}

static void
put_row(PluginData *data, ReorderBufferTXN *txn, SentRelation *r, HeapTuple tuple, TupleDesc desc)
{
	Datum	   *values = palloc(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);
	int			version_attno = r->version_attno;

	heap_deform_tuple(tuple, desc, values, nulls);
	if (nulls[version_attno - 1])
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("row of table \"%s\" has no version", r->encoder->wire.name)));
	if (is_receivers_own(data, values[version_attno - 1]))
		return;
	news_own_write(last_dot(values[version_attno - 1]));
	ensure_began(data, txn);
	news_first_horizon(&data->frame);
	ensure_described(data, r);
	if (r->kind == SENT_ROWS)
		relation_encode_logged(&data->frame, r->encoder, narrow_stream(data, tuple), values, nulls);
	else
		relation_encode_dead(&data->frame, r->encoder, values, nulls);
}

/* a range tombstone: of our own, or one that we got */
static void
put_range(PluginData *data, ReorderBufferTXN *txn, HeapTuple tuple, TupleDesc desc)
{
	Datum	   *values = palloc(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);
	Oid			rootid;
	Version		range;
	SentRelation *r;
	struct varlena *bytes;

	heap_deform_tuple(tuple, desc, values, nulls);
	range_decode(values, &rootid, &range);
	if (range.last.node == data->receiver)
		return;
	r = sent_rows_of(rootid);
	if (r == NULL)
		return;
	news_own_write(range.last);
	ensure_began(data, txn);
	ensure_described(data, r);
	bytes = PG_DETOAST_DATUM_PACKED(values[1]);
	wire_put_range(&data->frame, r->encoder->wire.id, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
}

static void
put_table_added(PluginData *data, ReorderBufferTXN *txn, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Oid			relid = DatumGetObjectId(heap_getattr(tuple, 1, desc, &isnull));
	char	   *name = get_rel_name(relid);

	ensure_began(data, txn);
	wire_put_u8(&data->frame, WIRE_TABLE_ADDED);
	wire_put_string(&data->frame, name ? get_namespace_name(get_rel_namespace(relid)) : "");
	wire_put_string(&data->frame, name ? name : "");
}

/*
 * A new row of ferry.column_merge (relid, attnum, kind, version, function, ...).
 * The catalog itself may not show it yet: it is read from the tuple.
 */
static void
put_strategy(PluginData *data, ReorderBufferTXN *txn, HeapTuple tuple, TupleDesc desc)
{
	WireStrategy s = {0};
	ColumnKind	kind = KIND_LWW;
	OrphanPolicy policy;
	char		letter;
	SentRelation *r;
	bool		isnull;
	Datum		d;

	r = sent_rows_of(DatumGetObjectId(heap_getattr(tuple, 1, desc, &isnull)));
	if (r == NULL)
		return;
	s.relation = r->encoder->wire.id;
	s.column = (uint16) DatumGetInt16(heap_getattr(tuple, 2, desc, &isnull));
	letter = DatumGetChar(heap_getattr(tuple, 3, desc, &isnull));
	if (s.column == 0 && orphan_policy_from_letter(letter, &policy))
		s.kind = policy;
	else if (s.column != 0 && strategy_kind_from_letter(letter, &kind))
		s.kind = kind;
	else
		return;
	s.dot = last_dot(heap_getattr(tuple, 4, desc, &isnull));
	d = heap_getattr(tuple, 5, desc, &isnull);
	s.function = isnull || kind != KIND_FUNCTION ? NULL : TextDatumGetCString(d);
	ensure_began(data, txn);
	ensure_described(data, r);
	wire_put_strategy(&data->frame, &s);
}

static void
change(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, Relation rel, ReorderBufferChange *change)
{
	PluginData *data = ctx->output_plugin_private;
	MemoryContext oldcontext;
	SentRelation *r;

	r = sent_relation(rel);
	if (r->kind == SENT_NOTHING || change->action == REORDER_BUFFER_CHANGE_DELETE ||
		change->data.tp.newtuple == NULL)
	{
		if (++data->quiet >= QUIET_CHANGES)
		{
			OutputPluginUpdateProgress(ctx, false);
			data->quiet = 0;
		}
		return;
	}
	oldcontext = MemoryContextSwitchTo(data->row_cxt);
	switch (r->kind)
	{
		case SENT_REGISTRY:
			if (change->action == REORDER_BUFFER_CHANGE_INSERT)
				put_table_added(data, txn, compat_change_newtuple(change), RelationGetDescr(rel));
			break;
		case SENT_RANGES:
			put_range(data, txn, compat_change_newtuple(change), RelationGetDescr(rel));
			break;
		case SENT_HOLDING:
			ensure_began(data, txn);
			news_holding(&data->frame, compat_change_newtuple(change), RelationGetDescr(rel));
			break;
		case SENT_HORIZON:
			ensure_began(data, txn);
			news_horizon(&data->frame, compat_change_newtuple(change), RelationGetDescr(rel));
			break;
		case SENT_MEMBER:
			ensure_began(data, txn);
			news_member(&data->frame, compat_change_newtuple(change), RelationGetDescr(rel));
			break;
		case SENT_STRATEGIES:
			put_strategy(data, txn, compat_change_newtuple(change), RelationGetDescr(rel));
			break;
		default:
			put_row(data, txn, r, compat_change_newtuple(change), RelationGetDescr(rel));
			break;
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(data->row_cxt);

	if (data->frame.len >= PLUGIN_FRAME_BYTES)
		flush_frame(ctx, data, false);
}

static void
end_transaction(LogicalDecodingContext *ctx, PluginData *data, ReorderBufferTXN *txn, XLogRecPtr commit_lsn,
				const bool *began)
{
	WireTxn		t = {0};

	OutputPluginUpdateProgress(ctx, !*began);

	/* someone may be waiting for the receiver: it must hear of this commit too */
	if (!*began && SyncRepStandbyNames != NULL && SyncRepStandbyNames[0] != '\0')
		ensure_began(data, txn);
	if (!*began)
		return;
	t.commit_lsn = commit_lsn;
	t.end_lsn = txn->end_lsn;
	t.commit_us = compat_txn_commit_time(txn);
	wire_put_commit(&data->frame, &t);
	news_passed(&data->frame, txn->end_lsn);
	flush_frame(ctx, data, true);
	reread_passed(txn->end_lsn);
}

static void
commit(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
	PluginData *data = ctx->output_plugin_private;

	end_transaction(ctx, data, txn, commit_lsn, &data->began);
}

/* --- callbacks for a transaction that leaves in parts --- */

static void
part_begin(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	PluginData *data = ctx->output_plugin_private;

	if (early_part_begins(&data->early, txn))
		data->part_began = false;
	data->in_part = true;
	data->frame.len = 0;
}

static void
part_change(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, Relation rel, ReorderBufferChange *c)
{
	PluginData *data = ctx->output_plugin_private;

	if (early_change_counts(&data->early, txn, c->txn))
		change(ctx, txn, rel, c);
}

static void
part_end(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	PluginData *data = ctx->output_plugin_private;

	if (data->frame.len > 0)
		flush_frame(ctx, data, true);
	data->in_part = false;
}

static void
parts_commit(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
	PluginData *data = ctx->output_plugin_private;

	data->in_part = true;
	end_transaction(ctx, data, txn, commit_lsn, &data->part_began);
	data->in_part = false;
	early_ends(&data->early);
}

static void
parts_abort(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr abort_lsn)
{
	/* of subtransactions that were rolled back, nothing was sent */
	if (!rbtxn_is_known_subxact(txn))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("transaction %u left in parts, but its commit is not for this receiver", txn->xid),
				 errhint("The receiver asks for it again.")));
}

void
_PG_output_plugin_init(OutputPluginCallbacks *cb)
{
	cb->startup_cb = startup;
	cb->filter_by_origin_cb = filter_by_origin;
	cb->begin_cb = begin;
	cb->change_cb = change;
	cb->commit_cb = commit;
	cb->stream_start_cb = part_begin;
	cb->stream_change_cb = part_change;
	cb->stream_stop_cb = part_end;
	cb->stream_commit_cb = parts_commit;
	cb->stream_abort_cb = parts_abort;
}
