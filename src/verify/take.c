/*-------------------------------------------------------------------------
 *
 * take.c
 *		States from the other side: which of them are missing here, and the repair.
 *
 * A comparison of two moving tables finds keys that differ; most of them only
 * because a write was on its way.  So for each such key the other side's state is
 * read first, then this side waits until all the writes in it have arrived here
 * too (node/holding.c), and then judges it (judge.c).  What is missing is merged
 * by a careful stream, as if it had come by itself: there is no other way in.
 *
 * A write that has not arrived, because a link is paused or slow, is no
 * divergence and is left to the stream and to the next run.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "apply/apply.h"
#include "apply/relation_map.h"
#include "node/holding.h"
#include "node/node.h"
#include "state/codec.h"
#include "verify/judge.h"
#include "verify/take.h"

#define POLL_MS 10

typedef struct Reading
{
	JudgeBase	base;
	RelationMap map;
	ApplyStream *stream;
	WireValue  *values;
	MemoryContext row_cxt;
	const uint8_t *message;		/* the row or range at hand */
	size_t		message_bytes;
} Reading;

/* --- quarantine --- */

static bool
is_in_quarantine(const Reading *r)
{
	Oid			types[2] = {BYTEAOID, BYTEAOID};
	Datum		args[2];
	bool		found;

	/* between the two there may be a horizon */
	args[0] = PointerGetDatum(bytea_of(r->map.raw, r->map.raw_bytes));
	args[1] = PointerGetDatum(bytea_of(r->message, r->message_bytes));
	SPI_connect();
	SPI_execute_with_args("SELECT 1 FROM ferry.quarantined WHERE pg_catalog.substr(frame, 1, pg_catalog.octet_length($1)) "
						  "OPERATOR(pg_catalog.=) $1 AND pg_catalog.substr(frame, pg_catalog.octet_length(frame) "
						  "OPERATOR(pg_catalog.-) pg_catalog.octet_length($2) OPERATOR(pg_catalog.+) 1) OPERATOR(pg_catalog.=) $2",
						  2, types, args, NULL, false, 1);
	found = SPI_processed > 0;
	SPI_finish();
	return found;
}

/* --- waiting --- */

static void
add_writes(const uint8_t *bytes, size_t len, NodeVector *writes)
{
	Version		version;
	const char *error;

	if (!version_decode(bytes, len, &version, &error))
		return;
	for (int i = 0; i < version.nvv; i++)
	{
		if (!node_clock_too_far(version.vv[i].hlc))
			(void) vector_raise(writes, version.vv[i].node, version.vv[i].hlc);
	}
}

/* the latest writes of each node in the rows of a frame; bytes are checked when they are taken */
static void
writes_in_frame(const void *data, size_t len, NodeVector *writes)
{
	WireReader	reader;
	WireValue  *values = palloc(sizeof(WireValue) * WIRE_MAX_COLUMNS);

	vector_clear(writes);
	wire_reader_init(&reader, data, len);
	while (!wire_at_end(&reader))
	{
		uint8_t		type = wire_get_u8(&reader);
		WireRelation rel;
		WireRow		row;
		WireRange	range;
		NodeVector	v;

		if (type == WIRE_RELATION)
			wire_get_relation(&reader, &rel);
		else if (type == WIRE_HOLDS)
			(void) wire_get_holds(&reader, &v);
		else if (type == WIRE_HORIZON)
			wire_get_vector(&reader, &v);
		else if (type == WIRE_ALIVE || type == WIRE_DEAD)
		{
			wire_get_row(&reader, &row, values, WIRE_MAX_COLUMNS);
			if (reader.error == NULL)
				add_writes(row.version, row.version_len, writes);
		}
		else if (type == WIRE_RANGE)
		{
			wire_get_range(&reader, &range);
			if (reader.error == NULL)
				add_writes(range.version, range.version_len, writes);
		}
		else
			break;
	}
	pfree(values);
}

