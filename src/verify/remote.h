/*
 * remote.h
 *		A peer as the other side of a comparison: questions over an ordinary
 *		connection, answers of one value of bytes.
 */
#ifndef FERRY_VERIFY_REMOTE_H
#define FERRY_VERIFY_REMOTE_H

#include "postgres.h"

#include "core/wire.h"
#include "link/connection.h"

typedef struct Remote
{
	PGconn	   *conn;
	char		peer[NAMEDATALEN];
	NodeId		peer_id;
	uint64		bytes;			/* questions and answers so far */
	int			patience_here;	/* ms that either side still waits for writes on their way */
	int			patience_there;
} Remote;

/* connect and make sure that it is that node; raises as connection_open does */
extern void remote_open(Remote *r, const char *dsn);
extern void remote_close(Remote *r);

/* send a question, an SQL expression of type bytea, and do not wait for the answer */
extern void remote_ask(Remote *r, const char *expression);

/*
 * Wait for it: allocated in the current context, NULL if it is null.  Raises
 * what the peer raised, and ERRCODE_PROTOCOL_VIOLATION if it is longer than
 * max or malformed.
 */
extern uint8_t *remote_answer(Remote *r, size_t max, size_t *len);

/* both at once, as a reader; an SQL null fails it */
extern void remote_call(Remote *r, const char *expression, size_t max, WireReader *reader);

/* raise ERRCODE_PROTOCOL_VIOLATION */
pg_noreturn extern void remote_refuse(const Remote *r, const char *why);

/* numbers as a bytea literal, big-endian, for a question */
extern char *remote_u32_literal(const uint32_t *values, size_t n);
extern char *remote_u64_literal(const uint64 *values, size_t n);
extern char *remote_bytes_literal(const void *bytes, size_t n);

#endif							/* FERRY_VERIFY_REMOTE_H */
