/*-------------------------------------------------------------------------
 *
 * reread.c
 *		So that a stream that begins anew does not read again what it has sent.
 *
 * A slot can be resumed from where the log says which transactions were running: from
 * the last such record before the receiver's position, or from the oldest transaction
 * that was running there.  The server writes one every 15 seconds, in which a
 * link may have taken hundreds of megabytes; and all of that is decoded once more when
 * the stream begins anew, to be thrown away, large transactions by way of the disk.  So
 * who has sent a lot has one written.  It is some hundred bytes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "replication/slot.h"
#include "storage/standby.h"
#include "utils/timestamp.h"

#include "send/reread.h"

#define AFTER_BYTES (16 * 1024 * 1024)
#define AFTER_MS 1000

static XLogRecPtr written_to;	/* about where we had the last one written */
static TimestampTz written_at;

void
reread_start(void)
{
	written_to = InvalidXLogRecPtr;
	written_at = 0;
}

void
reread_passed(XLogRecPtr end_lsn)
{
	TimestampTz now;

	if (end_lsn < Max(written_to, MyReplicationSlot->data.restart_lsn) + AFTER_BYTES || RecoveryInProgress())
		return;
	now = GetCurrentTimestamp();
	if (now < TimestampTzPlusMilliseconds(written_at, AFTER_MS))
		return;
	written_to = GetXLogInsertRecPtr();
	written_at = now;
	(void) LogStandbySnapshot();
}
