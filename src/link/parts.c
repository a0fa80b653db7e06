/*-------------------------------------------------------------------------
 *
 * parts.c
 *		Large transactions that come in parts: whether to ask for that.
 *
 * While one of them is open (send/early.c) nothing that came since its first part can
 * be committed here: its rows are locked against local writers, and other
 * transactions' rows are not seen.  That lasts no longer than merging it whole would,
 * if its parts follow each other.  But of a transaction that was open for an hour
 * the sender may have to decode an hour's log before it meets the next part.
 * Then we throw away what we have, which an aborted transaction costs nothing
 * to speak of, and ask for whole transactions until the stream has passed the end that the
 * peer's log has now: the commit is in there, or there would have been no parts.
 *
 * The same after any error while one is open, for it may be that which is wrong.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/spin.h"
#include "utils/timestamp.h"

#include "link/connection.h"
#include "link/parts.h"

#define STALLED_MS 1000

static XLogRecPtr whole_until;	/* of the peer's log; 0: transactions come in parts */
static uint64 rows_seen;
static TimestampTz rows_seen_at;

bool
parts_begin(LinkShared *link, PGconn *conn, bool careful)
{
	PGresult   *res;
	bool		whole;

	whole_until = InvalidXLogRecPtr;
	rows_seen = 0;
	rows_seen_at = 0;
	SpinLockAcquire(&link->mutex);
	whole = link->whole;
	link->whole = false;
	SpinLockRelease(&link->mutex);
	if (careful)
		return false;
	if (!whole)
		return true;
	res = connection_query(conn, "SELECT pg_catalog.pg_current_wal_insert_lsn()", PGRES_TUPLES_OK);
	whole_until = connection_lsn(PQgetvalue(res, 0, 0));
	PQclear(res);
	return false;
}

bool
parts_have_stalled(const ApplyProgress *p, TimestampTz now)
{
	if (!p->in_parts || p->part_rows != rows_seen || rows_seen_at == 0)
	{
		rows_seen = p->part_rows;
		rows_seen_at = now;
		return false;
	}
	return now > TimestampTzPlusMilliseconds(rows_seen_at, STALLED_MS);
}

void
parts_failed(LinkShared *link)
{
	SpinLockAcquire(&link->mutex);
	link->whole = true;
	SpinLockRelease(&link->mutex);
}

bool
parts_may_return(XLogRecPtr taken)
{
	return whole_until != InvalidXLogRecPtr && taken >= whole_until;
}
