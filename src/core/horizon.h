/*
 * horizon.h
 *		What every member holds, and what may be forgotten because of it.
 */
#ifndef FERRY_CORE_HORIZON_H
#define FERRY_CORE_HORIZON_H

#include "core/vector.h"

/*
 * Drop the entries of v, and the removed keys of its maps, that the horizon covers, but
 * those that must stay (see horizon.c); also those that before (may be NULL), of which v
 * is the successor and whose parts may not be in v yet, needs.  v's arrays may be shared: it gets
 * a new one.
 */
extern void version_prune(Version *v, const NodeVector *horizon, const Version *before);

/*
 * v was read under another horizon than it will be read under from now on: write
 * out what only the old one says.
 */
extern void version_expand(Version *v, const NodeVector *from, const NodeVector *to);

/* v takes the place of before, which it includes by its horizon perhaps: the same */
extern void version_succeed(Version *v, const Version *before, const NodeVector *to);

/*
 * Does whoever works under this horizon hold all that v includes, or has he held and
 * forgotten it?  See horizon.c.
 */
extern bool version_was_held(const Version *v, const NodeVector *horizon);

/* does the horizon cover all that v has seen? */
extern bool version_is_stable(const Version *v, const NodeVector *horizon);

#endif							/* FERRY_CORE_HORIZON_H */
