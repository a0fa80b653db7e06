/*-------------------------------------------------------------------------
 *
 * copy_table.c
 *		Copying one table from a peer: its states, merged.
 *
 * The peer sends frames (delta/frames.c) through COPY; of a large table, other
 * processes may merge some of them (hands.c).  Merging is idempotent:
 * what the live stream brings too is merged twice, and a table whose copy was
 * interrupted is simply copied again.
 *
 * Of a table that this node has long had only what it does not hold is asked for:
 * the vector of what it promises says what that is.  A table that is new here is
 * copied whole, since that vector says nothing of it.
 *
 * What is merged carries an origin, so that streams that forward only local writes
 * leave it out: the link's worker has the origin of the peer, which only one
 * process can have; its helpers mark their transactions as nobody's
 * (DoNotReplicateId).  Nothing is lost by that: progress is only counted by the
 * stream.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apply/apply.h"
#include "link/connection.h"
#include "link/copy_table.h"
#include "link/hands.h"
#include "node/holding.h"
#include "node/node.h"

#define COPY_SIGNATURE_BYTES 19

/* --- what to ask for --- */

/*
 * Who went back in time may have told us that we hold all of its writes up to a
 * stamp, not knowing of some that it had lost, and may have given stamps twice
 * before it noticed: nothing is held for sure of it.
 */
static void
forget_told_wrongly(NodeVector *v)
{
	MemoryContext cxt = CurrentMemoryContext;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	SPI_execute("SELECT node_id FROM ferry.member WHERE went_back", true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		vector_remove(v, (NodeId) DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)));
	}
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
}

/* the states that this node lacks of the table, as a query for COPY */
static char *
question(const DueTable *t, bool went_back)
{
	NodeVector	v;
	char		text[VECTOR_TEXT_BYTES];

	if (!t->is_new)
	{
		holding_promised(&v);
		forget_told_wrongly(&v);
		if (went_back)
			vector_remove(&v, node_id());
		vector_format(&v, text);
	}
	return psprintf("COPY (SELECT ferry._delta_frames(ARRAY[%s, %s]::pg_catalog.text[], %s)) TO STDOUT (FORMAT binary)",
					quote_literal_cstr(t->schema), quote_literal_cstr(t->name),
					t->is_new ? "NULL" : quote_literal_cstr(text));
}

/* --- what comes --- */

typedef struct Copying
{
	ApplyStream *stream;
	Hands	   *hands;			/* may be NULL */
	bool		header_seen;
	bool		has_begun;		/* what is told of the table before its rows is committed */
} Copying;

static void
take_frame(Copying *c, const char *data, size_t len)
{
	if (c->hands && c->has_begun && hands_take(c->hands, data, len))
		return;
	apply_stream_frame(c->stream, data, len);
	if (!c->has_begun)
		(void) apply_stream_commit(c->stream);
	c->has_begun = true;
}

/* one message of COPY (FORMAT binary): header, a row of one bytea, or the trailer */
static void
take_message(Copying *c, const char *data, int len)
{
	const char *p = data;
	const char *end = data + len;
	uint16		nfields;
	uint32		size;

	if (!c->header_seen)
	{
		uint32		extension;

		if (len < COPY_SIGNATURE_BYTES || memcmp(data, "PGCOPY\n\377\r\n\0", 11) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("peer sent an invalid copy header")));
		memcpy(&extension, data + 15, 4);
		extension = pg_ntoh32(extension);
		if (extension > (uint32) (len - COPY_SIGNATURE_BYTES))
			ereport(ERROR,
					(errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("peer sent an invalid copy header")));
		p += COPY_SIGNATURE_BYTES + extension;
		c->header_seen = true;
	}
	while (end - p >= 2)
	{
		memcpy(&nfields, p, 2);
		p += 2;
		if (nfields == 0xFFFF)
			return;
		if (pg_ntoh16(nfields) != 1 || end - p < 4)
			break;
		memcpy(&size, p, 4);
		size = pg_ntoh32(size);
		p += 4;
		if (size > (uint32) (end - p))
			break;
		take_frame(c, p, size);
		p += size;
	}
	if (p != end)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("peer sent an invalid copy row")));
}

static void
show_progress(LinkShared *link, LinkCopier *copier, uint64 rows, uint64 bytes)
{
	SpinLockAcquire(&link->mutex);
	copier->rows = rows;
	copier->bytes = bytes;
	SpinLockRelease(&link->mutex);
}

static void
record_copy(LinkShared *link, LinkCopier *copier, int formers, const NodeVector *brought)
{
	Oid			types[7] = {NAMEOID, OIDOID, INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID, INT4OID};
	Datum		args[7];
	MemoryContext cxt = CurrentMemoryContext;
	char		text[VECTOR_TEXT_BYTES];

	vector_format(brought, text);
	args[0] = CStringGetDatum(link->peer);
	args[1] = ObjectIdGetDatum(copier->relid);
	args[2] = Int64GetDatum(copier->rows);
	args[3] = Int64GetDatum(copier->bytes);
	args[4] = TimestampTzGetDatum(copier->since);
	args[5] = CStringGetTextDatum(text);
	args[6] = Int32GetDatum(formers);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	SPI_execute_with_args("INSERT INTO ferry.copied_table (peer, relid, row_count, byte_count, started_at, brought, formers) "
						  "SELECT $1, r.relid, $3, $4, $5, $6, $7 FROM ferry.registered_table r WHERE r.relid = $2 "
						  "ON CONFLICT (peer, relid) DO UPDATE SET formers = excluded.formers, row_count = excluded.row_count, "
						  "byte_count = excluded.byte_count, started_at = excluded.started_at, copied_at = excluded.copied_at, "
						  "brought = excluded.brought",
						  7, types, args, NULL, false, 0);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);

	/* others count on it: see copy.c */
	XLogFlush(XactLastCommitEnd);
}

void
copy_table(PGconn *conn, LinkShared *link, LinkCopier *copier, NodeId peer_id,
		   const CopyManner *manner, const DueTable *t)
{
	ApplyStream *s = apply_stream_create(link->peer, peer_id, manner->careful);
	Copying		c = {.stream = s};
	TimestampTz commit_due = 0;
	uint64		bytes = 0;
	char	   *data;
	int			len;

	c.hands = hands_offer(link, copier, t);
	PQclear(connection_query(conn, question(t, manner->went_back), PGRES_COPY_OUT));
	do
	{
		TimestampTz now;

		CHECK_FOR_INTERRUPTS();
		len = PQgetCopyData(conn, &data, 1);
		if (len > 0)
		{
			take_message(&c, data, len);
			PQfreemem(data);
			bytes += len;
		}
		now = GetCurrentTimestamp();
		if (len < 0 || now >= commit_due)
		{
			(void) apply_stream_commit(s);
			show_progress(link, copier, apply_stream_progress(s)->rows + (c.hands ? hands_rows(c.hands) : 0), bytes);
			commit_due = TimestampTzPlusMilliseconds(now, ferry_batch_ms);
		}
		if (len == 0)
		{
			connection_wait(conn, Max(ferry_batch_ms, 1));
			if (!PQconsumeInput(conn))
				connection_lost(conn);
		}
	} while (len >= 0);
	connection_end_copy(conn);
	if (c.hands)
	{
		uint64		rows = hands_finish(c.hands);

		show_progress(link, copier, apply_stream_progress(s)->rows + rows, bytes);
	}
	record_copy(link, copier, manner->formers, &apply_stream_progress(s)->news->claims);
	apply_stream_free(s);
}
