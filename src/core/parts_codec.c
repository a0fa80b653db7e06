/*
 * parts_codec.c
 *		The section PARTS of a version's bytes: the columns that are not
 *		registers.
 *
 *		column, until the end of the version
 *		column:		id * 8 + kind, since, content
 *		since:		0, or node, age
 *		counter:	n, n * (node, length, bytes)
 *		set:		runs, runs * (elements, dots, dots * (node, age))
 *		map:		runs, runs * (keys, dots, dots * (node, age))
 *					removed, removed * (length, bytes, dots, dots * (node, age))
 *		the others:	nothing
 *
 * A run is of neighbours with the same dots.  The column's own dot is what is
 * met most: a run that has just that one says "0 dots".  So a set that was written at once costs five bytes, whatever
 * its size, and a counter with one writer three.
 *
 * Canonical like the rest of a version (version_codec.c): sorted, runs maximal,
 * nothing stored that is implied; the reader refuses everything else.
 */
#include "core/version.h"
#include "core/version_private.h"

/* --- runs --- */

static bool
same_dots(const Part *a, const Part *b)
{
	if (a->ndots != b->ndots)
		return false;
	for (uint32_t i = 0; i < a->ndots; i++)
		if (!dot_equal(a->dots[i], b->dots[i]))
			return false;
	return true;
}

/* the length of the run that begins at part i; only what lives is in runs */
static uint32_t
run_length(const ColumnParts *cp, uint32_t i)
{
	uint32_t	n = 1;

	while (i + n < cp->nparts && !cp->parts[i + n].removed && same_dots(&cp->parts[i], &cp->parts[i + n]))
		n++;
	return n;
}

static uint32_t
count_living(const ColumnParts *cp)
{
	uint32_t	n = 0;

	while (n < cp->nparts && !cp->parts[n].removed)
		n++;
	return n;
}

static bool
is_implied(const Part *part, Dot own)
{
	return part->ndots == 1 && dot_equal(part->dots[0], own);
}

/* --- writing: p NULL measures --- */

typedef struct Output
{
	uint8_t    *p;
	size_t		bytes;
} Output;

static void
out_varint(Output *o, uint64_t v)
{
	if (o->p)
		o->p = put_varint(o->p, v);
	o->bytes += varint_bytes(v);
}

static void
out_bytes(Output *o, const uint8_t *bytes, uint32_t len)
{
	out_varint(o, len);
	if (o->p && len > 0)
	{
		memcpy(o->p, bytes, len);
		o->p += len;
	}
	o->bytes += len;
}

static void
out_dot(Output *o, const Version *v, Dot d)
{
	if (o->p)
		o->p = put_dot(v, o->p, d);
	o->bytes += dot_bytes(v, d);
}

static void
out_runs(Output *o, const Version *v, const ColumnParts *cp)
{
	Dot			own = version_column_dot(v, cp->col);
	uint32_t	living = count_living(cp);
	uint32_t	runs = 0;

	for (uint32_t i = 0; i < living; i += run_length(cp, i))
		runs++;
	out_varint(o, runs);
	for (uint32_t i = 0; i < living; i += run_length(cp, i))
	{
		const Part *part = &cp->parts[i];

		out_varint(o, run_length(cp, i));
		if (is_implied(part, own))
			out_varint(o, 0);
		else
		{
			out_varint(o, part->ndots);
			for (uint32_t d = 0; d < part->ndots; d++)
				out_dot(o, v, part->dots[d]);
		}
	}
	if (cp->kind != KIND_MAP)
		return;
	out_varint(o, cp->nparts - living);
	for (uint32_t i = living; i < cp->nparts; i++)
	{
		out_bytes(o, cp->parts[i].bytes, cp->parts[i].len);
		out_varint(o, cp->parts[i].ndots);
		for (uint32_t d = 0; d < cp->parts[i].ndots; d++)
			out_dot(o, v, cp->parts[i].dots[d]);
	}
}

static void
out_column(Output *o, const Version *v, const ColumnParts *cp)
{
	out_varint(o, (uint64_t) cp->col * 8 + cp->kind);
	if (cp->since.hlc == 0)
		out_varint(o, 0);
	else
		out_dot(o, v, (Dot) {cp->since.hlc, cp->since.node});
	if (cp->kind == KIND_COUNTER)
	{
		out_varint(o, cp->nparts);
		for (uint32_t i = 0; i < cp->nparts; i++)
		{
			out_varint(o, cp->parts[i].node);
			out_bytes(o, cp->parts[i].bytes, cp->parts[i].len);
		}
	}
	else if (cp->kind == KIND_SET || cp->kind == KIND_MAP)
		out_runs(o, v, cp);
}

