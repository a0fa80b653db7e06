/*
 * parts.h
 *		Large transactions that come in parts: whether to ask for that.
 */
#ifndef FERRY_LINK_PARTS_H
#define FERRY_LINK_PARTS_H

#include "postgres.h"

#include "apply/apply.h"
#include "link/link.h"
#include "libpq-fe.h"

/* a stream is about to begin: may transactions come in parts? */
extern bool parts_begin(LinkShared *link, PGconn *conn, bool careful);

/* one is open, and nothing has come of it for too long */
extern bool parts_have_stalled(const ApplyProgress *p, TimestampTz now);

/* the next stream brings all transactions whole */
extern void parts_failed(LinkShared *link);

/* this one does, and has passed what it was for (taken: how far it has come) */
extern bool parts_may_return(XLogRecPtr taken);

#endif							/* FERRY_LINK_PARTS_H */
