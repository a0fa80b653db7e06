/*-------------------------------------------------------------------------
 *
 * worker.c
 *		The worker of one link: connects, copies what is due, then streams.
 *
 * Any error ends the process; what it was is left in shared memory, where the
 * supervisor and ferry.lag find it, and all begins again from the last commit.
 * There are three kinds:
 *
 *	- the peer or the network is away, or it was a deadlock: try again, later
 *	  each time (LINK_WAITING);
 *	- a row could not be merged: try again at once, row by row (careful), so that
 *	  this row goes to quarantine and the link goes on;
 *	- a person is needed, say because a clock is wrong: say so, and try again
 *	  seldom (LINK_HELD).
 *
 * While more is waiting, many remote transactions go into one local one, for at
 * most ferry.batch_ms and BATCH_ROWS.  When the stream is idle each is committed at once, and
 * made durable at once, since the sender may be waiting for just that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_bswap.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/origin.h"
#include "replication/walreceiver.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/zip.h"
#include "apply/apply.h"
#include "apply/own_write.h"
#include "link/background.h"
#include "link/claims.h"
#include "link/connection.h"
#include "link/copy.h"
#include "link/feedback.h"
#include "link/fetcher.h"
#include "link/greeting.h"
#include "link/hands.h"
#include "link/link.h"
#include "link/parts.h"
#include "link/progress.h"
#include "node/node.h"

/*
 * A local transaction ends when it has so many rows, the last remote transaction
 * whole: a commit is cheap beside so many, and a row that is written over and over
 * leaves its old versions in the way until then.
 */
#define BATCH_ROWS 1000
#define IDLE_WAIT_MS 1000
#define PARTS_WAIT_MS 200		/* while a transaction is open that comes in parts */
#define STATUS_EVERY_MS 1000
#define CLOCK_EVERY_MS 10000	/* how often an idle link compares clocks */
#define CAREFUL_MS 2000			/* how long a link goes on row by row after a bad one */
#define HELD_FACTOR 10			/* held links are tried again that much less often */

/*
 * An idle link takes its origin's progress forward when it lags by so much or for
 * so long, or the peer asks; not at once, or two idle nodes would do it in turns.
 */
#define IDLE_PROGRESS_BYTES (1024 * 1024)
#define IDLE_PROGRESS_MS 10000

#define XLOG_MESSAGE_HEAD 25	/* 'w', start, end, send time */
#define KEEPALIVE_BYTES 18		/* 'k', end, send time, reply requested */

typedef struct Worker
{
	LinkShared *link;
	char		peer[NAMEDATALEN];
	char	   *dsn;
	char		forward[NAMEDATALEN];
	NodeId		peer_id;
	PGconn	   *conn;
	int			compression;	/* of this stream: ferry.compression as it was */
	ZipReader	unzip;
	ApplyStream *stream;
	Feedback   *feedback;
	XLogRecPtr	peer_end;		/* the peer's WAL end, as it last said */
	XLogRecPtr	taken;			/* end of what the stream has shown us */
	XLogRecPtr	local_end;		/* end of our last commit */
	bool		reply_wanted;
	TimestampTz batch_due;		/* when the open local transaction must end */
	uint64		batch_start_rows;	/* rows when it began */
	TimestampTz status_due;
	TimestampTz last_message;
	TimestampTz progress_at;	/* when an idle link last did that */
	TimestampTz clock_asked_at; /* a question about the peer's clock is on its way; 0: none */
	TimestampTz clock_due;
	uint64		seen_txns;		/* as of the last status */
	uint64		seen_rows;
	uint64		rated_txns;		/* as of rated_at */
	uint64		rated_rows;
	uint64		seen_conflicts;
	uint64		seen_quarantined;
	TimestampTz rated_at;
	bool		careful;		/* this run began row by row */
	bool		applying;		/* an error now is an error of merging */
	TimestampTz careful_until;	/* then back to normal mode; 0: we are in it */
} Worker;

static Worker me;

