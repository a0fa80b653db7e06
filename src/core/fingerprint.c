/*
 * fingerprint.c
 *		Fingerprints of sets of row states, and the tree of them.
 *
 * A table is read once into the leaves of a tree; the levels above are sums of
 * those below, so that one scan answers every round of the comparison.  Rounds
 * go down only where the sums differ, 16 children at a time; in the leaves that
 * differ the items themselves are listed.
 *
 *		level 0							 [ all ]
 *		level 1			[ 0... ] [ 1... ]		  ...		[ f... ]
 *		level 2		  [ 00.. ] ... [ 0f.. ]		  ...	 [ f0.. ] ... [ ff.. ]
 *
 * What comes from a peer is read by the fp_get_ functions, which refuse sums
 * that do not add up, keys out of the ranges asked for, and more items than the
 * caller has room for: a peer that lies is found out or causes work that is
 * bounded by our own request.
 */
#include <stdlib.h>

#include "core/fingerprint.h"

/* rows per leaf that fp_depth_for() aims at, at most */
#define LEAF_ITEMS 256

/* --- SipHash-1-3, 128 bits (Aumasson and Bernstein, "SipHash: a fast short-input PRF") --- */

#define ROTATE(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

#define SIP_ROUND(v0, v1, v2, v3) \
	do { \
		v0 += v1; v1 = ROTATE(v1, 13); v1 ^= v0; v0 = ROTATE(v0, 32); \
		v2 += v3; v3 = ROTATE(v3, 16); v3 ^= v2; \
		v0 += v3; v3 = ROTATE(v3, 21); v3 ^= v0; \
		v2 += v1; v1 = ROTATE(v1, 17); v1 ^= v2; v2 = ROTATE(v2, 32); \
	} while (0)

/* little-endian, whatever the machine: nodes must agree */
static uint64_t
read_le(const uint8_t *p, size_t n)
{
	uint64_t	v = 0;

	for (size_t i = 0; i < n; i++)
		v |= (uint64_t) p[i] << (8 * i);
	return v;
}

static inline uint64_t
read_word(const uint8_t *p)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	uint64_t	v;

	memcpy(&v, p, 8);
	return v;
#else
	return read_le(p, 8);
#endif
}

FpHash
fp_hash(const FpKey *key, const void *data, size_t n)
{
	const uint8_t *p = data;
	const uint8_t *end = p + (n & ~(size_t) 7);
	uint64_t	v0 = key->k0 ^ UINT64_C(0x736f6d6570736575);
	uint64_t	v1 = key->k1 ^ UINT64_C(0x646f72616e646f6d) ^ 0xee;
	uint64_t	v2 = key->k0 ^ UINT64_C(0x6c7967656e657261);
	uint64_t	v3 = key->k1 ^ UINT64_C(0x7465646279746573);
	uint64_t	last = (uint64_t) n << 56;
	FpHash		h;

	for (; p < end; p += 8)
	{
		uint64_t	m = read_word(p);

		v3 ^= m;
		SIP_ROUND(v0, v1, v2, v3);
		v0 ^= m;
	}
	last |= read_le(p, n & 7);
	v3 ^= last;
	SIP_ROUND(v0, v1, v2, v3);
	v0 ^= last;
	v2 ^= 0xee;
	for (int i = 0; i < 3; i++)
		SIP_ROUND(v0, v1, v2, v3);
	h.lo = v0 ^ v1 ^ v2 ^ v3;
	v1 ^= 0xdd;
	for (int i = 0; i < 3; i++)
		SIP_ROUND(v0, v1, v2, v3);
	h.hi = v0 ^ v1 ^ v2 ^ v3;
	return h;
}

static void
add_hash(FpHash *sum, const FpHash *h)
{
	sum->lo += h->lo;
	sum->hi += h->hi + (sum->lo < h->lo);
}

void
fp_node_add(FpNode *node, const FpHash *item)
{
	node->count++;
	add_hash(&node->sum, item);
}

void
fp_node_join(FpNode *node, const FpNode *other)
{
	node->count += other->count;
	add_hash(&node->sum, &other->sum);
}

/* --- the tree --- */

int
fp_depth_for(uint64_t items)
{
	int			depth = 1;

	while (depth < FP_MAX_DEPTH && items / LEAF_ITEMS > fp_level_width(depth))
		depth++;
	return depth;
}

uint32_t
fp_level_width(int level)
{
	return (uint32_t) 1 << (4 * level);
}

size_t
fp_tree_nodes(int depth)
{
	/* 1 + 16 + ... + 16^depth */
	return (((size_t) 1 << (4 * (depth + 1))) - 1) / (FP_FANOUT - 1);
}

FpNode *
fp_tree_node(const FpTree *t, int level, uint32_t index)
{
	return &t->nodes[(((size_t) 1 << (4 * level)) - 1) / (FP_FANOUT - 1) + index];
}

