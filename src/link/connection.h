/*
 * connection.h
 *		A connection to a peer: libpq, waiting by the latch.
 */
#ifndef FERRY_LINK_CONNECTION_H
#define FERRY_LINK_CONNECTION_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "compat.h"
#include "core/version.h"
#include "datatype/timestamp.h"
#include "libpq-fe.h"

/* what a peer says of itself */
typedef struct PeerHello
{
	NodeId		id;
	char		name[NAMEDATALEN];
	char	   *groups;			/* a uuid[] as text, palloc'd */
	TimestampTz asked_at;		/* by our clock */
	TimestampTz clock;			/* theirs, when they answered */
	TimestampTz answered_at;	/* by our clock */
} PeerHello;

/*
 * Connect, with session settings pinned, as a logical walsender, which takes SQL
 * as well.  Raises class 08 if the peer cannot be reached.
 * Close by PQfinish.
 */
extern PGconn *connection_open(const char *dsn);

/* the same as an ordinary session, which takes up no walsender */
extern PGconn *connection_open_session(const char *dsn);

/* run SQL; raises what the peer raised, with its SQLSTATE; PQclear the result */
extern PGresult *connection_query(PGconn *conn, const char *sql, ExecStatusType expected);

/* a location in the peer's log, as it gave it; raises if it is none */
extern XLogRecPtr connection_lsn(const char *text);

/* the next result of what was sent, waited for by the latch; NULL at the end */
extern PGresult *connection_result(PGconn *conn);

/* raise what the peer (NULL: whose name is not known yet) raised; frees the result */
pg_noreturn extern void connection_raise(PGconn *conn, PGresult *res, const char *peer);

/* PQgetCopyData has returned -1 or -2: raises what the peer raised, or that it was lost */
extern void connection_end_copy(PGconn *conn);

/* wait until the socket is readable or the latch is set or the time is over */
extern void connection_wait(PGconn *conn, long timeout_ms);

/*
 * The same for who waits often on a connection that lives as long as the process: the
 * kernel is told once what is waited for.
 */
extern struct WaitEventSet *connection_wait_set(PGconn *conn);
extern void connection_wait_in(struct WaitEventSet *set, long timeout_ms);

/* is something on the socket that libpq has not read? */
extern bool connection_has_input(PGconn *conn);

/* raise class 08 with what libpq says */
pg_noreturn extern void connection_lost(PGconn *conn);

/* introduce ourselves; raises if the peer is no node, is us, or does not fit */
extern void connection_hello(PGconn *conn, PeerHello *hello);

#endif							/* FERRY_LINK_CONNECTION_H */
