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
	NodeShared	nodes[FLEXIBLE_ARRAY_MEMBER];
} NodeArray;

extern NodeArray *node_array;	/* NULL if ferry is not preloaded */

/* this backend's node, if it is one, has another configuration; takes no lock and reads nothing */
extern void node_bump_generation(void);

/* read the high-water mark of a database's clock into its entry; lock held */
extern void node_clock_load(NodeShared *node, Oid dboid);

#endif							/* FERRY_NODE_PRIVATE_H */
