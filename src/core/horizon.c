/*
 * horizon.c
 *		What every member holds, and what may be forgotten because of it.
 *
 * The horizon H is a vector: every member holds every write of each node up to
 * H[node].  It only grows, and each node knows some H, not all the same.
 *
 * What H says of a row.  A node whose H says that it holds the writes of n up to
 * H[n] has merged all of those that are writes of this row: its state of the row
 * includes them.  So the state has seen max(vv[n], H[n]) of n, truly, whether or
 * not there ever was such a write; and an entry vv[n] <= H[n] may be dropped.
 * (version_seen() is that maximum.)  The same holds for a state that has been
 * sent, under the H that its sender had when he read it, which therefore travels
 * along; and not under a later one, which would claim writes that came since.
 *
 * What stays all the same:
 *	- the last write, and those whose dots keep the row alive: they are told by
 *	  name;
 *	- the entry of a node that has contributed to a counter or added an element:
 *	  of two contributions the one counts whose side has the later entry of the
 *	  node, and the horizons of two sides say nothing of that.
 *
 * The removal of a key from a map is dropped like an entry of vv.  After that, a key
 * that a state does not have, though its horizon covers the write of it, was removed.
 * It must be the horizon that says so, not vv: a row that outlived a TRUNCATE has in vv
 * (range.c) what it never had, while the horizon does not rise over a range before
 * everybody has it and all that he wrote in answer is here.  Two things more:
 *	- where a row outlives a TRUNCATE that covers a key's write, the key has a second
 *	  dot, that of the successor (range.c), and of whoever lacks the key the horizon
 *	  must cover both.  For elsewhere the key has died of the TRUNCATE, without any
 *	  removal, and a row was born there after it under a horizon that did not cover
 *	  the range yet.
 *	- a removal goes when the horizon covers not only itself but every write of the
 *	  row that was there and is not later.  Else, let k be written by b, over that by a,
 *	  and removed by a; b's horizon covers what a wrote but not what b did.  b drops
 *	  the removal, and his state no longer tells that k is gone to who has b's old
 *	  state and lost the removal to a TRUNCATE.
 * Nobody holds an older write of the key that is not here: every member holds the
 * removal, and so it is with the last write of a state at the end of this.
 *
 * A version of which something was dropped says so (pruned).  Of one that was not,
 * vv alone tells all there is to include: whoever has seen that includes it.  Of a
 * pruned one nobody can tell but who has seen as much as its horizon, or holds its last
 * write (see the end).
 *
 * A tombstone all of whose vv is covered is removed.  Then a state that is covered
 * too, of a key of which there is nothing here, is older than that tombstone or
 * equal to it: it is old news and must not come to life again.
 *
 * So it is with counters.  A key that is born again goes on from the sum of the dead
 * row where that is held, and begins at nothing where it is forgotten: either way it
 * has the value that was inserted.  The two births may be beside each other.  They are
 * joined like any two states, by the same rule on every node: of each node the later
 * share; and who has none, but has seen it, has seen it come to nothing, by vv or by
 * its horizon.  That is well defined since a node's shares are told by its entries: a
 * dead share, of whomever, is covered wherever it was forgotten, and whoever adds to
 * it later had not seen the death, so that his write is not covered and the tombstone
 * was not stable.  All that is lost is what the lagging birth has taken back of the
 * dead row's sum: see docs/reference.md.
 *
 * All of this stands on one more condition, which whoever raises a horizon must see
 * to: that what is still to come of any member's writes was written after the member
 * held what the horizon says (or is held here already).  So what is known of a
 * member counts once everything that it had written by then has been merged here.
 *
 * Horizons do not rise everywhere at once.  A node whose horizon is ahead removes a
 * tombstone, and a row is born there anew, of which the version does not say that it
 * comes after that death; and a node whose horizon lags, or one that has pruned the
 * tombstone under a later one, must not take the two for concurrent: it would join the
 * dead row's columns with the new one's.  But the last write of a state tells all.  If
 * a node's H covers that, the node holds every write of the state, or has forgotten it.
 * For suppose that it does not hold w.  Every member holds the last write, and what of
 * any member's is still to come to this node was written after the member held it.
 * So w was; but then the clock gave it a later dot than the last write's, and of a state
 * the last write is the latest.  (version_was_held(); that every other member holds
 * all of the state it does not say, so that tombstones wait for more.)
 */
#include "core/horizon.h"

/* may this entry not be dropped? */
static bool
must_stay(const Version *v, NodeId node)
{
	if (node == v->last.node)
		return true;
	for (int i = 0; i < v->nlive; i++)
		if (v->live[i].node == node)
			return true;
	return v->nparts > 0 && version_has_contribution(v, node);
}

