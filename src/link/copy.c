/*-------------------------------------------------------------------------
 *
 * copy.c
 *		Copying what is due from a peer, several tables at a time.
 *
 * Tables are due that were never copied from the peer, or all of them if its slot
 * for us was lost, or if a member has left since (what the peer has of its writes;
 * since: the peer must have been told so before, or it may still get some).
 *
 * The link's worker and its helpers all do the same: take a table that is due and
 * that nobody else copies, the largest first, copy it (copy_table.c), and so on until
 * there is none; then they merge for those who are still at a large one (hands.c).
 * Whose a table is stands in shared memory (LinkCopier.relid), that it is done in
 * ferry.copied_table; so a process that ends in the middle of a table leaves it to
 * the next one, who begins it again.  There is no more to an interruption than that,
 * whatever ends whom.
 *
 * Helpers are background workers with a connection of their own.  They never
 * outlive the link's worker: it ends them when it ends, and a helper that starts
 * too late finds it gone.  What goes wrong in one is raised by the link's worker,
 * with its SQLSTATE, as if it had happened there.
 *
 * When all tables of the peer have been copied, this node holds what the peer held
 * when it began with each: the least of what the copies brought.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "replication/origin.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apply/apply.h"
#include "apply/own_write.h"
#include "link/background.h"
#include "link/connection.h"
#include "link/copy.h"
#include "link/fetcher.h"
#include "link/greeting.h"
#include "link/gather.h"
#include "link/hands.h"
#include "link/local_work.h"
#include "node/holding.h"
#include "node/node.h"

/* of the link's worker: its helpers */
static BackgroundWorkerHandle *helpers[LINK_MAX_COPIERS];
static int	nhelpers = 0;

/* --- what is due --- */

/* of the tables under ferry, those to be copied from the peer $1; none while another's copy brings them */
#define DUE_TABLES \
	"FROM ferry.peer p CROSS JOIN ferry.registered_table r " \
	"JOIN pg_catalog.pg_class c ON c.oid = r.relid " \
	"JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace " \
	"WHERE p.name = $1 AND p.copy_via IS NULL AND NOT EXISTS " \
	"(SELECT FROM ferry.copied_table t WHERE t.peer = $1 AND t.relid = r.relid AND t.formers >= ferry._formers()) "

static List *
read_due(const char *peer)
{
	Oid			types[1] = {NAMEOID};
	Datum		args[1] = {CStringGetDatum(peer)};
	MemoryContext cxt = CurrentMemoryContext;
	List	   *due = NIL;

	local_work_begin();
	SPI_execute_with_args("SELECT r.relid::pg_catalog.oid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, "
						  "r.is_new AND NOT EXISTS (SELECT FROM ferry.copied_table t WHERE t.peer = $1 AND t.relid = r.relid) "
						  DUE_TABLES "ORDER BY c.oid",
						  1, types, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext oldcontext = MemoryContextSwitchTo(cxt);
		DueTable   *t = palloc0(sizeof(DueTable));
		bool		isnull;

		t->relid = DatumGetObjectId(SPI_getbinval(row, desc, 1, &isnull));
		t->schema = TextDatumGetCString(SPI_getbinval(row, desc, 2, &isnull));
		t->name = TextDatumGetCString(SPI_getbinval(row, desc, 3, &isnull));
		t->is_new = DatumGetBool(SPI_getbinval(row, desc, 4, &isnull));
		due = lappend(due, t);
		MemoryContextSwitchTo(oldcontext);
	}
	local_work_end(cxt);
	return due;
}

bool
copy_is_due(const char *peer)
{
	return read_due(peer) != NIL;
}

/* did nobody copy it since we have read what is due? */
static bool
is_still_due(const char *peer, Oid relid)
{
	Oid			types[2] = {NAMEOID, OIDOID};
	Datum		args[2] = {CStringGetDatum(peer), ObjectIdGetDatum(relid)};
	MemoryContext cxt = CurrentMemoryContext;
	bool		due;

	local_work_begin();
	SPI_execute_with_args("SELECT 1 " DUE_TABLES "AND r.relid = $2", 2, types, args, NULL, true, 1);
	due = SPI_processed == 1;
	local_work_end(cxt);
	return due;
}

