/*
 * runs.h
 *		The starts of this server that a node remembers.
 */
#ifndef FERRY_NODE_RUNS_H
#define FERRY_NODE_RUNS_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "node/node.h"

/* as many as are remembered and told */
#define RUNS_MAX 32

/* instances, separated by commas, and a zero byte */
#define RUNS_TEXT_BYTES (RUNS_MAX * 21 + 1)

typedef struct Run
{
	uint64		instance;		/* random */
	Hlc			mark;			/* of the clock, as it was found: no earlier run gave a later stamp */
	Hlc			first;			/* nor this one an earlier one */
	Hlc			held;			/* of its own writes the node held all up to here for sure, and none of this run */
	XLogRecPtr	start;			/* where its log begins: no earlier run wrote beyond */
	uint32		met;			/* a peer has heard of it */
	uint32		reserved;
} Run;

typedef struct RunList
{
	uint32		n;
	uint32		reserved;
	Run			run[RUNS_MAX];	/* the last is the present one */
} RunList;

/*
 * A node's entry is made: put this run on record, durably, unless it is.  Before the
 * first stamp; the lock of nodes is held.  held: see above.
 */
extern void runs_begin(NodeShared *node, Oid dboid, Hlc held);

/* what is on record; false if nothing is */
extern bool runs_read(const NodeShared *node, RunList *out);

/* a peer knows of this run from now on: true the first time */
extern bool runs_met(NodeShared *node);

extern void runs_format(const RunList *list, char *out);	/* RUNS_TEXT_BYTES of room */

/*
 * A peer has seen our log up to lsn, heard of writes of ours up to hlc, and of these
 * runs (NULL: of none).  The run since which that cannot be: the number of it on the
 * list, list->n if only the memory of the present one can have been set back; -1 if all is
 * well.
 */
extern int	runs_judge(const RunList *list, XLogRecPtr lsn, Hlc hlc, const char *told);

#endif							/* FERRY_NODE_RUNS_H */
