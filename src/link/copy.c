/*-------------------------------------------------------------------------
 *
 * copy.c
 *		Copying tables from a peer: all their states, merged.
 *
 * The peer sends frames (delta/frames.c) through COPY.  Merging is idempotent:
 * what the live stream brings too is merged twice, and a copy that was
 * interrupted is simply done again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "link/connection.h"
#include "link/copy.h"
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

static void
copy_states(PGconn *conn, const char *peer, NodeId peer_id, bool careful, const char *list)
{
	ApplyStream *s = apply_stream_create(peer, peer_id, careful);
	StringInfoData sql;
	bool		header_seen = false;
	TimestampTz commit_due = 0;
	char	   *data;
	int			len;

	initStringInfo(&sql);
	appendStringInfo(&sql, "COPY (SELECT ferry._delta_frames(%s)) TO STDOUT (FORMAT binary)",
					 quote_literal_cstr(list));
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
}

void
copy_tables(PGconn *conn, const char *peer, NodeId peer_id, bool careful, const char *due)
{
	char	   *list = due_there(conn, due);

	if (list == NULL)
		return;
	copy_states(conn, peer, peer_id, careful, list);
	record_copies(peer, list);
}
