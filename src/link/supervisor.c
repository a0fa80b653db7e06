/*-------------------------------------------------------------------------
 *
 * supervisor.c
 *		The supervisor: one per node, starts and stops a worker per link.
 *
 * What is wanted stands in ferry.peer; what runs, in shared memory.  A worker
 * that loses its peer says so in shared memory and ends; it is started again
 * after a wait that doubles with every failure, up to ferry.retry_max_ms, with
 * jitter, so that peers of a node that returns do not all come at once.
 *
 * An error in one of its duties (a full disk, a lock that is not to be had) is
 * logged and ends that duty for a while, not the supervisor and not the others:
 * links go on whatever housekeeping meets.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apply/rename.h"
#include "link/background.h"
#include "link/housekeeping.h"
#include "link/link.h"
#include "link/succession.h"
#include "link/schedule.h"
#include "node/node.h"

#define LOOK_EVERY_MS 1000
#define RENAME_EVERY_MS 100
#define SOON_MS 200				/* as often as a busy node says what it holds: see housekeeping.c */

typedef struct Wanted
{
	char		peer[NAMEDATALEN];
	bool		is_paused;
	bool		listed;			/* still in ferry.peer */
	BackgroundWorkerHandle *handle;
	LinkShared *link;
} Wanted;

static List *wanted = NIL;		/* of Wanted */

/* something that the supervisor does over and over, and that may raise */
typedef struct Duty
{
	void		(*work) (void);
	long		delay_ms;		/* after an error: how long it is left alone; 0: it went well */
	TimestampTz due;
} Duty;

#define RETRY_FIRST_MS 1000
#define RETRY_LAST_MS 60000

static bool has_renamed = false;	/* nothing waits to be told under a new id */
static uint32 seen_generation;	/* of the configuration that was read last */
static long housekeeping_wait_ms;	/* until there is something to do again */

static void
forget_supervisor(int code, Datum arg)
{
	node_set_supervisor(NULL);
}

static Wanted *
find_wanted(const char *peer)
{
	ListCell   *lc;
	Wanted	   *w;

	foreach(lc, wanted)
	{
		w = lfirst(lc);
		if (strcmp(w->peer, peer) == 0)
			return w;
	}
	w = MemoryContextAllocZero(TopMemoryContext, sizeof(Wanted));
	strlcpy(w->peer, peer, NAMEDATALEN);
	w->link = link_shared_require(peer);
	wanted = lappend(wanted, w);
	return w;
}

/* read ferry.peer; false if this database is no node any more */
static bool
read_config(void)
{
	bool		is_node;
	ListCell   *lc;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	is_node = node_refresh();
	if (is_node)
	{
		foreach(lc, wanted)
			((Wanted *) lfirst(lc))->listed = false;
		SPI_connect();
		SPI_execute("SELECT ferry._follow_members()", false, 0);
		SPI_execute("SELECT name, is_paused, node_id FROM ferry.peer", false, 0);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			bool		isnull;
			HeapTuple	tuple = SPI_tuptable->vals[i];
			TupleDesc	desc = SPI_tuptable->tupdesc;
			MemoryContext oldcontext = MemoryContextSwitchTo(TopMemoryContext);
			Wanted	   *w = find_wanted(NameStr(*DatumGetName(SPI_getbinval(tuple, desc, 1, &isnull))));

			MemoryContextSwitchTo(oldcontext);
			w->listed = true;
			w->is_paused = DatumGetBool(SPI_getbinval(tuple, desc, 2, &isnull));
			SpinLockAcquire(&w->link->mutex);
			w->link->peer_id = (NodeId) DatumGetInt64(SPI_getbinval(tuple, desc, 3, &isnull));
			if (w->link->state == LINK_WAITING || w->link->state == LINK_HELD)
				w->link->next_retry = Min(w->link->next_retry, GetCurrentTimestamp());
			SpinLockRelease(&w->link->mutex);
		}
		SPI_finish();
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	return is_node;
}

static void
start_worker(Wanted *w)
{
	w->handle = background_start(MyDatabaseId, "link", w->peer, "ferry_link_main");
	if (w->handle)
		return;
	SpinLockAcquire(&w->link->mutex);
	w->link->state = LINK_HELD;
	strlcpy(w->link->error, "out of background worker slots: increase max_worker_processes and restart the server",
			LINK_ERROR_BYTES);
	w->link->error_at = GetCurrentTimestamp();
	w->link->next_retry = TimestampTzPlusMilliseconds(w->link->error_at, 10 * ferry_retry_max_ms);
	SpinLockRelease(&w->link->mutex);
}

static void
set_state(LinkShared *link, LinkState state)
{
	SpinLockAcquire(&link->mutex);
	link->state = state;
	SpinLockRelease(&link->mutex);
}

/* bring one link to what is wanted; returns ms until it wants to be looked at again */
static long
tend_link(Wanted *w)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due;
	pid_t		pid;

	if (w->handle && GetBackgroundWorkerPid(w->handle, &pid) == BGWH_STOPPED)
	{
		pfree(w->handle);
		w->handle = NULL;
	}
	if (!w->listed || w->is_paused)
	{
		if (w->handle)
			TerminateBackgroundWorker(w->handle);
		else if (w->listed)
			set_state(w->link, LINK_PAUSED);
		return LOOK_EVERY_MS;
	}
	if (w->handle)
		return LOOK_EVERY_MS;

	SpinLockAcquire(&w->link->mutex);
	due = Max(w->link->next_retry, w->link->dropping_until);
	SpinLockRelease(&w->link->mutex);
	if (now < due)
		return Max(TimestampDifferenceMilliseconds(now, due), 1);
	set_state(w->link, LINK_STARTING);
	start_worker(w);
	return LOOK_EVERY_MS;
}