static void
set_state(LinkState state)
{
	SpinLockAcquire(&me.link->mutex);
	me.link->state = state;
	SpinLockRelease(&me.link->mutex);
}

static void
detach(int code, Datum arg)
{
	copy_end_helpers(me.link);
	SpinLockAcquire(&me.link->mutex);
	me.link->pid = 0;
	me.link->copiers[0].relid = InvalidOid;
	hands_withdraw(&me.link->copiers[0]);
	if (me.link->state != LINK_WAITING && me.link->state != LINK_HELD)
		me.link->state = LINK_STOPPED;
	SpinLockRelease(&me.link->mutex);
}

/* --- set-up --- */

/* what ferry.peer says of this link; false if it is not wanted any more */
static bool
read_peer(void)
{
	Oid			types[1] = {NAMEOID};
	Datum		args[1] = {CStringGetDatum(me.peer)};
	bool		found;
	bool		isnull;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	(void) node_current();
	SPI_connect();
	SPI_execute_with_args("SELECT node_id, dsn, forward FROM ferry.peer WHERE name = $1 AND NOT is_paused",
						  1, types, args, NULL, true, 1);
	found = SPI_processed == 1;
	if (found)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;

		me.peer_id = (NodeId) DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		me.dsn = MemoryContextStrdup(TopMemoryContext, SPI_getvalue(tuple, desc, 2));
		strlcpy(me.forward, SPI_getvalue(tuple, desc, 3), NAMEDATALEN);
	}
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	return found;
}

/* the peer's clock showed theirs somewhere between our sent and received */
static void
note_clock(TimestampTz sent, TimestampTz theirs, TimestampTz received)
{
	SpinLockAcquire(&me.link->mutex);
	me.link->clock_offset_us = theirs - (sent + (received - sent) / 2);
	me.link->clock_rtt_us = received - sent;
	me.link->clock_at = received;
	SpinLockRelease(&me.link->mutex);
	me.clock_asked_at = 0;
	me.clock_due = TimestampTzPlusMilliseconds(received, CLOCK_EVERY_MS);
}

/* false if the configuration has changed by what the peer told us: begin anew */
static bool
connect_to_peer(void)
{
	PeerHello	hello;

	set_state(LINK_CONNECTING);
	me.conn = connection_open(me.dsn);
	connection_hello(me.conn, &hello);
	greeting_exchange(me.conn, hello.id);
	if (hello.id != me.peer_id)
	{
		if (greeting_has_succeeded(me.peer_id, hello.id))
			return false;
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("peer \"%s\" is another node than before", me.peer),
				 errdetail("Its node id was %u and is %u.", me.peer_id, hello.id),
				 errhint("If that is intended, call ferry.drop_peer and ferry.add_peer.")));
	}

	/* nodes that are linked are one group: what identifies it there does so here */
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	node_join_groups(hello.groups);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);

	note_clock(hello.asked_at, hello.clock, hello.answered_at);
	return true;
}

static void
start_streaming(XLogRecPtr start, bool careful, bool whole, StreamNews *news)
{
	char		slot[NAMEDATALEN];
	char		sql[512];
	bool		parts = parts_begin(me.link, me.conn, careful);

	node_slot_name(slot, me.peer_id, node_id());

	/* rows may be without what we hold, unless we may not hold it yet, or the row waits in quarantine for us to */
	snprintf(sql, sizeof(sql),
			 "START_REPLICATION SLOT \"%s\" LOGICAL %X/%X (proto_version '%d', node '%u', forward '%s', compression '%s', rows '%s', parts '%s')",
			 slot, LSN_FORMAT_ARGS(start), WIRE_PROTOCOL, node_id(), me.forward,
			 ferry_compression == COMPRESSION_ZSTD ? "zstd" : "off", whole && !careful ? "narrow" : "whole",
			 parts ? "on" : "off");
	me.compression = ferry_compression;
	if (me.compression == COMPRESSION_ZSTD && !zip_reader_init(&me.unzip))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("Compression of the stream could not be set up.")));
	PQclear(connection_query(me.conn, sql, PGRES_COPY_BOTH));
	me.stream = apply_stream_create(me.peer, me.peer_id, careful);
	me.careful_until = careful ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), CAREFUL_MS) : 0;
	me.feedback = feedback_create(start);
	me.peer_end = me.taken = start;
	(void) replorigin_session_get_progress(true);	/* what was committed before is durable */
	me.local_end = InvalidXLogRecPtr;
	claims_start(me.peer_id, strcmp(me.forward, "all") == 0, whole);
	stream_news_move(news, apply_stream_progress(me.stream)->news);
	me.last_message = me.rated_at = me.progress_at = GetCurrentTimestamp();
	SpinLockAcquire(&me.link->mutex);
	me.link->state = LINK_STREAMING;
	me.link->applied_lsn = me.link->flushed_lsn = me.link->received_lsn = start;
	me.link->peer_lsn = Max(me.link->peer_lsn, start);
	SpinLockRelease(&me.link->mutex);
}

