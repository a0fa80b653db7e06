/*
 * stream_news.h
 *		What a stream has said of nodes and nobody has taken yet.
 */
#ifndef FERRY_APPLY_STREAM_NEWS_H
#define FERRY_APPLY_STREAM_NEWS_H

#include "postgres.h"

#include "core/wire.h"
#include "nodes/pg_list.h"

/* what one node is said to hold */
typedef struct NodeHolds
{
	NodeId		node;
	NodeVector	vector;
} NodeHolds;

typedef struct StreamNews
{
	MemoryContext cxt;
	NodeId		sender;
	bool		has_claims;
	NodeVector	claims;			/* what the sender holds and has sent, as far as it forwards */
	bool		horizon_is_new;
	NodeVector	horizon;		/* the sender's, under which his rows are read */
	List	   *holds;			/* of NodeHolds */
	List	   *members;		/* of WireMember */
} StreamNews;

/* of nodes that a peer invents, so many are listened to */
#define NEWS_MAX_NODES 1024

extern StreamNews *stream_news_create(NodeId sender, MemoryContext cxt);

/* read a message, after its type byte */
extern void stream_news_holds(StreamNews *news, WireReader *r);
extern void stream_news_horizon(StreamNews *news, WireReader *r);
extern void stream_news_member(StreamNews *news, WireReader *r);

/* the same for what did not come as a message */
extern void stream_news_add_holds(StreamNews *news, NodeId node, const NodeVector *v);
extern void stream_news_add_member(StreamNews *news, const WireMember *m);

/* add to one what the other has */
extern void stream_news_move(StreamNews *from, StreamNews *to);

/* the members have been stored, and what nodes hold, unless that has to wait */
extern void stream_news_stored(StreamNews *news, bool holds);

#endif							/* FERRY_APPLY_STREAM_NEWS_H */
