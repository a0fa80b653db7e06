/*-------------------------------------------------------------------------
 *
 * copy.c
 *		Copying tables from a peer: all their states, merged.
 *
 * The peer sends frames (delta/frames.c) through COPY.  Merging is idempotent:
 * what the live stream brings too is merged twice, and a copy that was
 * interrupted is simply done again.
 *
 * Tables that this node has long had are copied again when the slot at the peer
 * was lost.  Then only what this node does not hold is asked for: the vector of
 * what it promises says what that is.  A table that is new here is copied whole,
 * since that vector says nothing of it.
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
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "link/connection.h"
#include "link/copy.h"
#include "node/holding.h"
#include "node/node.h"

#define COPY_SIGNATURE_BYTES 19

char *
copy_due(const char *peer)
{
	Oid			types[1] = {NAMEOID};
	Datum		args[1] = {CStringGetDatum(peer)};
	char	   *list = NULL;
	MemoryContext cxt = CurrentMemoryContext;
	bool		isnull;
	Datum		d;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	SPI_execute_with_args("SELECT pg_catalog.array_agg(x ORDER BY c.oid, i)::text "
						  "FROM ferry.registered_table r "
						  "JOIN pg_catalog.pg_class c ON c.oid = r.relid "
						  "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
						  "CROSS JOIN LATERAL (VALUES (1, n.nspname::text), (2, c.relname::text)) AS v(i, x) "
						  "WHERE NOT EXISTS (SELECT FROM ferry.copied_table t WHERE t.peer = $1 AND t.relid = r.relid)",
						  1, types, args, NULL, true, 1);
	d = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		list = MemoryContextStrdup(cxt, TextDatumGetCString(d));
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return list;
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

/* of those, what the peer has under ferry too */
static char *
due_there(PGconn *conn, const char *list)
{
	StringInfoData sql;
	PGresult   *res;
	char	   *both = NULL;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT ferry._known_tables(%s)", quote_literal_cstr(list));
	res = connection_query(conn, sql.data, PGRES_TUPLES_OK);
	if (PQntuples(res) == 1 && !PQgetisnull(res, 0, 0))
		both = pstrdup(PQgetvalue(res, 0, 0));
	PQclear(res);
	return both;
}

static void
record_copies(const char *peer, const char *list)
{
	Oid			types[2] = {NAMEOID, TEXTOID};
	Datum		args[2] = {CStringGetDatum(peer), CStringGetTextDatum(list)};

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	SPI_execute_with_args("INSERT INTO ferry.copied_table (peer, relid) "
						  "SELECT $1, relid FROM ferry._registered($2::pg_catalog.text[]) ON CONFLICT DO NOTHING",
						  2, types, args, NULL, false, 0);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

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

/* what the peer says that we hold when we have merged what it sent goes to *brought */
static void
copy_states(PGconn *conn, const char *peer, NodeId peer_id, bool careful, const char *list,
			const char *since, NodeVector *brought)
{
	ApplyStream *s = apply_stream_create(peer, peer_id, careful);
	StringInfoData sql;
	bool		header_seen = false;
	TimestampTz commit_due = 0;
	char	   *data;
	int			len;

	initStringInfo(&sql);
	appendStringInfo(&sql, "COPY (SELECT ferry._delta_frames(%s, ", quote_literal_cstr(list));
	appendStringInfo(&sql, "%s)) TO STDOUT (FORMAT binary)", since ? quote_literal_cstr(since) : "NULL");
	PQclear(connection_query(conn, sql.data, PGRES_COPY_OUT));
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
}

/* of {schema, name, ...} those that are new here, or those that are not; NULL if there are none */
static char *
pick(const char *list, bool wanted)
{
	Oid			types[2] = {TEXTOID, BOOLOID};
	Datum		args[2] = {CStringGetTextDatum(list), BoolGetDatum(wanted)};
	MemoryContext cxt = CurrentMemoryContext;
	char	   *text;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	SPI_execute_with_args("SELECT ferry._new_tables($1::pg_catalog.text[], $2)", 2, types, args, NULL, true, 1);
	text = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (text)
		text = MemoryContextStrdup(cxt, text);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return text;
}

/* did this copy bring all that the peer has? */
static bool
is_everything(PGconn *conn, const char *list)
{
	StringInfoData sql;
	PGresult   *res;
	bool		result;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT ferry._all_tables() OPERATOR(pg_catalog.<@) %s", quote_literal_cstr(list));
	res = connection_query(conn, sql.data, PGRES_TUPLES_OK);
	result = *PQgetvalue(res, 0, 0) == 't';
	PQclear(res);
	return result;
}

/* what to ask for: what we do not hold */
static char *
our_vector(bool went_back)
{
	NodeVector	v;
	char	   *text = palloc(VECTOR_TEXT_BYTES);

	holding_promised(&v);
	if (went_back)
		vector_remove(&v, node_id());
	vector_format(&v, text);
	return text;
}

void
copy_tables(PGconn *conn, const char *peer, NodeId peer_id, bool careful, const char *due, bool went_back)
{
	char	   *list = due_there(conn, due);
	char	   *new_ones;
	char	   *known_ones;
	NodeVector	brought;
	NodeVector	also;

	if (list == NULL)
		return;
	new_ones = pick(list, true);
	known_ones = pick(list, false);
	if (new_ones)
		copy_states(conn, peer, peer_id, careful, new_ones, NULL, &brought);
	if (known_ones)
	{
		copy_states(conn, peer, peer_id, careful, known_ones, our_vector(went_back), &also);
		if (new_ones)
			vector_limit(&brought, &also);
		else
			vector_copy(&brought, &also);
	}
	record_copies(peer, list);
	if ((new_ones || known_ones) && is_everything(conn, list))
	{
		XLogFlush(XactLastCommitEnd);
		holding_raise(&brought, true);
	}
}
