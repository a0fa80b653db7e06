/*-------------------------------------------------------------------------
 *
 * worker.c
 *		The verifier: a process that compares this node with its peers, and ends.
 *
 * It is started by schedule (link/schedule.c) or by ferry.verify(), which waits
 * for it; so both take the same way, and an operator's session holds no
 * transaction open over a whole table.  What came of each table and peer is
 * written to ferry.verified as it comes, and for who waits to ferry.verify_answer,
 * where no other run writes over it.
 *
 * An error ends the comparison of one table, or of one peer if it was the
 * connection's; it is written beside the table, and the next ones are compared.
 * What this process dies of is seen by who waits from the answers that are not there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "link/background.h"
#include "link/greeting.h"
#include "link/local_work.h"
#include "link/schedule.h"
#include "node/node.h"
#include "verify/pace.h"
#include "verify/reconcile.h"
#include "verify/settle.h"

/* how ferry.verify() tells its worker what to do, in the subject */
#define SUBJECT_FORMAT "run %u table %u peer %u%s%s"
#define SUBJECT_REPAIR " repair"
#define SUBJECT_DEEP " deep"

/* answers that nobody has fetched, since the call was cancelled, go so many runs later */
#define RUNS_KEPT 100

typedef struct Order
{
	uint32		run;			/* 0: by schedule */
	Oid			relid;			/* InvalidOid: every table */
	NodeId		peer_id;		/* NODE_ID_NONE: every peer */
	bool		repair;
	bool		deep;
} Order;

extern PGDLLEXPORT void ferry_verify_main(Datum arg);

static void
read_order(const char *subject, Order *order)
{
	memset(order, 0, sizeof(*order));
	order->repair = true;
	if (strcmp(subject, SCHEDULE_SHALLOW) == 0)
		return;
	if (strcmp(subject, SCHEDULE_DEEP) == 0)
	{
		order->deep = true;
		return;
	}
	if (sscanf(subject, "run %u table %u peer %u", &order->run, &order->relid, &order->peer_id) != 3)
		elog(ERROR, "unrecognized order of a verification: \"%s\"", subject);
	order->repair = strstr(subject, SUBJECT_REPAIR) != NULL;
	order->deep = strstr(subject, SUBJECT_DEEP) != NULL;
}

/* --- what there is to do --- */

typedef struct PeerToVerify
{
	char		name[NAMEDATALEN];
	NodeId		id;
	char	   *dsn;
} PeerToVerify;

typedef struct TableToVerify
{
	Oid			relid;
	int64		orphans;		/* -1: not counted */
} TableToVerify;

/* answers of runs whose callers are gone; in the current transaction */
static void
forget_answers(uint32 run)
{
	Oid			types[2] = {INT8OID, INT8OID};
	Datum		args[2] = {Int64GetDatum(run), Int64GetDatum(RUNS_KEPT)};

	SPI_execute_with_args("DELETE FROM ferry.verify_answer WHERE abs(run - $1) > $2",
						  2, types, args, NULL, false, 0);
}

/* peers and tables, into cxt */
static void
read_work(const Order *order, List **peers, List **tables, MemoryContext cxt)
{
	Oid			types[1] = {INT8OID};
	Datum		args[1];
	bool		isnull;

	*peers = *tables = NIL;
	local_work_begin();
	(void) node_current();
	if (order->run != 0)
		forget_answers(order->run);
	args[0] = Int64GetDatum(order->peer_id);
	SPI_execute_with_args("SELECT name, node_id, dsn FROM ferry.peer WHERE $1 IN (0, node_id) ORDER BY name",
						  1, types, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext oldcontext = MemoryContextSwitchTo(cxt);
		PeerToVerify *p = palloc(sizeof(PeerToVerify));

		strlcpy(p->name, SPI_getvalue(tuple, desc, 1), NAMEDATALEN);
		p->id = (NodeId) DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));
		p->dsn = SPI_getvalue(tuple, desc, 3);
		*peers = lappend(*peers, p);
		MemoryContextSwitchTo(oldcontext);
	}
	args[0] = Int64GetDatum(order->relid);
	SPI_execute_with_args("SELECT relid::oid FROM ferry.registered_table WHERE $1 IN (0, relid::oid::bigint) ORDER BY relid",
						  1, types, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(cxt);
		TableToVerify *t = palloc(sizeof(TableToVerify));

		t->relid = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
		t->orphans = -1;
		*tables = lappend(*tables, t);
		MemoryContextSwitchTo(oldcontext);
	}
	local_work_end(cxt);
}

