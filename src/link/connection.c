/*-------------------------------------------------------------------------
 *
 * connection.c
 *		A connection to a peer: libpq, waiting by the latch.
 *
 * The session's settings are pinned, whatever role or database set there: empty
 * search_path, ISO dates, no timeouts, writable, no commit that waits for
 * standbys (it might wait for the very link that is being made).  The
 * application name is our node's name, so that synchronous_standby_names at the
 * peer can name us.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core/wire.h"
#include "link/connection.h"
#include "node/node.h"

#define CONNECT_TIMEOUT_S 10
#define SESSION_OPTIONS \
	"-c search_path= -c datestyle=ISO -c intervalstyle=postgres -c timezone=UTC " \
	"-c extra_float_digits=3 -c bytea_output=hex -c statement_timeout=0 -c lock_timeout=0 " \
	"-c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0 -c default_transaction_read_only=off " \
	"-c default_transaction_isolation=read\\ committed " \
	"-c synchronous_commit=local -c jit=off"

/* libpq's message as one line */
static char *
complaint(PGconn *conn)
{
	char	   *text = pchomp(PQerrorMessage(conn));

	for (char *p = text; *p; p++)
		if (*p == '\n')
			*p = ' ';
	return text;
}

void
connection_lost(PGconn *conn)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("connection to peer was lost"),
			 errdetail_internal("%s", complaint(conn))));
}

static void
wait_socket(PGconn *conn, int events, long timeout_ms)
{
	int			rc = WaitLatchOrSocket(MyLatch, events | WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
									   (timeout_ms >= 0 ? WL_TIMEOUT : 0),
									   PQsocket(conn), timeout_ms, PG_WAIT_EXTENSION);

	if (rc & WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
connection_wait(PGconn *conn, long timeout_ms)
{
	wait_socket(conn, WL_SOCKET_READABLE, timeout_ms);
}

WaitEventSet *
connection_wait_set(PGconn *conn)
{
	WaitEventSet *set = compat_create_wait_set(3);

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, PQsocket(conn), NULL, NULL);
	return set;
}

void
connection_wait_in(WaitEventSet *set, long timeout_ms)
{
	WaitEvent	event;

	if (WaitEventSetWait(set, timeout_ms, &event, 1, PG_WAIT_EXTENSION) == 1 && (event.events & WL_LATCH_SET))
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

bool
connection_has_input(PGconn *conn)
{
	return (WaitLatchOrSocket(NULL, WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							  PQsocket(conn), 0, PG_WAIT_EXTENSION) & WL_SOCKET_READABLE) != 0;
}

static PGconn *
open_connection(const char *dsn, const char *replication)
{
	const char *keys[12];
	const char *values[12];
	int			n = 0;
	PGconn	   *conn;
	TimestampTz limit = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), CONNECT_TIMEOUT_S * 1000);
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	/* a network that swallows everything is noticed; what the dsn says of it goes */
	keys[n] = "keepalives_idle", values[n++] = "30";
	keys[n] = "keepalives_interval", values[n++] = "10";
	keys[n] = "keepalives_count", values[n++] = "3";
	keys[n] = "dbname", values[n++] = dsn;
	keys[n] = "replication", values[n++] = replication;
	keys[n] = "application_name", values[n++] = node_name();
	keys[n] = "client_encoding", values[n++] = GetDatabaseEncodingName();
	keys[n] = "options", values[n++] = SESSION_OPTIONS;
	keys[n] = "connect_timeout", values[n++] = CppAsString2(CONNECT_TIMEOUT_S);
	keys[n] = NULL, values[n] = NULL;

	conn = PQconnectStartParams(keys, values, 1);
	if (conn == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	while (PQstatus(conn) != CONNECTION_BAD && status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED)
	{
		if (GetCurrentTimestamp() > limit)
			break;
		PG_TRY();
		{
			wait_socket(conn, status == PGRES_POLLING_READING ? WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE, 1000);
		}
		PG_CATCH();
		{
			PQfinish(conn);
			PG_RE_THROW();
		}
		PG_END_TRY();
		status = PQconnectPoll(conn);
	}
	if (status != PGRES_POLLING_OK)
	{
		char	   *detail = status == PGRES_POLLING_FAILED || PQstatus(conn) == CONNECTION_BAD ?
			complaint(conn) : pstrdup("The attempt timed out.");

		PQfinish(conn);
		ereport(ERROR,
				(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
				 errmsg("could not connect to peer"),
				 errdetail_internal("%s", detail),
				 errhint("Check the dsn, that the peer's server runs, and its pg_hba.conf (replication connections included).")));
	}
	return conn;
}

PGconn *
connection_open(const char *dsn)
{
	return open_connection(dsn, "database");
}

PGconn *
connection_open_session(const char *dsn)
{
	return open_connection(dsn, "false");
}

/*
 * The SQLSTATE of an error from a peer, for ours.  That it is being shut down, or our
 * session there was cancelled (class 57), is a lost connection: of this process
 * class 57 would say that it is to end itself.
 */
static int
sqlstate_of(const PGresult *res)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	int			code;

	if (state == NULL || strlen(state) != 5)
		return ERRCODE_CONNECTION_FAILURE;
	code = MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
	return ERRCODE_TO_CATEGORY(code) == ERRCODE_OPERATOR_INTERVENTION ? ERRCODE_CONNECTION_FAILURE : code;
}

