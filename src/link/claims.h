/*
 * claims.h
 *		What a link's peer says of itself and others, from the stream to where
 *		it counts.
 */
#ifndef FERRY_LINK_CLAIMS_H
#define FERRY_LINK_CLAIMS_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "apply/stream_news.h"
#include "datatype/timestamp.h"
#include "libpq-fe.h"

/*
 * A stream begins.  forward_all: it brings all that the peer holds, not only what
 * was written there.  whole: all tables of the peer are here and have been
 * copied.
 */
extern void claims_start(NodeId peer, bool forward_all, bool whole);

/* the peer has tables that are not here, since now */
extern void claims_not_whole(void);

/*
 * Between remote transactions, when everything before is committed, the last of
 * it at local_end, and no transaction is open: take the claims, and the horizon.
 * They count once our log is durable up to there.
 */
extern void claims_take(StreamNews *news, XLogRecPtr local_end);

/* let those count that are durable */
extern void claims_publish(void);

/* write what is known of other nodes, if that is due; a transaction of its own */
extern void claims_store(StreamNews *news, TimestampTz now);

/* ask the peer who there is, when a link begins */
extern void claims_ask(PGconn *conn, StreamNews *news);

#endif							/* FERRY_LINK_CLAIMS_H */
