/*-------------------------------------------------------------------------
 *
 * copy.c
 *		Copying tables from a peer: their states, merged.
 *
 * The peer sends frames (delta/frames.c) through COPY.  Merging is idempotent:
 * what the live stream brings too is merged twice, and a table whose copy was
 * interrupted is simply copied again.
 *
 * Tables that this node has long had are copied again when the slot at the peer
 * was lost, or when a member has left (what the peer has of its writes).  Then
 * only what this node does not hold is asked for: the vector of what it promises
 * says what that is.  A table that is new here is copied whole, since that vector
 * says nothing of it.
 *
 * Joining a group (ferry.join).  All of it comes from one peer, the sponsor; the
 * other links only stream (ferry.peer.copy_via).  For that to be the whole,
 * the sponsor must hold, before its copy begins, all that each of the others
 * wrote before our slot there.  So: first every link makes its slot; then we
 * ask the sponsor until its own links have passed the places where these begin
 * (via_lsn); then we copy.  Peers of which this could not be had in time, or
 * whose slot was made anew meanwhile, are copied from directly, afterwards.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "pgstat.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apply/apply.h"
#include "link/connection.h"
#include "link/copy.h"
#include "node/holding.h"
#include "node/node.h"

#define COPY_SIGNATURE_BYTES 19

/* how long the sponsor may take to hold what the others had, and how often we ask */
#define GATHER_PATIENCE_MS 60000
#define GATHER_ASK_MS 200

/* one table to be copied */
typedef struct DueTable
{
	Oid			relid;
	char	   *schema;
	char	   *name;
	bool		is_new;
} DueTable;

/* a peer of which the sponsor's copy is to bring all that was before its slot */
typedef struct Gathered
{
	char	   *name;
	uint32		id;
	char	   *slot_lsn;		/* NULL: it has no slot there yet */
} Gathered;

/* --- what is due --- */

static void
begin_here(void)
{
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
}

static void
end_here(MemoryContext cxt)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
}

/* a value of the current SPI result, as text in a context that lasts; NULL if null */
static char *
spi_text(uint64 row, int column, MemoryContext cxt)
{
	char	   *text = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);

	return text ? MemoryContextStrdup(cxt, text) : NULL;
}

/* tables that were not copied from the peer, or are to be again; none while another's copy brings them */
static List *
read_due(const char *peer)
{
	Oid			types[1] = {NAMEOID};
	Datum		args[1] = {CStringGetDatum(peer)};
	MemoryContext cxt = CurrentMemoryContext;
	List	   *due = NIL;

	begin_here();
	SPI_execute_with_args("SELECT r.relid::pg_catalog.oid::pg_catalog.text, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, "
						  "r.is_new::pg_catalog.text "
						  "FROM ferry.peer p CROSS JOIN ferry.registered_table r "
						  "JOIN pg_catalog.pg_class c ON c.oid = r.relid "
						  "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
						  "WHERE p.name = $1 AND p.copy_via IS NULL AND NOT EXISTS "
						  "(SELECT FROM ferry.copied_table t WHERE t.peer = $1 AND t.relid = r.relid AND NOT t.is_due) "
						  "ORDER BY c.relpages DESC, c.oid",
						  1, types, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(cxt);
		DueTable   *t = palloc(sizeof(DueTable));
		char	   *relid = spi_text(i, 1, cxt);

		t->relid = (Oid) strtoul(relid, NULL, 10);
		t->schema = spi_text(i, 2, cxt);
		t->name = spi_text(i, 3, cxt);
		t->is_new = strcmp(spi_text(i, 4, cxt), "true") == 0;
		due = lappend(due, t);
		MemoryContextSwitchTo(oldcontext);
	}
	end_here(cxt);
	return due;
}

bool
copy_is_due(const char *peer)
{
	return read_due(peer) != NIL;
}

static bool
has_copied(const char *peer, Datum names)
{
	Oid			types[2] = {NAMEOID, TEXTARRAYOID};
	Datum		args[2] = {CStringGetDatum(peer), names};
	bool		isnull;
	bool		result;

	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	SPI_execute_with_args("SELECT ferry._has_copied($1, $2)", 2, types, args, NULL, true, 1);
	result = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	PopActiveSnapshot();
	return result;
}