void
connection_raise(PGconn *conn, PGresult *res, const char *peer)
{
	const char *primary = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	const char *hint = PQresultErrorField(res, PG_DIAG_MESSAGE_HINT);
	int			code = sqlstate_of(res);
	char	   *message = primary ? pstrdup(primary) : complaint(conn);

	hint = hint ? pstrdup(hint) : NULL;
	PQclear(res);
	ereport(ERROR,
			(errcode(code),
			 peer ? errmsg("peer \"%s\" says: %s", peer, message) : errmsg("peer says: %s", message),
			 hint ? errhint("%s", hint) : 0));
}

PGresult *
connection_result(PGconn *conn)
{
	while (PQisBusy(conn))
	{
		connection_wait(conn, -1);
		if (!PQconsumeInput(conn))
			connection_lost(conn);
	}
	return PQgetResult(conn);
}

PGresult *
connection_query(PGconn *conn, const char *sql, ExecStatusType expected)
{
	PGresult   *res;
	PGresult   *last = NULL;

	if (!PQsendQuery(conn, sql))
		connection_lost(conn);
	while ((res = connection_result(conn)) != NULL)
	{
		PQclear(last);
		last = res;
		if (PQresultStatus(res) == PGRES_COPY_OUT || PQresultStatus(res) == PGRES_COPY_BOTH ||
			PQresultStatus(res) == PGRES_FATAL_ERROR)
			break;
	}
	if (last == NULL)
		connection_lost(conn);
	if (PQresultStatus(last) != expected)
		connection_raise(conn, last, NULL);
	return last;
}

void
connection_end_copy(PGconn *conn)
{
	PGresult   *res;

	while ((res = connection_result(conn)) != NULL)
	{
		if (PQresultStatus(res) != PGRES_COMMAND_OK)
			connection_raise(conn, res, NULL);
		PQclear(res);
	}
}

void
connection_hello(PGconn *conn, PeerHello *hello)
{
	char		sql[256];
	PGresult   *res;
	MemoryContext cxt = CurrentMemoryContext;

	snprintf(sql, sizeof(sql), "SELECT node_id, name, now_us, encoding, groups FROM ferry._hello(%d, %u, '%s')",
			 WIRE_PROTOCOL, node_id(), node_name());
	hello->asked_at = GetCurrentTimestamp();
	PG_TRY();
	{
		res = connection_query(conn, sql, PGRES_TUPLES_OK);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_INVALID_SCHEMA_NAME && error->sqlerrcode != ERRCODE_UNDEFINED_FUNCTION)
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("peer does not have this version of ferry"),
				 errdetail_internal("%s", error->message),
				 errhint("Run CREATE EXTENSION ferry and ferry.create_node there, with the same version as here.")));
	}
	PG_END_TRY();
	hello->answered_at = GetCurrentTimestamp();
	if (PQntuples(res) != 1 || PQnfields(res) != 5)
	{
		PQclear(res);
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("peer gave an invalid answer")));
	}
	hello->id = (NodeId) strtoul(PQgetvalue(res, 0, 0), NULL, 10);
	strlcpy(hello->name, PQgetvalue(res, 0, 1), NAMEDATALEN);
	hello->groups = pstrdup(PQgetvalue(res, 0, 4));
	hello->clock = strtoll(PQgetvalue(res, 0, 2), NULL, 10);
	if (strcmp(PQgetvalue(res, 0, 3), GetDatabaseEncodingName()) != 0)
	{
		char	   *encoding = pstrdup(PQgetvalue(res, 0, 3));

		PQclear(res);
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("encoding of the peer's database differs"),
				 errdetail("It is %s there and %s here.", encoding, GetDatabaseEncodingName()),
				 errhint("Use databases of one encoding, UTF8 for preference.")));
	}
	PQclear(res);
	if (hello->id == node_id())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("peer is this node itself"),
				 errhint("Give the dsn of another database.")));
	if (hello->id == NODE_ID_NONE || strcmp(hello->name, node_name()) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("peer has the same node name as this node: \"%s\"", hello->name),
				 errhint("Node names must be unique.")));
}

XLogRecPtr
connection_lsn(const char *text)
{
	uint32		hi;
	uint32		lo;

	if (sscanf(text, "%X/%X", &hi, &lo) != 2)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("peer gave an invalid WAL location: \"%s\"", text)));
	return ((uint64) hi << 32) | lo;
}
