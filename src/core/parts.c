/*
 * parts.c
 *		Columns that merge by a strategy: the lattice, and how it is written to
 *		and merged.
 *
 * A column of a row state is a pair (generation, content), ordered by the
 * generation first.  The generation is (since, kind): "since" is the dot of the
 * last write that replaced the column as a whole, and kind says what was built
 * on it.  Two columns of different generations: the later one is taken whole.
 * Of the same generation: the contents are joined, by kind.
 *
 *	register	since is the column's dot, and the content is the value.  So one
 *				generation is one write, and all this is last-writer-wins.
 *	counter		node -> what it has contributed; the value is the sum.  What stood
 *				in the column when the generation began is its writer's
 *				contribution.  A node's contributions only grow in its own
 *				history, so the side whose vector has the later entry of the
 *				node has the right one: entries of nodes that contribute are
 *				never pruned.  Who has none, but has seen the other side's
 *				entry, has seen it come to nothing.
 *	max, min	the value itself.
 *	set			element -> dots that added it: an observed-remove set without
 *				tombstones (Bieniusa et al., INRIA RR-8083).  A dot stays if both
 *				sides hold it, or if the side that lacks it has not seen it.  The
 *				set of dots must be kept, not the latest only: let x be added by
 *				a and by b > a, concurrently, and c remove x having seen b alone.
 *				By sets, {a, b} and {} (seen b) make {a}, whichever way they meet.
 *				By the maximum, whoever merged a and b first has forgotten a, and
 *				x dies there and lives where c met a first.
 *	map			key -> the last write of it, a removal being a write too; one that
 *				every node holds is forgotten (horizon.c).
 *	function	the value itself, joined by a function of the user's.
 *
 * A strategy (ferry.set_merge) is what local writes do, and no more: which kind
 * they build, on what they find.  A register becomes a counter of the same
 * generation, whose ground is the register's value, so that the first writes
 * after the change compose, wherever they are made.  A kind that becomes another
 * kind, or a register again, begins a new generation.  A row that is born under
 * a strategy is of generation zero: concurrent births are joined.
 *
 * Merging asks the states alone, never what strategy is set.  So nodes that have
 * not heard of a change yet, or had it for a while before another one, merge as
 * all others do.  (Two nodes that merged one pair by different rules would hold
 * different values under equal vectors: nothing would ever mend that.)
 *
 * Each content is a join-semilattice and each local write goes up in it; the
 * vector says which writes a state includes.  If L.vv <= R.vv, then R is the
 * join of all that L is made of and more: R may be taken whole, for every kind.
 */
#include "core/horizon.h"
#include "core/parts.h"
#include "core/version.h"

static int
compare_bytes(const uint8_t *a, uint32_t na, const uint8_t *b, uint32_t nb)
{
	if (na != nb)
		return na < nb ? -1 : 1;
	return na > 0 ? memcmp(a, b, na) : 0;
}

int
item_compare(const PartItem *a, const PartItem *b)
{
	return compare_bytes(a->key, a->key_len, b->key, b->key_len);
}

/* --- merge --- */

static bool
holds(const PartItem *item, Dot d)
{
	for (uint32_t i = 0; item && i < item->ndots; i++)
		if (dot_equal(item->dots[i], d))
			return true;
	return false;
}

/* which write brought a key to where it is: its own, or that by which its row outlived a TRUNCATE */
static Dot
item_presence(const PartItem *item)
{
	return item->dots[item->ndots - 1];
}

static void
add_sorted(PartItem *item, Dot d)
{
	uint32_t	at = item->ndots;

	if (holds(item, d))
		return;
	while (at > 0 && dot_compare(item->dots[at - 1], d) > 0)
	{
		item->dots[at] = item->dots[at - 1];
		at--;
	}
	item->dots[at] = d;
	item->ndots++;
}

/* the dots of one side that survive the other */
static void
add_survivors(PartItem *out, const PartItem *mine, const PartItem *other, const Version *other_version)
{
	for (uint32_t i = 0; mine && i < mine->ndots; i++)
		if (holds(other, mine->dots[i]) || !version_covers(other_version, mine->dots[i]))
			add_sorted(out, mine->dots[i]);
}

static bool
merge_element(const PartItem *l, const Version *lv, const PartItem *r, const Version *rv, PartItem *out)
{
	*out = l ? *l : *r;
	out->ndots = 0;
	out->dots = core_alloc(sizeof(Dot) * ((l ? l->ndots : 0) + (r ? r->ndots : 0)));
	add_survivors(out, l, r, rv);
	add_survivors(out, r, l, lv);
	return out->ndots > 0;
}

/* a key of both sides: the later write of it, and the later of what brought it there */
static void
merge_writes(const PartItem *l, const PartItem *r, PartItem *out)
{
	const PartItem *other;
	Dot		   *dots;

	*out = dot_compare(r->dots[0], l->dots[0]) > 0 ? *r : *l;
	other = out->dots == r->dots ? l : r;
	if (dot_compare(item_presence(other), item_presence(out)) <= 0)
		return;
	dots = core_alloc(sizeof(Dot) * MAP_MAX_DOTS);
	dots[0] = out->dots[0];
	dots[1] = item_presence(other);
	out->dots = dots;
	out->ndots = 2;
}

