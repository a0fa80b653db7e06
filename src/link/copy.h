/*
 * copy.h
 *		Copying tables from a peer: all their states, merged.
 */
#ifndef FERRY_LINK_COPY_H
#define FERRY_LINK_COPY_H

#include "postgres.h"

#include "apply/apply.h"
#include "libpq-fe.h"

/*
 * Tables under ferry here that were not copied from this peer yet, as the text
 * of an array {schema, name, ...}; NULL if there are none.
 */
extern char *copy_due(const char *peer);

/* have all tables been copied that the peer has under ferry? */
extern bool copy_is_whole(PGconn *conn, const char *peer);

/* have these: schema, name, ... (char *)? */
extern bool copy_includes(const char *peer, List *tables);

/*
 * Copy those of them that the peer has under ferry too, and put that on record.
 * Of tables that are not new here only what this node lacks is asked for;
 * went_back: which may include writes of its own.  Several local transactions;
 * may be interrupted and done again.
 */
extern void copy_tables(PGconn *conn, const char *peer, NodeId peer_id, bool careful, const char *due,
						bool went_back);

#endif							/* FERRY_LINK_COPY_H */