/* --- what came of it --- */

#define RESULT_NATTS 18

static void
record_result(const Order *order, const PeerToVerify *peer, const TableToVerify *table, const Comparison *c,
			  TimestampTz started, uint64 bytes, const char *error, MemoryContext cxt)
{
	static const Oid types[RESULT_NATTS] = {NAMEOID, OIDOID, INT8OID, BOOLOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT8OID};
	Datum		args[RESULT_NATTS];
	char		nulls[RESULT_NATTS + 1];
	bool		clean = error == NULL && comparison_is_clean(c);
	NameData	name = {0};
	int			i = 0;

	memset(nulls, ' ', RESULT_NATTS);
	nulls[RESULT_NATTS] = '\0';
	local_work_begin();
	strlcpy(NameStr(name), peer->name, NAMEDATALEN);
	args[i++] = NameGetDatum(&name);
	args[i++] = ObjectIdGetDatum(c->relid);
	args[i++] = Int64GetDatum(order->run);
	args[i++] = BoolGetDatum(order->deep);
	args[i++] = TimestampTzGetDatum(started);
	args[i++] = TimestampTzGetDatum(GetCurrentTimestamp());
	args[i++] = Int64GetDatum(c->rows);
	args[i++] = Int64GetDatum(c->ranges);
	args[i++] = Int64GetDatum(bytes);
	args[i++] = Int64GetDatum(c->here.differing + c->there.differing + c->here.mismatched);
	args[i++] = Int64GetDatum(c->here.repaired + c->there.repaired);
	args[i++] = Int64GetDatum(c->here.mismatched);
	args[i++] = Int64GetDatum(c->here.undecided + c->there.undecided);
	if (error)
		args[i] = CStringGetTextDatum(error);
	else
		nulls[i] = 'n';
	i++;
	args[i] = TimestampTzGetDatum(c->scanned_at);
	nulls[i++] = clean ? ' ' : 'n';
	args[i] = TimestampTzGetDatum(c->scanned_at);
	nulls[i++] = clean && order->deep ? ' ' : 'n';
	args[i] = Int64GetDatum(table->orphans);
	nulls[i++] = table->orphans >= 0 ? ' ' : 'n';
	args[i++] = Int64GetDatum(c->rows_known);
	/* of one that was dropped since, and came again, nothing is gone on with */
	SPI_execute_with_args("DELETE FROM ferry.verified v USING ferry.peer p, ferry.registered_table r "
						  "WHERE v.peer = $1 AND v.relid = $2 AND p.name = $1 AND r.relid = $2 "
						  "AND (v.peer_since <> p.created_at OR v.table_since <> r.added_at)",
						  2, (Oid *) types, args, nulls, false, 0);
	SPI_execute_with_args("WITH a AS (INSERT INTO ferry.verified AS v (peer, relid, run, deep, started_at, finished_at, rows_compared, "
						  "ranges, bytes, differing, repaired, mismatched, undecided, error, proven_equal_at, "
						  "proven_deep_at, orphans, rows_known, divergences, peer_since, table_since) "
						  "SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $10, "
						  "p.created_at, r.added_at "
						  "FROM ferry.peer p, ferry.registered_table r WHERE p.name = $1 AND r.relid = $2 "
						  "ON CONFLICT (peer, relid) DO UPDATE SET run = excluded.run, deep = excluded.deep, "
						  "started_at = excluded.started_at, finished_at = excluded.finished_at, "
						  "rows_compared = excluded.rows_compared, rows_known = excluded.rows_known, ranges = excluded.ranges, bytes = excluded.bytes, "
						  "differing = excluded.differing, repaired = excluded.repaired, "
						  "mismatched = excluded.mismatched, undecided = excluded.undecided, error = excluded.error, "
						  "proven_equal_at = coalesce(excluded.proven_equal_at, v.proven_equal_at), "
						  "proven_deep_at = coalesce(excluded.proven_deep_at, v.proven_deep_at), "
						  "orphans = coalesce(excluded.orphans, v.orphans), "
						  "divergences = v.divergences + excluded.differing RETURNING *) "
						  "INSERT INTO ferry.verify_answer SELECT * FROM a WHERE run <> 0",
						  RESULT_NATTS, (Oid *) types, args, nulls, false, 0);
	local_work_end(cxt);
}