/* --- telling --- */

/* how things stand, for ferry.lag */
static void
report_status(TimestampTz now)
{
	ApplyProgress *p = apply_stream_progress(me.stream);
	double		seconds = (now - me.rated_at) / 1000000.0;
	LinkShared *link = me.link;

	SpinLockAcquire(&link->mutex);
	link->received_lsn = me.taken;
	link->applied_lsn = me.feedback->written;
	link->flushed_lsn = me.feedback->flushed;
	link->peer_lsn = me.peer_end;
	link->last_message = me.last_message;
	if (p->commit_time)
		link->last_commit_time = p->commit_time;
	if (me.feedback->written >= me.peer_end)
		link->caught_up_at = now;
	link->txns += p->txns - me.seen_txns;
	link->rows += p->rows - me.seen_rows;
	link->conflicts += p->conflicts - me.seen_conflicts;
	link->quarantined += p->quarantined - me.seen_quarantined;
	if (seconds >= 1.0)
	{
		double		weight = Min(seconds / 5.0, 1.0);

		link->txns_per_s += weight * ((p->txns - me.rated_txns) / seconds - link->txns_per_s);
		link->rows_per_s += weight * ((p->rows - me.rated_rows) / seconds - link->rows_per_s);
		me.rated_at = now;
		me.rated_txns = p->txns;
		me.rated_rows = p->rows;
	}
	me.seen_txns = p->txns;
	me.seen_rows = p->rows;
	me.seen_conflicts = p->conflicts;
	me.seen_quarantined = p->quarantined;
	link->failures = 0;
	SpinLockRelease(&link->mutex);
	me.status_due = TimestampTzPlusMilliseconds(now, STATUS_EVERY_MS);
}

/* --- streaming --- */

/* what the peer says of itself holds for what is committed here, but not across a table that is to be copied */
static void
take_claims(void)
{
	ApplyProgress *p = apply_stream_progress(me.stream);

	if (p->in_remote_txn || p->has_work)
		return;
	if (p->tables_added != NIL)
		p->news->has_claims = false;
	claims_take(p->news, me.local_end);
}

static void
commit_batch(void)
{
	ApplyProgress *p = apply_stream_progress(me.stream);
	XLogRecPtr	remote_end = p->end_lsn;
	XLogRecPtr	local_end;

	me.applying = true;
	local_end = apply_stream_commit(me.stream);
	me.applying = false;
	if (local_end != InvalidXLogRecPtr)
	{
		feedback_committed(me.feedback, remote_end, local_end);
		me.local_end = local_end;
	}
	me.batch_due = 0;
	me.batch_start_rows = p->rows;
	take_claims();
}

/* merge a frame, compressed or not */
static void
take_frame(const uint8_t *frame, size_t len)
{
	if (me.compression == COMPRESSION_ZSTD && zip_is_zipped(frame, len))
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(TopMemoryContext);
		const char *error;
		bool		ok = zip_get(&me.unzip, frame, len, &error);

		MemoryContextSwitchTo(oldcontext);
		if (!ok)
			ereport(ERROR,
					(errcode(ERRCODE_PROTOCOL_VIOLATION),
					 errmsg("invalid frame from peer \"%s\"", me.peer),
					 errdetail_internal("%s", error)));
		frame = me.unzip.frame;
		len = me.unzip.len;
	}
	me.applying = true;
	apply_stream_frame(me.stream, frame, len);
	me.applying = false;
}