/* about how large the table is there; false if it is not under ferry there */
static bool
ask_size(PGconn *conn, DueTable *t)
{
	PGresult   *res;
	bool		exists;

	res = connection_query(conn,
						   psprintf("SELECT row_count, byte_count FROM ferry._table_size(%s, %s) WHERE row_count IS NOT NULL",
									quote_literal_cstr(t->schema), quote_literal_cstr(t->name)),
						   PGRES_TUPLES_OK);
	exists = PQntuples(res) == 1;
	if (exists)
	{
		t->rows_there = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
		t->bytes_there = strtoll(PQgetvalue(res, 0, 1), NULL, 10);
	}
	PQclear(res);
	return exists;
}

static int
compare_size(const ListCell *a, const ListCell *b)
{
	int64		x = ((const DueTable *) lfirst(a))->bytes_there;
	int64		y = ((const DueTable *) lfirst(b))->bytes_there;

	return (x < y) - (x > y);
}

/* what is due and is under ferry there, too; the largest first, or the last to begin would be the one that takes longest */
static List *
read_due_there(PGconn *conn, const char *peer)
{
	List	   *due = read_due(peer);
	ListCell   *lc;

	foreach(lc, due)
		if (!ask_size(conn, lfirst(lc)))
			due = foreach_delete_current(due, lc);
	list_sort(due, compare_size);
	return due;
}

/* --- what has been copied --- */

static bool
has_copied(const char *peer, Datum names)
{
	Oid			types[2] = {NAMEOID, TEXTARRAYOID};
	Datum		args[2] = {CStringGetDatum(peer), names};
	bool		isnull;
	bool		result;

	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	SPI_execute_with_args("SELECT ferry._has_copied($1, $2)", 2, types, args, NULL, true, 1);
	result = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	PopActiveSnapshot();
	return result;
}

bool
copy_is_whole(PGconn *conn, const char *peer)
{
	PGresult   *res = connection_query(conn, "SELECT ferry._all_tables()", PGRES_TUPLES_OK);
	MemoryContext cxt = CurrentMemoryContext;
	bool		result;

	StartTransactionCommand();
	result = has_copied(peer, OidInputFunctionCall(F_ARRAY_IN, PQgetvalue(res, 0, 0), TEXTOID, -1));
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	PQclear(res);
	return result;
}

bool
copy_includes(const char *peer, List *tables)
{
	MemoryContext cxt = CurrentMemoryContext;
	Datum	   *names;
	ListCell   *lc;
	bool		result;
	int			n = 0;

	StartTransactionCommand();
	names = palloc(sizeof(Datum) * Max(list_length(tables), 1));
	foreach(lc, tables)
		names[n++] = CStringGetTextDatum(lfirst(lc));
	result = has_copied(peer, PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT)));
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
	return result;
}

/* what this node holds by its copies of all the peer's tables, which are durable */
static void
raise_holding(const char *peer)
{
	Oid			types[1] = {NAMEOID};
	Datum		args[1] = {CStringGetDatum(peer)};
	MemoryContext cxt = CurrentMemoryContext;
	NodeVector	brought;

	vector_clear(&brought);
	local_work_begin();
	SPI_execute_with_args("SELECT coalesce(brought, '') FROM ferry.copied_table WHERE peer = $1",
						  1, types, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		NodeVector	v;

		holding_parse(TextDatumGetCString(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)), &v, NULL);
		if (i == 0)
			vector_copy(&brought, &v);
		else
			vector_limit(&brought, &v);
	}
	local_work_end(cxt);
	holding_raise(&brought, true);
}

/* all its tables have been copied since it was told of so many former members, and are here */
static void
record_whole(const char *peer, int formers)
{
	Oid			types[2] = {NAMEOID, INT4OID};
	Datum		args[2] = {CStringGetDatum(peer), Int32GetDatum(formers)};
	MemoryContext cxt = CurrentMemoryContext;

	local_work_begin();
	SPI_execute_with_args("UPDATE ferry.peer SET formers = $2 WHERE name = $1 AND formers <> $2 AND copy_via IS NULL",
						  2, types, args, NULL, false, 0);
	local_work_end(cxt);
}

