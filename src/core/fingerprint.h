/*
 * fingerprint.h
 *		What two nodes compare to prove each other equal: fingerprints of sets of
 *		row states, in a tree over the hashes of their keys.
 *
 * After Meyer, "Range-Based Set Reconciliation" (SRDS 2023): the fingerprint of
 * a set is the sum, modulo 2^128, of the hashes of its items, so that it does
 * not depend on their order, and that of a range is the sum of its parts'.  The
 * order in which ranges are taken is that of the keys' hashes: no collation or
 * locale comes in, and all ranges are evenly filled.
 *
 * The hash is SipHash-1-3 with 128 bits, keyed by whoever asks, anew for every
 * run: items that cancel out in one run do not in the next.
 */
#ifndef FERRY_CORE_FINGERPRINT_H
#define FERRY_CORE_FINGERPRINT_H

#include "core/wire.h"

typedef struct FpKey
{
	uint64_t	k0,
				k1;
} FpKey;

typedef struct FpHash
{
	uint64_t	lo,
				hi;
} FpHash;

/* a set of items: how many, and the sum of their hashes */
typedef struct FpNode
{
	uint64_t	count;
	FpHash		sum;
} FpNode;

/* one item more in a set; and a whole set that has none of its items */
extern void fp_node_add(FpNode *node, const FpHash *item);
extern void fp_node_join(FpNode *node, const FpNode *other);

extern FpHash fp_hash(const FpKey *key, const void *data, size_t n);

static inline bool
fp_equal(const FpNode *a, const FpNode *b)
{
	return a->count == b->count && a->sum.lo == b->sum.lo && a->sum.hi == b->sum.hi;
}

/*
 * The tree: every node has 16 children, one per next four bits of the key's
 * hash.  All levels lie in one array: level 0 is the root, level depth the
 * leaves.  24 bytes per node: FP_MAX_DEPTH takes 27 MB.
 */
#define FP_FANOUT 16
#define FP_MAX_DEPTH 5

typedef struct FpTree
{
	int			depth;
	FpNode	   *nodes;
} FpTree;

/* the depth at which that many items fill leaves with about a hundred each */
extern int	fp_depth_for(uint64_t items);

/* how many nodes a tree has; the caller allocates and zeroes them */
extern size_t fp_tree_nodes(int depth);
extern uint32_t fp_level_width(int level);	/* 16^level */
extern FpNode *fp_tree_node(const FpTree *t, int level, uint32_t index);

/* the leaf to which a key's hash belongs */
static inline uint32_t
fp_leaf(int depth, uint64_t key)
{
	return (uint32_t) (key >> (64 - 4 * depth));
}

extern void fp_tree_add(FpTree *t, uint64_t key, const FpHash *item);

/* sum up: after this the inner nodes are valid */
extern void fp_tree_finish(FpTree *t);

/*
 * On the wire: the children of nodes, {varint count, if not 0: u64 lo, u64 hi}.
 * The reader knows what the peer said of the parents: children that do not add
 * up to them are refused.  fp_get_children fills n * FP_FANOUT nodes.
 */
extern void fp_put_node(WireWriter *w, const FpNode *node);
extern void fp_get_node(WireReader *r, FpNode *node);
extern void fp_put_children(WireWriter *w, const FpTree *t, int level, uint32_t index);
extern void fp_get_children(WireReader *r, const FpNode *parents, int n, FpNode *children);

/* --- single items --- */

typedef struct FpItem
{
	uint64_t	key;			/* hash of the key */
	uint64_t	state;			/* half of the item's hash */
} FpItem;

extern void fp_items_sort(FpItem *items, size_t n);

/*
 * On the wire: varint n, then n * {varint distance to the key before, u64
 * state}, sorted.  The reader refuses more than max of them, and keys that lie
 * in none of the leaves asked for (sorted).  Returns how many; out has room for
 * max.
 */
extern void fp_put_items(WireWriter *w, const FpItem *items, size_t n);
extern size_t fp_get_items(WireReader *r, int depth, const uint32_t *leaves, size_t nleaves,
						   FpItem *out, size_t max);

/* keys (sorted, each once) that are not on both sides with the same states; keys has room for na + nb */
extern size_t fp_items_differ(const FpItem *a, size_t na, const FpItem *b, size_t nb, uint64_t *keys);

#endif							/* FERRY_CORE_FINGERPRINT_H */