static void
out_section(Output *o, const Version *v)
{
	for (int p = 0; p < v->nparts; p++)
		out_column(o, v, &v->parts[p]);
}

size_t
parts_bytes(const Version *v)
{
	Output		o = {NULL, 0};

	out_section(&o, v);
	return o.bytes;
}

uint8_t *
parts_put(const Version *v, uint8_t *p)
{
	Output		o = {p, 0};

	out_section(&o, v);
	return o.p;
}

/* --- reading --- */

/* room for n more parts of the version; all of them count */
static bool
may_have(Input *in, uint64_t n, uint64_t *total)
{
	if (!in->error && n > VERSION_MAX_PARTS - *total)
		in->error = "version has too many parts";
	if (in->error)
		return false;
	*total += n;
	return true;
}

static Dot
get_covered_dot(Input *in, const Version *v)
{
	Dot			d = get_dot(in, v->last);

	if (!in->error && !version_may_cover(v, d))
		in->error = "dot of a part is not covered";
	return d;
}

static void
get_bytes(Input *in, Part *part)
{
	uint64_t	len = get_varint(in);

	if (in->error)
		return;
	if (len > PART_MAX_BYTES || len > (uint64_t) (in->end - in->p))
	{
		in->error = "version is truncated";
		return;
	}
	/* copied: versions outlive the tuples and frames that they come in */
	if (len > 0)
		part->bytes = memcpy(core_alloc(len), in->p, len);
	part->len = (uint32_t) len;
	in->p += len;
}

static void
get_shares(Input *in, Version *v, ColumnParts *cp, uint64_t *total)
{
	uint64_t	n = get_varint(in);
	NodeId		previous = 0;

	if (!in->error && (n > VERSION_MAX_WRITERS || n > (uint64_t) (in->end - in->p)))
		in->error = "counter has an impossible number of contributions";
	if (!may_have(in, n, total))
		return;
	cp->parts = core_alloc(sizeof(Part) * (n + 1));
	for (uint64_t i = 0; i < n && !in->error; i++)
	{
		Part	   *part = &cp->parts[i];
		uint64_t	node = get_varint(in);

		memset(part, 0, sizeof(Part));
		get_bytes(in, part);
		if (in->error)
			return;
		if (node <= previous || node > UINT32_MAX || part->len == 0 ||
			node == version_column_dot(v, cp->col).node || version_entry(v, (NodeId) node) == 0)
			in->error = "contributions to a counter are not in order or not covered";
		part->node = (NodeId) node;
		previous = (NodeId) node;
		cp->nparts++;
	}
}

/* n dots, as the kind may have them */
static void
get_dots(Input *in, Version *v, const ColumnParts *cp, uint64_t n, Part *part)
{
	if (!in->error && (n == 0 || (cp->kind == KIND_MAP && n > MAP_MAX_DOTS)))
		in->error = "key of a map has an impossible number of dots";
	if (!in->error && n > (uint64_t) (in->end - in->p))
		in->error = "version is truncated";
	if (in->error)
		return;
	part->dots = core_alloc(sizeof(Dot) * n);
	for (uint64_t d = 0; d < n && !in->error; d++)
	{
		part->dots[d] = get_covered_dot(in, v);
		if (!in->error && d > 0 && dot_compare(part->dots[d - 1], part->dots[d]) >= 0)
			in->error = "dots of an element are not in order";
		part->ndots++;
	}
}

/* the dots of a run, which its parts share */
static Part
get_run(Input *in, Version *v, ColumnParts *cp)
{
	Dot			own = version_column_dot(v, cp->col);
	Part		part = {0};
	uint64_t	n = get_varint(in);

	if (!in->error && n == 0)
	{
		part.ndots = 1;
		part.dots = core_alloc(sizeof(Dot));
		part.dots[0] = own;
		return part;
	}
	get_dots(in, v, cp, n, &part);
	if (!in->error && is_implied(&part, own))
		in->error = "dots are stored that are implied";
	return part;
}

static void
add_parts(ColumnParts *cp, Part part, uint64_t n)
{
	Part	   *grown = core_alloc(sizeof(Part) * (cp->nparts + n));

	if (cp->nparts > 0)
		memcpy(grown, cp->parts, sizeof(Part) * cp->nparts);
	cp->parts = grown;
	for (uint64_t i = 0; i < n; i++)
		cp->parts[cp->nparts++] = part;
}

