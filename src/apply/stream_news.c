/*-------------------------------------------------------------------------
 *
 * stream_news.c
 *		What a stream has said of nodes and nobody has taken yet.
 *
 * A stream says what its sender holds, which is a claim about the stream itself
 * (all of that has been sent by now); what other nodes hold, as far as the sender
 * knows; who there is; and the horizon, under which the rows that follow are read.  They are collected here, the later ones
 * merged into the earlier ones, until the link (link/claims.c) has made sure that
 * what the claims rest on is committed and durable.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "apply/stream_news.h"

StreamNews *
stream_news_create(NodeId sender, MemoryContext cxt)
{
	StreamNews *news = MemoryContextAllocZero(cxt, sizeof(StreamNews));

	news->cxt = AllocSetContextCreate(cxt, "ferry news", ALLOCSET_SMALL_SIZES);
	news->sender = sender;
	return news;
}

void
stream_news_add_holds(StreamNews *news, NodeId node, const NodeVector *v)
{
	ListCell   *lc;
	NodeHolds  *h = NULL;
	MemoryContext oldcontext;

	foreach(lc, news->holds)
	{
		h = lfirst(lc);
		if (h->node == node)
		{
			(void) vector_merge(&h->vector, v);
			return;
		}
	}
	if (list_length(news->holds) >= NEWS_MAX_NODES)
		return;
	oldcontext = MemoryContextSwitchTo(news->cxt);
	h = palloc(sizeof(NodeHolds));
	h->node = node;
	vector_copy(&h->vector, v);
	news->holds = lappend(news->holds, h);
	MemoryContextSwitchTo(oldcontext);
}

void
stream_news_holds(StreamNews *news, WireReader *r)
{
	NodeVector	v;
	NodeId		node = wire_get_holds(r, &v);

	if (r->error)
		return;
	if (node == news->sender)
	{
		(void) vector_merge(&news->claims, &v);
		news->has_claims = true;
	}
	stream_news_add_holds(news, node, &v);
}

void
stream_news_horizon(StreamNews *news, WireReader *r)
{
	NodeVector	v;

	wire_get_vector(r, &v);
	if (r->error)
		return;
	vector_copy(&news->horizon, &v);
	news->horizon_is_new = true;
}

void
stream_news_add_member(StreamNews *news, const WireMember *m)
{
	ListCell   *lc;
	WireMember *known;
	MemoryContext oldcontext;

	if (m->name[0] == '\0' || strlen(m->name) >= NAMEDATALEN)
		return;
	foreach(lc, news->members)
	{
		known = lfirst(lc);
		if (known->id == m->id)
		{
			known->is_dropped |= m->is_dropped;
			return;
		}
	}
	if (list_length(news->members) >= NEWS_MAX_NODES)
		return;
	oldcontext = MemoryContextSwitchTo(news->cxt);
	known = palloc(sizeof(WireMember));
	known->id = m->id;
	known->is_dropped = m->is_dropped;
	known->name = pstrdup(m->name);
	known->dsn = pstrdup(m->dsn);
	news->members = lappend(news->members, known);
	MemoryContextSwitchTo(oldcontext);
}

void
stream_news_member(StreamNews *news, WireReader *r)
{
	WireMember	m;

	wire_get_member(r, &m);
	if (r->error == NULL)
		stream_news_add_member(news, &m);
}

void
stream_news_move(StreamNews *from, StreamNews *to)
{
	ListCell   *lc;

	foreach(lc, from->members)
		stream_news_add_member(to, lfirst(lc));
	foreach(lc, from->holds)
		stream_news_add_holds(to, ((NodeHolds *) lfirst(lc))->node, &((NodeHolds *) lfirst(lc))->vector);
	stream_news_stored(from, true);
}

void
stream_news_stored(StreamNews *news, bool holds)
{
	news->members = NIL;
	if (!holds && news->holds != NIL)
		return;
	news->holds = NIL;
	MemoryContextReset(news->cxt);
}
