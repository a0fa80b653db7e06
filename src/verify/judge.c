/*-------------------------------------------------------------------------
 *
 * judge.c
 *		Is something missing here of what the other side holds?
 *
 * The other side's state of a key is compared with ours, which is read later.  What
 * counts is what a digest is made of (digest.c): who wrote last, which column,
 * alive or dead.  The vectors do not, since pruning (core/horizon.c) drops their
 * entries at different times on different nodes.
 *
 *	- Equal digests: all is well.
 *	- Merging would change nothing that counts: the state is older than ours.
 *	- Merging would change something, but a write in the state has not arrived
 *	  here yet: it is on its way.
 *	- All of its writes are due here: something is missing of which this node
 *	  says that it holds it.  That is a divergence, and merging is the repair.
 *	- Both were made by the same writes, and yet the digests differ: someone
 *	  changed one of them behind ferry's back (settle.c).
 *
 * What is gone here.  A dead state below our horizon of which we hold nothing is a
 * tombstone that we have removed and the other side has not; unless it is a
 * counter's, which nobody removes.  A live one has been
 * lost here, unless it died since the other side read it and its tombstone is gone
 * already: it has not if the other side held then all that our horizon covers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/datum.h"
#include "utils/rel.h"

#include "apply/conflict.h"
#include "apply/merge_row.h"
#include "node/horizon.h"
#include "state/merge_values.h"
#include "state/range_tombstone.h"
#include "verify/judge.h"

void
take_refuse(const Take *t, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("peer \"%s\" gave an invalid answer to a verification", t->peer),
			 errdetail_internal("%s", why)));
}

static void
check_asked(const Take *t, uint64 key)
{
	size_t		low = 0;
	size_t		high = t->nasked;

	if (t->asked == NULL)
		return;
	while (low < high)
	{
		size_t		mid = low + (high - low) / 2;

		if (t->asked[mid] == key)
			return;
		if (t->asked[mid] < key)
			low = mid + 1;
		else
			high = mid;
	}
	take_refuse(t, "A row came that was not asked for.");
}

/* are all writes in remote that local (NULL: nothing) has not seen due here? */
static bool
is_due(const JudgeBase *base, const FerryTable *table, const Version *local, const Version *remote)
{
	/* that writes have arrived says nothing of a table whose first copy goes on */
	if (table->is_new)
		return false;
	for (int i = 0; i < remote->nvv; i++)
	{
		Dot			d = remote->vv[i];

		if (!(local && version_covers(local, d)) && vector_get(&base->here, d.node) < d.hlc)
			return false;
	}
	return true;
}

/* a copy that outlives the slots of a target; current context */
static RowState *
copy_state(const FerryTable *table, Relation rel, const RowState *s)
{
	RowState   *copy = state_create(table);

	copy->alive = s->alive;
	copy->version = s->version;
	for (int i = 0; i < s->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel), i);

		copy->kinds[i] = s->kinds[i];
		copy->nulls[i] = s->nulls[i];
		if (s->kinds[i] == VALUE_HERE && !s->nulls[i])
			copy->values[i] = datumCopy(s->values[i], attr->attbyval, attr->attlen);
	}
	return copy;
}

/* nothing is held of the key */
static Verdict
judge_unknown(const JudgeBase *base, const FerryTable *table, const RowState *remote)
{
	if (!remote->alive && !table->is_new && vector_covers(horizon_current(), &remote->version))
		return VERDICT_EQUAL;
	if (merge_is_old_news(table, remote))
		return remote->alive ? VERDICT_IN_FLIGHT : VERDICT_EQUAL;
	return is_due(base, table, NULL, &remote->version) ? VERDICT_MISSING : VERDICT_IN_FLIGHT;
}

/* would merging change anything that counts? */
static bool
would_change(VerifyDigest *digest, const FerryTable *table, Relation rel, const MergePlan *plan,
			 const RowState *local, const RowState *remote, const Digest *ours)
{
	Digest		merged;

	if (plan->outcome == MERGE_TAKEN || state_lacks_value(table, plan, local, remote, false))
		return true;
	digest_state(digest, state_merge(table, rel, unconstify(MergePlan *, plan), local, remote), &merged);
	return !digest_same_item(&merged, ours);
}

