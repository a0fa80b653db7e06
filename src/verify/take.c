/*-------------------------------------------------------------------------
 *
 * take.c
 *		States from the other side: which of them are missing here, and the repair.
 *
 * A comparison of two moving tables finds keys that differ; most of them only
 * because a write was on its way.  So for each such key the other side's state is
 * read first, then this side waits until all the writes in it have arrived here
 * too (node/holding.c), and then the state is merged: if that changes nothing,
 * all is well.  If it does, something is missing of which this node says that it
 * holds it: that is a divergence, and merging it was the repair.  There is
 * no other judge of what differs than merge itself, and no other way in.
 *
 * A write that has not arrived, because a link is paused or slow, is no
 * divergence and is left to the stream and to the next run.
 *
 * States of the same version should have the same content.  Where they do not,
 * someone changed a value behind ferry's back, and merging cannot tell who is
 * right: see settle.c.
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
#include "apply/conflict.h"
#include "apply/merge_row.h"
#include "apply/relation_map.h"
#include "node/holding.h"
#include "node/node.h"
#include "state/range_tombstone.h"
#include "verify/take.h"

#define POLL_MS 10

typedef enum Verdict
{
	VERDICT_EQUAL,				/* or older than what we hold */
	VERDICT_MISSING,
	VERDICT_MISMATCH,
	VERDICT_IN_FLIGHT,
	VERDICT_WAITING				/* in quarantine already */
} Verdict;

typedef struct Reading
{
	Take	   *take;
	RelationMap map;
	ApplyStream *stream;
	WireValue  *values;
	NodeVector	here;			/* what had arrived here before we looked */
	MemoryContext row_cxt;
	const uint8_t *message;		/* the row at hand */
	size_t		message_bytes;
} Reading;

pg_noreturn static void
refuse(const Take *t, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("peer \"%s\" gave an invalid answer to a verification", t->peer),
			 errdetail_internal("%s", why)));
}

/* --- judging --- */

/* are all writes in remote that local (NULL: nothing) has not seen due here? */
static bool
is_due(const Reading *r, const Version *local, const Version *remote)
{
	for (int i = 0; i < remote->nvv; i++)
	{
		Dot			d = remote->vv[i];

		if (!(local && version_covers(local, d)) && vector_get(&r->here, d.node) < d.hlc)
			return false;
	}
	return true;
}

static Datum
bytea_of(const void *data, size_t n)
{
	bytea	   *b = palloc(VARHDRSZ + n);

	SET_VARSIZE(b, VARHDRSZ + n);
	memcpy(VARDATA(b), data, n);
	return PointerGetDatum(b);
}

static bool
is_in_quarantine(const Reading *r)
{
	Oid			types[2] = {BYTEAOID, BYTEAOID};
	Datum		args[2];
	bool		found;

	/* between the two there may be a horizon */
	args[0] = bytea_of(r->map.raw, r->map.raw_bytes);
	args[1] = bytea_of(r->message, r->message_bytes);
	SPI_connect();
	SPI_execute_with_args("SELECT 1 FROM ferry.quarantined WHERE pg_catalog.substr(frame, 1, pg_catalog.octet_length($1)) "
						  "OPERATOR(pg_catalog.=) $1 AND pg_catalog.substr(frame, pg_catalog.octet_length(frame) "
						  "OPERATOR(pg_catalog.-) pg_catalog.octet_length($2) OPERATOR(pg_catalog.+) 1) OPERATOR(pg_catalog.=) $2",
						  2, types, args, NULL, false, 1);
	found = SPI_processed > 0;
	SPI_finish();
	return found;
}

/* nothing is held of the key: a state for the record of it */
static RowState *
nothing_of(const FerryTable *table, const RowState *remote)
{
	RowState   *none = state_create(table);

	for (int k = 0; k < table->nkeys; k++)
	{
		int			i = table->key_attnos[k] - 1;

		none->values[i] = remote->values[i];
		none->kinds[i] = VALUE_HERE;
	}
	return none;
}