/* while more is waiting: has the open local transaction gathered enough? */
static bool
batch_is_over(TimestampTz now)
{
	ApplyProgress *p = apply_stream_progress(me.stream);

	return me.batch_due && !p->in_remote_txn &&
		(now >= me.batch_due || p->rows - me.batch_start_rows >= BATCH_ROWS);
}

static void
take_message(const char *data, int len, TimestampTz now)
{
	uint64		a;
	uint64		b;

	me.last_message = now;
	if (len >= XLOG_MESSAGE_HEAD && data[0] == 'w')
	{
		ApplyProgress *p = apply_stream_progress(me.stream);

		memcpy(&a, data + 1, 8);
		memcpy(&b, data + 9, 8);
		me.taken = Max(me.taken, pg_ntoh64(a));
		me.peer_end = Max(me.peer_end, pg_ntoh64(b));
		take_frame((const uint8_t *) data + XLOG_MESSAGE_HEAD, len - XLOG_MESSAGE_HEAD);
		me.taken = Max(me.taken, p->end_lsn);

		/* seldom, and then at once: what follows is read under it */
		if (p->news->horizon_is_new && p->has_work && !p->in_remote_txn)
			commit_batch();
		take_claims();
		if (p->has_work && me.batch_due == 0)
			me.batch_due = TimestampTzPlusMilliseconds(now, ferry_batch_ms);
	}
	else if (len == KEEPALIVE_BYTES && data[0] == 'k')
	{
		memcpy(&a, data + 1, 8);
		me.taken = Max(me.taken, pg_ntoh64(a));
		me.peer_end = Max(me.peer_end, pg_ntoh64(a));
		if (me.clock_asked_at)
		{
			memcpy(&b, data + 9, 8);
			note_clock(me.clock_asked_at, (TimestampTz) pg_ntoh64(b), now);
		}
		if (data[17])
			me.reply_wanted = true;
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("peer sent an invalid message of type %d", len > 0 ? data[0] : -1)));
}

/* nothing is waiting: commit, make it durable, say so */
static void
settle(TimestampTz now)
{
	ApplyProgress *p = apply_stream_progress(me.stream);
	bool		news = me.reply_wanted;

	if (p->in_remote_txn)
	{
		/* more of it is to come, and the peer may want to know that we are there */
		if (news)
			feedback_send(me.feedback, me.conn, false);
		me.reply_wanted = false;
		return;
	}
	if (p->has_work)
	{
		commit_batch();
		news = true;
	}
	if (me.taken > me.feedback->written)
	{
		/* the peer's WAL went on without anything for us */
		feedback_nothing_until(me.feedback, me.taken);
		news = true;
	}
	if (feedback_is_pending(me.feedback))
	{
		/* what is committed is told before it is durable, if that takes time: each message wakes the sender */
		if (enableFsync)
			feedback_send(me.feedback, me.conn, false);
		feedback_flush(me.feedback, true);
		news = true;
	}
	else if (me.feedback->written > me.feedback->flushed &&
			 (me.reply_wanted || p->end_lsn > me.feedback->flushed ||
			  me.feedback->written - me.feedback->flushed > IDLE_PROGRESS_BYTES ||
			  now > TimestampTzPlusMilliseconds(me.progress_at, IDLE_PROGRESS_MS)))
	{
		me.progress_at = now;
		feedback_committed(me.feedback, me.feedback->written, progress_commit(me.feedback->written));
		feedback_flush(me.feedback, true);
		news = true;
	}
	claims_publish();
	claims_store(p->news, now);
	if (now >= me.clock_due && me.clock_asked_at == 0 && !connection_has_input(me.conn))
	{
		/*
		 * Nothing is waiting here, so that the answer is not kept waiting either, and that
		 * no keepalive which was sent earlier passes for it.
		 */
		feedback_send(me.feedback, me.conn, true);
		me.clock_asked_at = me.feedback->sent_at;
	}
	else if (news)
		feedback_send(me.feedback, me.conn, false);
	me.reply_wanted = false;
	if (now >= me.status_due || news)
		report_status(now);
}

