/*
 * version.c
 *		Dots, version vectors, column dots: what they say and how a write changes
 *		them.  Their bytes are in version_codec.c.
 */
#include "core/horizon.h"
#include "core/version.h"
#include "core/version_private.h"

/* --- dots and vectors --- */

int
dot_compare(Dot a, Dot b)
{
	if (a.hlc != b.hlc)
		return a.hlc < b.hlc ? -1 : 1;
	if (a.node != b.node)
		return a.node < b.node ? -1 : 1;
	return 0;
}

void
version_init(Version *v, Dot d)
{
	memset(v, 0, sizeof(*v));
	v->last = d;
	v->nvv = 1;
	v->vv = core_alloc(sizeof(Dot));
	v->vv[0] = d;
}

Hlc
version_entry(const Version *v, NodeId node)
{
	int			low = 0;
	int			high = v->nvv;

	while (low < high)
	{
		int			mid = (low + high) / 2;

		if (v->vv[mid].node == node)
			return v->vv[mid].hlc;
		if (v->vv[mid].node < node)
			low = mid + 1;
		else
			high = mid;
	}
	return 0;
}

Hlc
version_seen(const Version *v, NodeId node)
{
	Hlc			entry = version_entry(v, node);
	Hlc			stable = v->horizon ? vector_get(v->horizon, node) : 0;

	return entry > stable ? entry : stable;
}

Dot
version_column_dot(const Version *v, uint16_t col)
{
	int			low = 0;
	int			high = v->ncols;

	while (low < high)
	{
		int			mid = (low + high) / 2;

		if (v->cols[mid].col == col)
			return v->cols[mid].dot;
		if (v->cols[mid].col < col)
			low = mid + 1;
		else
			high = mid;
	}
	return v->last;
}

ColumnParts *
version_column_parts(const Version *v, uint16_t col)
{
	for (int p = 0; p < v->nparts && v->parts[p].col <= col; p++)
		if (v->parts[p].col == col)
			return &v->parts[p];
	return NULL;
}

void
version_put_parts(Version *v, const ColumnParts *parts)
{
	ColumnParts *old = v->parts;
	int			n = v->nparts;
	int			i = 0;

	v->parts = core_alloc(sizeof(ColumnParts) * (n + 1));
	v->nparts = 0;
	for (; i < n && old[i].col < parts->col; i++)
		v->parts[v->nparts++] = old[i];
	v->parts[v->nparts++] = *parts;
	if (i < n && old[i].col == parts->col)
		i++;
	for (; i < n; i++)
		v->parts[v->nparts++] = old[i];
}

static bool
same_part(const Part *a, const Part *b)
{
	if (a->node != b->node || a->ndots != b->ndots || a->removed != b->removed || a->len != b->len)
		return false;
	for (uint32_t i = 0; i < a->ndots; i++)
		if (!dot_equal(a->dots[i], b->dots[i]))
			return false;
	return a->len == 0 || memcmp(a->bytes, b->bytes, a->len) == 0;
}

bool
version_same_parts(const Version *a, const Version *b, uint16_t col)
{
	const ColumnParts *pa = version_column_parts(a, col);
	const ColumnParts *pb = version_column_parts(b, col);

	if (pa == NULL || pb == NULL)
		return pa == pb;
	if (pa->kind != pb->kind || pa->since.hlc != pb->since.hlc || pa->since.node != pb->since.node ||
		pa->nparts != pb->nparts)
		return false;
	for (uint32_t i = 0; i < pa->nparts; i++)
		if (!same_part(&pa->parts[i], &pb->parts[i]))
			return false;
	return true;
}

bool
version_parts_precede(const Version *v, Hlc hlc)
{
	for (int p = 0; p < v->nparts; p++)
	{
		if (v->parts[p].since.hlc > hlc)
			return false;
		for (uint32_t i = 0; i < v->parts[p].nparts; i++)
			for (uint32_t d = 0; d < v->parts[p].parts[i].ndots; d++)
				if (v->parts[p].parts[i].dots[d].hlc > hlc)
					return false;
	}
	return true;
}

bool
version_has_contribution(const Version *v, NodeId node)
{
	for (int p = 0; p < v->nparts; p++)
	{
		const ColumnParts *cp = &v->parts[p];

		if ((cp->kind == KIND_COUNTER || cp->kind == KIND_SET) &&
			version_column_dot(v, cp->col).node == node)
			return true;
		for (uint32_t i = 0; i < cp->nparts; i++)
		{
			if (cp->kind == KIND_COUNTER && cp->parts[i].node == node)
				return true;
			for (uint32_t d = 0; cp->kind == KIND_SET && d < cp->parts[i].ndots; d++)
				if (cp->parts[i].dots[d].node == node)
					return true;
		}
	}
	return false;
}