static void
get_runs(Input *in, Version *v, ColumnParts *cp, uint64_t *total)
{
	uint64_t	runs = get_varint(in);
	uint64_t	all = 0;
	uint64_t   *lengths;
	Part	   *firsts;

	if (!in->error && runs > (uint64_t) (in->end - in->p))
		in->error = "version is truncated";
	/* a run counts once here, the rest of its parts below */
	if (!may_have(in, in->error ? 0 : runs, total))
		return;
	firsts = core_alloc(sizeof(Part) * (runs + 1));
	lengths = core_alloc(sizeof(uint64_t) * (runs + 1));
	for (uint64_t r = 0; r < runs; r++)
	{
		lengths[r] = get_varint(in);
		if (!in->error && lengths[r] == 0)
			in->error = "version has an empty run";
		if (!may_have(in, in->error ? 0 : lengths[r] - 1, total))
			return;
		firsts[r] = get_run(in, v, cp);
		if (!in->error && r > 0 && same_dots(&firsts[r - 1], &firsts[r]))
			in->error = "version has runs that touch";
		if (in->error)
			return;
		all += lengths[r];
	}
	cp->parts = core_alloc(sizeof(Part) * (all + 1));
	for (uint64_t r = 0; r < runs; r++)
		for (uint64_t i = 0; i < lengths[r]; i++)
			cp->parts[cp->nparts++] = firsts[r];
}

static void
get_removed(Input *in, Version *v, ColumnParts *cp, uint64_t *total)
{
	uint64_t	n = get_varint(in);
	uint32_t	living = cp->nparts;

	if (!in->error && n > (uint64_t) (in->end - in->p))
		in->error = "version is truncated";
	if (!may_have(in, in->error ? 0 : n, total) || n == 0)
		return;
	add_parts(cp, (Part) {0}, n);
	cp->nparts = living;
	for (uint64_t i = 0; i < n; i++)
	{
		Part	   *part = &cp->parts[cp->nparts];

		get_bytes(in, part);
		part->removed = true;
		get_dots(in, v, cp, in->error ? 0 : get_varint(in), part);
		if (in->error)
			return;
		if (i > 0 && (part[-1].len > part->len ||
					  (part[-1].len == part->len && (part->len == 0 || memcmp(part[-1].bytes, part->bytes, part->len) >= 0))))
			in->error = "removed keys are not in order";
		cp->nparts++;
	}
}

static void
get_column(Input *in, Version *v, ColumnParts *cp, uint64_t *total)
{
	uint64_t	head = get_varint(in);
	const uint8_t *start = in->p;

	memset(cp, 0, sizeof(*cp));
	if (!in->error && (head / 8 == 0 || head / 8 > VERSION_MAX_COLUMNS ||
					   head % 8 == KIND_LWW || head % 8 > KIND_LAST))
		in->error = "version has parts of an invalid column";
	if (in->error)
		return;
	cp->col = (uint16_t) (head / 8);
	cp->kind = (uint8_t) (head % 8);
	if (get_varint(in) != 0 && !in->error)
	{
		Dot			d;

		in->p = start;
		d = get_covered_dot(in, v);
		cp->since.hlc = d.hlc;
		cp->since.node = d.node;
	}
	if (in->error)
		return;
	if (cp->kind == KIND_COUNTER)
		get_shares(in, v, cp, total);
	else if (cp->kind == KIND_SET || cp->kind == KIND_MAP)
	{
		get_runs(in, v, cp, total);
		if (!in->error && cp->kind == KIND_MAP)
			get_removed(in, v, cp, total);
	}
}

void
parts_get(Input *in, Version *v)
{
	uint64_t	total = 0;
	int			cap = 0;

	if (in->p == in->end)
		in->error = "version is truncated";
	while (!in->error && in->p < in->end)
	{
		if (v->nparts == cap)
		{
			ColumnParts *grown = core_alloc(sizeof(ColumnParts) * (cap + 4) * 2);

			if (cap > 0)
				memcpy(grown, v->parts, sizeof(ColumnParts) * cap);
			v->parts = grown;
			cap = (cap + 4) * 2;
		}
		/* ids grow, so that there are no more columns than there may be */
		get_column(in, v, &v->parts[v->nparts], &total);
		if (!in->error && v->nparts > 0 && v->parts[v->nparts - 1].col >= v->parts[v->nparts].col)
			in->error = "columns with parts are not in order";
		v->nparts++;
	}
}