/* v has seen d, which the horizon to (NULL: none) does not say */
static void
write_out(Version *v, Dot d, const NodeVector *to)
{
	Dot		   *grown;
	int			n = 0;
	int			i = 0;

	if (to && vector_get(to, d.node) >= d.hlc)
		return;

	/* no write that v includes is later than its last one */
	if (dot_compare(d, v->last) > 0)
		d.hlc = d.node > v->last.node ? v->last.hlc - 1 : v->last.hlc;
	if (d.hlc == 0 || version_entry(v, d.node) >= d.hlc || v->nvv >= VERSION_MAX_WRITERS)
		return;
	grown = core_alloc(sizeof(Dot) * (v->nvv + 1));
	for (; i < v->nvv && v->vv[i].node < d.node; i++)
		grown[n++] = v->vv[i];
	grown[n++] = d;
	if (i < v->nvv && v->vv[i].node == d.node)
		i++;
	for (; i < v->nvv; i++)
		grown[n++] = v->vv[i];
	v->vv = grown;
	v->nvv = (uint16_t) n;
}

/*
 * A register that became a counter: its value is the contribution of the node that
 * wrote it, whose entry may have been dropped before that counted.
 */
static void
restore_grounds(Version *v)
{
	for (int p = 0; p < v->nparts; p++)
	{
		const ColumnParts *cp = &v->parts[p];

		for (uint32_t i = 0; cp->kind == KIND_COUNTER && i < cp->nparts; i++)
			if (cp->parts[i].node == cp->since.node)
				write_out(v, (Dot) {cp->since.hlc, cp->since.node}, NULL);
	}
}

/* does the horizon cover the removal, and all that the row has seen which is not later? */
static bool
may_forget(const Part *part, const Version *seen, const NodeVector *horizon)
{
	Dot			d = part->dots[part->ndots - 1];

	if (!part->removed || !vector_has(horizon, part->dots[0]) || !vector_has(horizon, d))
		return false;
	for (int i = 0; i < seen->nvv; i++)
	{
		Hlc			held = vector_get(horizon, seen->vv[i].node);

		if (held < seen->vv[i].hlc && held < d.hlc)
			return false;
	}
	return true;
}

/* keys whose removal every member holds; the parts may be shared */
static void
forget_removed(Version *v, const NodeVector *horizon, const Version *seen)
{
	for (int p = 0; p < v->nparts; p++)
	{
		ColumnParts kept = v->parts[p];
		uint32_t	n = 0;

		if (kept.kind != KIND_MAP)
			continue;
		for (uint32_t i = 0; i < kept.nparts; i++)
			n += may_forget(&kept.parts[i], seen, horizon);
		if (n == 0)
			continue;
		kept.parts = core_alloc(sizeof(Part) * (kept.nparts - n + 1));
		kept.nparts = 0;
		for (uint32_t i = 0; i < v->parts[p].nparts; i++)
		{
			const Part *part = &v->parts[p].parts[i];

			if (!may_forget(part, seen, horizon))
				kept.parts[kept.nparts++] = *part;
		}
		version_put_parts(v, &kept);
	}
}

void
version_prune(Version *v, const NodeVector *horizon, const Version *before)
{
	Dot		   *kept;
	int			n = 0;

	if (v->pruned && v->nparts > 0)
		restore_grounds(v);
	if (horizon == NULL || horizon->n == 0)
		return;
	forget_removed(v, horizon, before ? before : v);
	if (v->nvv <= 1)
		return;
	kept = core_alloc(sizeof(Dot) * v->nvv);
	for (int i = 0; i < v->nvv; i++)
	{
		Dot			d = v->vv[i];

		if (d.hlc > vector_get(horizon, d.node) || must_stay(v, d.node) ||
			(before && before->nparts > 0 && version_has_contribution(before, d.node)))
			kept[n++] = d;
	}
	if (n == v->nvv)
		return;
	v->vv = kept;
	v->nvv = (uint16_t) n;
	v->pruned = true;
}

void
version_expand(Version *v, const NodeVector *from, const NodeVector *to)
{
	if (!v->pruned || from == NULL || from == to)
		return;
	for (uint32_t i = 0; i < from->n; i++)
		write_out(v, from->entries[i], to);
}

void
version_succeed(Version *v, const Version *before, const NodeVector *to)
{
	for (int i = 0; i < before->nvv; i++)
		write_out(v, before->vv[i], to);
}

bool
version_was_held(const Version *v, const NodeVector *horizon)
{
	return vector_get(horizon, v->last.node) >= v->last.hlc;
}

bool
version_is_stable(const Version *v, const NodeVector *horizon)
{
	if (horizon == NULL || !vector_covers(horizon, v))
		return false;
	return !v->pruned || v->horizon == NULL || v->horizon == horizon ||
		vector_includes(horizon, v->horizon);
}