bool
copy_is_whole(PGconn *conn, const char *peer)
{
	PGresult   *res = connection_query(conn, "SELECT ferry._all_tables()", PGRES_TUPLES_OK);
	MemoryContext cxt = CurrentMemoryContext;
	bool		result;

	StartTransactionCommand();
	result = has_copied(peer, OidInputFunctionCall(F_ARRAY_IN, PQgetvalue(res, 0, 0), TEXTOID, -1));
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	PQclear(res);
	return result;
}

bool
copy_includes(const char *peer, List *tables)
{
	MemoryContext cxt = CurrentMemoryContext;
	Datum	   *names;
	ListCell   *lc;
	bool		result;
	int			n = 0;

	StartTransactionCommand();
	names = palloc(sizeof(Datum) * Max(list_length(tables), 1));
	foreach(lc, tables)
		names[n++] = CStringGetTextDatum(lfirst(lc));
	result = has_copied(peer, PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT)));
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return result;
}

static void
record_copy(LinkShared *link, Oid relid)
{
	Oid			types[5] = {NAMEOID, OIDOID, INT8OID, INT8OID, TIMESTAMPTZOID};
	Datum		args[5];
	MemoryContext cxt = CurrentMemoryContext;

	args[0] = CStringGetDatum(link->peer);
	args[1] = ObjectIdGetDatum(relid);
	args[2] = Int64GetDatum(link->copied_rows);
	args[3] = Int64GetDatum(link->copied_bytes);
	args[4] = TimestampTzGetDatum(link->copying_since);
	begin_here();
	SPI_execute_with_args("INSERT INTO ferry.copied_table (peer, relid, row_count, byte_count, started_at) "
						  "SELECT $1, r.relid, $3, $4, $5 FROM ferry.registered_table r WHERE r.relid = $2 "
						  "ON CONFLICT (peer, relid) DO UPDATE SET is_due = false, row_count = excluded.row_count, "
						  "byte_count = excluded.byte_count, started_at = excluded.started_at, copied_at = excluded.copied_at",
						  5, types, args, NULL, false, 0);
	end_here(cxt);
}

/* --- one table --- */

/* one message of COPY (FORMAT binary): header, a row of one bytea, or the trailer */
static void
take_message(ApplyStream *s, const char *data, int len, bool *header_seen)
{
	const char *p = data;
	const char *end = data + len;
	uint16		nfields;
	uint32		size;

	if (!*header_seen)
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
		*header_seen = true;
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
		apply_stream_frame(s, p, size);
		p += size;
	}
	if (p != end)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("peer sent an invalid copy row")));
}

/* for ferry.progress; relid InvalidOid: no copy any more */
static void
show_table(LinkShared *link, Oid relid, uint64 rows_there)
{
	SpinLockAcquire(&link->mutex);
	link->copying = relid;
	link->copying_since = GetCurrentTimestamp();
	link->copied_rows = link->copied_bytes = 0;
	link->copying_rows = rows_there;
	SpinLockRelease(&link->mutex);
}

static void
show_progress(LinkShared *link, uint64 rows, uint64 bytes)
{
	SpinLockAcquire(&link->mutex);
	link->copied_rows = rows;
	link->copied_bytes = bytes;
	SpinLockRelease(&link->mutex);
}

/* about how many rows the peer has; -1 if the table is not under ferry there */
static int64
rows_there(PGconn *conn, const DueTable *t)
{
	PGresult   *res;
	int64		rows = -1;

	res = connection_query(conn,
						   psprintf("SELECT row_count FROM ferry._table_size(%s, %s) WHERE row_count IS NOT NULL",
									quote_literal_cstr(t->schema), quote_literal_cstr(t->name)),
						   PGRES_TUPLES_OK);
	if (PQntuples(res) == 1)
		rows = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
	PQclear(res);
	return rows;
}

