/*
 * news.h
 *		What a stream says of nodes: members, what they hold, the horizon.
 */
#ifndef FERRY_SEND_NEWS_H
#define FERRY_SEND_NEWS_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "access/xlogdefs.h"
#include "core/wire.h"

/* a stream begins */
extern void news_start(void);

/* a write of this node was put into the stream */
extern void news_own_write(Dot d);

/* a new row of ferry.holding as a 'W' message, of ferry.member as an 'M' message */
extern void news_holding(WireWriter *w, HeapTuple tuple, TupleDesc desc);
extern void news_member(WireWriter *w, HeapTuple tuple, TupleDesc desc);

/*
 * The horizon as an 'H' message: a new row of ferry.horizon; and, once before the
 * first row of the stream, the one on record, under the historic snapshot.
 */
extern void news_horizon(WireWriter *w, HeapTuple tuple, TupleDesc desc);
extern void news_first_horizon(WireWriter *w);

/* the stream has passed end_lsn: a 'W' message if there is something to say */
extern void news_passed(WireWriter *w, XLogRecPtr end_lsn);

#endif							/* FERRY_SEND_NEWS_H */
