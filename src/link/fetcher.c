/*-------------------------------------------------------------------------
 *
 * fetcher.c
 *		A second connection of a link, to ask the peer for single states.
 *
 * The first one streams and cannot answer.  This one is an ordinary session,
 * made when a state is first needed (apply/fetch.h) and kept.  An error ends the
 * worker, and the connection with it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

#include "apply/fetch.h"
#include "link/connection.h"
#include "link/fetcher.h"

static char *peer_dsn = NULL;
static PGconn *conn = NULL;

static void *
get_state(void *arg, const char *schema, const char *name, const char *key, const char *at_least, size_t *len)
{
	PGresult   *res;
	char	   *frame = NULL;

	if (conn && PQstatus(conn) == CONNECTION_BAD)
	{
		PQfinish(conn);
		conn = NULL;
	}
	if (conn == NULL)
		conn = connection_open_session(peer_dsn);
	res = connection_query(conn, psprintf("SELECT ferry._state_frame(%s, %s, %s, %s)", quote_literal_cstr(schema),
										  quote_literal_cstr(name), quote_literal_cstr(key), quote_literal_cstr(at_least)),
						   PGRES_TUPLES_OK);
	if (PQntuples(res) == 1 && PQnfields(res) == 1 && !PQgetisnull(res, 0, 0))
	{
		unsigned char *bytes = PQunescapeBytea((unsigned char *) PQgetvalue(res, 0, 0), len);

		if (bytes)
		{
			frame = palloc(*len + 1);
			memcpy(frame, bytes, *len);
			PQfreemem(bytes);
		}
	}
	PQclear(res);
	return frame;
}

void
fetcher_install(const char *peer, const char *dsn)
{
	peer_dsn = MemoryContextStrdup(TopMemoryContext, dsn);
	fetch_set_source(peer, get_state, NULL);
}
