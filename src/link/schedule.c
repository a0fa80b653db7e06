/*-------------------------------------------------------------------------
 *
 * schedule.c
 *		When this node's verifier is due.
 *
 * The verifier (verify/worker.c) is a process that comes, compares this node
 * with all its peers and ends.  Only the supervisor starts it by schedule, so
 * that there is one at a time.  The first run after a start comes somewhere
 * within the interval, later ones an interval after the one before began, give
 * or take a tenth, so that the nodes of a group do not all do it at once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/timestamp.h"

#include "link/background.h"
#include "link/schedule.h"
#include "node/node.h"

static BackgroundWorkerHandle *verifier = NULL;
static TimestampTz shallow_due = 0;
static TimestampTz deep_due = 0;

/* keep due in step with its setting; from: how much of an interval is to pass at least */
static void
set_due(TimestampTz *due, int interval_s, double from)
{
	double		share = from + pg_prng_double(&pg_global_prng_state) * (from > 0 ? 0.2 : 1.0);

	*due = interval_s == 0 ? 0 :
		GetCurrentTimestamp() + (TimestampTz) (interval_s * share * 1000000.0);
}

static void
follow_setting(TimestampTz *due, int interval_s)
{
	if (interval_s == 0)
		*due = 0;
	else if (*due == 0 || *due > GetCurrentTimestamp() + (TimestampTz) interval_s * 1100000)
		set_due(due, interval_s, 0);
}

void
schedule_tend(bool has_peers)
{
	TimestampTz now = GetCurrentTimestamp();
	pid_t		pid;
	bool		deep;

	follow_setting(&shallow_due, ferry_verify_interval_s);
	follow_setting(&deep_due, ferry_verify_deep_interval_s);
	pg_atomic_write_u64(&node_current()->verify_due, Min(shallow_due ? shallow_due : deep_due,
														 deep_due ? deep_due : shallow_due));
	if (verifier && GetBackgroundWorkerPid(verifier, &pid) == BGWH_STOPPED)
	{
		pfree(verifier);
		verifier = NULL;
	}
	deep = deep_due != 0 && now >= deep_due;
	if (verifier || !has_peers || !(deep || (shallow_due != 0 && now >= shallow_due)))
		return;
	set_due(&shallow_due, ferry_verify_interval_s, 0.9);
	if (deep)
		set_due(&deep_due, ferry_verify_deep_interval_s, 0.9);
	verifier = background_start(MyDatabaseId, "verifier", deep ? SCHEDULE_DEEP : SCHEDULE_SHALLOW,
								"ferry_verify_main");
}
