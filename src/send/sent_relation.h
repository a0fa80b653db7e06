/*
 * sent_relation.h
 *		What a stream knows of the relations that it meets.
 */
#ifndef FERRY_SEND_SENT_RELATION_H
#define FERRY_SEND_SENT_RELATION_H

#include "postgres.h"

#include "node/table.h"
#include "state/codec.h"
#include "utils/rel.h"

typedef enum SentKind
{
	SENT_NOTHING,				/* not ours */
	SENT_ROWS,					/* a table under ferry, or a partition of one */
	SENT_TOMBSTONES,
	SENT_RANGES,				/* ferry.range_tombstone */
	SENT_REGISTRY,				/* ferry.registered_table */
	SENT_HOLDING,				/* ferry.holding */
	SENT_MEMBER,				/* ferry.member */
	SENT_STRATEGIES,			/* ferry.column_merge */
	SENT_HORIZON				/* ferry.horizon */
} SentKind;

typedef struct SentRelation
{
	Oid			relid;			/* hash key */
	bool		valid;
	bool		described;		/* its 'R' message has been sent */
	SentKind	kind;
	MemoryContext cxt;			/* of the encoder */
	Oid			rootid;			/* the table under ferry */
	AttrNumber	version_attno;	/* where rows of this relation have their version */
	RelationEncoder *encoder;
} SentRelation;

/* one stream at a time per process; all lives in cxt, and goes with it */
extern void sent_relations_start(MemoryContext cxt);

/* of a relation open under the historic snapshot; never NULL */
extern SentRelation *sent_relation(Relation rel);

#endif							/* FERRY_SEND_SENT_RELATION_H */
