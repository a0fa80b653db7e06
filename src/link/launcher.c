/*-------------------------------------------------------------------------
 *
 * launcher.c
 *		The launcher: one per server, starts a supervisor per node.
 *
 * It is connected to no database and learns from the security labels of
 * provider "ferry" (node/identity.c) which databases are nodes.  It looks when
 * it is woken by create_node, when a supervisor ends, and every few seconds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "catalog/pg_shseclabel.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "link/background.h"
#include "link/link.h"
#include "node/node.h"

#define LOOK_EVERY_MS 5000
#define RESTART_FIRST_MS 1000
#define RESTART_LAST_MS 60000

typedef struct Supervised
{
	Oid			dboid;			/* hash key */
	BackgroundWorkerHandle *handle;
	bool		wanted;
	int			delay_ms;		/* before the next start */
	TimestampTz started_at;
	TimestampTz next_start;
} Supervised;

static HTAB *supervised = NULL;

static void
forget_launcher(int code, Datum arg)
{
	node_set_launcher(NULL);
}

/* mark the databases that are nodes */
static void
read_labels(void)
{
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	TupleDesc	desc;
	HASH_SEQ_STATUS seq;
	Supervised *s;

	hash_seq_init(&seq, supervised);
	while ((s = hash_seq_search(&seq)) != NULL)
		s->wanted = false;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	rel = table_open(SharedSecLabelRelationId, AccessShareLock);
	desc = RelationGetDescr(rel);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		bool		isnull;
		Datum		provider = heap_getattr(tuple, Anum_pg_shseclabel_provider, desc, &isnull);
		Oid			dboid = ((Form_pg_shseclabel) GETSTRUCT(tuple))->objoid;
		bool		found;

		if (((Form_pg_shseclabel) GETSTRUCT(tuple))->classoid != DatabaseRelationId ||
			strcmp(TextDatumGetCString(provider), "ferry") != 0)
			continue;
		s = hash_search(supervised, &dboid, HASH_ENTER, &found);
		if (!found)
		{
			memset(s, 0, sizeof(*s));
			s->dboid = dboid;
			s->delay_ms = RESTART_FIRST_MS;
		}
		s->wanted = true;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* start what is due; a supervisor that ends soon after its start waits longer each time */
static void
tend(void)
{
	HASH_SEQ_STATUS seq;
	Supervised *s;
	TimestampTz now = GetCurrentTimestamp();

	hash_seq_init(&seq, supervised);
	while ((s = hash_seq_search(&seq)) != NULL)
	{
		pid_t		pid;

		if (s->handle && GetBackgroundWorkerPid(s->handle, &pid) == BGWH_STOPPED)
		{
			pfree(s->handle);
			s->handle = NULL;
			if (now - s->started_at > (int64) RESTART_LAST_MS * 1000)
				s->delay_ms = RESTART_FIRST_MS;
			s->next_start = TimestampTzPlusMilliseconds(now, s->delay_ms);
			s->delay_ms = Min(s->delay_ms * 2, RESTART_LAST_MS);
		}
		if (!s->wanted && s->handle == NULL)
		{
			node_forget(s->dboid);
			hash_search(supervised, &s->dboid, HASH_REMOVE, NULL);
		}
		else if (s->wanted && s->handle == NULL && now >= s->next_start)
		{
			s->started_at = now;
			s->handle = background_start(s->dboid, "supervisor", "", "ferry_supervisor_main");
		}
	}
}

void
ferry_launcher_main(Datum arg)
{
	HASHCTL		ctl = {0};

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("ferry launcher");
	before_shmem_exit(forget_launcher, (Datum) 0);
	node_set_launcher(MyLatch);

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(Supervised);
	ctl.hcxt = TopMemoryContext;
	supervised = hash_create("ferry supervisors", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	MemoryContextSwitchTo(TopMemoryContext);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		read_labels();
		MemoryContextSwitchTo(TopMemoryContext);
		tend();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOOK_EVERY_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

void
link_register_launcher(void)
{
	BackgroundWorker worker;

	background_describe(&worker, "launcher", "", "ferry_launcher_main");
	worker.bgw_restart_time = 5;
	RegisterBackgroundWorker(&worker);
}