/*
 * Who went back in time may have told us that we hold all of its writes up to a
 * stamp, not knowing of some that it had lost, and may have given stamps twice
 * before it noticed: nothing is held for sure of it.
 */
static void
forget_told_wrongly(NodeVector *v)
{
	MemoryContext cxt = CurrentMemoryContext;

	begin_here();
	SPI_execute("SELECT node_id FROM ferry.member WHERE went_back", true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		vector_remove(v, (NodeId) DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)));
	}
	end_here(cxt);
}

/* what to ask for: what we do not hold */
static char *
our_vector(bool went_back)
{
	NodeVector	v;
	char	   *text = palloc(VECTOR_TEXT_BYTES);

	holding_promised(&v);
	forget_told_wrongly(&v);
	if (went_back)
		vector_remove(&v, node_id());
	vector_format(&v, text);
	return text;
}

/* what the peer says that we hold when we have merged what it sent goes to *brought */
static void
copy_table(PGconn *conn, LinkShared *link, NodeId peer_id, bool careful, bool went_back, const DueTable *t,
		   NodeVector *brought)
{
	ApplyStream *s = apply_stream_create(link->peer, peer_id, careful);
	bool		header_seen = false;
	TimestampTz commit_due = 0;
	uint64		bytes = 0;
	char	   *data;
	int			len;

	PQclear(connection_query(conn,
							 psprintf("COPY (SELECT ferry._delta_frames(ARRAY[%s, %s]::pg_catalog.text[], %s)) TO STDOUT (FORMAT binary)",
									  quote_literal_cstr(t->schema), quote_literal_cstr(t->name),
									  t->is_new ? "NULL" : quote_literal_cstr(our_vector(went_back))),
							 PGRES_COPY_OUT));
	while ((len = PQgetCopyData(conn, &data, 1)) >= 0)
	{
		if (len == 0)
		{
			connection_wait(conn, 1000);
			if (!PQconsumeInput(conn))
				connection_lost(conn);
			continue;
		}
		CHECK_FOR_INTERRUPTS();
		take_message(s, data, len, &header_seen);
		PQfreemem(data);
		bytes += len;
		show_progress(link, apply_stream_progress(s)->rows, bytes);
		if (GetCurrentTimestamp() >= commit_due)
		{
			(void) apply_stream_commit(s);
			commit_due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ferry_batch_ms);
		}
	}
	(void) apply_stream_commit(s);
	if (len == -2)
		connection_lost(conn);
	for (PGresult *res; (res = PQgetResult(conn)) != NULL; PQclear(res))
	{
		if (PQresultStatus(res) != PGRES_COMMAND_OK)
			connection_lost(conn);
	}
	vector_copy(brought, &apply_stream_progress(s)->news->claims);
	apply_stream_free(s);
}

/* did copying these bring all that the peer has? */
static bool
is_everything(PGconn *conn, List *copied)
{
	PGresult   *res = connection_query(conn, "SELECT cardinality(ferry._all_tables()) / 2", PGRES_TUPLES_OK);
	bool		result = atoi(PQgetvalue(res, 0, 0)) == list_length(copied);

	PQclear(res);
	return result;
}

/* --- a sponsor's copy brings what the others wrote --- */

/* the peers that are to be brought by this one's copy; NIL if that has been seen to, or was begun */
static List *
read_gathered(const char *sponsor, bool *wait)
{
	Oid			types[1] = {NAMEOID};
	Datum		args[1] = {CStringGetDatum(sponsor)};
	MemoryContext cxt = CurrentMemoryContext;
	List	   *others = NIL;

	*wait = false;
	begin_here();
	SPI_execute_with_args("SELECT p.name::pg_catalog.text, p.node_id::pg_catalog.text, p.slot_lsn::pg_catalog.text, "
						  "(p.slot_lsn IS NULL AND coalesce(l.failures, 0) < 3 AND NOT p.is_paused)::pg_catalog.text "
						  "FROM ferry.peer p LEFT JOIN ferry._links() l ON l.peer = p.name "
						  "WHERE p.copy_via = $1 AND p.via_lsn IS DISTINCT FROM p.slot_lsn "
						  "AND NOT EXISTS (SELECT FROM ferry.copied_table c WHERE c.peer = $1)",
						  1, types, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(cxt);
		Gathered   *g = palloc(sizeof(Gathered));
		char	   *is_coming = spi_text(i, 4, cxt);

		g->name = spi_text(i, 1, cxt);
		g->id = (uint32) strtoul(spi_text(i, 2, cxt), NULL, 10);
		g->slot_lsn = spi_text(i, 3, cxt);
		*wait |= is_coming && strcmp(is_coming, "true") == 0;
		if (g->slot_lsn)
			others = lappend(others, g);
		MemoryContextSwitchTo(oldcontext);
	}
	end_here(cxt);
	return others;
}

