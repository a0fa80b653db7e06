/*-------------------------------------------------------------------------
 *
 * greeting.c
 *		What two nodes tell each other when one connects: whom they know.
 *
 * Membership spreads by the links that there are.  A node that connects sends
 * its whole list of members and gets the other's; each merges what it hears
 * (node/member.sql), and whoever hears news takes up its configuration again,
 * which makes all its links connect anew and so tells all its peers.  Since
 * merging the same list twice is no news, this ends; and since every pair that
 * is linked has exchanged its lists after the last change, all end up with the
 * same one, whatever the topology.
 *
 * Lists are short and change seldom: they are sent whole, as jsonb.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "link/connection.h"
#include "link/greeting.h"
#include "node/node.h"

/*
 * One value of type text from our own database, in a transaction of its own; arg
 * may be NULL.  NULL if there is no row.  Allocated in the current context.
 */
static char *
ask_here(const char *sql, const char *arg)
{
	MemoryContext cxt = CurrentMemoryContext;
	Oid			types[1] = {TEXTOID};
	Datum		args[1] = {(Datum) 0};
	char	   *answer = NULL;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	if (arg)
		args[0] = CStringGetTextDatum(arg);
	SPI_execute_with_args(sql, arg ? 1 : 0, types, args, NULL, false, 1);
	if (SPI_processed == 1)
	{
		char	   *text = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);

		answer = text ? MemoryContextStrdup(cxt, text) : NULL;
	}
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return answer;
}

/* one value of type text from the peer; NULL if it is null */
static char *
ask_there(PGconn *conn, const char *sql)
{
	PGresult   *res = connection_query(conn, sql, PGRES_TUPLES_OK);
	char	   *answer = NULL;

	if (PQntuples(res) == 1 && PQnfields(res) == 1 && !PQgetisnull(res, 0, 0))
		answer = pstrdup(PQgetvalue(res, 0, 0));
	PQclear(res);
	return answer;
}

void
greeting_exchange(PGconn *conn, NodeId peer)
{
	char	   *ours = ask_here("SELECT ferry._members()::pg_catalog.text FROM (SELECT ferry._require_renamed()) r", NULL);
	char	   *seen = ask_here(psprintf("SELECT ferry._sight_of(%u)::pg_catalog.text", peer), NULL);
	char	   *theirs = ask_there(conn, psprintf("SELECT ferry._greet(%s, %u, %s)", quote_literal_cstr(ours), node_id(),
												   quote_literal_cstr(seen)));
	char	   *fits;

	if (theirs == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("peer gave an invalid answer")));
	fits = ask_here(psprintf("SELECT ferry._take_greeting($1::pg_catalog.jsonb, %u)::pg_catalog.text", peer), theirs);
	if (fits == NULL || strcmp(fits, "true") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("this node went back in time and is about to take a new incarnation")));
}

int
greeting_formers(void)
{
	return atoi(ask_here("SELECT ferry._formers()::pg_catalog.text", NULL));
}

bool
greeting_has_succeeded(NodeId former, NodeId successor)
{
	char	   *sql = psprintf("SELECT 1::pg_catalog.text FROM ferry.member WHERE node_id = %u AND successor = %u",
							   former, successor);

	return ask_here(sql, NULL) != NULL;
}

PG_FUNCTION_INFO_V1(ferry_ask_peer);

/*
 * SQL: ferry._ask_peer(dsn, question) returns text: connect to a node, introduce
 * ourselves, and have it answer one question, a query of one value.
 */
Datum
ferry_ask_peer(PG_FUNCTION_ARGS)
{
	char	   *dsn = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *question = text_to_cstring(PG_GETARG_TEXT_PP(1));
	PGconn	   *conn;
	PeerHello	hello;
	char	   *answer;

	(void) node_current();
	conn = connection_open(dsn);
	PG_TRY();
	{
		connection_hello(conn, &hello);
		answer = ask_there(conn, question);
	}
	PG_FINALLY();
	{
		PQfinish(conn);
	}
	PG_END_TRY();
	if (answer == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(answer));
}
