/*-------------------------------------------------------------------------
 *
 * stream.c
 *		Frames from one peer, merged: relations, transactions, rows.
 *
 * Many remote transactions go into one local one; when to commit is the link
 * worker's choice, between remote transactions only.  Tables stay open (as
 * ApplyTargets) until that commit.
 *
 * A remote transaction may come in parts (send/early.c), others, whole, between
 * them.  All of them go into one local transaction, so that nobody sees half of the
 * one; and rows written on suspicion are settled when it is over.
 *
 * Rows that are new gather in runs (insert_run.c); a run is written before another
 * row of its table is merged, and before the local commit.
 *
 * Two speeds.  In normal mode a row that raises takes the whole local
 * transaction with it: the worker starts again from the last commit in careful
 * mode, in which a row is a subtransaction of its own, with a target of its
 * own, and a row that raises goes to quarantine.  So the hot path pays nothing
 * for the error path, and no more memory is needed than for one frame.
 *
 * But a transaction of millions of rows would be millions of subtransactions, each
 * of which costs memory to everyone who decodes our log.  So the rows of a frame
 * share one; only if it raises is it rolled back and every row gets its own.
 *
 * What is not a row's fault (deadlock, shutdown, out of memory, a clock that
 * is ahead) is raised in both modes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/origin.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "apply/apply.h"
#include "apply/insert_run.h"
#include "apply/merge_row.h"
#include "apply/merged_check.h"
#include "apply/orphan.h"
#include "apply/own_write.h"
#include "apply/quarantine.h"
#include "apply/range_merge.h"
#include "apply/relation_map.h"
#include "apply/strategy_message.h"
#include "apply/unique.h"
#include "node/node.h"

/* how often a row is tried again before quarantine if someone took its key meanwhile */
#define ROW_ATTEMPTS 3

typedef struct StreamRelation
{
	RelationMap map;			/* first: its id is the hash key */
	ApplyTarget *target;		/* open in the current local transaction */
	InsertRun  *run;			/* new rows that wait to be written together; may be NULL */
	int			births;			/* target_births of the last target */
} StreamRelation;

struct ApplyStream
{
	MemoryContext cxt;			/* lives as long as the stream */
	MemoryContext row_cxt;		/* reset after each row */
	char		peer[NAMEDATALEN];
	NodeId		peer_id;
	bool		careful;
	bool		together;		/* careful: these rows share a subtransaction */
	bool		in_whole;		/* between the begin and the commit of one that does not come in parts */
	bool		is_current;
	const NodeVector *held_there;
	HTAB	   *relations;
	StreamRelation *last;		/* rows come in runs */
	List	   *open;			/* of StreamRelation with a target */
	WireValue  *values;			/* room for one row */
	bool		own_transaction;	/* we started it: commit is ours */
	uint64		invalidations_seen;
	ApplyProgress progress;
};

/* bumped by every relcache invalidation; maps are made anew in the next transaction */
static uint64 invalidations = 0;

static void
count_invalidation(Datum arg, Oid relid)
{
	invalidations++;
}

ApplyStream *
apply_stream_create(const char *peer, NodeId peer_id, bool careful)
{
	static bool watching = false;
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry stream",
											  ALLOCSET_DEFAULT_SIZES);
	ApplyStream *s = MemoryContextAllocZero(cxt, sizeof(ApplyStream));
	HASHCTL		ctl = {0};

	if (!watching)
	{
		CacheRegisterRelcacheCallback(count_invalidation, (Datum) 0);
		watching = true;
	}
	s->cxt = cxt;
	s->row_cxt = AllocSetContextCreate(cxt, "ferry row", ALLOCSET_DEFAULT_SIZES);
	strlcpy(s->peer, peer, NAMEDATALEN);
	s->peer_id = peer_id;
	s->careful = careful;
	ctl.keysize = sizeof(uint32);
	ctl.entrysize = sizeof(StreamRelation);
	ctl.hcxt = cxt;
	s->relations = hash_create("ferry stream relations", 64, &ctl,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	s->progress.news = stream_news_create(peer_id, cxt);
	s->values = MemoryContextAlloc(cxt, sizeof(WireValue) * WIRE_MAX_COLUMNS);
	return s;
}

void
apply_stream_free(ApplyStream *s)
{
	Assert(s->open == NIL && !s->own_transaction);
	MemoryContextDelete(s->cxt);
}

void
apply_stream_expect_current(ApplyStream *s, const NodeVector *held_there)
{
	s->is_current = true;
	s->held_there = held_there;
}

ApplyProgress *
apply_stream_progress(ApplyStream *s)
{
	return &s->progress;
}

