/*-------------------------------------------------------------------------
 *
 * housekeeping.c
 *		What a supervisor does for its node besides tending links.
 *
 * A few times a second at most, and only if there is news, it writes what this
 * node promises into our row of ferry.holding: that is what is left of it after a
 * restart, and what our streams tell the peers.  The log is flushed, since only
 * then it is sent, but standbys are not waited for.
 *
 * Every ferry.housekeeping_ms it also looks at the slots that this node keeps for its
 * peers: who is away for so long that more than ferry.max_slot_wal would have to
 * be kept loses its slot, and copies what it lacks when it is back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "link/housekeeping.h"
#include "node/holding.h"
#include "node/node.h"
#include "node/watermark.h"

#define TELL_EVERY_MS 200
#define LOOK_EVERY_MS 1000

static void
begin(void)
{
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
}

static void
end(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* --- what we promise --- */

static void
write_own_row(const NodeVector *v)
{
	Oid			types[2] = {INT8OID, TEXTOID};
	Datum		args[2] = {Int64GetDatum(node_id()), 0};
	char		buf[VECTOR_TEXT_BYTES];

	begin();
	vector_format(v, buf);
	args[1] = CStringGetTextDatum(buf);
	SPI_execute_with_args("INSERT INTO ferry.holding (node_id, vector) VALUES ($1, $2) "
						  "ON CONFLICT (node_id) DO UPDATE SET vector = excluded.vector, at = excluded.at",
						  2, types, args, NULL, false, 0);
	end();
}

static long
tell(TimestampTz now)
{
	static TimestampTz told_at = 0;
	static uint32 told_generation = 0;
	static Hlc	told_own = 0;
	NodeShared *node = node_current();
	uint32		generation = holding_generation();
	TimestampTz due = TimestampTzPlusMilliseconds(told_at, TELL_EVERY_MS);
	NodeVector	v;

	if (told_at != 0 && generation == told_generation &&
		(pg_atomic_read_u64(&node->last_stamp) <= told_own || watermark_visible(node) <= told_own))
		return LOOK_EVERY_MS;
	if (now < due)
		return Max(TimestampDifferenceMilliseconds(now, due), 1);
	holding_promised(&v);
	write_own_row(&v);
	told_at = now;
	told_generation = generation;
	told_own = vector_get(&v, node->id);

	/* where there was something there is more, most likely */
	return TELL_EVERY_MS;
}

/* --- the round --- */

static void
do_round(void)
{
	begin();
	holding_review_quarantine();
	SPI_execute("SELECT ferry._settle_new_tables()", false, 0);
	SPI_execute("SELECT ferry._limit_slots()", false, 0);
	end();
}

long
housekeeping(void)
{
	static TimestampTz round_due = 0;
	TimestampTz now = GetCurrentTimestamp();
	long		wait_ms;

	wait_ms = tell(now);
	if (now >= round_due)
	{
		do_round();
		round_due = TimestampTzPlusMilliseconds(now, ferry_housekeeping_ms);
	}
	return Min(wait_ms, Max(TimestampDifferenceMilliseconds(now, round_due), 1));
}