static void
record_gathered(const Gathered *g)
{
	Oid			types[2] = {NAMEOID, TEXTOID};
	Datum		args[2] = {CStringGetDatum(g->name), CStringGetTextDatum(g->slot_lsn)};
	MemoryContext cxt = CurrentMemoryContext;

	begin_here();
	SPI_execute_with_args("UPDATE ferry.peer SET via_lsn = $2::pg_catalog.pg_lsn WHERE name = $1",
						  2, types, args, NULL, false, 0);
	end_here(cxt);
}

static void
gather(PGconn *conn, const char *sponsor)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), GATHER_PATIENCE_MS);

	for (;;)
	{
		bool		wait;
		List	   *others = read_gathered(sponsor, &wait);
		ListCell   *lc;

		foreach(lc, others)
		{
			Gathered   *g = lfirst(lc);
			PGresult   *res = connection_query(conn,
											   psprintf("SELECT ferry._holds_until(%u, '%s')", g->id, g->slot_lsn),
											   PGRES_TUPLES_OK);
			bool		holds = PQntuples(res) == 1 && *PQgetvalue(res, 0, 0) == 't';

			PQclear(res);
			if (holds)
				record_gathered(g);
			else
				wait = true;
		}
		if (!wait || GetCurrentTimestamp() >= end)
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, GATHER_ASK_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* the sponsor's copy is complete: the others' links are, too, or have to copy for themselves */
static void
release_others(const char *sponsor)
{
	Oid			types[1] = {NAMEOID};
	Datum		args[1] = {CStringGetDatum(sponsor)};
	MemoryContext cxt = CurrentMemoryContext;

	begin_here();
	SPI_execute_with_args("INSERT INTO ferry.copied_table (peer, relid) "
						  "SELECT p.name, c.relid FROM ferry.peer p JOIN ferry.copied_table c ON c.peer = $1 "
						  "WHERE p.copy_via = $1 AND p.via_lsn = p.slot_lsn ON CONFLICT DO NOTHING",
						  1, types, args, NULL, false, 0);
	SPI_execute_with_args("UPDATE ferry.peer SET copy_via = NULL, via_lsn = NULL WHERE copy_via = $1",
						  1, types, args, NULL, false, 0);
	if (SPI_processed > 0)
		node_config_changed();
	end_here(cxt);
}

void
copy_due_tables(PGconn *conn, LinkShared *link, NodeId peer_id, bool careful, bool went_back)
{
	List	   *due = read_due(link->peer);
	List	   *copied = NIL;
	NodeVector	brought;
	ListCell   *lc;

	if (due != NIL)
		gather(conn, link->peer);
	foreach(lc, due)
	{
		DueTable   *t = lfirst(lc);
		int64		rows = rows_there(conn, t);
		NodeVector	also;

		if (rows < 0)
			continue;
		show_table(link, t->relid, rows);
		copy_table(conn, link, peer_id, careful, went_back, t, &also);
		record_copy(link, t->relid);
		show_table(link, InvalidOid, 0);
		if (copied == NIL)
			vector_copy(&brought, &also);
		else
			vector_limit(&brought, &also);
		copied = lappend(copied, t);
	}
	if (copied != NIL && is_everything(conn, copied))
	{
		XLogFlush(XactLastCommitEnd);
		holding_raise(&brought, true);
	}
	release_others(link->peer);
}
