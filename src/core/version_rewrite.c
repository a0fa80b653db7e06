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
	const uint8_t *runs;		/* as they lie */
	const uint8_t *end;
} Group;

static bool
read_group(const uint8_t *p, const uint8_t *end, Dot last, Group *group)
{
	Input		in = {p, end, NULL};

	if (get_varint(&in) != 1 || in.error)
		return false;
	group->dot = get_dot(&in, last);
	group->runs = in.p;
	group->end = end;
	return !in.error && group->dot.node == last.node && group->dot.hlc != last.hlc;
}

/* are the group's columns all that are not written now, and no others? */
static bool
is_rest(const Group *group, const uint16_t *changed, int nchanged, const uint16_t *all, int nall)
{
	Input		in = {group->runs, group->end, NULL};
	uint64_t	col = 0;
	int			a = 0;
	int			c = 0;
	bool		more = true;

	while (more)
	{
		uint64_t	gap;
		uint64_t	length;

		more = get_column_run(&in, &gap, &length);
		if (in.error)
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
	return c == nchanged && in.p == group->end;
}

/* the next run of columns that are not written now, from all[*a] on; false if there is none */
static bool
next_rest(const uint16_t *changed, int nchanged, int *c, const uint16_t *all, int nall, int *a,
		  uint16_t *start, uint16_t *length)
{
	for (; *a < nall && *c < nchanged && changed[*c] == all[*a]; (*a)++)
		(*c)++;
	if (*a == nall)
		return false;
	*start = all[*a];
	*length = 0;
	while (*a < nall && all[*a] == *start + *length && !(*c < nchanged && changed[*c] == all[*a]))
	{
		(*length)++;
		(*a)++;
	}
	return true;
}

/* the runs of the columns that are not written now; they are not none */
static uint8_t *
put_rest(uint8_t *p, const uint16_t *changed, int nchanged, const uint16_t *all, int nall)
{
	uint16_t	end = 0;
	uint16_t	start;
	uint16_t	length;
	int			a = 0;
	int			c = 0;
	bool		more = next_rest(changed, nchanged, &c, all, nall, &a, &start, &length);

	while (more)
	{
		uint16_t	gap = start - end;
		uint16_t	n = length;

		end = start + length;
		more = next_rest(changed, nchanged, &c, all, nall, &a, &start, &length);
		p = put_column_run(p, gap, n, more);
	}
	return p;
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
	*p++ = DOT_OF_LAST_NODE;
	p = put_age(p, d.hlc - (grouped ? group.dot : last).hlc);
	if (!grouped)
		return put_rest(p, changed, nchanged, all, nall) - out;
	memcpy(p, group.runs, group.end - group.runs);
	return p + (group.end - group.runs) - out;
}
