/*
 * version_codec.c
 *		The bytes in which versions are kept and sent.
 *
 * The payload of a ferry.version, after the varlena header:
 *
 *		0        8      12
 *		+--------+------+
 *		| hlc    | node |							one writer, one dot for all
 *		+--------+------+-------+----+------+------+
 *		| hlc    | node | flags | VV | COLS | LIVE |	the rest
 *		+--------+------+-------+----+------+------+
 *
 * hlc and node of the last dot are big-endian, so that versions compare by
 * memcmp as their last dots do.  Each section is there if its flag is set:
 *
 *	VV		n, n * (node, age)				every writer but last.node
 *	COLS	n, n * (node, age, runs)		groups of columns by dot
 *	LIVE	n, n * (node, age)				dots that keep the row alive
 *	PRUNED	no section: entries of VV were dropped under the horizon
 *	PARTS	see parts_codec.c; the last			columns that are not registers
 *
 * All of these are LEB128 varints.  "node" is the node plus one, or 1 for last.node.  "age" is
 * last.hlc minus the stamp, for a dot is never later than the last one: the
 * microseconds, doubled; plus one, if the counters below them differ, and then
 * that difference.  A group names its columns as runs of column
 * ids, a byte each for most: the distance from the end of the run before (from 0
 * at first), the number of ids, whether another follows (version_private.h).  So a
 * wide row of which one column was written since its birth pays for one dot and
 * two runs, whatever its width: 10 bytes within some hours.
 *
 * The form is canonical: VV is sorted by node, groups by dot from the latest
 * down, runs are maximal, varints are shortest, nothing is stored that equals
 * the last dot, no section is empty but LIVE, whose absence means "the last dot
 * if alive".  The decoder refuses everything else, so that equal versions have
 * equal bytes on all nodes and bytes can be compared and fingerprinted.
 */
#include "core/version.h"
#include "core/version_private.h"

#define FLAG_VV 0x01
#define FLAG_COLS VERSION_FLAG_COLS
#define FLAG_LIVE 0x04
#define FLAG_PRUNED 0x08
#define FLAG_PARTS 0x10
#define FLAGS_KNOWN (FLAG_VV | FLAG_COLS | FLAG_LIVE | FLAG_PRUNED | FLAG_PARTS)

/* --- bytes --- */

/* written out, compilers see that it is one instruction */
static inline void
put_u32(uint8_t *out, uint32_t v)
{
	out[0] = (uint8_t) (v >> 24);
	out[1] = (uint8_t) (v >> 16);
	out[2] = (uint8_t) (v >> 8);
	out[3] = (uint8_t) v;
}

static inline uint32_t
get_u32(const uint8_t *in)
{
	return (uint32_t) in[0] << 24 | (uint32_t) in[1] << 16 | (uint32_t) in[2] << 8 | in[3];
}

void
version_put_dot(uint8_t *out, Dot d)
{
	put_u32(out, (uint32_t) (d.hlc >> 32));
	put_u32(out + 4, (uint32_t) d.hlc);
	put_u32(out + 8, d.node);
}

Dot
version_get_last(const uint8_t *in)
{
	Dot			d;

	d.hlc = (uint64_t) get_u32(in) << 32 | get_u32(in + 4);
	d.node = get_u32(in + 8);
	return d;
}

/*
 * The distinct dots of cols, latest first, in groups[]; returns how many.  The
 * columns of a group are found by going through cols again: there are few
 * groups.
 */
static int
column_groups(const Version *v, Dot *groups)
{
	int			n = 0;

	for (int c = 0; c < v->ncols; c++)
	{
		Dot			d = v->cols[c].dot;
		int			at = 0;

		while (at < n && dot_compare(groups[at], d) > 0)
			at++;
		if (at < n && dot_equal(groups[at], d))
			continue;
		memmove(&groups[at + 1], &groups[at], sizeof(Dot) * (n - at));
		groups[at] = d;
		n++;
	}
	return n;
}

/* the next run of a group's columns, from cols[*c] on; false if there is none */
static bool
next_run(const Version *v, Dot d, int *c, int *start, int *length)
{
	while (*c < v->ncols && !dot_equal(v->cols[*c].dot, d))
		(*c)++;
	if (*c == v->ncols)
		return false;
	*start = v->cols[*c].col;
	*length = 0;
	while (*c < v->ncols && dot_equal(v->cols[*c].dot, d) && v->cols[*c].col == *start + *length)
	{
		(*length)++;
		(*c)++;
	}
	return true;
}

