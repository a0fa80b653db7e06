/*
 * seen.h
 *		The latest stamp of each other node that was merged here.
 */
#ifndef FERRY_NODE_SEEN_H
#define FERRY_NODE_SEEN_H

#include "core/version.h"

extern Size seen_shmem_size(void);
extern void seen_shmem_init(void);

/* a state with this version is about to be written here */
extern void seen_note(const Version *v);

/*
 * The latest stamp of each other node that was noted since the server started,
 * sorted by node, allocated in the current context.  It includes what is in a
 * table only if the table is complete: if seen_complete() was told so, or the
 * table is.
 */
extern int	seen_get(Dot **dots);
extern bool seen_is_complete(Oid relid);
extern void seen_complete(Oid relid);

#endif							/* FERRY_NODE_SEEN_H */