bool
apply_error_is_transient(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_CONNECTION_EXCEPTION:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
			return true;
		default:
			return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
				sqlerrcode == ERRCODE_PROTOCOL_VIOLATION;
	}
}

/* --- local transactions --- */

static void
ensure_transaction(ApplyStream *s)
{
	if (s->progress.has_work)
		return;
	if (!IsTransactionState())
	{
		/* from 18 on, a commit goes back to the context of the start: not one that we reset */
		MemoryContextSwitchTo(TopMemoryContext);
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		s->own_transaction = true;
	}
	AcceptInvalidationMessages();
	s->progress.has_work = true;

	/* descriptions may be outdated only between transactions: we hold locks within */
	if (invalidations != s->invalidations_seen)
	{
		HASH_SEQ_STATUS seq;
		StreamRelation *r;

		hash_seq_init(&seq, s->relations);
		while ((r = hash_seq_search(&seq)) != NULL)
			r->map.resolved = false;
		s->invalidations_seen = invalidations;
	}
}

/* rows that were written on suspicion: see apply/unique.c; a careful stream's target lives in row_cxt, which must stay */
static void
settle_target(ApplyStream *s, StreamRelation *r)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(s->row_cxt);

	target_enter(r->target);
	s->progress.conflicts += unique_settle(r->target, s->peer);
	orphan_note_rest(r->target);
	target_leave(r->target);
	MemoryContextSwitchTo(oldcontext);
}

/* write the new rows that wait; target_enter was called */
static void
flush_run(ApplyStream *s, StreamRelation *r)
{
	MemoryContext oldcontext;
	uint64		before;

	if (r->run == NULL)
		return;
	oldcontext = MemoryContextSwitchTo(s->row_cxt);
	before = s->progress.results[APPLY_CONFLICT];
	insert_run_flush(r->run, s->peer, s->progress.results);
	s->progress.conflicts += s->progress.results[APPLY_CONFLICT] - before;
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(s->row_cxt);
}

/* write the tombstones that wait: as the table's owner, as all that calls functions of its types */
static void
flush_tombstones(ApplyStream *s, StreamRelation *r)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(s->row_cxt);

	target_enter(r->target);
	tombstones_flush(target_tombstones(r->target));
	target_leave(r->target);
	MemoryContextSwitchTo(oldcontext);
}

static void
close_target(ApplyStream *s, StreamRelation *r)
{
	Relation	rel = target_relation(r->target);

	if (r->run)
	{
		target_enter(r->target);
		flush_run(s, r);
		target_leave(r->target);
		r->run = NULL;
	}
	flush_tombstones(s, r);
	settle_target(s, r);
	r->births = target_births(r->target);

	target_close(r->target);
	r->target = NULL;
	table_close(rel, NoLock);
}

static void
close_targets(ApplyStream *s)
{
	ListCell   *lc;

	foreach(lc, s->open)
		close_target(s, lfirst(lc));
	list_free(s->open);
	s->open = NIL;
}

XLogRecPtr
apply_stream_commit(ApplyStream *s)
{
	XLogRecPtr	end;

	Assert(!s->progress.in_remote_txn);
	if (!s->progress.has_work)
		return InvalidXLogRecPtr;

	close_targets(s);
	s->progress.has_work = false;
	if (!s->own_transaction)
		return InvalidXLogRecPtr;
	s->own_transaction = false;
	PopActiveSnapshot();

	if (replorigin_session_origin != InvalidRepOriginId)
	{
		replorigin_session_origin_lsn = s->progress.end_lsn;
		replorigin_session_origin_timestamp = s->progress.commit_time;
	}
	XactLastCommitEnd = InvalidXLogRecPtr;
	CommitTransactionCommand();
	end = XactLastCommitEnd;
	if (own_write_is_due())
		own_write_publish();
	return end;
}

/* --- rows --- */

/* open our table for a relation, mapping it if need be */
static void
open_target(ApplyStream *s, StreamRelation *r)
{
	Relation	rel;
	FerryTable *table;

	relation_map_resolve(&r->map);
	rel = table_open(r->map.relid, RowExclusiveLock);

	/* the lock may have waited for DDL: map it again as it is now */
	AcceptInvalidationMessages();
	if (invalidations != s->invalidations_seen)
	{
		s->invalidations_seen = invalidations;
		r->map.resolved = false;
		relation_map_resolve(&r->map);
	}
	table = table_lookup_required(r->map.relid);
	r->target = target_open(rel, table);
}

static void
count_result(ApplyStream *s, ApplyResult result)
{
	s->progress.rows++;
	s->progress.results[result]++;
	if (result == APPLY_CONFLICT)
		s->progress.conflicts++;
}