/*
 * Is there a reason to begin anew: another configuration, a table to be copied?
 * A table that was added at the peer and is not here is copied when it comes
 * under ferry here, which changes the configuration.
 */
static bool
must_restart(uint32 generation)
{
	ApplyProgress *p = apply_stream_progress(me.stream);

	if (p->in_remote_txn || p->has_work)
		return false;
	if (p->tables_added != NIL)
	{
		List	   *added = p->tables_added;

		p->tables_added = NIL;
		if (!copy_is_due(me.peer))
		{
			if (!copy_includes(me.peer, added))
				claims_not_whole();
		}
		else
		{
			/* or the next stream would begin before this news and end by it again */
			XLogFlush(progress_commit(p->end_lsn));
			return true;
		}
	}
	if (me.careful_until && GetCurrentTimestamp() > me.careful_until)
		return true;
	if (parts_may_return(me.taken))
		return true;
	return me.compression != ferry_compression ||
		pg_atomic_read_u32(&node_current()->config_generation) != generation;
}

static void
check_alive(TimestampTz now)
{
	if (wal_receiver_timeout <= 0)
		return;
	if (now > TimestampTzPlusMilliseconds(me.last_message, wal_receiver_timeout))
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("peer \"%s\" has been silent for too long", me.peer),
				 errdetail("Nothing came for wal_receiver_timeout (%d ms).", wal_receiver_timeout)));
}

static void
stream(uint32 generation)
{
	struct WaitEventSet *waiting = connection_wait_set(me.conn);
	ApplyProgress *p = apply_stream_progress(me.stream);

	while (!must_restart(generation))
	{
		char	   *data;
		TimestampTz now;
		int			len;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		len = PQgetCopyData(me.conn, &data, 1);
		if (len == 0)
		{
			if (!PQconsumeInput(me.conn))
				connection_lost(me.conn);
			len = PQgetCopyData(me.conn, &data, 1);
		}
		now = GetCurrentTimestamp();
		if (parts_have_stalled(p, now))
		{
			ereport(LOG,
					(errmsg("a large transaction of peer \"%s\" is long in coming, beginning anew", me.peer),
					 errdetail("What had come of it is rolled back, transactions come whole for a while.")));
			parts_failed(me.link);
			return;
		}
		if (len > 0)
		{
			take_message(data, len, now);
			PQfreemem(data);
			if (batch_is_over(now))
			{
				commit_batch();
				feedback_flush(me.feedback, false);
				feedback_send(me.feedback, me.conn, false);
			}
			if (now >= me.status_due)
			{
				feedback_flush(me.feedback, false);
				feedback_send(me.feedback, me.conn, false);
				claims_publish();
				report_status(now);
			}
			continue;
		}
		if (len < 0)
		{
			PGresult   *res = PQgetResult(me.conn);
			const char *text = res ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : NULL;

			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("peer \"%s\" ended the stream", me.peer),
					 text ? errdetail_internal("%s", text) : 0));
		}
		settle(now);
		check_alive(now);
		connection_wait_in(waiting, p->in_parts ? PARTS_WAIT_MS : IDLE_WAIT_MS);
		if (!PQconsumeInput(me.conn))
			connection_lost(me.conn);
	}
}

/* --- the end --- */

/* first wait doubled with every failure, plus or minus a quarter */
static long
backoff_ms(int failures)
{
	double		ms = ferry_retry_initial_ms;

	for (int i = 1; i < failures && ms < ferry_retry_max_ms; i++)
		ms *= 2;
	ms = Min(ms, (double) ferry_retry_max_ms);
	return (long) (ms * (0.75 + 0.5 * pg_prng_double(&pg_global_prng_state)));
}

