/*-------------------------------------------------------------------------
 *
 * claims.c
 *		What a link's peer says of itself and others, from the stream to where
 *		it counts.
 *
 * The claim "you have been sent all of mine up to w" may be relied upon when all
 * that was sent before is committed here and durable.  So claims are taken
 * between local transactions, with the position of our log, and published to
 * shared memory (node/holding.c) once the log is flushed up to there.
 *
 * What other nodes hold, and who there is, has time: it is merged into
 * ferry.holding and ferry.member by a transaction of its own, every now and then
 * and only where it changes something, so that in a ring it comes to rest.  That
 * transaction carries no replication origin, so that our own streams, also those
 * that forward nothing, take it further.
 *
 * The horizon is made of what nodes hold, and relies on this: what is still to come
 * of a node's writes was written after it held that (core/horizon.c).  So it is not
 * enough to have heard of it: see may_count().  For the same reason a peer's horizon
 * is only taken over from a stream that brings all that the peer has, and nobody is
 * asked what is held: the peer says so in its stream, anew for each (node/holding.h).
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
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "link/claims.h"
#include "link/connection.h"
#include "link/stable.h"
#include "node/holding.h"
#include "node/node.h"

typedef struct Claims
{
	NodeVector	vector;			/* empty: none */
	XLogRecPtr	local_end;		/* durable up to here they count */
} Claims;

static NodeId peer;
static bool forward_all;
static bool whole;
static Claims waiting;			/* for its flush */
static Claims later;			/* and those that came since */
static TimestampTz store_due;

void
claims_start(NodeId peer_id, bool all, bool is_whole)
{
	peer = peer_id;
	forward_all = all;
	whole = is_whole;
	vector_clear(&waiting.vector);
	vector_clear(&later.vector);
	store_due = 0;
}

void
claims_not_whole(void)
{
	whole = false;
}

void
claims_take(StreamNews *news, XLogRecPtr local_end)
{
	NodeVector	claims;

	if (news->horizon_is_new && forward_all && whole)
		stable_raise(&news->horizon);
	news->horizon_is_new = false;
	if (!news->has_claims)
		return;
	news->has_claims = false;
	vector_clear(&claims);
	if (forward_all)
		vector_copy(&claims, &news->claims);
	else
		(void) vector_raise(&claims, peer, vector_get(&news->claims, peer));
	vector_clear(&news->claims);
	(void) vector_merge(&later.vector, &claims);
	later.local_end = local_end;
	claims_publish();
}

void
claims_publish(void)
{
	if (waiting.vector.n == 0)
	{
		waiting = later;
		vector_clear(&later.vector);
	}
	while (waiting.vector.n > 0 && waiting.local_end <= GetFlushRecPtr(NULL))
	{
		holding_raise(&waiting.vector, whole);
		waiting = later;
		vector_clear(&later.vector);
	}
}

/* --- what is known of others --- */

static void
store_member(const WireMember *m)
{
	Oid			types[4] = {INT8OID, NAMEOID, TEXTOID, BOOLOID};
	Datum		args[4];
	NameData	name;

	namestrcpy(&name, m->name);
	args[0] = Int64GetDatum(m->id);
	args[1] = NameGetDatum(&name);
	args[2] = CStringGetTextDatum(m->dsn);
	args[3] = BoolGetDatum(m->is_dropped);
	SPI_execute_with_args("SELECT ferry._learn_member($1, $2, $3, $4)", 4, types, args, NULL, false, 0);
}

static void
store_holds(const NodeHolds *h)
{
	Oid			types[2] = {INT8OID, TEXTOID};
	Datum		args[2] = {Int64GetDatum(h->node), 0};
	NodeVector	known;
	bool		isnull;
	char		buf[VECTOR_TEXT_BYTES];

	vector_clear(&known);
	SPI_execute_with_args("SELECT vector FROM ferry.holding WHERE node_id = $1 FOR UPDATE",
						  1, types, args, NULL, false, 1);
	if (SPI_processed > 0)
		holding_parse(TextDatumGetCString(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)),
					  &known, NULL);
	if (!vector_merge(&known, &h->vector))
		return;
	vector_format(&known, buf);
	args[1] = CStringGetTextDatum(buf);
	SPI_execute_with_args("INSERT INTO ferry.holding (node_id, vector) VALUES ($1, $2) "
						  "ON CONFLICT (node_id) DO UPDATE SET vector = excluded.vector, at = excluded.at",
						  2, types, args, NULL, false, 0);
}

static int
compare_holds(const ListCell *a, const ListCell *b)
{
	NodeId		x = ((const NodeHolds *) lfirst(a))->node;
	NodeId		y = ((const NodeHolds *) lfirst(b))->node;

	return (x > y) - (x < y);
}

/*
 * What a node holds counts when all that it had written by then is here.  Of the
 * peer itself, and of those whose writes it forwards, this stream brings that first,
 * once what lies before the stream has been copied; but for what waits in quarantine
 * there, for which what_counts() waits (housekeeping.c).
 */
static bool
may_count(const NodeHolds *h)
{
	return whole && (forward_all || h->node == peer);
}

static bool
has_news(const StreamNews *news)
{
	ListCell   *lc;

	if (news->members != NIL)
		return true;
	foreach(lc, news->holds)
		if (may_count(lfirst(lc)))
			return true;
	return false;
}

void
claims_store(StreamNews *news, TimestampTz now)
{
	RepOriginId origin = replorigin_session_origin;
	NodeId		us = node_id();
	ListCell   *lc;

	/* the setting may have been lowered since */
	store_due = Min(store_due, TimestampTzPlusMilliseconds(now, ferry_housekeeping_ms));
	if (!has_news(news) || now < store_due)
		return;

	/* rows are locked in one order, whoever writes them */
	list_sort(news->holds, compare_holds);
	replorigin_session_origin = InvalidRepOriginId;
	PG_TRY();
	{
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		SPI_connect();
		foreach(lc, news->members)
			store_member(lfirst(lc));
		foreach(lc, news->holds)
			if (may_count(lfirst(lc)) && ((NodeHolds *) lfirst(lc))->node != us)
				store_holds(lfirst(lc));
		SPI_finish();
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_FINALLY();
	{
		replorigin_session_origin = origin;
	}
	PG_END_TRY();
	stream_news_stored(news, whole);
	store_due = TimestampTzPlusMilliseconds(now, ferry_housekeeping_ms);
}

void
claims_ask(PGconn *conn, StreamNews *news)
{
	PGresult   *res = connection_query(conn,
									   "SELECT node_id, name, coalesce(dsn, ''), is_dropped FROM ferry.member",
									   PGRES_TUPLES_OK);

	for (int i = 0; i < PQntuples(res); i++)
	{
		WireMember	m;

		m.id = (NodeId) strtoul(PQgetvalue(res, i, 0), NULL, 10);
		m.name = PQgetvalue(res, i, 1);
		m.dsn = PQgetvalue(res, i, 2);
		m.is_dropped = *PQgetvalue(res, i, 3) == 't';
		if (m.id == NODE_ID_NONE)
			continue;
		stream_news_add_member(news, &m);
	}
	PQclear(res);
}
