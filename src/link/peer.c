/*-------------------------------------------------------------------------
 *
 * peer.c
 *		What ferry.add_peer, drop_peer and the views need below SQL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/message.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "core/wire.h"
#include "link/connection.h"
#include "link/link.h"
#include "link/progress.h"
#include "node/node.h"

#define DROP_PATIENCE_MS 10000
#define POLL_MS 10

/* who was dropped, or goes on under another id, gets nothing from us and brings nothing to us */
static void
refuse_former_member(NodeId id, const char *name)
{
	Oid			types[1] = {INT8OID};
	Datum		args[1] = {Int64GetDatum(id)};
	bool		is_former;
	bool		has_successor = false;

	SPI_connect();
	SPI_execute_with_args("SELECT NOT has_left FROM ferry.member WHERE node_id = $1 AND is_dropped",
						  1, types, args, NULL, true, 1);
	is_former = SPI_processed == 1;
	if (is_former)
	{
		bool		isnull;

		has_successor = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_finish();
	if (is_former)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 has_successor ?
				 errmsg("node \"%s\" (%u) has been succeeded by a later incarnation of itself", name, id) :
				 errmsg("node \"%s\" (%u) was dropped from the group", name, id),
				 errhint("It can come back as a new node: DROP EXTENSION ferry, CREATE EXTENSION ferry, ferry.create_node and ferry.join there.")));
}

PG_FUNCTION_INFO_V1(ferry_hello);

/* SQL: ferry._hello(protocol, node id, node name): what this node is, for a peer that connects */
Datum
ferry_hello(PG_FUNCTION_ARGS)
{
	int			protocol = PG_GETARG_INT32(0);
	TupleDesc	desc;
	Datum		values[5];
	bool		nulls[5] = {0};

	if (protocol != WIRE_PROTOCOL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("ferry protocol version %d is not supported", protocol),
				 errdetail("This node speaks version %d.", WIRE_PROTOCOL),
				 errhint("Install the same version of ferry on both nodes.")));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	refuse_former_member((NodeId) PG_GETARG_INT64(1), NameStr(*PG_GETARG_NAME(2)));
	values[0] = Int64GetDatum(node_id());
	values[1] = CStringGetDatum(node_name());
	values[2] = Int64GetDatum(GetCurrentTimestamp());
	values[3] = CStringGetTextDatum(GetDatabaseEncodingName());
	values[4] = CStringGetTextDatum(node_groups());
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

PG_FUNCTION_INFO_V1(ferry_probe_peer);

/* SQL: ferry._probe_peer(dsn): connect and ask; returns the peer's id and name */
Datum
ferry_probe_peer(PG_FUNCTION_ARGS)
{
	char	   *dsn = text_to_cstring(PG_GETARG_TEXT_PP(0));
	TupleDesc	desc;
	PGconn	   *conn;
	PeerHello	hello;
	Datum		values[2];
	bool		nulls[2] = {0};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	(void) node_current();
	conn = connection_open(dsn);
	PG_TRY();
	{
		connection_hello(conn, &hello);
	}
	PG_FINALLY();
	{
		PQfinish(conn);
	}
	PG_END_TRY();
	values[0] = Int64GetDatum(hello.id);
	values[1] = CStringGetDatum(hello.name);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

static void
nap(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, POLL_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * End a link's worker and keep the supervisor from starting another while we are
 * at it.  (It may be the worker itself that learns that it is not wanted.)
 */
static void
stop_worker(const char *peer)
{
	LinkShared *link = link_shared_find(peer);

	if (link == NULL)
		return;
	for (int waited = 0; waited < DROP_PATIENCE_MS; waited += POLL_MS)
	{
		TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), DROP_PATIENCE_MS);
		pid_t		pids[LINK_MAX_COPIERS + 1];
		int			n;

		SpinLockAcquire(&link->mutex);
		link->dropping_until = until;
		SpinLockRelease(&link->mutex);
		n = link_shared_pids(link, pids);
		if (n == 0)
			return;
		for (int i = 0; i < n; i++)
			kill(pids[i], SIGTERM);
		nap();
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("the worker of peer \"%s\" does not end", peer)));
}

PG_FUNCTION_INFO_V1(ferry_end_link);

