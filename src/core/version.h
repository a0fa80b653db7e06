/*
 * version.h
 *		What a row knows about its writers: dots, version vectors, column dots,
 *		and the bytes in which they are kept (type ferry.version).
 *
 * A column is named by its column id: the attribute number in the table that
 * the user registered (the root, where it is partitioned).  Ids are local to
 * a node; who carries a version to another node maps them (version_map_columns).
 */
#ifndef FERRY_CORE_VERSION_H
#define FERRY_CORE_VERSION_H

#include "core/hlc.h"
#include "core/parts.h"

typedef uint32_t NodeId;

#define NODE_ID_NONE ((NodeId) 0)

/* one write: who, when.  Ordered by hlc, then by node. */
typedef struct Dot
{
	Hlc			hlc;
	NodeId		node;
} Dot;

typedef struct ColumnDot
{
	uint16_t	col;			/* column id */
	Dot			dot;
} ColumnDot;

struct NodeVector;				/* core/vector.h */

/*
 * A version, expanded.
 *
 * vv holds every writer including last.node, sorted by node; an entry is never
 * 0.  cols holds the columns whose dot differs from last (in column mode),
 * sorted by column id.  live holds the dots that keep the row alive under
 * update_wins, sorted; under last_wins the one that decides over life and death, if
 * that is not the last (version_life_dot).  parts
 * holds the columns that are not registers, sorted by column id (core/parts.h).
 *
 * pruned: entries of vv have been dropped that the horizon covered.  horizon: the
 * one under which the version is read, NULL for none; it is not part of the bytes.
 * A version has seen everything up to it (core/horizon.c).
 */
typedef struct Version
{
	Dot			last;
	uint16_t	nvv;
	uint16_t	ncols;
	uint16_t	nlive;
	uint16_t	nparts;
	bool		pruned;
	const struct NodeVector *horizon;
	Dot		   *vv;
	ColumnDot  *cols;
	Dot		   *live;
	ColumnParts *parts;
} Version;

typedef enum VersionOrder
{
	VERSION_EQUAL,
	VERSION_BEFORE,				/* a is included in b */
	VERSION_AFTER,				/* b is included in a */
	VERSION_CONCURRENT
} VersionOrder;

/* bounds that the decoder enforces on hostile bytes */
#define VERSION_MAX_WRITERS 1024
#define VERSION_MAX_COLUMNS 1700
#define VERSION_MAX_LIVE 4096
#define VERSION_SIMPLE_BYTES 12 /* one writer, all columns: just the dot */

extern int	dot_compare(Dot a, Dot b);
static inline bool
dot_equal(Dot a, Dot b)
{
	return a.hlc == b.hlc && a.node == b.node;
}

/* the version of a row whose only write is d; vv is allocated */
extern void version_init(Version *v, Dot d);

/* what v says by itself that it has seen of node: its entry in vv, or 0 */
extern Hlc	version_entry(const Version *v, NodeId node);

/* what v has seen of node, by itself or by its horizon; 0 if nothing */
extern Hlc	version_seen(const Version *v, NodeId node);
static inline bool
version_covers(const Version *v, Dot d)
{
	return version_seen(v, d.node) >= d.hlc;
}

/*
 * Must the horizon be told along with v, for it to be understood elsewhere?  Of a
 * version with registers only, of which nothing was dropped, vv tells enough.
 */
static inline bool
version_needs_horizon(const Version *v)
{
	return v->pruned || v->nparts > 0;
}
extern Dot	version_column_dot(const Version *v, uint16_t col);

/* under last_wins: when the row was written, made or deleted last */
static inline Dot
version_life_dot(const Version *v)
{
	return v->nlive > 0 ? v->live[v->nlive - 1] : v->last;
}

/*
 * As version_write of no column at all: for a write that says nothing new, and wins
 * against nobody, but is to be told.
 */
extern void version_touch(const Version *v, Dot d, const uint16_t *all, int nall,
						  bool track_columns, bool update_wins, bool alive, Version *out);

/* a column's parts, NULL if it is a register */
extern ColumnParts *version_column_parts(const Version *v, uint16_t col);

/* put a column's parts, in place of those it has */
extern void version_put_parts(Version *v, const ColumnParts *parts);

/* are a column's parts the same in both? */
extern bool version_same_parts(const Version *a, const Version *b, uint16_t col);

/* is no dot in the parts later than hlc?  What encoding takes for granted. */
extern bool version_parts_precede(const Version *v, Hlc hlc);

/* may node have contributed to a counter, or added an element?  Its entry in vv must stay then. */
extern bool version_has_contribution(const Version *v, NodeId node);

/*
 * The order of a column's generations in two versions (core/parts.c): the later
 * is taken whole; of one generation, contents are joined.
 */
extern int	version_compare_generations(const Version *a, const Version *b, uint16_t col);

/* under their horizons */
extern VersionOrder version_compare(const Version *a, const Version *b);

/* the largest stamp anywhere in v: what the local clock must be raised to */
extern Hlc	version_max_hlc(const Version *v);

/*
 * A local write at dot d (greater than every stamp in v) that changed the
 * columns in changed[] (sorted by id) of all the table's columns all[] (sorted
 * by id; the key's columns are not among them).  track_columns is false in row
 * mode; update_wins says whether live is kept.  The changed columns become
 * registers: the caller puts the parts of those that are not.  out may not be v;
 * its arrays are allocated.
 */
extern void version_write(const Version *v, Dot d,
						  const uint16_t *changed, int nchanged,
						  const uint16_t *all, int nall,
						  bool track_columns, bool update_wins, bool alive,
						  Version *out);

/*
 * Codec.  version_encode needs version_encoded_bytes() of room and returns
 * what it used.  version_decode allocates the arrays, accepts only the
 * canonical form, reads nothing beyond n, and on failure returns false with a
 * static text in *error.
 */
extern size_t version_encoded_bytes(const Version *v);
extern size_t version_encode(const Version *v, uint8_t *out);
extern bool version_decode(const uint8_t *in, size_t n, Version *out, const char **error);

/* the 12 byte form and its dot, without allocation */
extern void version_put_dot(uint8_t *out, Dot d);
extern Dot	version_get_last(const uint8_t *in);	/* any encoded version */

/*
 * version_write() of bytes to bytes, where they are as usual: one writer, who
 * writes again, and no column older than one other dot.  Returns the bytes
 * written to out, which has VERSION_REWRITE_ROOM of room, or 0 if it is not so
 * simple.  all[] are the table's nall columns, as in version_write.
 */
extern size_t version_rewrite(const uint8_t *in, size_t n, Dot d,
							  const uint16_t *changed, int nchanged,
							  const uint16_t *all, int nall,
							  bool track_columns, uint8_t *out);

/* a dot, counts, and at most one run of columns (two bytes each) for two columns */
#define VERSION_REWRITE_ROOM(n, nall) ((n) + 32 + 3 * (size_t) (nall))

/*
 * Rename the columns: map[col] is the new id of column id col, 0 drops it;
 * ids >= nmap are dropped.  Keeps cols and parts sorted.
 */
extern void version_map_columns(Version *v, const uint16_t *map, int nmap);

#endif							/* FERRY_CORE_VERSION_H */
