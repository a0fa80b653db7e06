/*
 * rename.c
 *		One node's writes since a moment become another's.
 *
 * An entry of a vector says "all of that node's writes up to here", which makes
 * sense as long as there is one line of them.  A node that was set back (its disk,
 * its virtual machine) and wrote on before it knew has begun a second line under
 * one id: its entry claims the writes of the first that it has lost.  Where two
 * such lines meet, nobody can tell what a state includes.
 *
 * They can be told apart as long as they have not met: what was written since the
 * start after which it did not know is the second line, by its stamps.  So that
 * line gets an id of its own, under which it has been written all along, as far as
 * anybody else will ever know:
 *
 *		dots		(h, from), h >= since		-> (h, to)
 *		vector		from: h, h >= since			-> from: held, to: h
 *
 * The stamps stay, so that the order of dots stays what it was but for equal stamps,
 * and no value changes.  "held" is what the writer held of its own writes
 * when it started; what was written on top of a row included that much of it.  If the
 * state itself tells of a later one that it includes, that counts.  To claim less than is true costs
 * a merge that ends as it would have, since each part is merged by its own dot; to claim
 * more loses writes.
 *
 * Renaming twice is renaming once, and what is written meanwhile under the new id,
 * on top of states that are still to be renamed, is renamed right as well: the
 * entry of "to" is the greater of both.  So it may be done row by row, beside
 * writers, and be begun anew after a crash.
 */
#include "core/rename.h"

bool
version_must_rename(const VersionRename *r, const Version *v)
{
	return version_entry(v, r->from) >= r->since ||
		(v->last.node == r->from && v->last.hlc >= r->since);
}

static void
sort_dots(Dot *dots, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++)
	{
		Dot			d = dots[i];
		uint32_t	at = i;

		for (; at > 0 && dot_compare(dots[at - 1], d) > 0; at--)
			dots[at] = dots[at - 1];
		dots[at] = d;
	}
}

/* a copy of the dots, renamed; *held grows to the latest that is not */
static Dot *
rename_dots(const VersionRename *r, const Dot *dots, uint32_t n, Hlc *held)
{
	Dot		   *out = core_alloc(sizeof(Dot) * (n + 1));

	for (uint32_t i = 0; i < n; i++)
	{
		out[i] = dot_rename(r, dots[i]);
		if (out[i].node == r->from && out[i].hlc > *held)
			*held = out[i].hlc;
	}
	sort_dots(out, n);
	return out;
}

static void
rename_parts(const VersionRename *r, const Version *v, Version *out, Hlc *held)
{
	out->parts = core_alloc(sizeof(ColumnParts) * (v->nparts + 1));
	for (int p = 0; p < v->nparts; p++)
	{
		ColumnParts *parts = &out->parts[p];
		Dot			since = dot_rename(r, (Dot) {v->parts[p].since.hlc, v->parts[p].since.node});

		*parts = v->parts[p];
		parts->since = (PartsSince) {since.hlc, since.node};
		parts->parts = core_alloc(sizeof(Part) * (parts->nparts + 1));
		for (uint32_t i = 0; i < parts->nparts; i++)
		{
			parts->parts[i] = v->parts[p].parts[i];
			if (parts->parts[i].ndots > 0)
				parts->parts[i].dots = rename_dots(r, parts->parts[i].dots, parts->parts[i].ndots, held);
		}
	}
}

/* the entry of "from" is divided; last, when all dots that the state tells of are known */
static void
rename_vector(const VersionRename *r, const Version *v, Hlc held, Version *out)
{
	Hlc			entry = version_entry(v, r->from);
	Hlc			of_to = version_entry(v, r->to);
	Dot			both[2] = {{held, r->from}, {entry > of_to ? entry : of_to, r->to}};

	out->vv = core_alloc(sizeof(Dot) * (v->nvv + 2));
	out->nvv = 0;
	for (int i = 0; i < v->nvv; i++)
		if (v->vv[i].node != r->from && v->vv[i].node != r->to)
			out->vv[out->nvv++] = v->vv[i];
	for (int k = 0; k < 2; k++)
	{
		int			at = out->nvv;

		/* where there is no room, less is claimed */
		if (both[k].hlc == 0 || (both[k].node == r->from && v->nvv >= VERSION_MAX_WRITERS))
			continue;
		for (; at > 0 && out->vv[at - 1].node > both[k].node; at--)
			out->vv[at] = out->vv[at - 1];
		out->vv[at] = both[k];
		out->nvv++;
	}
}

void
version_rename(const VersionRename *r, const Version *v, Version *out)
{
	Hlc			held = r->held;

	*out = *v;
	if (!version_must_rename(r, v))
		return;
	out->last = dot_rename(r, v->last);
	out->cols = core_alloc(sizeof(ColumnDot) * (v->ncols + 1));
	for (int c = 0; c < v->ncols; c++)
	{
		out->cols[c].col = v->cols[c].col;
		out->cols[c].dot = dot_rename(r, v->cols[c].dot);
		if (out->cols[c].dot.node == r->from && out->cols[c].dot.hlc > held)
			held = out->cols[c].dot.hlc;
	}
	out->live = rename_dots(r, v->live, v->nlive, &held);
	rename_parts(r, v, out, &held);
	rename_vector(r, v, held, out);
}