/* SQL: ferry._end_link(name): what the link has merged is committed, and no more comes */
Datum
ferry_end_link(PG_FUNCTION_ARGS)
{
	stop_worker(NameStr(*PG_GETARG_NAME(0)));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ferry_forget_peer);

/* SQL: ferry._forget_peer(name, node id, dsn): stop its link, drop slot and origin */
Datum
ferry_forget_peer(PG_FUNCTION_ARGS)
{
	char	   *name = NameStr(*PG_GETARG_NAME(0));
	NodeId		id = (NodeId) PG_GETARG_INT64(1);
	char	   *dsn = text_to_cstring(PG_GETARG_TEXT_PP(2));
	MemoryContext cxt = CurrentMemoryContext;
	PGconn	   *volatile conn = NULL;

	stop_worker(name);
	PG_TRY();
	{
		conn = connection_open(dsn);
	}
	PG_CATCH();
	{
		char		slot[NAMEDATALEN];
		ErrorData  *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_CONNECTION_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
		node_slot_name(slot, id, node_id());
		ereport(WARNING,
				(errmsg("could not connect to peer \"%s\" to drop replication slot \"%s\" there", name, slot),
				 errhint("Drop it there by SELECT pg_drop_replication_slot('%s'), or it keeps WAL for ever.", slot)));
	}
	PG_END_TRY();
	PG_TRY();
	{
		progress_drop(conn, id);
	}
	PG_FINALLY();
	{
		if (conn)
			PQfinish(conn);
	}
	PG_END_TRY();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ferry_wait_for_peers);

/*
 * SQL: ferry.wait_for_peers(timeout): until every node that pulls from us holds
 * all that is committed here by now; false if the time is over before.
 */
Datum
ferry_wait_for_peers(PG_FUNCTION_ARGS)
{
	Interval   *timeout = PG_GETARG_INTERVAL_P(0);
	TimestampTz end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
															  TimestampTzGetDatum(GetCurrentTimestamp()),
															  IntervalPGetDatum(timeout)));
	char		pattern[NAMEDATALEN];
	XLogRecPtr	target;
	Oid			types[2] = {TEXTOID, LSNOID};
	Datum		args[2];

	snprintf(pattern, sizeof(pattern), "ferry\\_%08x\\_%%", node_id());

	/* a record of our own has an end that the sender is sure to reach */
	target = compat_log_message("ferry", "", 0);
	XLogFlush(target);
	args[0] = CStringGetTextDatum(pattern);
	args[1] = LSNGetDatum(target);
	for (;;)
	{
		bool		done;

		SPI_connect();
		SPI_execute_with_args("SELECT 1 FROM pg_catalog.pg_replication_slots s "
							  "LEFT JOIN pg_catalog.pg_stat_get_wal_senders() w ON w.pid = s.active_pid "
							  "LEFT JOIN ferry.peer p ON s.slot_name LIKE 'ferry\\_%\\_' || lpad(to_hex(p.node_id), 8, '0') "
							  "WHERE s.slot_name LIKE $1 AND s.database = pg_catalog.current_database() "
							  "AND NOT coalesce(p.is_paused AND s.active_pid IS NULL, false) "
							  "AND coalesce(w.replay_lsn < $2, true) LIMIT 1",
							  2, types, args, NULL, false, 1);
		done = SPI_processed == 0;
		SPI_finish();
		if (done)
			PG_RETURN_BOOL(true);
		if (GetCurrentTimestamp() >= end)
			PG_RETURN_BOOL(false);
		nap();
	}
}

PG_FUNCTION_INFO_V1(ferry_wait_for_join);

/* SQL: ferry.wait_for_join(timeout): until every link has copied what it has to, and streams */
Datum
ferry_wait_for_join(PG_FUNCTION_ARGS)
{
	TimestampTz end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
															  TimestampTzGetDatum(GetCurrentTimestamp()),
															  PG_GETARG_DATUM(0)));

	for (;;)
	{
		bool		done;

		SPI_connect();
		SPI_execute("SELECT 1 FROM ferry.peer p LEFT JOIN ferry._links() l ON l.peer = p.name "
					"WHERE NOT p.is_paused AND (p.copy_via IS NOT NULL OR l.state IS DISTINCT FROM 'streaming') LIMIT 1",
					false, 1);
		done = SPI_processed == 0;
		SPI_finish();
		if (done)
			PG_RETURN_BOOL(true);
		if (GetCurrentTimestamp() >= end)
			PG_RETURN_BOOL(false);
		nap();
	}
}

