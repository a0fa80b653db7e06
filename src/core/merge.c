/*
 * merge.c
 *		Two states of one key become one: the rules, on metadata alone.
 *
 * A state's vector says which writes it includes.  If one includes the other
 * there is nothing to decide.  Otherwise each part of the row is merged by a
 * rule that is commutative, associative and idempotent:
 *
 *	columns		last-writer-wins registers, each with its own dot (column mode)
 *				or one for the whole row (row mode).  Columns that merge by a
 *				strategy: see parts.c.
 *	life		last_wins: one more register, written by every write, so that
 *				its dot is the last one (and that of the whole row in row mode),
 *				but where the last write was only to outlive a TRUNCATE
 *				(range.c).  update_wins: the set of dots
 *				that keep the row alive, merged as an optimised OR-set without
 *				tombstones (Bieniusa, Zawirski, Preguica, Shapiro, Baquero,
 *				Balegas, Duarte: "An optimized conflict-free replicated set",
 *				INRIA RR-8083, 2012): a dot stays if both sides hold it, or if
 *				the side that lacks it has not seen it.
 *	vector		entry by entry, the maximum.
 *
 * Of two states with one last write, the one that was pruned under the later horizon
 * includes the other.  It says nothing new for that, and where it holds another
 * value under the same dot, that was changed behind our back: it is merged, by which
 * each register stays as it is here, and not taken, which would spread it.
 *
 * The dots are totally ordered and the order extends causality (a write's dot is
 * later than all that it has seen), so that the latest register is never one
 * that the other side has knowingly overwritten.
 */
#include "core/merge.h"

static void
merge_vectors(const Version *a, const Version *b, Version *out)
{
	int			i = 0;
	int			j = 0;

	out->vv = core_alloc(sizeof(Dot) * (a->nvv + b->nvv));
	while (i < a->nvv || j < b->nvv)
	{
		if (j >= b->nvv || (i < a->nvv && a->vv[i].node < b->vv[j].node))
			out->vv[out->nvv++] = a->vv[i++];
		else if (i >= a->nvv || b->vv[j].node < a->vv[i].node)
			out->vv[out->nvv++] = b->vv[j++];
		else
		{
			out->vv[out->nvv++] = a->vv[i].hlc > b->vv[j].hlc ? a->vv[i] : b->vv[j];
			i++;
			j++;
		}
	}
}

/* neither side had seen the other's write */
static bool
is_contested(const Version *a, Dot of_a, const Version *b, Dot of_b)
{
	return !dot_equal(of_a, of_b) && !version_covers(b, of_a) && !version_covers(a, of_b);
}

/* a column of which one side at least is no register: who is later, or are they joined? */
static void
merge_generations(const Version *local, const Version *remote, Dot dl, Dot dr,
				  uint16_t id, int c, MergePlan *plan)
{
	int			order = version_compare_generations(remote, local, id);
	ColumnParts *parts = version_column_parts(order > 0 ? remote : local, id);

	plan->take_remote[c] = order > 0;
	if (order == 0 && parts != NULL)
	{
		plan->joined[c] = plan->any_joined = true;
		plan->take_remote[c] = dot_compare(dr, dl) > 0;
	}
	else if (parts)
		version_put_parts(&plan->version, parts);
}

static void
merge_columns(const Version *local, const Version *remote,
			  const uint16_t *ids, int n, MergePlan *plan)
{
	Version    *out = &plan->version;

	if (n > 0)
		out->cols = core_alloc(sizeof(ColumnDot) * n);
	for (int c = 0; c < n; c++)
	{
		Dot			dl = version_column_dot(local, ids[c]);
		Dot			dr = version_column_dot(remote, ids[c]);
		Dot			winner;

		if (local->nparts == 0 && remote->nparts == 0)
			plan->take_remote[c] = dot_compare(dr, dl) > 0;
		else
			merge_generations(local, remote, dl, dr, ids[c], c, plan);
		plan->contested[c] = !plan->joined[c] && is_contested(local, dl, remote, dr);
		winner = plan->take_remote[c] ? dr : dl;
		if (!dot_equal(winner, out->last))
		{
			out->cols[out->ncols].col = ids[c];
			out->cols[out->ncols].dot = winner;
			out->ncols++;
		}
	}
}

/* the dots that keep a state alive: written out, or implied (see version.h) */
static int
live_dots(const MergeSide *side, const Dot **dots)
{
	const Version *v = side->version;

	if (!side->alive)
		return 0;
	*dots = v->nlive > 0 ? v->live : &v->last;
	return v->nlive > 0 ? v->nlive : 1;
}

static bool
holds(const Dot *dots, int n, Dot d)
{
	for (int i = 0; i < n; i++)
		if (dot_equal(dots[i], d))
			return true;
	return false;
}

