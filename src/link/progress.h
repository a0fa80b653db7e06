/*
 * progress.h
 *		How far we are with a peer: replication origin here, slot there.
 */
#ifndef FERRY_LINK_PROGRESS_H
#define FERRY_LINK_PROGRESS_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "core/version.h"
#include "libpq-fe.h"

/*
 * Make sure that the slot there and the origin here belong together, create
 * both if need be, and make the origin this session's.  Returns where the
 * stream is to start.  If changes were missed or may have been (new or lost slot,
 * slot ahead of us), ferry.copied_table has forgotten the peer's tables.
 * *went_back: this database may have lost writes of its own.
 */
extern XLogRecPtr progress_begin(PGconn *conn, const char *peer_name, NodeId peer, bool *went_back);

/* commit an empty local transaction that takes the origin's progress to lsn; returns its end */
extern XLogRecPtr progress_commit(XLogRecPtr lsn);

/* what belongs to a peer here and (conn not NULL) there is removed; in a transaction */
extern void progress_drop(PGconn *conn, NodeId peer);

#endif							/* FERRY_LINK_PROGRESS_H */
