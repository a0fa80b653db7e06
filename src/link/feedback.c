/*-------------------------------------------------------------------------
 *
 * feedback.c
 *		What we tell the sender: how far its changes are here, and safe here.
 *
 * "written" is what is committed here, "flushed" and "applied" what is durable
 * here.  A sender whose synchronous_standby_names names this link waits for
 * just these; and its slot lets go of what is flushed.  So flushed is never
 * ahead of our own WAL on disk, nor of the progress of our replication origin.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "libpq/pqformat.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "link/connection.h"
#include "link/feedback.h"

#define MAX_MARKS 1024

typedef struct Mark
{
	XLogRecPtr	remote_end;
	XLogRecPtr	local_end;
} Mark;

Feedback *
feedback_create(XLogRecPtr start)
{
	Feedback   *f = palloc0(sizeof(Feedback));

	f->marks = palloc(sizeof(Mark) * MAX_MARKS);
	f->written = f->flushed = start;
	return f;
}

void
feedback_committed(Feedback *f, XLogRecPtr remote_end, XLogRecPtr local_end)
{
	Mark	   *m;

	f->written = Max(f->written, remote_end);
	if (f->n == MAX_MARKS)
		feedback_flush(f, true);
	m = &f->marks[(f->first + f->n++) % MAX_MARKS];
	m->remote_end = remote_end;
	m->local_end = local_end;
}

void
feedback_nothing_until(Feedback *f, XLogRecPtr remote_end)
{
	f->written = Max(f->written, remote_end);
}

bool
feedback_is_pending(Feedback *f)
{
	return f->n > 0;
}

void
feedback_flush(Feedback *f, bool wait)
{
	XLogRecPtr	durable;

	if (f->n == 0)
		return;
	if (wait)
		XLogFlush(f->marks[(f->first + f->n - 1) % MAX_MARKS].local_end);
	durable = GetFlushRecPtr(NULL);
	while (f->n > 0 && f->marks[f->first].local_end <= durable)
	{
		f->flushed = Max(f->flushed, f->marks[f->first].remote_end);
		f->first = (f->first + 1) % MAX_MARKS;
		f->n--;
	}
}

void
feedback_send(Feedback *f, PGconn *conn, bool ask)
{
	StringInfoData buf;

	initStringInfo(&buf);
	pq_sendbyte(&buf, 'r');
	pq_sendint64(&buf, f->written);
	pq_sendint64(&buf, f->flushed);
	pq_sendint64(&buf, f->n > 0 ? f->flushed : f->written);
	f->sent_at = GetCurrentTimestamp();
	pq_sendint64(&buf, f->sent_at);
	pq_sendbyte(&buf, ask ? 1 : 0);
	if (PQputCopyData(conn, buf.data, buf.len) <= 0 || PQflush(conn) < 0)
		connection_lost(conn);
	pfree(buf.data);
}