/* does the row wait in its table's run of new rows? */
static bool
run_takes(ApplyStream *s, StreamRelation *r, const WireRow *row)
{
	MemoryContext oldcontext;
	RowState   *state;
	bool		taken;

	if (r->run == NULL || !row->alive || row->version_len != VERSION_SIMPLE_BYTES || !insert_run_is_likely(r->run))
		return false;
	oldcontext = MemoryContextSwitchTo(insert_run_context(r->run));
	state = relation_map_decode(&r->map, target_table(r->target), row);
	state->version.horizon = &s->progress.news->horizon;
	state->is_current = s->is_current;
	state->held_there = s->held_there;
	taken = insert_run_add(r->run, state);
	MemoryContextSwitchTo(oldcontext);
	if (!taken)
		return false;
	s->progress.rows++;
	if (insert_run_is_full(r->run))
		flush_run(s, r);
	return true;
}

/* a row or (row NULL) a range, merged into the open target; allocates in the current context */
static ApplyResult
merge_message(ApplyStream *s, StreamRelation *r, const WireRow *row, const WireRange *range)
{
	Version		version;
	const char *error = NULL;
	ApplyResult result;

	target_enter(r->target);
	if (row)
	{
		RowState   *state = relation_map_decode(&r->map, target_table(r->target), row);

		state->version.horizon = &s->progress.news->horizon;
		state->is_current = s->is_current;
		state->held_there = s->held_there;
		result = merge_row(r->target, state, s->peer);
	}
	else
	{
		if (!version_decode(range->version, range->version_len, &version, &error))
			ereport(ERROR,
					(errcode(ERRCODE_PROTOCOL_VIOLATION),
					 errmsg("invalid range tombstone of table \"%s.%s\"", r->map.wire.schema, r->map.wire.name),
					 errdetail_internal("%s", error)));
		result = range_tombstone_merge(r->target, &version, s->peer);
	}
	target_leave(r->target);
	return result;
}

static void
flush_runs(ApplyStream *s)
{
	ListCell   *lc;

	foreach(lc, s->open)
	{
		StreamRelation *r = lfirst(lc);

		if (r->run == NULL)
			continue;
		target_enter(r->target);
		flush_run(s, r);
		target_leave(r->target);
	}
}

static void
row_normal(ApplyStream *s, StreamRelation *r, const WireRow *row, const WireRange *range)
{
	MemoryContext oldcontext;
	ApplyResult result;

	if (r->target == NULL)
	{
		/* lives to the end of the transaction, whatever the caller's context is for */
		oldcontext = MemoryContextSwitchTo(CurTransactionContext);
		open_target(s, r);
		target_set_births(r->target, r->births);
		r->run = insert_run_create(r->target);
		MemoryContextSwitchTo(s->cxt);
		s->open = lappend(s->open, r);
		MemoryContextSwitchTo(oldcontext);
	}
	if (row == NULL || !run_takes(s, r, row))
	{
		target_enter(r->target);
		flush_run(s, r);
		target_leave(r->target);
		oldcontext = MemoryContextSwitchTo(s->row_cxt);
		result = merge_message(s, r, row, range);
		if (row)
			count_result(s, result);
		MemoryContextSwitchTo(oldcontext);
		MemoryContextReset(s->row_cxt);
	}
}

/*
 * Merge a row in a subtransaction.  Returns NULL if that went well, else the
 * error (in s->row_cxt).  Raises what is not the row's fault.
 */
