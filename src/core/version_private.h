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

/*
 * A dot: its node plus one, or 1 for the last dot's (0 stands for no dot where there
 * may be none); by how much it is older than that, the
 * microseconds with a bit that says whether the counters differ, too.
 */
#define DOT_OF_LAST_NODE 1

static inline uint64_t
dot_node_code(const Version *v, Dot d)
{
	return d.node == v->last.node ? DOT_OF_LAST_NODE : (uint64_t) d.node + 1;
}

static inline uint64_t
age_counter(uint64_t age)
{
	return age & ((UINT64_C(1) << HLC_COUNTER_BITS) - 1);
}

static inline uint64_t
age_code(uint64_t age)
{
	return (age >> HLC_COUNTER_BITS) << 1 | (age_counter(age) != 0);
}

static inline uint8_t *
put_age(uint8_t *p, uint64_t age)
{
	p = put_varint(p, age_code(age));
	return age_counter(age) != 0 ? put_varint(p, age_counter(age)) : p;
}

static inline uint8_t *
put_dot(const Version *v, uint8_t *p, Dot d)
{
	p = put_varint(p, dot_node_code(v, d));
	return put_age(p, v->last.hlc - d.hlc);
}

static inline size_t
dot_bytes(const Version *v, Dot d)
{
	uint64_t	age = v->last.hlc - d.hlc;

	return varint_bytes(dot_node_code(v, d)) + varint_bytes(age_code(age)) +
		(age_counter(age) != 0 ? varint_bytes(age_counter(age)) : 0);
}

static inline Dot
get_dot(Input *in, Dot last)
{
	Dot			d;
	uint64_t	node = get_varint(in);
	uint64_t	code = get_varint(in);
	uint64_t	counter = (code & 1) ? get_varint(in) : 0;
	uint64_t	age;

	if (!in->error && (node == 0 || node - 1 == last.node || node - 1 > UINT32_MAX))
		in->error = "version holds an invalid node id";
	if (!in->error && (((code & 1) && counter == 0) || counter >> HLC_COUNTER_BITS != 0 ||
					   code >> (65 - HLC_COUNTER_BITS) != 0))
		in->error = "version holds a malformed number";
	age = (code >> 1) << HLC_COUNTER_BITS | counter;
	if (!in->error && age >= last.hlc)
		in->error = "version holds an invalid stamp";
	d.node = node == DOT_OF_LAST_NODE ? last.node : (NodeId) (node - 1);
	d.hlc = last.hlc - age;
	return d;
}

/*
 * A run of column ids, one byte for most: (gap - 1) above four bits, (length - 1)
 * in three, of which 7 means that the rest of the length follows; whether another
 * run does.
 */
#define RUN_LONG 8

static inline uint64_t
column_run_code(uint64_t gap, uint64_t length, bool more)
{
	return (gap - 1) << 4 | ((length < RUN_LONG ? length : RUN_LONG) - 1) << 1 | more;
}

static inline uint8_t *
put_column_run(uint8_t *p, uint64_t gap, uint64_t length, bool more)
{
	p = put_varint(p, column_run_code(gap, length, more));
	return length >= RUN_LONG ? put_varint(p, length - RUN_LONG) : p;
}

static inline size_t
column_run_bytes(uint64_t gap, uint64_t length, bool more)
{
	return varint_bytes(column_run_code(gap, length, more)) +
		(length >= RUN_LONG ? varint_bytes(length - RUN_LONG) : 0);
}

/* returns whether another run follows; gap and length are at most as said, or it is an error */
static inline bool
get_column_run(Input *in, uint64_t *gap, uint64_t *length)
{
	uint64_t	code = get_varint(in);
	uint64_t	rest;

	*gap = (code >> 4) + 1;
	*length = (code >> 1 & (RUN_LONG - 1)) + 1;
	rest = *length == RUN_LONG ? get_varint(in) : 0;
	if (!in->error && (*gap > VERSION_MAX_COLUMNS || rest > VERSION_MAX_COLUMNS - RUN_LONG))
		in->error = "version holds an invalid column";
	*length += rest;
	return code & 1;
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
