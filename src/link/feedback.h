/*
 * feedback.h
 *		What we tell the sender: how far its changes are here, and safe here.
 */
#ifndef FERRY_LINK_FEEDBACK_H
#define FERRY_LINK_FEEDBACK_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "libpq-fe.h"

typedef struct Feedback
{
	struct Mark *marks;			/* ring: commits here that may not be durable yet */
	int			first;
	int			n;
	XLogRecPtr	written;		/* everything of the peer's up to here is committed here */
	XLogRecPtr	flushed;		/* and durable */
	TimestampTz sent_at;
} Feedback;

extern Feedback *feedback_create(XLogRecPtr start);

/* remote transactions up to remote_end were committed here by a commit that ends at local_end */
extern void feedback_committed(Feedback *f, XLogRecPtr remote_end, XLogRecPtr local_end);

/* nothing of ours lies before remote_end, and all before it is committed here */
extern void feedback_nothing_until(Feedback *f, XLogRecPtr remote_end);

/* is something committed here and not yet known to be durable? */
extern bool feedback_is_pending(Feedback *f);

/* see what is durable by now; with wait, make it so */
extern void feedback_flush(Feedback *f, bool wait);

/* ask: for a keepalive at once, by which clocks are compared */
extern void feedback_send(Feedback *f, PGconn *conn, bool ask);

#endif							/* FERRY_LINK_FEEDBACK_H */