static ErrorData *
try_row(ApplyStream *s, StreamRelation *r, const WireRow *row, const WireRange *range)
{
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(s->row_cxt);
	PG_TRY();
	{
		ApplyResult result;

		open_target(s, r);
		result = merge_message(s, r, row, range);
		close_target(s, r);
		ReleaseCurrentSubTransaction();
		if (row)
			count_result(s, result);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(s->row_cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		r->target = NULL;
		r->map.resolved = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(s->row_cxt);
	CurrentResourceOwner = owner;

	if (error && apply_error_is_transient(error->sqlerrcode))
		ReThrowError(error);
	return error;
}

static void
row_careful(ApplyStream *s, StreamRelation *r, const WireRow *row, const WireRange *range,
			const uint8_t *raw, size_t raw_bytes)
{
	static const WireRow no_row = {0};

	MemoryContext oldcontext = CurrentMemoryContext;
	ErrorData  *error = NULL;

	for (int attempt = 0; attempt < ROW_ATTEMPTS; attempt++)
	{
		error = try_row(s, r, row, range);
		if (error == NULL || error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION)
			break;
	}
	if (error)
	{
		quarantine_put(s->peer, &r->map, row ? row : &no_row, raw, raw_bytes, &s->progress.news->horizon, error);
		if (row)
			merged_check_report(s->peer, &r->map, row, &s->progress.news->horizon, error);
		s->progress.quarantined++;
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(s->row_cxt);
}

/* --- frames --- */

static StreamRelation *
find_relation(ApplyStream *s, uint32 id)
{
	StreamRelation *r = s->last;

	if (r && r->map.id == id)
		return r;
	r = hash_search(s->relations, &id, HASH_FIND, NULL);
	if (r == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("peer \"%s\" sent a row of a relation that it has not described", s->peer)));
	s->last = r;
	return r;
}

static void
read_relation(ApplyStream *s, WireReader *reader, const uint8_t *message)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(s->row_cxt);
	WireReader	again;
	WireRelation wire;
	StreamRelation *r;
	size_t		bytes;
	bool		found;

	wire_get_relation(reader, &wire);
	bytes = reader->p - message;
	MemoryContextSwitchTo(s->cxt);
	r = reader->error ? NULL : hash_search(s->relations, &wire.id, HASH_ENTER, &found);
	MemoryContextReset(s->row_cxt);
	if (r && found && r->map.raw_bytes == bytes && memcmp(r->map.raw, message, bytes) == 0)
		r = NULL;				/* as we know it: frames of a delta each describe their relations */
	if (r)
	{
		if (found)
		{
			/* described anew: what is open was mapped by the old description */
			if (r->target)
			{
				s->open = list_delete_ptr(s->open, r);
				close_target(s, r);
			}
			relation_map_reset(&r->map);
			pfree(r->map.raw);
		}
		else
			memset(r, 0, sizeof(*r));
		wire_reader_init(&again, message + 1, bytes - 1);
		wire_get_relation(&again, &r->map.wire);
		r->map.id = r->map.wire.id;
		r->map.raw_bytes = bytes;
		r->map.raw = palloc(bytes);
		memcpy(r->map.raw, message, bytes);
	}
	MemoryContextSwitchTo(oldcontext);
}

/* how a column merges: what is open was opened with what was set before */
static void
read_strategy(ApplyStream *s, WireReader *reader)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(s->row_cxt);
	WireStrategy strategy;

	wire_get_strategy(reader, &strategy);
	if (reader->error == NULL)
	{
		StreamRelation *r = find_relation(s, strategy.relation);

		ensure_transaction(s);
		MemoryContextSwitchTo(s->row_cxt);
		if (strategy_receive(&r->map.wire, &strategy))
			close_targets(s);
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(s->row_cxt);
}

static void
take_message(ApplyStream *s, uint32 relation, const WireRow *row, const WireRange *range,
			 const uint8_t *raw, size_t raw_bytes)
{
	StreamRelation *r = find_relation(s, relation);

	ensure_transaction(s);
	if (s->progress.in_parts && !s->in_whole)
		s->progress.part_rows++;
	if (s->careful && !s->together)
		row_careful(s, r, row, range, raw, raw_bytes);
	else
		row_normal(s, r, row, range);
}

static void
read_range(ApplyStream *s, WireReader *reader, const uint8_t *message)
{
	WireRange	range;

	wire_get_range(reader, &range);
	if (reader->error == NULL)
		take_message(s, range.relation, NULL, &range, message, reader->p - message);
}

static void
read_row(ApplyStream *s, WireReader *reader, const uint8_t *message, bool alive)
{
	WireRow		row;

	wire_get_row(reader, &row, s->values, WIRE_MAX_COLUMNS);
	if (reader->error)
		return;
	row.alive = alive;
	take_message(s, row.relation, &row, NULL, message, reader->p - message);
}

static bool
is_row_message(uint8_t type)
{
	return type == WIRE_ALIVE || type == WIRE_DEAD || type == WIRE_RANGE;
}

static void
read_row_message(ApplyStream *s, WireReader *reader)
{
	const uint8_t *message = reader->p;
	uint8_t		type = wire_get_u8(reader);

	if (type == WIRE_RANGE)
		read_range(s, reader, message);
	else
		read_row(s, reader, message, type == WIRE_ALIVE);
}

/* the rows up to the next message that is none, or the end of the frame */
static void
read_row_messages(ApplyStream *s, WireReader *reader)
{
	while (!wire_at_end(reader) && is_row_message(*reader->p))
		read_row_message(s, reader);
}

/* the subtransaction in which the targets were opened is gone */
static void
forget_targets(ApplyStream *s)
{
	HASH_SEQ_STATUS seq;
	StreamRelation *r;

	hash_seq_init(&seq, s->relations);
	while ((r = hash_seq_search(&seq)) != NULL)
	{
		r->target = NULL;
		r->run = NULL;
		r->map.resolved = false;
	}
	list_free(s->open);
	s->open = NIL;
}

/* all of these rows in one subtransaction; false: one of them raises, nothing was done */
static bool
try_rows_together(ApplyStream *s, WireReader *reader)
{
	ResourceOwner owner;
	MemoryContext oldcontext;
	ApplyProgress before;
	ErrorData  *volatile error = NULL;

	ensure_transaction(s);
	owner = CurrentResourceOwner;
	oldcontext = CurrentMemoryContext;
	before = s->progress;
	BeginInternalSubTransaction(NULL);
	s->together = true;
	PG_TRY();
	{
		read_row_messages(s, reader);
		close_targets(s);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(s->row_cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		forget_targets(s);
		s->progress = before;
	}
	PG_END_TRY();
	s->together = false;
	MemoryContextSwitchTo(oldcontext);
	CurrentResourceOwner = owner;

	if (error && apply_error_is_transient(error->sqlerrcode))
		ReThrowError(error);
	MemoryContextReset(s->row_cxt);
	return error == NULL;
}

static void
read_rows_carefully(ApplyStream *s, WireReader *reader)
{
	WireReader	again = *reader;

	if (try_rows_together(s, reader))
		return;
	*reader = again;
	read_row_messages(s, reader);
}

static void
read_table_added(ApplyStream *s, WireReader *reader)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(s->cxt);
	char	   *schema = wire_get_string(reader, WIRE_MAX_NAME);
	char	   *name = wire_get_string(reader, WIRE_MAX_NAME);

	if (reader->error == NULL)
		s->progress.tables_added = lappend(lappend(s->progress.tables_added, schema), name);
	MemoryContextSwitchTo(oldcontext);
}

static void
read_begin(ApplyStream *s, WireReader *reader)
{
	WireTxn		txn;

	wire_get_begin(reader, &txn);
	if (reader->error)
		return;
	if (s->in_whole || (txn.commit_lsn == 0 && s->progress.in_parts))
	{
		reader->error = "begin within a transaction";
		return;
	}
	if (txn.commit_lsn == 0)
		s->progress.in_parts = true;
	else
		s->in_whole = true;
	s->progress.in_remote_txn = true;
}

static void
read_commit(ApplyStream *s, WireReader *reader)
{
	WireTxn		txn;
	ListCell   *lc;

	wire_get_commit(reader, &txn);
	if (reader->error)
		return;
	if (!s->progress.in_remote_txn)
	{
		reader->error = "commit without begin";
		return;
	}
	if (s->in_whole)
		s->in_whole = false;
	else
		s->progress.in_parts = false;
	s->progress.in_remote_txn = s->progress.in_parts;
	s->progress.end_lsn = txn.end_lsn;
	s->progress.commit_time = txn.commit_us;
	s->progress.txns++;
	if (s->progress.in_remote_txn)
		return;
	foreach(lc, s->open)
		settle_target(s, lfirst(lc));
}

void
apply_stream_frame(ApplyStream *s, const void *data, size_t len)
{
	WireReader	reader;

	wire_reader_init(&reader, data, len);
	while (!wire_at_end(&reader))
	{
		const uint8_t *message = reader.p;
		uint8_t		type = *message;

		if (is_row_message(type))
		{
			if (s->careful)
				read_rows_carefully(s, &reader);
			else
				read_row_message(s, &reader);
			continue;
		}
		(void) wire_get_u8(&reader);
		switch (type)
		{
			case WIRE_BEGIN:
				read_begin(s, &reader);
				break;
			case WIRE_COMMIT:
				read_commit(s, &reader);
				break;
			case WIRE_RELATION:
				read_relation(s, &reader, message);
				break;
			case WIRE_STRATEGY:
				read_strategy(s, &reader);
				break;
			case WIRE_TABLE_ADDED:
				read_table_added(s, &reader);
				break;
			case WIRE_HOLDS:
				stream_news_holds(s->progress.news, &reader);
				break;
			case WIRE_HORIZON:
				flush_runs(s);	/* what came before is read under the one before */
				stream_news_horizon(s->progress.news, &reader);
				break;
			case WIRE_MEMBER:
				stream_news_member(s->progress.news, &reader);
				break;
			default:
				reader.error = "unknown message type";
				break;
		}
	}
	if (reader.error)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("invalid frame from peer \"%s\"", s->peer),
				 errdetail_internal("%s at byte %zu of %zu", reader.error,
									(size_t) (reader.p - (const uint8_t *) data), len)));
}