static void
record_divergence(Take *t, Relation rel, const FerryTable *table, const RowState *local,
				  const RowState *remote, MergeOutcome outcome)
{
	Conflict	conflict = {CONFLICT_DIVERGENCE};

	conflict.winner = outcome == MERGE_TAKEN ? WINNER_REMOTE : WINNER_MERGED;
	conflict.rule = local ? "later_write" : "missing_row";
	conflict_record(table, rel, t->peer, local ? local : nothing_of(table, remote), remote, &conflict);
}

static void
check_asked(const Take *t, uint64 key)
{
	size_t		low = 0;
	size_t		high = t->nasked;

	if (t->asked == NULL)
		return;
	while (low < high)
	{
		size_t		mid = low + (high - low) / 2;

		if (t->asked[mid] == key)
			return;
		if (t->asked[mid] < key)
			low = mid + 1;
		else
			high = mid;
	}
	refuse(t, "A row came that was not asked for.");
}

static Verdict
judge(Reading *r, Relation rel, const FerryTable *table, const WireRow *row, bool *settled)
{
	Take	   *t = r->take;
	ApplyTarget *target = target_open(rel, table);
	VerifyDigest *digest;
	Digest		theirs;
	RowState   *remote;
	RowState   *local;
	RowState   *tomb;
	MergePlan	plan;
	Verdict		verdict = VERDICT_EQUAL;

	table = target_table(target);
	digest = digest_create(t->shape, table, rel, CurrentMemoryContext);
	remote = relation_map_decode(&r->map, table, row);
	remote->version.horizon = &apply_stream_progress(r->stream)->news->horizon;
	remote->is_current = true;
	digest_state(digest, remote, &theirs);
	check_asked(t, theirs.key);
	if (ranges_cover(ranges_of(t->relid), &remote->version))
	{
		target_close(target);	/* a TRUNCATE here that it has not met there */
		return VERDICT_EQUAL;
	}

	merge_row_held(target, remote, &local, &tomb);
	if (local && tomb)
		local = merge_states(table, rel, local, tomb);
	else if (tomb)
		local = tomb;

	/* a tombstone that has been removed here and stands there still */
	if (local == NULL && merge_is_old_news(table, remote))
	{
		target_close(target);
		return VERDICT_EQUAL;
	}

	memset(&plan, 0, sizeof(plan));
	plan.outcome = MERGE_TAKEN;
	if (local)
		state_merge_plan(table, local, remote, &plan);
	if (plan.outcome != MERGE_IGNORED)
	{
		verdict = is_due(r, local ? &local->version : NULL, &remote->version) ?
			VERDICT_MISSING : VERDICT_IN_FLIGHT;
		if (verdict == VERDICT_MISSING && is_in_quarantine(r))
			verdict = VERDICT_WAITING;
		if (verdict == VERDICT_MISSING && t->repair)
			record_divergence(t, rel, table, local, remote, plan.outcome);
	}
	else if (version_compare(&local->version, &remote->version) == VERSION_EQUAL)
	{
		Digest		ours;

		digest_state(digest, local, &ours);
		if (ours.item.lo != theirs.item.lo || ours.item.hi != theirs.item.hi)
		{
			verdict = VERDICT_MISMATCH;
			if (t->on_mismatch)
				*settled = t->on_mismatch(t, rel, table, local, remote);
		}
	}
	target_close(target);
	return verdict;
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
		Version		version;
		const char *error;

		if (type == WIRE_RELATION)
			wire_get_relation(&reader, &rel);
		else if (type == WIRE_ALIVE || type == WIRE_DEAD)
		{
			wire_get_row(&reader, &row, values, WIRE_MAX_COLUMNS);
			if (reader.error || !version_decode(row.version, row.version_len, &version, &error))
				break;
			for (int i = 0; i < version.nvv; i++)
			{
				if (!node_clock_too_far(version.vv[i].hlc))
					(void) vector_raise(writes, version.vv[i].node, version.vv[i].hlc);
			}
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

static void
merge_message(Reading *r)
{
	Take	   *t = r->take;
	ApplyProgress *p = apply_stream_progress(r->stream);
	uint64		quarantined = p->quarantined;

	apply_stream_frame(r->stream, r->message, r->message_bytes);
	if (p->quarantined == quarantined)
		t->counts.repaired++;
}

static void
take_row(Reading *r, Relation rel, const FerryTable *table, const WireRow *row)
{
	Take	   *t = r->take;
	MemoryContext oldcontext = MemoryContextSwitchTo(r->row_cxt);
	ResourceOwner owner = CurrentResourceOwner;
	volatile Verdict verdict = VERDICT_MISSING;
	bool		settled = false;
	volatile bool readable = false;

	/* what cannot even be read goes to quarantine by the same door as in the stream */
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(r->row_cxt);
	PG_TRY();
	{
		verdict = judge(r, rel, table, row, &settled);
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

	if (!readable && is_in_quarantine(r))
		verdict = VERDICT_WAITING;
	if (verdict == VERDICT_MISSING || verdict == VERDICT_WAITING)
		t->counts.differing++;
	if (verdict == VERDICT_MISSING && t->repair)
		merge_message(r);
	if (verdict == VERDICT_IN_FLIGHT)
		t->counts.undecided++;
	if (verdict == VERDICT_MISMATCH)
		t->counts.mismatched++;
	if (settled)
		t->counts.repaired++;
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(r->row_cxt);
}

/* --- a frame --- */

static void
read_relation(Reading *r, WireReader *reader, const uint8_t *message)
{
	Take	   *t = r->take;

	if (r->map.raw)
		refuse(t, "A second relation was described.");
	wire_get_relation(reader, &r->map.wire);
	if (reader->error)
		return;
	r->map.id = r->map.wire.id;
	r->map.raw_bytes = reader->p - message;
	r->map.raw = palloc(r->map.raw_bytes);
	memcpy(r->map.raw, message, r->map.raw_bytes);
	relation_map_resolve(&r->map);
	if (r->map.relid != t->relid)
		refuse(t, "Another table was described than was asked for.");
	apply_stream_frame(r->stream, r->map.raw, r->map.raw_bytes);
}

static void
read_messages(Reading *r, const void *data, size_t len)
{
	Take	   *t = r->take;
	WireReader	reader;
	Relation	rel = table_open(t->relid, RowExclusiveLock);
	size_t		rows = 0;

	wire_reader_init(&reader, data, len);
	while (!wire_at_end(&reader))
	{
		const uint8_t *message = reader.p;
		uint8_t		type = wire_get_u8(&reader);
		WireRow		row;

		CHECK_FOR_INTERRUPTS();
		if (type == WIRE_RELATION)
			read_relation(r, &reader, message);
		else if (type == WIRE_HORIZON)
		{
			NodeVector	horizon;

			wire_get_vector(&reader, &horizon);
			if (reader.error == NULL)
				apply_stream_frame(r->stream, message, reader.p - message);
		}
		else if (type == WIRE_ALIVE || type == WIRE_DEAD)
		{
			wire_get_row(&reader, &row, r->values, WIRE_MAX_COLUMNS);
			if (reader.error)
				break;
			row.alive = type == WIRE_ALIVE;
			if (r->map.raw == NULL || row.relation != r->map.id)
				refuse(t, "A row came of a relation that was not described.");
			if (t->asked && ++rows > t->nasked)
				refuse(t, "More rows came than were asked for.");
			relation_map_resolve(&r->map);
			r->message = message;
			r->message_bytes = reader.p - message;
			take_row(r, rel, table_lookup_required(t->relid), &row);
		}
		else
			refuse(t, "A message came that has no place there.");
	}
	if (reader.error)
		refuse(t, reader.error);
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
	r.take = t;
	wait_until_due(t, data, len, &r.here);
	r.row_cxt = AllocSetContextCreate(cxt, "ferry take row", ALLOCSET_DEFAULT_SIZES);
	r.values = palloc(sizeof(WireValue) * WIRE_MAX_COLUMNS);
	r.stream = apply_stream_create(t->peer, t->peer_id, true);
	apply_stream_expect_current(r.stream);
	read_messages(&r, data, len);
	(void) apply_stream_commit(r.stream);
	relation_map_reset(&r.map);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(cxt);
	AtEOXact_GUC(true, nest_level);
}
