/*
 * vector.h
 *		What a node holds: node -> stamp up to which it holds every write of that
 *		node.  Of fixed size, so that it lives in shared memory and on the stack.
 */
#ifndef FERRY_CORE_VECTOR_H
#define FERRY_CORE_VECTOR_H

#include "core/version.h"

/*
 * As many origins as can be told apart.  One that does not fit is not claimed,
 * which holds back the horizon and costs a delta some rows, and is never wrong.
 */
#define VECTOR_MAX 128

/* sorted by node; no entry is 0 */
typedef struct NodeVector
{
	uint32_t	n;
	Dot			entries[VECTOR_MAX];
} NodeVector;

/* "<node id>:<hlc>,..." and a zero byte */
#define VECTOR_TEXT_BYTES (VECTOR_MAX * 32 + 1)

static inline void
vector_clear(NodeVector *v)
{
	v->n = 0;
}

/* the entry of a node; 0 if there is none */
extern Hlc	vector_get(const NodeVector *v, NodeId node);

/* is this write, and so every earlier one of its node, among them? */
static inline bool
vector_has(const NodeVector *v, Dot d)
{
	return vector_get(v, d.node) >= d.hlc;
}

/* raise one entry, or every entry to that of another vector; true if anything grew */
extern bool vector_raise(NodeVector *v, NodeId node, Hlc hlc);
extern bool vector_merge(NodeVector *v, const NodeVector *other);

/* take an entry out */
extern void vector_remove(NodeVector *v, NodeId node);

/* lower every entry to that of another vector; a missing one is 0 */
extern void vector_limit(NodeVector *v, const NodeVector *limit);

/* is every entry of other at most that of v? */
extern bool vector_includes(const NodeVector *v, const NodeVector *other);

/* is every entry of a row's vector at most that of v? */
extern bool vector_covers(const NodeVector *v, const Version *version);

extern void vector_copy(NodeVector *to, const NodeVector *from);

/* as text, canonical: sorted, decimal; the empty vector is the empty text */
extern void vector_format(const NodeVector *v, char *out);	/* VECTOR_TEXT_BYTES of room */

/* false with a static text in *error if it is no vector */
extern bool vector_parse(const char *text, NodeVector *v, const char **error);

#endif							/* FERRY_CORE_VECTOR_H */