static bool
merge_key(const PartItem *l, const Version *lv, const PartItem *r, const Version *rv, PartItem *out)
{
	const NodeVector *lacking = l ? rv->horizon : lv->horizon;

	if (l && r)
	{
		merge_writes(l, r, out);
		return true;
	}
	*out = l ? *l : *r;

	/* who lacks it though every member holds it has forgotten that it was removed */
	return lacking == NULL || !vector_has(lacking, out->dots[0]) || !vector_has(lacking, item_presence(out));
}

int
items_merge(ColumnKind kind, const PartItem *l, int nl, const Version *lv,
			const PartItem *r, int nr, const Version *rv, PartItem *out)
{
	int			i = 0;
	int			j = 0;
	int			n = 0;

	while (i < nl || j < nr)
	{
		int			order = i >= nl ? 1 : j >= nr ? -1 : item_compare(&l[i], &r[j]);
		const PartItem *mine = order <= 0 ? &l[i++] : NULL;
		const PartItem *theirs = order >= 0 ? &r[j++] : NULL;

		if (kind == KIND_SET ? merge_element(mine, lv, theirs, rv, &out[n]) : merge_key(mine, lv, theirs, rv, &out[n]))
			n++;
	}
	return n;
}

/*
 * Two contributions of one node.  Under one entry they differ only if a TRUNCATE beside
 * them has raised it (range.c): then whichever, as long as all nodes take the same.
 */
static bool
is_later_share(const Part *a, const Version *av, const Part *b, const Version *bv)
{
	Hlc			of_a = version_entry(av, a->node);
	Hlc			of_b = version_entry(bv, b->node);

	return of_a != of_b ? of_a > of_b : compare_bytes(a->bytes, a->len, b->bytes, b->len) > 0;
}

int
shares_merge(const Part *l, int nl, const Version *lv,
			 const Part *r, int nr, const Version *rv, Part *out)
{
	int			i = 0;
	int			j = 0;
	int			n = 0;

	while (i < nl || j < nr)
	{
		NodeId		node = j >= nr || (i < nl && l[i].node < r[j].node) ? l[i].node : r[j].node;
		const Part *mine = i < nl && l[i].node == node ? &l[i++] : NULL;
		const Part *theirs = j < nr && r[j].node == node ? &r[j++] : NULL;

		if (mine && theirs)
			out[n++] = is_later_share(theirs, rv, mine, lv) ? *theirs : *mine;
		else if (mine ? version_seen(rv, node) < version_entry(lv, node) :
				 version_seen(lv, node) < version_entry(rv, node))
			out[n++] = mine ? *mine : *theirs;
	}
	return n;
}

/* --- local writes --- */

Ground
parts_ground(const Version *before, uint16_t col, ColumnKind kind, const Dot *d, PartsSince *since)
{
	const ColumnParts *parts;
	Dot			own;

	*since = (PartsSince) {0, 0};
	if (before == NULL)
		return GROUND_NOTHING;
	parts = version_column_parts(before, col);
	if (parts && parts->kind == kind)
	{
		*since = parts->since;
		return GROUND_SAME;
	}
	own = parts ? *d : version_column_dot(before, col);
	*since = (PartsSince) {own.hlc, own.node};
	return parts ? GROUND_OTHER : GROUND_REGISTER;
}

static void
give_dot(PartItem *item, const Dot *d)
{
	item->dots = core_alloc(sizeof(Dot));
	item->dots[0] = *d;
	item->ndots = 1;
}

int
items_write(ColumnKind kind, const PartItem *old, int nold, const PartItem *fresh, int nfresh,
			bool birth, const Dot *d, PartItem *out)
{
	int			i = 0;
	int			j = 0;
	int			n = 0;

	while (i < nold || j < nfresh)
	{
		int			order = i >= nold ? 1 : j >= nfresh ? -1 : item_compare(&old[i], &fresh[j]);
		const PartItem *was = order <= 0 ? &old[i++] : NULL;
		const PartItem *is = order >= 0 ? &fresh[j++] : NULL;

		if (is)
		{
			out[n] = *is;
			out[n].removed = false;
			if (was && !birth && !was->removed &&
				(kind == KIND_SET ||
				 compare_bytes(was->value, was->value_len, is->value, is->value_len) == 0))
			{
				out[n].dots = was->dots;
				out[n].ndots = was->ndots;
			}
			else
				give_dot(&out[n], d);
			n++;
		}
		else if (kind == KIND_MAP)
		{
			out[n] = *was;
			if (!was->removed)
			{
				out[n].removed = true;
				give_dot(&out[n], d);
			}
			n++;
		}
	}
	return n;
}

int
shares_put(const Part *shares, int n, NodeId node, const uint8_t *bytes, uint32_t len, Part *out)
{
	int			m = 0;
	int			i = 0;

	for (; i < n && shares[i].node < node; i++)
		out[m++] = shares[i];
	if (i < n && shares[i].node == node)
		i++;
	if (len > 0)
	{
		memset(&out[m], 0, sizeof(Part));
		out[m].node = node;
		out[m].bytes = bytes;
		out[m].len = len;
		m++;
	}
	for (; i < n; i++)
		out[m++] = shares[i];
	return m;
}
