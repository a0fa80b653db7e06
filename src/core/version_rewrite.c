/*
 * version_rewrite.c
 *		A local write, from the bytes of a version to the bytes of the next.
 *
 * By far most writes meet a version of one writer, who is the one that writes
 * again, with at most one group of older columns:
 *
 *		[dot]					all columns written at once
 *		[dot][COLS 1 group]		some written since
 *
 * and leave one of the same two forms: the columns that are not written now are
 * all of one dot.  Then there is nothing to expand, to sort or to allocate.
 * Everything else is left to version_decode, version_write and version_encode;
 * the unit tests compare the two ways.
 */
#include "core/version.h"
#include "core/version_private.h"

/* the only group of columns that is older than the last dot */
typedef struct Group
{
	Dot			dot;
	const uint8_t *runs;		/* their number and they, as they lie */
	const uint8_t *end;
} Group;

/* a varint that version_decode would take, or false */
static bool
get(const uint8_t **p, const uint8_t *end, uint64_t *v)
{
	*v = 0;
	for (int shift = 0; shift < 63 && *p < end; shift += 7)
	{
		uint8_t		b = *(*p)++;

		*v |= (uint64_t) (b & 0x7f) << shift;
		if (!(b & 0x80))
			return b != 0 || shift == 0;
	}
	return false;
}

static bool
read_group(const uint8_t *p, const uint8_t *end, Dot last, Group *group)
{
	uint64_t	n;
	uint64_t	node;
	uint64_t	age;

	if (!get(&p, end, &n) || n != 1 || !get(&p, end, &node) || node != last.node ||
		!get(&p, end, &age) || age == 0 || age >= last.hlc)
		return false;
	group->dot.node = last.node;
	group->dot.hlc = last.hlc - age;
	group->runs = p;
	group->end = end;
	return true;
}

/* are the group's columns all that are not written now, and no others? */
static bool
is_rest(const Group *group, const uint16_t *changed, int nchanged, const uint16_t *all, int nall)
{
	const uint8_t *p = group->runs;
	uint64_t	nruns;
	uint64_t	gap = 0;
	uint64_t	length;
	uint64_t	col = 0;
	int			a = 0;
	int			c = 0;

	if (!get(&p, group->end, &nruns))
		return false;
	while (nruns-- > 0)
	{
		if (!get(&p, group->end, &gap) || !get(&p, group->end, &length) ||
			gap > VERSION_MAX_COLUMNS || length > VERSION_MAX_COLUMNS)
			return false;
		for (col += gap; length > 0; length--, col++, a++)
		{
			for (; a < nall && all[a] < col; a++)
				if (c >= nchanged || changed[c++] != all[a])
					return false;
			if (a >= nall || all[a] != col)
				return false;
		}
	}
	for (; a < nall; a++)
		if (c >= nchanged || changed[c++] != all[a])
			return false;
	return c == nchanged && p == group->end;
}

/* the runs of the columns that are not written now; they are not none */
static uint8_t *
put_rest(uint8_t *p, const uint16_t *changed, int nchanged, const uint16_t *all, int nall)
{
	uint8_t    *count = p;
	uint16_t	end = 0;
	int			nruns = 0;
	int			c = 0;

	p += 2;						/* nruns takes two bytes from 128 on: see below */
	for (int a = 0; a < nall;)
	{
		uint16_t	start = all[a];
		int			length = 0;

		if (c < nchanged && changed[c] == start)
		{
			a++;
			c++;
			continue;
		}
		while (a < nall && all[a] == start + length && !(c < nchanged && changed[c] == all[a]))
		{
			length++;
			a++;
		}
		p = put_varint(p, start - end);
		p = put_varint(p, length);
		end = start + length;
		nruns++;
	}
	if (nruns >= 128)
	{
		put_varint(count, nruns);
		return p;
	}
	*count = (uint8_t) nruns;
	memmove(count + 1, count + 2, p - (count + 2));
	return p - 1;
}

size_t
version_rewrite(const uint8_t *in, size_t n, Dot d, const uint16_t *changed, int nchanged,
				const uint16_t *all, int nall, bool track_columns, uint8_t *out)
{
	Dot			last;
	Group		group;
	bool		grouped = false;
	uint8_t    *p = out + VERSION_SIMPLE_BYTES;

	if (n < VERSION_SIMPLE_BYTES)
		return 0;
	last = version_get_last(in);
	if (last.node != d.node || last.hlc >= d.hlc || last.hlc == 0)
		return 0;
	if (n > VERSION_SIMPLE_BYTES)
	{
		if (in[VERSION_SIMPLE_BYTES] != VERSION_FLAG_COLS ||
			!read_group(in + VERSION_SIMPLE_BYTES + 1, in + n, last, &group))
			return 0;
		grouped = true;
	}

	version_put_dot(out, d);
	if (!track_columns || nchanged == nall)
		return VERSION_SIMPLE_BYTES;
	if (grouped && !is_rest(&group, changed, nchanged, all, nall))
		return 0;
	*p++ = VERSION_FLAG_COLS;
	*p++ = 1;
	p = put_varint(p, d.node);
	p = put_varint(p, d.hlc - (grouped ? group.dot : last).hlc);
	if (!grouped)
		return put_rest(p, changed, nchanged, all, nall) - out;
	memcpy(p, group.runs, group.end - group.runs);
	return p + (group.end - group.runs) - out;
}
