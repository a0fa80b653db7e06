/*
 * version_private.h
 *		What version.c and its codecs share with each other and nobody else.
 */
#ifndef FERRY_CORE_VERSION_PRIVATE_H
#define FERRY_CORE_VERSION_PRIVATE_H

#include "core/version.h"

/* the flag of the section of older columns: see version_codec.c */
#define VERSION_FLAG_COLS 0x02

/* --- bytes, and how they are read --- */

static inline uint8_t *
put_varint(uint8_t *p, uint64_t v)
{
	while (v >= 0x80)
	{
		*p++ = (uint8_t) (v | 0x80);
		v >>= 7;
	}
	*p++ = (uint8_t) v;
	return p;
}

static inline size_t
varint_bytes(uint64_t v)
{
	size_t		n = 1;

	while (v >= 0x80)
	{
		n++;
		v >>= 7;
	}
	return n;
}

typedef struct Input
{
	const uint8_t *p;
	const uint8_t *end;
	const char *error;
} Input;

static inline uint64_t
get_varint(Input *in)
{
	uint64_t	v = 0;

	for (int shift = 0; shift < 64; shift += 7)
	{
		uint8_t		b;

		if (in->p >= in->end)
		{
			in->error = "version is truncated";
			return 0;
		}
		b = *in->p++;
		if (shift == 63 && b > 1)
			break;
		v |= (uint64_t) (b & 0x7f) << shift;
		if (!(b & 0x80))
		{
			if (b == 0 && shift > 0)
				break;
			return v;
		}
	}
	in->error = "version holds a malformed number";
	return 0;
}

static inline uint8_t *
put_dot(const Version *v, uint8_t *p, Dot d)
{
	p = put_varint(p, d.node);
	return put_varint(p, v->last.hlc - d.hlc);
}

static inline size_t
dot_bytes(const Version *v, Dot d)
{
	return varint_bytes(d.node) + varint_bytes(v->last.hlc - d.hlc);
}

static inline Dot
get_dot(Input *in, Hlc last)
{
	Dot			d;
	uint64_t	node = get_varint(in);
	uint64_t	age = get_varint(in);

	if (!in->error && (node == 0 || node > UINT32_MAX))
		in->error = "version holds an invalid node id";
	if (!in->error && age >= last)
		in->error = "version holds an invalid stamp";
	d.node = (NodeId) node;
	d.hlc = last - age;
	return d;
}

/* --- between the files --- */

/* the section of parts: measured, written, read (parts_codec.c) */
extern size_t parts_bytes(const Version *v);
extern uint8_t *parts_put(const Version *v, uint8_t *p);
extern void parts_get(Input *in, Version *v);

/* is d covered by vv, or may it be by an entry that was dropped (and came back lower)? */
static inline bool
version_may_cover(const Version *v, Dot d)
{
	return v->pruned || version_entry(v, d.node) >= d.hlc;
}

/* by column id */
extern void version_sort_columns(ColumnDot *cols, int n);

#endif							/* FERRY_CORE_VERSION_PRIVATE_H */