/* until they have arrived here; *here is what has, in any case */
static void
wait_until_due(Take *t, const void *data, size_t len, NodeVector *here)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), t->patience_ms);
	NodeVector	writes;

	writes_in_frame(data, len, &writes);
	for (;;)
	{
		holding_received(here);
		if (vector_includes(here, &writes))
			return;
		if (GetCurrentTimestamp() >= end)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	/* a link that is behind is not waited for again and again */
	t->patience_ms = 0;
}

/* --- one row --- */

/* through the stream, as if it had come by itself; false if it went to quarantine */
static bool
merge_message(Reading *r)
{
	ApplyProgress *p = apply_stream_progress(r->stream);
	uint64		quarantined = p->quarantined;

	apply_stream_frame(r->stream, r->message, r->message_bytes);
	return p->quarantined == quarantined;
}

/* false if the row cannot even be read; raises what is not its fault */
static bool
try_judge(Reading *r, Relation rel, const WireRow *row, Judgement *j)
{
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool readable = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(r->row_cxt);
	PG_TRY();
	{
		judge_row(&r->base, &r->map, rel, row, j);
		ReleaseCurrentSubTransaction();
		readable = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(r->row_cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (apply_error_is_transient(error->sqlerrcode))
			ReThrowError(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(r->row_cxt);
	CurrentResourceOwner = owner;
	return readable;
}

static void
repair(Reading *r, Relation rel, const Judgement *j)
{
	Take	   *t = r->base.take;
	bool		merged = merge_message(r);

	MemoryContextSwitchTo(r->row_cxt);
	if (merged)
		t->counts.repaired++;
	if (j == NULL)
		return;					/* it could not be read: quarantine has it all */
	if (!merged)
		judge_record(t, rel, j, WINNER_NONE, "quarantine");
	else
		judge_record(t, rel, j, j->outcome == MERGE_TAKEN ? WINNER_REMOTE : WINNER_MERGED,
					 j->local ? "later_write" : "missing_row");
}

static void
take_row(Reading *r, Relation rel, const WireRow *row)
{
	Take	   *t = r->base.take;
	MemoryContext oldcontext = MemoryContextSwitchTo(r->row_cxt);
	Judgement	j;
	bool		readable = try_judge(r, rel, row, &j);
	Verdict		verdict = readable ? j.verdict : VERDICT_MISSING;

	/* what cannot be read goes to quarantine by the same door as in the stream */
	if (verdict == VERDICT_MISSING && is_in_quarantine(r))
		verdict = VERDICT_WAITING;
	if (verdict == VERDICT_MISSING || verdict == VERDICT_WAITING)
		t->counts.differing++;
	if (verdict == VERDICT_MISSING && t->repair)
		repair(r, rel, readable ? &j : NULL);
	if (verdict == VERDICT_IN_FLIGHT)
		t->counts.undecided++;
	if (verdict == VERDICT_MISMATCH)
		t->counts.mismatched++;
	if (readable && j.settled)
		t->counts.repaired++;
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(r->row_cxt);
}

/* on record as a row without a key */
static void
repair_range(Reading *r, Relation rel, const Version *range)
{
	Take	   *t = r->base.take;
	const FerryTable *table = table_lookup_required(t->relid);
	Judgement	j = {VERDICT_MISSING};
	bool		merged = merge_message(r);

	MemoryContextSwitchTo(r->row_cxt);
	if (merged)
		t->counts.repaired++;
	j.local = state_create(table);
	j.remote = state_create(table);
	j.remote->version = *range;
	judge_record(t, rel, &j, merged ? WINNER_REMOTE : WINNER_NONE, merged ? "missing_truncate" : "quarantine");
}

/* a TRUNCATE that this node lacks: merging it kills what it covers here */
static void
take_range(Reading *r, Relation rel, const WireRange *wire)
{
	Take	   *t = r->base.take;
	MemoryContext oldcontext = MemoryContextSwitchTo(r->row_cxt);
	Version		range;
	const char *error;

	if (!version_decode(wire->version, wire->version_len, &range, &error) || range.ncols > 0)
		take_refuse(t, "A range tombstone is malformed.");
	switch (judge_range(&r->base, &range))
	{
		case VERDICT_MISSING:
			t->counts.differing++;
			if (t->repair)
				repair_range(r, rel, &range);
			break;
		case VERDICT_IN_FLIGHT:
			t->counts.undecided++;
			break;
		default:
			break;
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(r->row_cxt);
}

/* --- a frame --- */

static void
read_relation(Reading *r, WireReader *reader, const uint8_t *message)
{
	Take	   *t = r->base.take;

	if (r->map.raw)
		take_refuse(t, "A second relation was described.");
	wire_get_relation(reader, &r->map.wire);
	if (reader->error)
		return;
	r->map.id = r->map.wire.id;
	r->map.raw_bytes = reader->p - message;
	r->map.raw = palloc(r->map.raw_bytes);
	memcpy(r->map.raw, message, r->map.raw_bytes);
	relation_map_resolve(&r->map);
	if (r->map.relid != t->relid)
		take_refuse(t, "Another table was described than was asked for.");
	apply_stream_frame(r->stream, r->map.raw, r->map.raw_bytes);
}

static void
read_messages(Reading *r, const void *data, size_t len)
{
	Take	   *t = r->base.take;
	WireReader	reader;
	Relation	rel = table_open(t->relid, RowExclusiveLock);
	size_t		rows = 0;

	wire_reader_init(&reader, data, len);
	while (!wire_at_end(&reader))
	{
		const uint8_t *message = reader.p;
		uint8_t		type = wire_get_u8(&reader);
		WireRow		row;
		WireRange	range;
		NodeVector	v;

		CHECK_FOR_INTERRUPTS();
		if (type == WIRE_RELATION)
			read_relation(r, &reader, message);
		else if (type == WIRE_HOLDS)
		{
			NodeId		node = wire_get_holds(&reader, &v);

			/* what is read afterwards includes it */
			if (reader.error == NULL && node != t->peer_id)
				take_refuse(t, "It spoke of what another node holds.");
			if (reader.error == NULL && r->map.raw == NULL)
				vector_copy(&r->base.there, &v);
		}
		else if (type == WIRE_HORIZON)
		{
			wire_get_vector(&reader, &v);
			if (reader.error == NULL)
				apply_stream_frame(r->stream, message, reader.p - message);
		}
		else if (type == WIRE_ALIVE || type == WIRE_DEAD || type == WIRE_RANGE)
		{
			if (type == WIRE_RANGE)
				wire_get_range(&reader, &range);
			else
				wire_get_row(&reader, &row, r->values, WIRE_MAX_COLUMNS);
			if (reader.error)
				break;
			row.alive = type == WIRE_ALIVE;
			if (r->map.raw == NULL || (type == WIRE_RANGE ? range.relation : row.relation) != r->map.id)
				take_refuse(t, "A row came of a relation that was not described.");
			if (t->asked && ++rows > t->nasked)
				take_refuse(t, "More rows came than were asked for.");
			relation_map_resolve(&r->map);
			r->message = message;
			r->message_bytes = reader.p - message;
			if (type == WIRE_RANGE)
				take_range(r, rel, &range);
			else
				take_row(r, rel, &row);
		}
		else
			take_refuse(t, "A message came that has no place there.");
	}
	if (reader.error)
		take_refuse(t, reader.error);
	table_close(rel, NoLock);
}

void
take_frame(Take *t, const void *data, size_t len)
{
	int			nest_level = NewGUCNestLevel();
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry take", ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(cxt);
	Reading		r = {0};

	(void) set_config_option("session_replication_role", "replica", PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	r.base.take = t;
	wait_until_due(t, data, len, &r.base.here);
	r.row_cxt = AllocSetContextCreate(cxt, "ferry take row", ALLOCSET_DEFAULT_SIZES);
	r.values = palloc(sizeof(WireValue) * WIRE_MAX_COLUMNS);
	r.stream = apply_stream_create(t->peer, t->peer_id, true);
	apply_stream_expect_current(r.stream, &r.base.there);
	r.base.horizon = &apply_stream_progress(r.stream)->news->horizon;
	read_messages(&r, data, len);
	(void) apply_stream_commit(r.stream);
	relation_map_reset(&r.map);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(cxt);
	AtEOXact_GUC(true, nest_level);
}
