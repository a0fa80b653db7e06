/*
 * range_tombstone.h
 *		What TRUNCATE leaves behind: one tombstone for all rows of a table.
 *
 * A range tombstone is a version: its dot is that of the TRUNCATE, its vector
 * says what the truncating node held.  A state whose vector is included in it is
 * dead, whenever it arrives; others live.  ferry.range_tombstone keeps those in
 * force, of each table a short list of which none includes another.
 */
#ifndef FERRY_STATE_RANGE_TOMBSTONE_H
#define FERRY_STATE_RANGE_TOMBSTONE_H

#include "core/range.h"
#include "core/rename.h"
#include "core/wire.h"
#include "state/state.h"

typedef struct RangeList
{
	int			n;
	Version    *ranges;
} RangeList;

/*
 * Those of a registered table, cached per backend: hold a lock on the table, and
 * do not keep the pointer across statements.  Who writes one holds a lock that
 * excludes writers of rows.
 */
extern const RangeList *ranges_of(Oid rootid);

/* one as a message of the stream, of a relation that was described in it */
extern void range_encode(WireWriter *w, uint32 relation, const Version *range);

/* is a state with this version dead by one of them? */
extern bool ranges_cover(const RangeList *list, const Version *v);

/*
 * Put one into force; false if one that stands includes it.  Those that it
 * includes are removed.  The caller excludes writers of rows.
 */
extern bool ranges_add(Oid rootid, const Version *range);

/*
 * May the horizon rise to this?  Not while there is one that not every member has: of
 * a row that it leaves alone nobody could say any more what it has seen of the writes
 * that the range kills.
 */
extern bool ranges_allow_horizon(const NodeVector *horizon);

/* remove those that every member has, as the horizon says; returns how many */
extern int	ranges_prune(void);

/* a tuple of ferry.range_tombstone */
extern void range_decode(Datum *values, Oid *rootid, Version *range);

/* own writes since a moment become another's, in what is stored (core/rename.h) */
extern void ranges_rename(const VersionRename *r);

#endif							/* FERRY_STATE_RANGE_TOMBSTONE_H */