static void
complain(const PeerToVerify *peer, const Comparison *c)
{
	char	   *name;
	int64		differing = c->here.differing + c->there.differing + c->here.mismatched;
	int64		repaired = c->here.repaired + c->there.repaired;

	if (differing == 0)
		return;
	StartTransactionCommand();
	name = get_rel_name(c->relid);
	ereport(WARNING,
			(errmsg("%lld rows of table \"%s\" diverged between this node and peer \"%s\"",
					(long long) differing, name ? name : "?", peer->name),
			 errdetail("%lld of them were missing or older here, %lld there, %lld had the same version and another content; %lld were repaired.",
					   (long long) c->here.differing, (long long) c->there.differing,
					   (long long) c->here.mismatched, (long long) repaired),
			 errhint("See the conflicts of kind \"divergence\" in ferry.conflicts, on both nodes.")));
	CommitTransactionCommand();
}

/* --- doing it --- */

/* the error that is being handled, and an end to the transaction; raises what ends this process */
static char *
take_error(MemoryContext cxt)
{
	ErrorData  *error;
	char	   *text;

	MemoryContextSwitchTo(cxt);
	error = CopyErrorData();
	if (error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN || error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		PG_RE_THROW();
	EmitErrorReport();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(cxt);
	text = psprintf("%s%s%s", error->message, error->detail ? ": " : "", error->detail ? error->detail : "");
	FreeErrorData(error);
	return text;
}

static char *
open_peer(Remote *r, const PeerToVerify *peer, MemoryContext cxt)
{
	char	   *volatile error = NULL;

	strlcpy(r->peer, peer->name, NAMEDATALEN);
	r->peer_id = peer->id;
	PG_TRY();
	{
		/* the encoding's name and our own are looked up in catalogs */
		StartTransactionCommand();
		MemoryContextSwitchTo(cxt);
		remote_open(r, peer->dsn);
		CommitTransactionCommand();
		MemoryContextSwitchTo(cxt);
		greeting_exchange(r->conn, r->peer_id);
	}
	PG_CATCH();
	{
		error = take_error(cxt);
		remote_close(r);
	}
	PG_END_TRY();
	return error;
}

static void
show_progress(const PeerToVerify *peer, Oid relid, const Order *order)
{
	char	   *name;
	char		text[3 * NAMEDATALEN];

	StartTransactionCommand();
	name = get_rel_name(relid);
	snprintf(text, sizeof(text), "verifying table \"%s\" with peer \"%s\"%s", name ? name : "?", peer->name,
			 order->deep ? ", values too" : "");
	CommitTransactionCommand();
	pace_announce(text);
}

static void
verify_table(const Order *order, const PeerToVerify *peer, Remote *r, const TableToVerify *table,
			 const char *broken, MemoryContext cxt)
{
	Comparison	c = {0};
	TimestampTz started = GetCurrentTimestamp();
	uint64		bytes = r->bytes;
	const char *volatile error = broken;

	c.relid = table->relid;
	c.deep = order->deep;
	c.repair = order->repair;
	c.paced = order->run == 0;
	c.may_skip = order->run == 0 && !order->deep;
	if (error == NULL)
	{
		show_progress(peer, table->relid, order);
		MemoryContextSwitchTo(cxt);
		PG_TRY();
		{
			reconcile_table(r, &c);
		}
		PG_CATCH();
		{
			error = take_error(cxt);
			/* what the peer still has to say belongs to a question that nobody remembers */
			remote_close(r);
		}
		PG_END_TRY();
	}
	if (error == NULL && !c.compared)
	{
		if (!c.is_here)
			return;
		error = "The peer does not have this table under ferry.";
	}
	record_result(order, peer, table, &c, started, r->bytes - bytes, error, cxt);
	complain(peer, &c);
}

static void
verify_peer(const Order *order, const PeerToVerify *peer, const List *tables, MemoryContext parent)
{
	Remote		r = {.patience_here = TAKE_PATIENCE_MS,.patience_there = TAKE_PATIENCE_MS};
	const char *error = NULL;
	ListCell   *lc;

	foreach(lc, tables)
	{
		MemoryContext cxt = AllocSetContextCreate(parent, "ferry verify table", ALLOCSET_DEFAULT_SIZES);

		MemoryContextSwitchTo(cxt);
		if (r.conn == NULL)
			error = open_peer(&r, peer, cxt);
		verify_table(order, peer, &r, lfirst(lc), error, cxt);
		MemoryContextSwitchTo(parent);
		MemoryContextDelete(cxt);
	}
	remote_close(&r);
	settle_end();
}

/* --- orphans --- */

static int64
read_count(Oid relid, MemoryContext cxt)
{
	Oid			types[1] = {REGCLASSOID};
	Datum		args[1] = {ObjectIdGetDatum(relid)};
	bool		isnull;
	int64		n;

	local_work_begin();
	SPI_execute_with_args("SELECT count(*) FROM ferry.orphans($1)", 1, types, args, NULL, true, 1);
	n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	local_work_end(cxt);
	return n;
}

/* rows whose parents are not here: a join of whole tables, so not in the frequent runs */
static void
count_orphans(TableToVerify *table, MemoryContext cxt)
{
	char	   *name;

	PG_TRY();
	{
		table->orphans = read_count(table->relid, cxt);
	}
	PG_CATCH();
	{
		(void) take_error(cxt);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	if (table->orphans <= 0)
		return;
	StartTransactionCommand();
	name = get_rel_name(table->relid);
	ereport(WARNING,
			(errmsg("%lld foreign keys of table \"%s\" refer to rows that do not exist",
					(long long) table->orphans, name ? name : "?"),
			 errhint("See ferry.orphans().")));
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
}

void
ferry_verify_main(Datum arg)
{
	MemoryContext cxt;
	Order		order;
	List	   *peers;
	List	   *tables;
	ListCell   *lc;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	read_order(MyBgworkerEntry->bgw_extra, &order);
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	background_pin_settings();
	SetConfigOption("lock_timeout", VERIFY_LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	pgstat_report_appname("ferry verifier");
	if (order.run == 0)
		pace_lower_priority();

	cxt = AllocSetContextCreate(TopMemoryContext, "ferry verifier", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(cxt);
	read_work(&order, &peers, &tables, cxt);
	foreach(lc, tables)
	{
		if (order.run != 0 || order.deep)
			count_orphans(lfirst(lc), cxt);
	}
	foreach(lc, peers)
		verify_peer(&order, lfirst(lc), tables, cxt);
	proc_exit(0);
}

/* --- on demand --- */

/* run a verifier to its end; if we are cancelled, so is it */
static void
run_to_end(const char *subject)
{
	BackgroundWorkerHandle *handle = background_start(MyDatabaseId, "verifier", subject, "ferry_verify_main");
	pid_t		pid;

	if (handle == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("out of background worker slots for a verification"),
				 errhint("Increase max_worker_processes and restart the server.")));
	PG_TRY();
	{
		while (GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED)
		{
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, 0, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
	}
	PG_CATCH();
	{
		TerminateBackgroundWorker(handle);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

PG_FUNCTION_INFO_V1(ferry_verify_run);

/*
 * SQL: ferry._verify_run(run, table oid or 0, peer's node id or 0, repair, deep):
 * the results are in ferry.verified under that run when it returns.
 */
Datum
ferry_verify_run(PG_FUNCTION_ARGS)
{
	char		subject[NAMEDATALEN];

	(void) node_current();
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("a verification cannot be called for under isolation level \"repeatable read\" or higher"),
				 errdetail("Its results come from other transactions.")));
	snprintf(subject, sizeof(subject), SUBJECT_FORMAT, (uint32) PG_GETARG_INT64(0), PG_GETARG_OID(1),
			 (NodeId) PG_GETARG_INT64(2), PG_GETARG_BOOL(3) ? SUBJECT_REPAIR : "",
			 PG_GETARG_BOOL(4) ? SUBJECT_DEEP : "");
	run_to_end(subject);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ferry_verify_due);

/* SQL: ferry._verify_due() returns timestamptz: when the next one by schedule is due; null if never */
Datum
ferry_verify_due(PG_FUNCTION_ARGS)
{
	NodeShared *node = node_current_or_null();
	uint64		due = node ? pg_atomic_read_u64(&node->verify_due) : 0;

	if (due == 0)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ((TimestampTz) due);
}
