/*
 * private.h
 *		What the files of this room share with each other and nobody else.
 */
#ifndef FERRY_NODE_PRIVATE_H
#define FERRY_NODE_PRIVATE_H

#include "node/node.h"

typedef struct NodeArray
{
	LWLock	   *lock;
	struct Latch *launcher;
	uint64		instance;		/* random, of this run of the server */
	NodeShared	nodes[FLEXIBLE_ARRAY_MEMBER];
} NodeArray;

extern NodeArray *node_array;	/* NULL if ferry is not preloaded */

/* this backend's node, if it is one, has another configuration; takes no lock and reads nothing */
extern void node_bump_generation(void);

/*
 * Read the high-water mark of a database's clock into its entry; lock held.
 * Returns whether the file was written in this very folder.
 */
extern bool node_clock_load(NodeShared *node, Oid dboid);

/* is what ferry.local_node says of server, timeline and database what they are now? */
extern bool incarnation_is_here(uint64 system_id, uint32 timeline, Oid dboid);

/* hold until it is certain who we are; raises if we are the copy of a living node, or after a while */
extern void incarnation_wait(NodeShared *node);

#endif							/* FERRY_NODE_PRIVATE_H */