static bool
needs_a_person(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_CONFIGURATION_LIMIT_EXCEEDED ||
		sqlerrcode == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE ||
		sqlerrcode == ERRCODE_FEATURE_NOT_SUPPORTED ||
		sqlerrcode == ERRCODE_INVALID_PARAMETER_VALUE ||
		sqlerrcode == ERRCODE_DUPLICATE_OBJECT ||
		sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE ||
		sqlerrcode == ERRCODE_UNDEFINED_FUNCTION ||
		sqlerrcode == ERRCODE_UNDEFINED_FILE ||
		ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION;
}

/* leave word of an error; true if it is news */
static bool
record_error(const ErrorData *error)
{
	LinkShared *link = me.link;
	TimestampTz now = GetCurrentTimestamp();
	char		text[LINK_ERROR_BYTES];
	bool		careful = me.applying && !me.careful && !apply_error_is_transient(error->sqlerrcode);
	bool		news;

	if (me.stream && apply_stream_progress(me.stream)->in_parts)
		parts_failed(link);
	snprintf(text, sizeof(text), "%s%s%s", error->message ? error->message : "unknown error",
			 error->detail ? ": " : "", error->detail ? error->detail : "");
	text[pg_mbcliplen(text, strlen(text), sizeof(text) - 1)] = '\0';
	SpinLockAcquire(&link->mutex);
	news = strcmp(link->error, text) != 0 || link->failures == 0;
	memcpy(link->error, text, sizeof(text));
	link->error_at = now;
	link->failures++;
	if (careful)
	{
		link->careful = true;
		link->state = LINK_WAITING;
		link->next_retry = now;
	}
	else if (needs_a_person(error->sqlerrcode))
	{
		link->state = LINK_HELD;
		link->next_retry = TimestampTzPlusMilliseconds(now, (int64) HELD_FACTOR * ferry_retry_max_ms);
	}
	else
	{
		link->state = LINK_WAITING;
		link->next_retry = TimestampTzPlusMilliseconds(now, backoff_ms(link->failures));
	}
	SpinLockRelease(&link->mutex);
	return news;
}

static void
run(void)
{
	uint32		generation;
	CopyManner	manner;
	XLogRecPtr	start;
	bool		whole;
	StreamNews *news;

	if (!read_peer())
		return;
	generation = pg_atomic_read_u32(&node_current()->config_generation);
	SpinLockAcquire(&me.link->mutex);
	manner.careful = me.careful = me.link->careful;
	me.link->careful = false;
	SpinLockRelease(&me.link->mutex);

	manner.formers = greeting_formers();
	if (!connect_to_peer() || pg_atomic_read_u32(&node_current()->config_generation) != generation)
		return;
	fetcher_install(me.peer, me.dsn);
	start = progress_begin(me.conn, me.peer, me.peer_id, &manner.went_back);
	own_write_publish();
	set_state(LINK_COPYING);
	me.applying = true;
	copy_due_tables(me.conn, me.link, me.peer_id, &manner);
	me.applying = false;
	whole = copy_is_whole(me.conn, me.peer);
	news = stream_news_create(me.peer_id, CurrentMemoryContext);
	claims_ask(me.conn, news);
	start_streaming(start, manner.careful, whole, news);
	stream(generation);
}

void
ferry_link_main(Datum arg)
{
	MemoryContext cxt;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	memcpy(me.peer, MyBgworkerEntry->bgw_extra, NAMEDATALEN);
	me.peer[NAMEDATALEN - 1] = '\0';
	background_pin_settings();
	pgstat_report_appname(psprintf("ferry link from %s", me.peer));
	me.link = link_shared_require(me.peer);
	before_shmem_exit(detach, (Datum) 0);
	SpinLockAcquire(&me.link->mutex);
	me.link->pid = MyProcPid;
	SpinLockRelease(&me.link->mutex);

	cxt = MemoryContextSwitchTo(TopMemoryContext);
	PG_TRY();
	{
		run();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		HOLD_INTERRUPTS();
		if (record_error(error))
			EmitErrorReport();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	proc_exit(0);
}