/* --- what every copier does --- */

/* make a table this copier's, if it is nobody else's */
static bool
claim(LinkShared *link, LinkCopier *copier, const DueTable *t)
{
	bool		ours = true;

	SpinLockAcquire(&link->mutex);
	for (int i = 0; i < LINK_MAX_COPIERS; i++)
		if (link->copiers[i].relid == t->relid)
			ours = false;
	if (ours)
	{
		copier->relid = t->relid;
		copier->rows = copier->bytes = 0;
		copier->rows_there = t->rows_there;
		copier->since = GetCurrentTimestamp();
		hands_withdraw(copier);
	}
	SpinLockRelease(&link->mutex);
	return ours;
}

static void
release(LinkShared *link, LinkCopier *copier)
{
	SpinLockAcquire(&link->mutex);
	copier->relid = InvalidOid;
	SpinLockRelease(&link->mutex);
}

/* the tables that nobody else has; then, while others copy large ones, merge for them */
static void
copy_some(PGconn *conn, LinkShared *link, LinkCopier *copier, NodeId peer_id, const CopyManner *manner, List *due)
{
	ListCell   *lc;

	foreach(lc, due)
	{
		DueTable   *t = lfirst(lc);

		if (!claim(link, copier, t))
			continue;
		if (is_still_due(link->peer, t->relid))
			copy_table(conn, link, copier, peer_id, manner, t);
		release(link, copier);
	}
	while (hands_lend(link, copier, peer_id, manner))
		;
}

/* --- helpers, seen from the link's worker --- */

static void
start_helpers(LinkShared *link, const CopyManner *manner, int wanted)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(TopMemoryContext);

	SpinLockAcquire(&link->mutex);
	link->copy_carefully = manner->careful;
	link->copy_went_back = manner->went_back;
	link->copy_formers = manner->formers;
	link->copy_sqlerrcode = 0;
	SpinLockRelease(&link->mutex);
	for (nhelpers = 0; nhelpers < wanted; nhelpers++)
	{
		/* without it there is one less at work */
		helpers[nhelpers] = background_start(MyDatabaseId, "copier", link->peer, "ferry_copy_main");
		if (helpers[nhelpers] == NULL)
			break;
	}
	MemoryContextSwitchTo(oldcontext);
}

/* until all have ended; raises what one of them raised */
static void
await_helpers(LinkShared *link)
{
	char		error[LINK_ERROR_BYTES];
	int			sqlerrcode;

	for (int i = 0; i < nhelpers; i++)
	{
		if (WaitForBackgroundWorkerShutdown(helpers[i]) == BGWH_POSTMASTER_DIED)
			proc_exit(1);
		pfree(helpers[i]);
		helpers[i] = NULL;
	}
	nhelpers = 0;
	SpinLockAcquire(&link->mutex);
	sqlerrcode = link->copy_sqlerrcode;
	memcpy(error, link->copy_error, sizeof(error));
	SpinLockRelease(&link->mutex);
	if (sqlerrcode != 0)
		ereport(ERROR, (errcode(sqlerrcode), errmsg_internal("%s", error)));
}

void
copy_end_helpers(LinkShared *link)
{
	for (int i = 0; i < nhelpers; i++)
		if (helpers[i])
			TerminateBackgroundWorker(helpers[i]);
}

void
copy_due_tables(PGconn *conn, LinkShared *link, NodeId peer_id, const CopyManner *manner)
{
	bool		copied = false;
	List	   *due;

	if (copy_is_due(link->peer))
		gather_others(conn, link->peer);

	/* what a helper left undone is found in another round */
	while ((due = read_due_there(conn, link->peer)) != NIL)
	{
		int			useful = hands_are_worth(linitial(due)) ? LINK_MAX_COPIERS : list_length(due);
		int			others = Min(ferry_copy_workers, useful) - 1;

		start_helpers(link, manner, copied ? 0 : others);
		copy_some(conn, link, &link->copiers[0], peer_id, manner, due);
		await_helpers(link);
		copied = true;
	}
	if (copy_is_whole(conn, link->peer))
	{
		record_whole(link->peer, manner->formers);
		if (copied)
			raise_holding(link->peer);
	}
	gather_release(link->peer);
}