static void
add_sorted(Version *v, Dot d)
{
	int			at = v->nlive;

	if (holds(v->live, v->nlive, d))
		return;
	while (at > 0 && dot_compare(v->live[at - 1], d) > 0)
	{
		v->live[at] = v->live[at - 1];
		at--;
	}
	v->live[at] = d;
	v->nlive++;
}

static void
merge_live(const MergeSide *local, const MergeSide *remote, MergePlan *plan)
{
	const Dot  *l = NULL;
	const Dot  *r = NULL;
	int			nl = live_dots(local, &l);
	int			nr = live_dots(remote, &r);
	Version    *out = &plan->version;

	out->live = core_alloc(sizeof(Dot) * (nl + nr + 1));
	for (int i = 0; i < nl; i++)
		if (holds(r, nr, l[i]) || !version_covers(remote->version, l[i]))
			add_sorted(out, l[i]);
	for (int i = 0; i < nr; i++)
		if (holds(l, nl, r[i]) || !version_covers(local->version, r[i]))
			add_sorted(out, r[i]);
	plan->alive = out->nlive > 0;
	if (out->nlive == 1 && dot_equal(out->live[0], out->last))
		out->nlive = 0;
}

/* the result goes into a table here, to be read under the horizon of this node */
static void
settle_version(const MergeRules *rules, const MergeSide *local, const MergeSide *remote, MergePlan *plan)
{
	plan->version.pruned = (plan->outcome == MERGE_MERGED && local->version->pruned) || remote->version->pruned;
	version_expand(&plan->version, remote->version->horizon, rules->horizon);
	if (plan->outcome == MERGE_MERGED)
		version_expand(&plan->version, local->version->horizon, rules->horizon);
	else
		version_succeed(&plan->version, local->version, rules->horizon);
	plan->version.horizon = rules->horizon;

	/* the caller is still to put parts into it: what they need must not be gone */
	if (!plan->any_joined)
		version_prune(&plan->version, rules->horizon, NULL);
}

/* under last_wins: the dot stays with its register */
static void
put_life(const Version *winner, Version *out)
{
	Dot			d = version_life_dot(winner);

	if (dot_equal(d, out->last))
		return;
	out->live = core_alloc(sizeof(Dot));
	out->live[0] = d;
	out->nlive = 1;
}

/* one side includes the other: nothing to decide */
static void
plan_dominated(const MergeSide *winner, MergeOutcome outcome, MergePlan *plan)
{
	plan->outcome = outcome;
	plan->alive = winner->alive;
	plan->life_from_remote = (outcome == MERGE_TAKEN);
	plan->version = *winner->version;
}

void
merge_plan(const MergeRules *rules, const MergeSide *local, const MergeSide *remote, MergePlan *plan)
{
	const Version *l = local->version;
	const Version *r = remote->version;
	VersionOrder order = version_compare(r, l);
	bool		by_life = rules->life == LIFE_LAST_WINS;
	Dot			of_l = by_life ? version_life_dot(l) : l->last;
	Dot			of_r = by_life ? version_life_dot(r) : r->last;
	bool		remote_later = dot_compare(of_r, of_l) > 0;
	bool		same_last = dot_equal(r->last, l->last);
	bool		contested;

	memset(plan, 0, sizeof(*plan));
	if (order == VERSION_EQUAL || order == VERSION_BEFORE)
	{
		plan_dominated(local, MERGE_IGNORED, plan);
		return;
	}
	if (order == VERSION_AFTER && !(same_last && (l->pruned || r->pruned)))
	{
		plan_dominated(remote, MERGE_TAKEN, plan);
		settle_version(rules, local, remote, plan);
		return;
	}

	plan->outcome = MERGE_MERGED;
	plan->take_remote = core_alloc(sizeof(bool) * (rules->n + 1));
	plan->contested = core_alloc(sizeof(bool) * (rules->n + 1));
	plan->joined = core_alloc(sizeof(bool) * (rules->n + 1));
	memset(plan->joined, 0, sizeof(bool) * (rules->n + 1));
	plan->version.last = dot_compare(r->last, l->last) > 0 ? r->last : l->last;
	merge_vectors(l, r, &plan->version);

	contested = is_contested(l, of_l, r, of_r);
	if (rules->mode == MERGE_MODE_COLUMN)
		merge_columns(l, r, rules->ids, rules->n, plan);
	else
	{
		for (int c = 0; c < rules->n; c++)
		{
			plan->take_remote[c] = remote_later;
			plan->contested[c] = contested;
		}
	}

	plan->life_contested = local->alive != remote->alive && contested;
	if (rules->life == LIFE_UPDATE_WINS)
	{
		merge_live(local, remote, plan);
		plan->life_from_remote = (plan->alive == remote->alive);
	}
	else
	{
		plan->alive = remote_later ? remote->alive : local->alive;
		plan->life_from_remote = remote_later;
		put_life(remote_later ? r : l, &plan->version);
	}
	settle_version(rules, local, remote, plan);
}
