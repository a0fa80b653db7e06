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
 * so writes that it never had: they are dead.
 *
 * A row that is born while its table has ranges includes them: what they killed, and
 * may live where they have not come yet, must not keep it alive (update_wins).  Its
 * columns with parts (core/parts.c) begin a new generation, since the latest range:
 * else they would be joined with those of rows that outlived it, in one way where the
 * killed writes are known of, in another where they are not.  Registers under last_wins
 * need neither.
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
	/* a writer's later entry hides its earlier one, but not where that wrote a column */
	for (int c = 0; c < v->ncols && !in; c++)
		in = version_covers(range, v->cols[c].dot);
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

void
range_begin(Version *v, const Version *ranges, int n)
{
	Dot			latest = {0, 0};

	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
	{
		*v = range_join(v, ranges[i].vv, ranges[i].nvv);
		if (dot_compare(ranges[i].last, latest) > 0)
			latest = ranges[i].last;
	}
	for (int p = 0; p < v->nparts; p++)
		v->parts[p].since = (PartsSince) {latest.hlc, latest.node};
}
