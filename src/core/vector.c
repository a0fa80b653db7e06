/*
 * vector.c
 *		What a node holds, as a vector: node -> stamp.
 *
 * Sorted by node, so that two are merged and compared in one pass.  Everything
 * that grows is monotone: an entry is a promise ("every write of that node up
 * to here is in the tables") and is never taken back.
 */
#include <inttypes.h>
#include <stdio.h>

#include "core/vector.h"

/* where node stands or would stand */
static uint32_t
position(const NodeVector *v, NodeId node)
{
	uint32_t	low = 0;
	uint32_t	high = v->n;

	while (low < high)
	{
		uint32_t	mid = (low + high) / 2;

		if (v->entries[mid].node < node)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

Hlc
vector_get(const NodeVector *v, NodeId node)
{
	uint32_t	at = position(v, node);

	return at < v->n && v->entries[at].node == node ? v->entries[at].hlc : 0;
}

bool
vector_raise(NodeVector *v, NodeId node, Hlc hlc)
{
	uint32_t	at = position(v, node);

	if (at < v->n && v->entries[at].node == node)
	{
		if (v->entries[at].hlc >= hlc)
			return false;
		v->entries[at].hlc = hlc;
		return true;
	}
	if (hlc == 0 || v->n == VECTOR_MAX)
		return false;
	memmove(&v->entries[at + 1], &v->entries[at], sizeof(Dot) * (v->n - at));
	v->entries[at].node = node;
	v->entries[at].hlc = hlc;
	v->n++;
	return true;
}

bool
vector_merge(NodeVector *v, const NodeVector *other)
{
	bool		grew = false;

	for (uint32_t i = 0; i < other->n; i++)
		grew |= vector_raise(v, other->entries[i].node, other->entries[i].hlc);
	return grew;
}

void
vector_remove(NodeVector *v, NodeId node)
{
	uint32_t	at = position(v, node);

	if (at == v->n || v->entries[at].node != node)
		return;
	memmove(&v->entries[at], &v->entries[at + 1], sizeof(Dot) * (v->n - at - 1));
	v->n--;
}

void
vector_limit(NodeVector *v, const NodeVector *limit)
{
	uint32_t	n = 0;

	for (uint32_t i = 0; i < v->n; i++)
	{
		Hlc			most = vector_get(limit, v->entries[i].node);

		if (most == 0)
			continue;
		v->entries[n] = v->entries[i];
		if (v->entries[n].hlc > most)
			v->entries[n].hlc = most;
		n++;
	}
	v->n = n;
}

bool
vector_includes(const NodeVector *v, const NodeVector *other)
{
	for (uint32_t i = 0; i < other->n; i++)
		if (vector_get(v, other->entries[i].node) < other->entries[i].hlc)
			return false;
	return true;
}

bool
vector_covers(const NodeVector *v, const Version *version)
{
	for (int i = 0; i < version->nvv; i++)
		if (vector_get(v, version->vv[i].node) < version->vv[i].hlc)
			return false;
	return true;
}

void
vector_copy(NodeVector *to, const NodeVector *from)
{
	to->n = from->n;
	memcpy(to->entries, from->entries, sizeof(Dot) * from->n);
}

/* --- text --- */

void
vector_format(const NodeVector *v, char *out)
{
	char	   *end = out + VECTOR_TEXT_BYTES;

	*out = '\0';
	for (uint32_t i = 0; i < v->n; i++)
		out += snprintf(out, end - out, "%s%" PRIu32 ":%" PRIu64, i > 0 ? "," : "",
						v->entries[i].node, v->entries[i].hlc);
}

/* a positive number up to max, without leading zeroes */
static bool
parse_number(const char **p, uint64_t max, uint64_t *out)
{
	uint64_t	n = 0;

	if (**p < '1' || **p > '9')
		return false;
	for (; **p >= '0' && **p <= '9'; (*p)++)
	{
		uint64_t	digit = (uint64_t) (**p - '0');

		if (n > (max - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*out = n;
	return true;
}

bool
vector_parse(const char *text, NodeVector *v, const char **error)
{
	const char *p = text;

	vector_clear(v);
	while (*p)
	{
		uint64_t	node;
		uint64_t	hlc;

		if (v->n > 0 && *p++ != ',')
		{
			*error = "Entries are separated by commas.";
			return false;
		}
		if (!parse_number(&p, UINT32_MAX, &node) || *p++ != ':' || !parse_number(&p, UINT64_MAX, &hlc))
		{
			*error = "An entry is <node id>:<stamp>, both positive numbers.";
			return false;
		}
		if (v->n > 0 && v->entries[v->n - 1].node >= node)
		{
			*error = "Entries are sorted by node id, each once.";
			return false;
		}
		if (v->n == VECTOR_MAX)
		{
			*error = "There are too many entries.";
			return false;
		}
		v->entries[v->n].node = (NodeId) node;
		v->entries[v->n].hlc = hlc;
		v->n++;
	}
	return true;
}