/* --- a helper --- */

/* take a free entry; NULL if the link's worker does not copy any more */
static LinkCopier *
enlist(LinkShared *link)
{
	LinkCopier *copier = NULL;
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&link->mutex);
	for (int i = 1; i < LINK_MAX_COPIERS && copier == NULL; i++)
		if (link->copiers[i].pid == 0)
			copier = &link->copiers[i];
	if (link->pid == 0 || link->state != LINK_COPYING || link->dropping_until > now)
		copier = NULL;
	if (copier)
	{
		copier->pid = MyProcPid;
		copier->relid = InvalidOid;
	}
	SpinLockRelease(&link->mutex);
	return copier;
}

/* the link that this process, a helper, copies for */
static LinkShared *helped = NULL;

static void
leave(int code, Datum arg)
{
	LinkCopier *copier = (LinkCopier *) DatumGetPointer(arg);

	SpinLockAcquire(&helped->mutex);
	copier->pid = 0;
	copier->relid = InvalidOid;
	SpinLockRelease(&helped->mutex);
}

static void
leave_error(LinkShared *link, const ErrorData *error)
{
	char		text[LINK_ERROR_BYTES];

	snprintf(text, sizeof(text), "%s%s%s", error->message ? error->message : "unknown error",
			 error->detail ? ": " : "", error->detail ? error->detail : "");
	text[pg_mbcliplen(text, strlen(text), sizeof(text) - 1)] = '\0';
	SpinLockAcquire(&link->mutex);
	if (link->copy_sqlerrcode == 0)
	{
		link->copy_sqlerrcode = error->sqlerrcode;
		memcpy(link->copy_error, text, sizeof(text));
	}
	SpinLockRelease(&link->mutex);
}

/* connect to the peer that the link connects to, and copy */
static void
help(LinkShared *link, LinkCopier *copier)
{
	Oid			types[1] = {NAMEOID};
	Datum		args[1] = {CStringGetDatum(link->peer)};
	MemoryContext cxt = CurrentMemoryContext;
	CopyManner	manner = {link->copy_carefully, link->copy_went_back, link->copy_formers};
	PGconn	   *conn;
	PeerHello	hello;
	char	   *dsn = NULL;

	local_work_begin();
	(void) node_current();
	SPI_execute_with_args("SELECT dsn FROM ferry.peer WHERE name = $1 AND NOT is_paused", 1, types, args, NULL, true, 1);
	if (SPI_processed == 1)
		dsn = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	local_work_end(cxt);
	if (dsn == NULL)
		return;
	conn = connection_open_session(dsn);
	connection_hello(conn, &hello);
	if (hello.id != link->peer_id)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("peer \"%s\" is another node than before", link->peer)));
	greeting_exchange(conn, hello.id);
	fetcher_install(link->peer, dsn);
	replorigin_session_origin = DoNotReplicateId;
	copy_some(conn, link, copier, hello.id, &manner, read_due_there(conn, link->peer));
	if (own_write_is_due())
		own_write_publish();
	PQfinish(conn);
}

void
ferry_copy_main(Datum arg)
{
	char		peer[NAMEDATALEN];
	LinkCopier *copier;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	memcpy(peer, MyBgworkerEntry->bgw_extra, NAMEDATALEN);
	peer[NAMEDATALEN - 1] = '\0';
	background_pin_settings();
	pgstat_report_appname(psprintf("ferry copier from %s", peer));
	helped = link_shared_find(peer);
	copier = helped ? enlist(helped) : NULL;
	if (copier == NULL)
		proc_exit(0);
	before_shmem_exit(leave, PointerGetDatum(copier));
	MemoryContextSwitchTo(TopMemoryContext);
	PG_TRY();
	{
		help(helped, copier);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		HOLD_INTERRUPTS();
		leave_error(helped, error);
		FlushErrorState();
		AbortOutOfAnyTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	proc_exit(0);
}