#define LINKS_NATTS 23

PG_FUNCTION_INFO_V1(ferry_links);

/* SQL: ferry._links(): the links of this node as shared memory has them */
Datum
ferry_links(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			i = 0;
	LinkShared *entry;

	InitMaterializedSRF(fcinfo, 0);
	while ((entry = link_shared_next(&i)) != NULL)
	{
		Datum		values[LINKS_NATTS];
		bool		nulls[LINKS_NATTS] = {0};
		LinkShared	link;
		NameData	name;
		int			n = 0;

#define PUT(value, absent) (nulls[n] = (absent), values[n++] = (value))
		SpinLockAcquire(&entry->mutex);
		link = *entry;
		SpinLockRelease(&entry->mutex);
		namestrcpy(&name, link.peer);
		PUT(NameGetDatum(&name), false);
		PUT(CStringGetTextDatum(link_state_name(link.state)), false);
		PUT(Int32GetDatum(link.pid), link.pid == 0);
		PUT(LSNGetDatum(link.received_lsn), link.received_lsn == 0);
		PUT(LSNGetDatum(link.applied_lsn), link.applied_lsn == 0);
		PUT(LSNGetDatum(link.flushed_lsn), link.flushed_lsn == 0);
		PUT(LSNGetDatum(link.peer_lsn), link.peer_lsn == 0);
		PUT(TimestampTzGetDatum(link.last_message), link.last_message == 0);
		PUT(TimestampTzGetDatum(link.last_commit_time), link.last_commit_time == 0);
		PUT(TimestampTzGetDatum(link.caught_up_at), link.caught_up_at == 0);
		PUT(Int64GetDatum(link.txns), false);
		PUT(Int64GetDatum(link.rows), false);
		PUT(Int64GetDatum(link.conflicts), false);
		PUT(Int64GetDatum(link.quarantined), false);
		PUT(Float8GetDatum(link.txns_per_s), false);
		PUT(Float8GetDatum(link.rows_per_s), false);
		PUT(Int32GetDatum(link.failures), false);
		PUT(TimestampTzGetDatum(link.next_retry), link.state != LINK_WAITING && link.state != LINK_HELD);
		PUT(CStringGetTextDatum(link.error), link.error[0] == '\0');
		PUT(TimestampTzGetDatum(link.error_at), link.error_at == 0);
		PUT(Int64GetDatum(link.clock_offset_us), link.clock_at == 0);
		PUT(Int64GetDatum(link.clock_rtt_us), link.clock_at == 0);
		PUT(TimestampTzGetDatum(link.clock_at), link.clock_at == 0);
		Assert(n == LINKS_NATTS);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

#define COPIES_NATTS 7

PG_FUNCTION_INFO_V1(ferry_copies);

/* SQL: ferry._copies(): the tables that are being copied now, as shared memory has them */
Datum
ferry_copies(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			i = 0;
	LinkShared *entry;

	InitMaterializedSRF(fcinfo, 0);
	while ((entry = link_shared_next(&i)) != NULL)
	{
		LinkCopier	copiers[LINK_MAX_COPIERS];
		NameData	name;
		pid_t		pid;

		SpinLockAcquire(&entry->mutex);
		memcpy(copiers, entry->copiers, sizeof(copiers));
		namestrcpy(&name, entry->peer);
		pid = entry->pid;
		SpinLockRelease(&entry->mutex);
		for (int c = 0; c < LINK_MAX_COPIERS; c++)
		{
			Datum		values[COPIES_NATTS];
			bool		nulls[COPIES_NATTS] = {0};
			int			n = 0;

			if (!OidIsValid(copiers[c].relid))
				continue;
			PUT(NameGetDatum(&name), false);
			PUT(Int32GetDatum(c == 0 ? pid : copiers[c].pid), false);
			PUT(ObjectIdGetDatum(copiers[c].relid), false);
			PUT(TimestampTzGetDatum(copiers[c].since), false);
			PUT(Int64GetDatum(copiers[c].rows), false);
			PUT(Int64GetDatum(copiers[c].bytes), false);
			PUT(Int64GetDatum(copiers[c].rows_there), copiers[c].rows_there == 0);
			Assert(n == COPIES_NATTS);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
	return (Datum) 0;
}