/* write (p not NULL) or measure one group's runs; returns the bytes */
static size_t
column_runs(const Version *v, Dot d, uint8_t *p)
{
	size_t		bytes = 0;
	int			end = 0;		/* first id after the last run */
	int			c = 0;
	int			start;
	int			length;
	bool		more = next_run(v, d, &c, &start, &length);

	while (more)
	{
		int			gap = start - end;
		int			n = length;

		end = start + length;
		more = next_run(v, d, &c, &start, &length);
		if (p)
			p = put_column_run(p, gap, n, more);
		bytes += column_run_bytes(gap, n, more);
	}
	return bytes;
}

/* LIVE is left out where it says nothing: the last dot alone, or none */
static bool
live_is_stored(const Version *v)
{
	return v->nlive > 1 || (v->nlive == 1 && !dot_equal(v->live[0], v->last));
}

static bool
is_simple(const Version *v)
{
	return v->nvv <= 1 && v->ncols == 0 && !live_is_stored(v) && v->nparts == 0 && !v->pruned;
}

size_t
version_encoded_bytes(const Version *v)
{
	size_t		bytes = VERSION_SIMPLE_BYTES;

	if (is_simple(v))
		return bytes;
	bytes++;
	if (v->nvv > 1)
	{
		bytes += varint_bytes(v->nvv - 1);
		for (int i = 0; i < v->nvv; i++)
			if (v->vv[i].node != v->last.node)
				bytes += dot_bytes(v, v->vv[i]);
	}
	if (v->ncols > 0)
	{
		Dot		   *groups = core_alloc(sizeof(Dot) * v->ncols);
		int			n = column_groups(v, groups);

		bytes += varint_bytes(n);
		for (int g = 0; g < n; g++)
			bytes += dot_bytes(v, groups[g]) + column_runs(v, groups[g], NULL);
	}
	if (live_is_stored(v))
	{
		bytes += varint_bytes(v->nlive);
		for (int i = 0; i < v->nlive; i++)
			bytes += dot_bytes(v, v->live[i]);
	}
	if (v->nparts > 0)
		bytes += parts_bytes(v);
	return bytes;
}

size_t
version_encode(const Version *v, uint8_t *out)
{
	uint8_t    *p = out + VERSION_SIMPLE_BYTES;
	uint8_t    *flags;

	version_put_dot(out, v->last);
	if (is_simple(v))
		return VERSION_SIMPLE_BYTES;
	flags = p++;
	*flags = v->pruned ? FLAG_PRUNED : 0;
	if (v->nvv > 1)
	{
		*flags |= FLAG_VV;
		p = put_varint(p, v->nvv - 1);
		for (int i = 0; i < v->nvv; i++)
			if (v->vv[i].node != v->last.node)
				p = put_dot(v, p, v->vv[i]);
	}
	if (v->ncols > 0)
	{
		Dot		   *groups = core_alloc(sizeof(Dot) * v->ncols);
		int			n = column_groups(v, groups);

		*flags |= FLAG_COLS;
		p = put_varint(p, n);
		for (int g = 0; g < n; g++)
		{
			p = put_dot(v, p, groups[g]);
			p += column_runs(v, groups[g], p);
		}
	}
	if (live_is_stored(v))
	{
		*flags |= FLAG_LIVE;
		p = put_varint(p, v->nlive);
		for (int i = 0; i < v->nlive; i++)
			p = put_dot(v, p, v->live[i]);
	}
	if (v->nparts > 0)
	{
		*flags |= FLAG_PARTS;
		p = parts_put(v, p);
	}
	return p - out;
}

/* --- reading back --- */

static void
get_vv(Input *in, Version *v)
{
	uint64_t	n = get_varint(in);
	NodeId		previous = 0;
	bool		placed = false;

	if (in->error)
		return;
	if (n == 0 || n >= VERSION_MAX_WRITERS || n > (uint64_t) (in->end - in->p))
	{
		in->error = "version has an impossible number of writers";
		return;
	}
	v->vv = core_alloc(sizeof(Dot) * (n + 1));
	v->nvv = 0;
	for (uint64_t i = 0; i < n; i++)
	{
		Dot			d = get_dot(in, v->last);

		if (in->error)
			return;
		if (d.node <= previous || d.node == v->last.node ||
			dot_compare(d, v->last) > 0)
		{
			in->error = "version vector is not in order";
			return;
		}
		if (!placed && d.node > v->last.node)
		{
			v->vv[v->nvv++] = v->last;
			placed = true;
		}
		v->vv[v->nvv++] = d;
		previous = d.node;
	}
	if (!placed)
		v->vv[v->nvv++] = v->last;
}

