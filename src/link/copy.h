/*
 * copy.h
 *		Copying tables from a peer: their states, merged.
 */
#ifndef FERRY_LINK_COPY_H
#define FERRY_LINK_COPY_H

#include "postgres.h"

#include "libpq-fe.h"
#include "nodes/pg_list.h"
#include "link/link.h"

/*
 * Copy what is due from this peer: tables under ferry on both sides that were
 * not copied from it yet, or have to be again.  Table by table, each put on
 * record when it is done; many local transactions; may be interrupted and
 * called again.  link shows how far it is.  Of tables that are not new here only
 * what this node lacks is asked for; went_back: which may include writes of its
 * own.
 */
extern void copy_due_tables(PGconn *conn, LinkShared *link, NodeId peer_id, bool careful, bool went_back);

/* is there something to copy? */
extern bool copy_is_due(const char *peer);

/* have all tables been copied that the peer has under ferry? */
extern bool copy_is_whole(PGconn *conn, const char *peer);

/* have these: schema, name, ... (char *)? */
extern bool copy_includes(const char *peer, List *tables);

#endif							/* FERRY_LINK_COPY_H */
