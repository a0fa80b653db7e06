/*-------------------------------------------------------------------------
 *
 * news.c
 *		What a stream says of nodes: members, what they hold, the horizon.
 *
 * Most of it is on record in tables, which the supervisor and the links write:
 * a new row of ferry.holding becomes a 'W' message, one of ferry.member an 'M'
 * message, where it stands in the log.  Since a node's own row is written after
 * what it promises was committed, the stream has passed all of that by then.
 *
 * The horizon stands before the rows that are to be read under it: a new row of
 * ferry.horizon becomes an 'H' message, and the first row that is sent is preceded
 * by the horizon on record at that point of the log.
 *
 * The row of ferry.holding is written a few times a second at most.  So that a lone write is
 * known to have arrived as soon as it has, the stream itself says so, too: after
 * a commit it asks for the watermark w, then for the end p of the log.  When it
 * has passed p, it has sent everything of this node up to w.  On an idle node
 * that is at once, since nothing was logged after the commit just sent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "node/holding.h"
#include "node/horizon.h"
#include "node/node.h"
#include "node/watermark.h"
#include "send/news.h"

/* under load it is said so often */
#define SAY_EVERY_US 10000

static NodeShared *node = NULL;
static bool horizon_said;		/* the receiver knows our horizon, as of here */
static Hlc	newest_own;			/* latest own stamp in the stream */
static Hlc	said;				/* the last watermark that we sent */
static TimestampTz said_at;
static Hlc	pending;			/* a watermark to be sent ... */
static XLogRecPtr pending_until;	/* ... when the stream has passed this */

void
news_start(void)
{
	node = node_attached();
	newest_own = said = pending = 0;
	said_at = 0;
	horizon_said = false;

	/* the stream may begin behind the row that says what we hold now: have it written again */
	if (node)
		holding_tell_stream(node);
}

void
news_own_write(Dot d)
{
	if (node && d.node == node->id && d.hlc > newest_own)
		newest_own = d.hlc;
}

/* a column by its name; the row is one of our own tables, and seldom comes */
static Datum
column(HeapTuple tuple, TupleDesc desc, const char *name, bool *isnull)
{
	for (int i = 0; i < desc->natts; i++)
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return heap_getattr(tuple, i + 1, desc, isnull);
	elog(ERROR, "column \"%s\" does not exist", name);
}

void
news_holding(WireWriter *w, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	NodeId		id = (NodeId) DatumGetInt64(column(tuple, desc, "node_id", &isnull));
	NodeVector	v;

	holding_parse(TextDatumGetCString(column(tuple, desc, "vector", &isnull)), &v, NULL);
	wire_put_holds(w, id, &v);
}

void
news_member(WireWriter *w, HeapTuple tuple, TupleDesc desc)
{
	WireMember	m;
	bool		isnull;
	Datum		dsn;

	m.id = (NodeId) DatumGetInt64(column(tuple, desc, "node_id", &isnull));
	m.name = NameStr(*DatumGetName(column(tuple, desc, "name", &isnull)));
	m.is_dropped = DatumGetBool(column(tuple, desc, "is_dropped", &isnull));
	dsn = column(tuple, desc, "dsn", &isnull);
	m.dsn = isnull ? "" : TextDatumGetCString(dsn);
	wire_put_member(w, &m);
}

static void
put_horizon(WireWriter *w, const NodeVector *v)
{
	if (v->n > 0)
		wire_put_horizon(w, v);
	horizon_said = true;
}

void
news_horizon(WireWriter *w, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	NodeVector	v;

	holding_parse(TextDatumGetCString(column(tuple, desc, "vector", &isnull)), &v, NULL);
	put_horizon(w, &v);
}

void
news_first_horizon(WireWriter *w)
{
	NodeVector	v;

	if (horizon_said)
		return;
	horizon_read(NULL, &v);
	put_horizon(w, &v);
}

static void
say(WireWriter *w, Hlc watermark)
{
	NodeVector	v;

	vector_clear(&v);
	(void) vector_raise(&v, node->id, watermark);
	wire_put_holds(w, node->id, &v);
	said = watermark;
}

void
news_passed(WireWriter *w, XLogRecPtr end_lsn)
{
	TimestampTz now;
	Hlc			watermark;
	XLogRecPtr	p;

	if (node == NULL || newest_own <= said)
		return;
	if (pending > said && end_lsn >= pending_until)
	{
		say(w, pending);
		pending = 0;
	}
	now = GetCurrentTimestamp();
	if (pending > said || newest_own <= said || now - said_at < SAY_EVERY_US)
		return;
	said_at = now;
	watermark = watermark_logged(node, newest_own);
	p = GetXLogInsertRecPtr();
	if (watermark <= said)
		return;
	if (p <= end_lsn)
		say(w, watermark);
	else
	{
		pending = watermark;
		pending_until = p;
	}
}
