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
 * Copy every table that is under ferry on both sides and was not copied from
 * this peer yet, and put that on record.  Several local transactions; may be
 * interrupted and done again.  Returns false if nothing was due.
 */
extern bool copy_due_tables(PGconn *conn, const char *peer, NodeId peer_id, bool careful);

/* is there such a table, as far as this side knows? */
extern bool copy_is_due(const char *peer);

#endif							/* FERRY_LINK_COPY_H */