static void
get_cols(Input *in, Version *v)
{
	uint64_t	ngroups = get_varint(in);
	Dot			previous = v->last;
	int			cap = 0;

	if (!in->error && (ngroups == 0 || ngroups > VERSION_MAX_COLUMNS))
		in->error = "version has an impossible number of column dots";
	for (uint64_t g = 0; g < ngroups && !in->error; g++)
	{
		Dot			d = get_dot(in, v->last);
		uint64_t	end = 0;
		bool		more = true;

		if (in->error)
			return;
		if (dot_compare(d, previous) >= 0 || !version_may_cover(v, d))
		{
			in->error = "column dots are not in order or not covered";
			return;
		}
		previous = d;
		while (more)
		{
			uint64_t	gap;
			uint64_t	length;

			more = get_column_run(in, &gap, &length);
			if (in->error)
				return;
			/* ids start at 1; runs of one group do not touch */
			if (end + gap + length > VERSION_MAX_COLUMNS + 1 ||
				v->ncols + length > VERSION_MAX_COLUMNS)
			{
				in->error = "version holds an invalid column";
				return;
			}
			if (v->ncols + (int) length > cap)
			{
				int			more = (v->ncols + (int) length) * 2;
				ColumnDot  *grown = core_alloc(sizeof(ColumnDot) * more);

				if (v->ncols > 0)
					memcpy(grown, v->cols, sizeof(ColumnDot) * v->ncols);
				v->cols = grown;
				cap = more;
			}
			for (uint64_t c = 0; c < length; c++)
			{
				v->cols[v->ncols].col = (uint16_t) (end + gap + c);
				v->cols[v->ncols].dot = d;
				v->ncols++;
			}
			end += gap + length;
		}
	}
	if (in->error)
		return;
	if (ngroups > 1)
		version_sort_columns(v->cols, v->ncols);
	for (int c = 1; c < v->ncols; c++)
	{
		if (v->cols[c - 1].col == v->cols[c].col)
			in->error = "version names a column twice";
	}
}

static void
get_live(Input *in, Version *v)
{
	uint64_t	n = get_varint(in);

	if (in->error)
		return;
	if (n == 0 || n > VERSION_MAX_LIVE || n > (uint64_t) (in->end - in->p))
	{
		in->error = "version has an impossible number of live dots";
		return;
	}
	v->live = core_alloc(sizeof(Dot) * n);
	for (uint64_t i = 0; i < n; i++)
	{
		Dot			d = get_dot(in, v->last);

		if (in->error)
			return;
		if ((i > 0 && dot_compare(v->live[i - 1], d) >= 0) || !version_may_cover(v, d))
		{
			in->error = "live dots are not in order or not covered";
			return;
		}
		v->live[v->nlive++] = d;
	}
	if (!live_is_stored(v))
		in->error = "live dots are stored that are implied";
}

bool
version_decode(const uint8_t *in, size_t n, Version *out, const char **error)
{
	Input		input;
	uint8_t		flags;

	memset(out, 0, sizeof(*out));
	if (n < VERSION_SIMPLE_BYTES)
	{
		*error = "version is truncated";
		return false;
	}
	out->last = version_get_last(in);
	if (out->last.hlc == 0 || out->last.node == 0)
	{
		*error = "version holds an invalid dot";
		return false;
	}
	version_init(out, out->last);
	if (n == VERSION_SIMPLE_BYTES)
		return true;

	input.p = in + VERSION_SIMPLE_BYTES;
	input.end = in + n;
	input.error = NULL;
	flags = *input.p++;
	if (flags == 0 || (flags & ~FLAGS_KNOWN))
		input.error = "version has unknown flags";
	out->pruned = (flags & FLAG_PRUNED) != 0;
	if (!input.error && (flags & FLAG_VV))
		get_vv(&input, out);
	if (!input.error && (flags & FLAG_COLS))
		get_cols(&input, out);
	if (!input.error && (flags & FLAG_LIVE))
		get_live(&input, out);
	if (!input.error && (flags & FLAG_PARTS))
		parts_get(&input, out);
	if (!input.error && input.p != input.end)
		input.error = "version has bytes after its end";
	if (input.error)
	{
		*error = input.error;
		return false;
	}
	return true;
}
