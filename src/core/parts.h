/*
 * parts.h
 *		Columns that merge by a strategy: what they keep beside their dot, and
 *		how that is written and merged.
 *
 * See parts.c for the lattice.  Values stay with the caller, who opens a
 * column's value and parts into items (one per array element or object key) or
 * shares (one per node of a counter), has them merged or written here, and
 * closes them into a value and parts again.
 */
#ifndef FERRY_CORE_PARTS_H
#define FERRY_CORE_PARTS_H

#include "core/hlc.h"

struct Version;
struct Dot;

/* the numbers are stored; of one generation the greater wins */
typedef enum ColumnKind
{
	KIND_LWW = 0,				/* a register: has no parts */
	KIND_COUNTER = 1,
	KIND_MAX = 2,
	KIND_MIN = 3,
	KIND_SET = 4,
	KIND_MAP = 5,
	KIND_FUNCTION = 6
} ColumnKind;

#define KIND_LAST KIND_FUNCTION

/* of a version; bounds what hostile bytes can make us allocate */
#define VERSION_MAX_PARTS 65536

/* a key's: see Part */
#define MAP_MAX_DOTS 2

/* a counter's contribution is at most this long (a numeric in text) */
#define PART_MAX_BYTES 65536

/*
 * One part, as stored:
 *
 *	counter		node and bytes: what this node has contributed, non-zero.  The
 *				node of the column's dot is not listed: it has the rest.
 *	set			dots: those that added the element, sorted; in the order of the
 *				array's elements
 *	map			dots[0]: who wrote the key's value; in the order of the object's
 *				keys; then the removed keys, each with its name in bytes and the
 *				dot of its removal.  A second dot, which is later: what brought
 *				it past a TRUNCATE (core/range.c)
 */
typedef struct Part
{
	uint32_t	node;
	uint32_t	ndots;
	struct Dot *dots;
	bool		removed;
	uint32_t	len;
	const uint8_t *bytes;
} Part;

/* since: the dot that laid the ground (see parts.c); {0, 0} for a row born under the strategy */
typedef struct PartsSince
{
	Hlc			hlc;
	uint32_t	node;
} PartsSince;

typedef struct ColumnParts
{
	uint16_t	col;			/* column id */
	uint8_t		kind;			/* ColumnKind, never KIND_LWW */
	PartsSince	since;
	uint32_t	nparts;
	Part	   *parts;
} ColumnParts;

/* what a local write of a given kind finds to build on */
typedef enum Ground
{
	GROUND_NOTHING,				/* the row is born */
	GROUND_SAME,				/* parts of this kind */
	GROUND_REGISTER,			/* a register: its value is the ground */
	GROUND_OTHER				/* parts of another kind: a new generation begins */
} Ground;

/* before NULL: a birth.  Fills *since for the column's parts after the write at d. */
extern Ground parts_ground(const struct Version *before, uint16_t col, ColumnKind kind,
						   const struct Dot *d, PartsSince *since);

/* an element of a set or a key of a map, opened; sorted by item_compare */
typedef struct PartItem
{
	const uint8_t *key;			/* the element's bytes, the key's name */
	uint32_t	key_len;
	const uint8_t *value;		/* map: the value's bytes, to see a change */
	uint32_t	value_len;
	bool		removed;		/* map */
	uint32_t	ndots;
	struct Dot *dots;
	const void *handle;			/* the caller's: goes along */
} PartItem;

/* by length, then by bytes: the order of jsonb's keys, on every node */
extern int	item_compare(const PartItem *a, const PartItem *b);

/* merge two sets or maps of one generation; out has room for nl + nr; returns how many */
extern int	items_merge(ColumnKind kind,
						const PartItem *l, int nl, const struct Version *lv,
						const PartItem *r, int nr, const struct Version *rv, PartItem *out);

/*
 * A local write at d of a set or map: fresh (its dots are ignored) replaces old;
 * room as above.  What is in both is left alone, unless the row is born again:
 * then all that it has was written now.
 */
extern int	items_write(ColumnKind kind, const PartItem *old, int nold, const PartItem *fresh, int nfresh,
						bool birth, const struct Dot *d, PartItem *out);

/* merge a counter's shares (all of them, sorted by node): each from who has the later entry of the node */
extern int	shares_merge(const Part *l, int nl, const struct Version *lv,
						 const Part *r, int nr, const struct Version *rv, Part *out);

/* one node's share becomes bytes (len 0: none); out has room for n + 1 */
extern int	shares_put(const Part *shares, int n, uint32_t node, const uint8_t *bytes, uint32_t len,
					   Part *out);

#endif							/* FERRY_CORE_PARTS_H */