static void
judge_known(const JudgeBase *base, VerifyDigest *digest, const FerryTable *table, Relation rel,
			const Digest *theirs, RowState *local, Judgement *out)
{
	Take	   *t = base->take;
	MergePlan	plan;
	Digest		ours;

	digest_state(digest, local, &ours);
	if (digest_same_item(&ours, theirs))
		return;
	state_merge_plan(table, local, out->remote, &plan);
	out->outcome = plan.outcome;
	if (digest_same_version(&ours, theirs) ||
		version_compare(&local->version, &out->remote->version) == VERSION_EQUAL)
	{
		out->verdict = VERDICT_MISMATCH;
		if (t->on_mismatch)
			out->settled = t->on_mismatch(t, rel, table, local, out->remote);
	}
	else if (plan.outcome != MERGE_IGNORED)
	{
		if (!would_change(digest, table, rel, &plan, local, out->remote, &ours))
			return;
		out->verdict = is_due(base, table, &local->version, &out->remote->version) ?
			VERDICT_MISSING : VERDICT_IN_FLIGHT;
	}
}

void
judge_row(const JudgeBase *base, RelationMap *map, Relation rel, const WireRow *row, Judgement *out)
{
	Take	   *t = base->take;
	ApplyTarget *target = target_open(rel, table_lookup_required(t->relid));
	const FerryTable *table = target_table(target);
	VerifyDigest *digest = digest_create(t->shape, table, rel, CurrentMemoryContext);
	Digest		theirs;
	RowState   *local;

	memset(out, 0, sizeof(*out));
	out->verdict = VERDICT_EQUAL;
	out->outcome = MERGE_TAKEN;
	out->remote = relation_map_decode(map, table, row);
	out->remote->version.horizon = base->horizon;
	out->remote->is_current = true;
	out->remote->held_there = &base->there;
	if (!digest_has_values(digest, out->remote))
		take_refuse(t, "A row came without a value that was asked for.");
	digest_state(digest, out->remote, &theirs);
	check_asked(t, theirs.key);

	/* a TRUNCATE here that it has not met there: its range comes to the other side as an item of its own */
	if (!ranges_cover(ranges_of(t->relid), &out->remote->version))
	{
		local = merge_row_state(target, out->remote);
		if (local == NULL)
			out->verdict = judge_unknown(base, table, out->remote);
		else
			judge_known(base, digest, table, rel, &theirs, local, out);
		if (local && out->verdict == VERDICT_MISSING)
			out->local = copy_state(table, rel, local);
	}
	target_close(target);
}

Verdict
judge_range(const JudgeBase *base, const Version *range)
{
	Take	   *t = base->take;
	Digest		theirs;

	digest_range(&t->shape->key, range, &theirs);
	check_asked(t, theirs.key);
	if (ranges_cover(ranges_of(t->relid), range) || vector_covers(horizon_current(), range))
		return VERDICT_EQUAL;
	return is_due(base, table_lookup_required(t->relid), NULL, range) ? VERDICT_MISSING : VERDICT_IN_FLIGHT;
}

/* nothing is held of the key: a state for the record of it */
static RowState *
nothing_of(const FerryTable *table, const RowState *remote)
{
	RowState   *none = state_create(table);

	for (int k = 0; k < table->nkeys; k++)
	{
		int			i = table->key_attnos[k] - 1;

		none->values[i] = remote->values[i];
		none->kinds[i] = VALUE_HERE;
	}
	return none;
}

void
judge_record(const Take *t, Relation rel, const Judgement *j, ConflictWinner winner, const char *rule)
{
	const FerryTable *table = table_lookup_required(t->relid);
	Conflict	conflict = {CONFLICT_DIVERGENCE};

	conflict.winner = winner;
	conflict.rule = rule;
	conflict_record(table, rel, t->peer, j->local ? j->local : nothing_of(table, j->remote), j->remote, &conflict);
}
