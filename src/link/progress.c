/*-------------------------------------------------------------------------
 *
 * progress.c
 *		How far we are with a peer: replication origin here, slot there.
 *
 * The origin's progress rides on our commit records; the slot's confirmed
 * position is what we said was durable here.  So the slot can never be ahead of
 * the origin, unless this database went back in time (a restore, a lost disk):
 * the server would then skip what lies between and only log it.  We make a new
 * slot instead and copy all tables since what we hold, without counting on our
 * own writes, which brings what was missed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "replication/origin.h"
#include "utils/pg_lsn.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "link/connection.h"
#include "link/progress.h"
#include "node/node.h"

/* the slot's confirmed position; false if there is none that can be used (an unusable one is dropped) */
static bool
find_slot(PGconn *conn, const char *slot, XLogRecPtr progress, XLogRecPtr *confirmed, bool *went_back)
{
	char		sql[512];
	PGresult   *res;
	bool		usable = false;

	snprintf(sql, sizeof(sql),
			 "SELECT confirmed_flush_lsn, wal_status IS NOT DISTINCT FROM 'lost' "
			 "FROM pg_catalog.pg_replication_slots WHERE slot_name = '%s'", slot);
	res = connection_query(conn, sql, PGRES_TUPLES_OK);
	if (PQntuples(res) == 0)
	{
		PQclear(res);
		return false;
	}
	if (!PQgetisnull(res, 0, 0) && *PQgetvalue(res, 0, 1) == 'f')
	{
		*confirmed = connection_lsn(PQgetvalue(res, 0, 0));
		usable = progress != InvalidXLogRecPtr && *confirmed <= progress;
		*went_back = !usable;
	}
	PQclear(res);
	if (usable)
		return true;
	ereport(LOG,
			(errmsg("replication slot \"%s\" at the peer cannot be resumed from", slot),
			 errdetail("It is lost, or ahead of what this node holds. A new one is made, and what this node lacks is copied.")));
	snprintf(sql, sizeof(sql), "SELECT pg_catalog.pg_drop_replication_slot('%s')", slot);
	PQclear(connection_query(conn, sql, PGRES_TUPLES_OK));
	return false;
}

static XLogRecPtr
create_slot(PGconn *conn, const char *slot)
{
	char		sql[256];
	PGresult   *res;
	XLogRecPtr	lsn;

	snprintf(sql, sizeof(sql), "CREATE_REPLICATION_SLOT \"%s\" LOGICAL \"ferry\" (SNAPSHOT 'nothing')", slot);
	res = connection_query(conn, sql, PGRES_TUPLES_OK);
	lsn = connection_lsn(PQgetvalue(res, 0, 1));
	PQclear(res);
	return lsn;
}

/* durable before there is a slot that looks as if nothing were missing */
static void
forget_copies(const char *peer_name)
{
	Oid			types[1] = {NAMEOID};
	Datum		args[1] = {CStringGetDatum(peer_name)};
	XLogRecPtr	end;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	SPI_execute_with_args("DELETE FROM ferry.copied_table WHERE peer = $1", 1, types, args, NULL, false, 0);
	SPI_execute_with_args("UPDATE ferry.peer SET slot_lsn = NULL, formers = -1 WHERE name = $1", 1, types, args, NULL, false, 0);
	SPI_finish();
	PopActiveSnapshot();
	end = XactLastRecEnd;
	CommitTransactionCommand();
	XLogFlush(Max(end, XactLastCommitEnd));
}

/* where the slot begins: a copy that is to be complete must hold all before it */
static void
record_start(const char *peer_name, XLogRecPtr lsn)
{
	Oid			types[2] = {NAMEOID, LSNOID};
	Datum		args[2] = {CStringGetDatum(peer_name), LSNGetDatum(lsn)};

	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	SPI_execute_with_args("UPDATE ferry.peer SET slot_lsn = $2 WHERE name = $1", 2, types, args, NULL, false, 0);
	SPI_finish();
	PopActiveSnapshot();
}

XLogRecPtr
progress_begin(PGconn *conn, const char *peer_name, NodeId peer, bool *went_back)
{
	char		slot[NAMEDATALEN];
	char		name[NAMEDATALEN];
	RepOriginId origin;
	XLogRecPtr	progress;
	XLogRecPtr	confirmed;
	XLogRecPtr	end;

	node_slot_name(slot, peer, node_id());
	node_origin_name(name, node_id(), peer);

	StartTransactionCommand();
	origin = replorigin_by_name(name, true);
	if (origin == InvalidRepOriginId)
		origin = replorigin_create(name);
	CommitTransactionCommand();
	progress = replorigin_get_progress(origin, false);

	*went_back = false;
	if (!find_slot(conn, slot, progress, &confirmed, went_back))
	{
		forget_copies(peer_name);
		progress = create_slot(conn, slot);
		StartTransactionCommand();
		record_start(peer_name, progress);
		replorigin_advance(origin, progress, InvalidXLogRecPtr, true, true);
		end = XactLastRecEnd;
		CommitTransactionCommand();
		XLogFlush(Max(end, XactLastCommitEnd));
	}
	StartTransactionCommand();
	compat_origin_session_setup(origin);
	CommitTransactionCommand();
	replorigin_session_origin = origin;
	return progress;
}

XLogRecPtr
progress_commit(XLogRecPtr lsn)
{
	StartTransactionCommand();
	(void) GetCurrentTransactionId();
	replorigin_session_origin_lsn = lsn;
	replorigin_session_origin_timestamp = 0;
	XactLastCommitEnd = InvalidXLogRecPtr;
	CommitTransactionCommand();
	return XactLastCommitEnd;
}

void
progress_drop(PGconn *conn, NodeId peer)
{
	char		name[NAMEDATALEN];
	char		sql[512];

	if (conn)
	{
		node_slot_name(name, peer, node_id());
		snprintf(sql, sizeof(sql),
				 "SELECT pg_catalog.pg_drop_replication_slot(slot_name) "
				 "FROM pg_catalog.pg_replication_slots WHERE slot_name = '%s'", name);
		PQclear(connection_query(conn, sql, PGRES_TUPLES_OK));
	}
	node_origin_name(name, node_id(), peer);
	if (replorigin_by_name(name, true) != InvalidRepOriginId)
		replorigin_drop_by_name(name, true, true);
}
