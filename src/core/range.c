/*
 * range.c
 *		Range tombstones: what one version says of all rows of a table.
 *
 * A TRUNCATE leaves one version, whose vector is what the node held that did it,
 * and which kills every state that it includes, whenever that arrives.
 *
 * Rows are pruned under a horizon, and of what was dropped nobody can tell whether
 * it was included in the range, unless the whole horizon is.  It is, wherever this
 * matters: a node that has not had the range yet has heard of its writer only what
 * he held before, so that its horizon lies within the range; and a row that was
 * pruned under a later horizon has met the range, and lives.  For this the range
 * must include all that its writer had said to hold, not only what rows show.
 *
 * A row that was changed beside the TRUNCATE is written again by who meets it, as a
 * successor of both (apply/range_merge.c).  Its vector includes the range's then, and
 * so writes that it never had: they are dead.  It may hold some of them, too, which
 * live on in it.  Others have dropped those, and say so by their vectors: by the range,
 * and by any write of theirs on what was left to them.  Where a vector that lacks
 * something decides that it is gone, the successor therefore holds it as a write of
 * its own: the elements of a set take its dot; and so does the ground of a column,
 * which begins a new generation (core/parts.c), if the range covers the write that
 * laid it.  Registers and the keys of a map keep their dots: of two the later stays,
 * whoever has seen what; a key has the successor's besides, since who lacks it may
 * have forgotten its removal (horizon.c).  So do a counter's contributions: of one node's the one
 * counts that goes with the later entry, or none.
 *
 * The successor must not win where the row beside the TRUNCATE would have lost: its own
 * dot is later than that of many a write that it has not seen.  So under last_wins
 * the row's life, and all of it in row mode, keeps the dot that it had.  (A row in
 * row mode under update_wins has no place for it.)
 *
 * None of this can be told to a node that has merged the successor, or anything that
 * was written after the range, before it has the range itself: it may hold what was
 * killed in a row that the successor includes in part.  So a range travels ahead of
 * what was written under it, on every way (send/plugin.c, delta/frames.c,
 * apply/sql_state.c, apply/fetch.c): every state is preceded by all that are in force
 * where it is read, not only by those that it includes.
 *
 * A row that is born while its table has ranges includes them: what they killed must
 * not keep it alive (update_wins), nor any element in its sets, where somebody has
 * carried its state past the range.  Registers under last_wins do not need that.
 */
#include "core/range.h"

bool
range_covers(const Version *range, const Version *v)
{
	VersionOrder order = version_compare(v, range);

	return order == VERSION_BEFORE || order == VERSION_EQUAL;
}

bool
range_was_outlived(const Version *range, const Version *v)
{
	bool		in = v->pruned;
	bool		out = false;

	if (version_covers(v, range->last))
		return false;
	for (int i = 0; i < v->nvv; i++)
	{
		if (version_covers(range, v->vv[i]))
			in = true;
		else
			out = true;
	}
	/* a writer's later entry hides its earlier one, but not where that wrote a column, or decides over life */
	for (int c = 0; c < v->ncols && !in; c++)
		in = version_covers(range, v->cols[c].dot);
	for (int i = 0; i < v->nlive && !in; i++)
		in = version_covers(range, v->live[i]);
	return in && out;
}

Version
range_join(const Version *a, const Dot *dots, int ndots)
{
	Version		out = *a;
	int			i = 0;
	int			j = 0;

	out.vv = core_alloc(sizeof(Dot) * (a->nvv + ndots));
	out.nvv = 0;
	while (i < a->nvv || j < ndots)
	{
		if (j >= ndots || (i < a->nvv && a->vv[i].node < dots[j].node))
			out.vv[out.nvv++] = a->vv[i++];
		else if (i >= a->nvv || dots[j].node < a->vv[i].node)
			out.vv[out.nvv++] = dots[j++];
		else
		{
			out.vv[out.nvv++] = a->vv[i].hlc > dots[j].hlc ? a->vv[i] : dots[j];
			i++;
			j++;
		}
	}
	return out;
}

/* what the range covers, but lives on in v, becomes a write at d */
static void
take_over(Version *v, const Version *range, Dot d)
{
	for (int p = 0; p < v->nparts; p++)
	{
		ColumnParts *cp = &v->parts[p];
		Part	   *parts;

		if (cp->since.hlc != 0 && version_covers(range, (Dot) {cp->since.hlc, cp->since.node}))
			cp->since = (PartsSince) {d.hlc, d.node};
		if (cp->kind != KIND_SET && cp->kind != KIND_MAP)
			continue;
		parts = core_alloc(sizeof(Part) * (cp->nparts + 1));
		for (uint32_t i = 0; i < cp->nparts; i++)
		{
			const Part *old = &cp->parts[i];

			parts[i] = *old;
			parts[i].dots = core_alloc(sizeof(Dot) * (old->ndots + 1));
			parts[i].ndots = 0;
			for (uint32_t j = 0; j < old->ndots; j++)
				if ((cp->kind == KIND_MAP && j == 0) || !version_covers(range, old->dots[j]))
					parts[i].dots[parts[i].ndots++] = old->dots[j];

			/* d is the latest: they stay sorted */
			if (parts[i].ndots < old->ndots ||
				(cp->kind == KIND_MAP && version_covers(range, parts[i].dots[parts[i].ndots - 1])))
				parts[i].dots[parts[i].ndots++] = d;
		}
		cp->parts = parts;
	}
}

void
range_succeed(const Version *v, const Version *range, Dot d, const uint16_t *ids, int n,
			  bool track_columns, bool update_wins, bool alive, Version *out)
{
	Version		joined = range_join(v, range->vv, range->nvv);

	version_touch(&joined, d, ids, n, track_columns, update_wins, alive, out);
	take_over(out, range, d);
}

void
range_begin(Version *v, const Version *ranges, int n)
{
	for (int i = 0; i < n; i++)
		*v = range_join(v, ranges[i].vv, ranges[i].nvv);
}