void
fp_tree_add(FpTree *t, uint64_t key, const FpHash *item)
{
	fp_node_add(fp_tree_node(t, t->depth, fp_leaf(t->depth, key)), item);
}

void
fp_tree_finish(FpTree *t)
{
	for (int level = t->depth - 1; level >= 0; level--)
	{
		for (uint32_t i = 0; i < fp_level_width(level); i++)
		{
			FpNode	   *node = fp_tree_node(t, level, i);

			memset(node, 0, sizeof(*node));
			for (int c = 0; c < FP_FANOUT; c++)
				fp_node_join(node, fp_tree_node(t, level + 1, i * FP_FANOUT + c));
		}
	}
}

/* --- nodes on the wire --- */

void
fp_put_node(WireWriter *w, const FpNode *node)
{
	wire_put_varint(w, node->count);
	if (node->count == 0)
		return;
	wire_put_u64(w, node->sum.lo);
	wire_put_u64(w, node->sum.hi);
}

void
fp_get_node(WireReader *r, FpNode *node)
{
	memset(node, 0, sizeof(*node));
	node->count = wire_get_varint(r);
	if (node->count == 0)
		return;
	node->sum.lo = wire_get_u64(r);
	node->sum.hi = wire_get_u64(r);
}

void
fp_put_children(WireWriter *w, const FpTree *t, int level, uint32_t index)
{
	for (int c = 0; c < FP_FANOUT; c++)
		fp_put_node(w, fp_tree_node(t, level + 1, index * FP_FANOUT + c));
}

void
fp_get_children(WireReader *r, const FpNode *parents, int n, FpNode *children)
{
	for (int i = 0; i < n; i++)
	{
		FpNode		sum = {0};

		for (int c = 0; c < FP_FANOUT; c++)
		{
			FpNode	   *child = &children[i * FP_FANOUT + c];

			fp_get_node(r, child);
			fp_node_join(&sum, child);
		}
		if (r->error == NULL && !fp_equal(&sum, &parents[i]))
			r->error = "fingerprints do not add up";
	}
	if (r->error == NULL && r->p != r->end)
		r->error = "bytes follow the fingerprints";
}

/* --- items --- */

static int
compare_items(const void *a, const void *b)
{
	const FpItem *x = a;
	const FpItem *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	if (x->state != y->state)
		return x->state < y->state ? -1 : 1;
	return 0;
}

void
fp_items_sort(FpItem *items, size_t n)
{
	qsort(items, n, sizeof(FpItem), compare_items);
}

void
fp_put_items(WireWriter *w, const FpItem *items, size_t n)
{
	uint64_t	before = 0;

	wire_put_varint(w, n);
	for (size_t i = 0; i < n; i++)
	{
		wire_put_varint(w, items[i].key - before);
		wire_put_u64(w, items[i].state);
		before = items[i].key;
	}
}

static bool
is_leaf_asked_for(uint32_t leaf, const uint32_t *leaves, size_t n)
{
	size_t		low = 0;
	size_t		high = n;

	while (low < high)
	{
		size_t		mid = low + (high - low) / 2;

		if (leaves[mid] == leaf)
			return true;
		if (leaves[mid] < leaf)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

size_t
fp_get_items(WireReader *r, int depth, const uint32_t *leaves, size_t nleaves, FpItem *out, size_t max)
{
	uint64_t	n = wire_get_varint(r);
	uint64_t	before = 0;

	if (r->error == NULL && n > max)
		r->error = "too many items";
	for (uint64_t i = 0; r->error == NULL && i < n; i++)
	{
		uint64_t	distance = wire_get_varint(r);

		out[i].key = before + distance;
		out[i].state = wire_get_u64(r);
		if (r->error == NULL && (out[i].key < before || (i > 0 && compare_items(&out[i - 1], &out[i]) > 0)))
			r->error = "items are out of order";
		else if (r->error == NULL && !is_leaf_asked_for(fp_leaf(depth, out[i].key), leaves, nleaves))
			r->error = "item lies in a range that was not asked for";
		before = out[i].key;
	}
	if (r->error == NULL && r->p != r->end)
		r->error = "bytes follow the items";
	return r->error ? 0 : (size_t) n;
}

size_t
fp_items_differ(const FpItem *a, size_t na, const FpItem *b, size_t nb, uint64_t *keys)
{
	size_t		n = 0;
	size_t		i = 0;
	size_t		j = 0;

	while (i < na || j < nb)
	{
		int			order = i >= na ? 1 : j >= nb ? -1 : compare_items(&a[i], &b[j]);
		uint64_t	key = order <= 0 ? a[i].key : b[j].key;

		if (order != 0 && (n == 0 || keys[n - 1] != key))
			keys[n++] = key;
		i += order <= 0;
		j += order >= 0;
	}
	return n;
}