int
version_compare_generations(const Version *a, const Version *b, uint16_t col)
{
	const ColumnParts *pa = version_column_parts(a, col);
	const ColumnParts *pb = version_column_parts(b, col);
	Dot			da = pa ? (Dot) {pa->since.hlc, pa->since.node} : version_column_dot(a, col);
	Dot			db = pb ? (Dot) {pb->since.hlc, pb->since.node} : version_column_dot(b, col);
	int			ka = pa ? pa->kind : KIND_LWW;
	int			kb = pb ? pb->kind : KIND_LWW;
	int			order = dot_compare(da, db);

	return order != 0 ? order : (ka > kb) - (ka < kb);
}

/* has b seen everything that is in a?  What was dropped from a lies somewhere up to its horizon. */
static bool
is_included(const Version *a, const Version *b)
{
	if (b->horizon && version_was_held(a, b->horizon))
		return true;
	for (int i = 0; i < a->nvv; i++)
		if (!version_covers(b, a->vv[i]))
			return false;
	if (!a->pruned || a->horizon == NULL || a->horizon == b->horizon)
		return true;
	for (uint32_t i = 0; i < a->horizon->n; i++)
		if (!version_covers(b, a->horizon->entries[i]))
			return false;
	return true;
}

VersionOrder
version_compare(const Version *a, const Version *b)
{
	bool		before = is_included(a, b);
	bool		after = is_included(b, a);

	if (before)
		return after ? VERSION_EQUAL : VERSION_BEFORE;
	return after ? VERSION_AFTER : VERSION_CONCURRENT;
}

Hlc
version_max_hlc(const Version *v)
{
	/* the last dot is the greatest: see the codec's "age" */
	return v->last.hlc;
}

/* --- a local write --- */

static bool
is_among(const uint16_t *sorted, int n, uint16_t id)
{
	for (int i = 0; i < n && sorted[i] <= id; i++)
		if (sorted[i] == id)
			return true;
	return false;
}

void
version_write(const Version *v, Dot d, const uint16_t *changed, int nchanged,
			  const uint16_t *all, int nall,
			  bool track_columns, bool update_wins, bool alive, Version *out)
{
	int			i = 0;

	memset(out, 0, sizeof(*out));
	out->last = d;
	out->pruned = v->pruned;
	out->horizon = v->horizon;

	out->vv = core_alloc(sizeof(Dot) * (v->nvv + 1));
	for (; i < v->nvv && v->vv[i].node < d.node; i++)
		out->vv[out->nvv++] = v->vv[i];
	out->vv[out->nvv++] = d;
	if (i < v->nvv && v->vv[i].node == d.node)
		i++;
	for (; i < v->nvv; i++)
		out->vv[out->nvv++] = v->vv[i];

	if (track_columns && nchanged < nall)
	{
		out->cols = core_alloc(sizeof(ColumnDot) * nall);
		for (i = 0; i < nall; i++)
		{
			if (is_among(changed, nchanged, all[i]))
				continue;
			out->cols[out->ncols].col = all[i];
			out->cols[out->ncols].dot = version_column_dot(v, all[i]);
			out->ncols++;
		}
	}

	/* the parts of what was left alone stay; a whole-row register has none */
	if (track_columns && v->nparts > 0)
	{
		out->parts = core_alloc(sizeof(ColumnParts) * v->nparts);
		for (i = 0; i < v->nparts; i++)
			if (!is_among(changed, nchanged, v->parts[i].col))
				out->parts[out->nparts++] = v->parts[i];
	}

	/* it has seen every dot that kept the row alive: only this one is left (implied) */
	(void) update_wins;
	(void) alive;
}

void
version_touch(const Version *v, Dot d, const uint16_t *all, int nall,
			  bool track_columns, bool update_wins, bool alive, Version *out)
{
	version_write(v, d, NULL, 0, all, nall, track_columns, update_wins, alive, out);
	if (update_wins)
		return;
	out->live = core_alloc(sizeof(Dot));
	out->live[0] = version_life_dot(v);
	out->nlive = 1;
}

void
version_sort_columns(ColumnDot *cols, int n)
{
	/* groups come as sorted runs: insertion sort is close to linear for the usual one or two */
	for (int i = 1; i < n; i++)
	{
		ColumnDot	c = cols[i];
		int			j = i;

		for (; j > 0 && cols[j - 1].col > c.col; j--)
			cols[j] = cols[j - 1];
		cols[j] = c;
	}
}

void
version_map_columns(Version *v, const uint16_t *map, int nmap)
{
	int			n = 0;

	for (int c = 0; c < v->ncols; c++)
	{
		uint16_t	to = v->cols[c].col < nmap ? map[v->cols[c].col] : 0;

		if (to == 0)
			continue;
		v->cols[n] = v->cols[c];
		v->cols[n].col = to;
		n++;
	}
	v->ncols = n;
	version_sort_columns(v->cols, n);

	n = 0;
	for (int p = 0; p < v->nparts; p++)
	{
		ColumnParts moved = v->parts[p];
		int			at = n;

		moved.col = moved.col < nmap ? map[moved.col] : 0;
		if (moved.col == 0)
			continue;
		for (; at > 0 && v->parts[at - 1].col > moved.col; at--)
			v->parts[at] = v->parts[at - 1];
		v->parts[at] = moved;
		n++;
	}
	v->nparts = n;
}
