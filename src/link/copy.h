/*
 * copy.h
 *		Copying what is due from a peer.
 */
#ifndef FERRY_LINK_COPY_H
#define FERRY_LINK_COPY_H

#include "postgres.h"

#include "libpq-fe.h"
#include "nodes/pg_list.h"
#include "link/copy_table.h"
#include "link/link.h"

/*
 * Copy what is due from this peer: tables under ferry on both sides that were
 * not copied from it yet, or have to be again.  By this process, the link's
 * worker, and up to ferry.copy_workers - 1 others.  May be interrupted and called
 * again: tables that are done are not begun anew.
 */
extern void copy_due_tables(PGconn *conn, LinkShared *link, NodeId peer_id, const CopyManner *manner);

/* this process ends: so do those that help it */
extern void copy_end_helpers(LinkShared *link);

/* is there something to copy? */
extern bool copy_is_due(const char *peer);

/* have all tables been copied that the peer has under ferry? */
extern bool copy_is_whole(PGconn *conn, const char *peer);

/* have these: schema, name, ... (char *)? */
extern bool copy_includes(const char *peer, List *tables);

#endif							/* FERRY_LINK_COPY_H */
