/*
 * rename.h
 *		One node's writes since a moment, told apart from its earlier ones: they
 *		become another's.
 */
#ifndef FERRY_CORE_RENAME_H
#define FERRY_CORE_RENAME_H

#include "core/version.h"

/*
 * The writes of "from" with stamps from "since" on are those of "to", under the same
 * stamps.  Whoever wrote them held the earlier writes of "from" up to "held" and, for
 * all that is known, no others.
 */
typedef struct VersionRename
{
	NodeId		from;
	NodeId		to;
	Hlc			since;			/* > held */
	Hlc			held;			/* 0: none */
} VersionRename;

static inline Dot
dot_rename(const VersionRename *r, Dot d)
{
	if (d.node == r->from && d.hlc >= r->since)
		d.node = r->to;
	return d;
}

/* does v know of a write that is renamed? */
extern bool version_must_rename(const VersionRename *r, const Version *v);

/*
 * out: v with those writes renamed; shares nothing that it changes with v.  But for
 * the contributions to counters, which only their column's value can divide: they
 * stay under "from" (state/strategy_counter.c).
 */
extern void version_rename(const VersionRename *r, const Version *v, Version *out);

#endif							/* FERRY_CORE_RENAME_H */