/* drop what is kept for former members; false if some of it is in use still */
static bool
clear_after_former(void)
{
	bool		isnull;
	bool		done;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	SPI_execute("SELECT ferry._clear_after_former()", false, 1);
	done = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	return done;
}

/* take the configuration if it is another one than was seen; ends the process if this is no node */
static void
follow_config(void)
{
	static bool is_clear = true;
	uint32		generation = pg_atomic_read_u32(&node_current()->config_generation);

	if (generation != seen_generation)
	{
		if (!read_config())
			proc_exit(0);
		seen_generation = generation;
		is_clear = false;
	}
	if (!is_clear)
		is_clear = clear_after_former();
}

static void
tend_clock(void)
{
	static TimestampTz due = 0;

	if (GetCurrentTimestamp() < due)
		return;
	node_clock_keep_ahead();
	schedule_tend(wanted != NIL);
	due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOOK_EVERY_MS);
}

/* nobody is told anything, and no link is started, while it is not certain who we are */
static void
resolve_doubt(void)
{
	ListCell   *lc;

	if (pg_atomic_read_u32(&node_current()->doubt) == NODE_IS_SURE)
		return;
	has_renamed = false;
	succession_resolve();
	if (pg_atomic_read_u32(&node_current()->doubt) == NODE_IS_SURE)
	{
		follow_config();
		return;
	}
	foreach(lc, wanted)
		if (((Wanted *) lfirst(lc))->handle)
			TerminateBackgroundWorker(((Wanted *) lfirst(lc))->handle);
}

static void
keep_house(void)
{
	housekeeping_wait_ms = LOOK_EVERY_MS;
	housekeeping_wait_ms = housekeeping();
}

static void
rename_writes(void)
{
	if (!has_renamed)
		has_renamed = rename_own_writes();
}

static Duty config_duty = {follow_config};
static Duty clock_duty = {tend_clock};
static Duty doubt_duty = {resolve_doubt};
static Duty rename_duty = {rename_writes};
static Duty house_duty = {keep_house};

/* do it, unless it was left alone for a while; an error is logged */
static void
do_duty(Duty *d)
{
	if (d->delay_ms != 0 && GetCurrentTimestamp() < d->due)
		return;
	PG_TRY();
	{
		d->work();
		d->delay_ms = 0;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(TopMemoryContext);
		HOLD_INTERRUPTS();
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		LWLockReleaseAll();
		ConditionVariableCancelSleep();
		FlushErrorState();
		RESUME_INTERRUPTS();
		d->delay_ms = d->delay_ms == 0 ? RETRY_FIRST_MS : Min(2 * d->delay_ms, RETRY_LAST_MS);
		d->due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), d->delay_ms);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(TopMemoryContext);
}

void
ferry_supervisor_main(Datum arg)
{

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	(void) set_config_option("search_path", "", PGC_SUSET, PGC_S_OVERRIDE, GUC_ACTION_SET, true, 0, false);
	/* its statements are short, whatever the planner thinks of tables that were never analyzed */
	(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_OVERRIDE, GUC_ACTION_SET, true, 0, false);
	(void) set_config_option("synchronous_commit", "local", PGC_USERSET, PGC_S_OVERRIDE, GUC_ACTION_SET, true, 0, false);
	pgstat_report_appname("ferry supervisor");
	before_shmem_exit(forget_supervisor, (Datum) 0);

	/* only after the first look there is an entry to note ourselves in; look again then */
	if (!read_config())
		proc_exit(0);
	node_set_supervisor(MyLatch);
	seen_generation = pg_atomic_read_u32(&node_current()->config_generation) - 1;

	for (;;)
	{
		long		wait_ms = LOOK_EVERY_MS;
		ListCell   *lc;

		CHECK_FOR_INTERRUPTS();
		node_supervisor_looks_soon(false);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		do_duty(&config_duty);
		if (node_attached() == NULL)
			proc_exit(0);
		do_duty(&clock_duty);
		do_duty(&doubt_duty);
		if (pg_atomic_read_u32(&node_current()->doubt) != NODE_IS_SURE)
			goto wait;
		do_duty(&rename_duty);
		if (!has_renamed)
		{
			wait_ms = RENAME_EVERY_MS;
			goto wait;
		}
		do_duty(&house_duty);
		if (house_duty.delay_ms == 0)
			wait_ms = Min(wait_ms, housekeeping_wait_ms);
		foreach(lc, wanted)
		{
			Wanted	   *w = lfirst(lc);

			wait_ms = Min(wait_ms, tend_link(w));
			if (!w->listed && w->handle == NULL)
			{
				link_shared_release(w->link);
				wanted = foreach_delete_current(wanted, lc);
				pfree(w);
			}
		}
		node_supervisor_looks_soon(wait_ms <= SOON_MS);
wait:
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 wait_ms, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}
