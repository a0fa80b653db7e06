/*-------------------------------------------------------------------------
 *
 * merge_row.c
 *		One state merged into one table: the only way in.
 *
 * A key is held here as a row, as a tombstone, or not at all.  We find what is
 * held, let merge_plan() (core/merge.c) decide from the two versions, and write
 * what it says.  Nothing is locked between finding and writing: when the row
 * turns out to have been changed meanwhile, all is done again on what it became.
 *
 * Races with local writers, and what closes them:
 *
 *	- the row is updated or deleted between find and write: the write reports
 *	  it, we start over;
 *	- the key is being inserted by a transaction that we cannot see yet:
 *	  target_key_is_free() waits for it, we start over;
 *	- TRUNCATE and range tombstones keep writers of rows out: see range_merge.c;
 *	- we write a tombstone while someone inserts the row, or the other way
 *	  around: neither may have seen the other's.  Both look again after they have
 *	  written, waiting for what is being written; if row and tombstone stand now,
 *	  the tombstone is merged into the row as if it had come from a peer.
 *
 * What the merged row holds is state/merge_values.c's to say.  Where a state does
 * not bring a value that its write left alone, and we do not hold it, the sender
 * is asked, once, for the row as it holds it, which is merged instead (fetch.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "apply/conflict.h"
#include "apply/fetch.h"
#include "apply/merge_row.h"
#include "apply/merged_check.h"
#include "apply/orphan.h"
#include "apply/own_write.h"
#include "apply/range_merge.h"
#include "apply/unique.h"
#include "node/horizon.h"
#include "node/node.h"
#include "node/seen.h"
#include "state/merge_values.h"
#include "state/range_tombstone.h"

/* rounds of "someone was faster" before we give up and let the caller retry */
#define MAX_ROUNDS 10000

RowState *
merge_states(const FerryTable *table, Relation rel, const RowState *local, const RowState *remote)
{
	MergePlan	plan;

	state_merge_plan(table, local, remote, &plan);
	return plan.outcome == MERGE_IGNORED ? unconstify(RowState *, local) : state_merge(table, rel, &plan, local, remote);
}

/* --- conflicts --- */

/* do the two versions share no write at all? */
static bool
unrelated(const Version *a, const Version *b)
{
	for (int i = 0; i < a->nvv; i++)
		if (version_entry(b, a->vv[i].node) != 0)
			return false;
	return !a->pruned && !b->pruned;
}

bool
merge_values_differ(Relation rel, AttrNumber attno, const RowState *a, const RowState *b)
{
	int			i = attno - 1;
	Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel), i);

	if (a->kinds[i] != VALUE_HERE || b->kinds[i] != VALUE_HERE)
		return a->kinds[i] != b->kinds[i];
	if (a->nulls[i] || b->nulls[i])
		return a->nulls[i] != b->nulls[i];
	return !datum_image_eq(a->values[i], b->values[i], attr->attbyval, attr->attlen);
}

/* what a concurrent merge amounts to; returns false if it is no conflict */
static bool
find_conflict(const FerryTable *table, Relation rel, const MergePlan *plan,
			  const RowState *local, const RowState *remote, Conflict *conflict)
{
	bool		from_local = false;
	bool		from_remote = false;

	memset(conflict, 0, sizeof(*conflict));
	if (!local->alive && !remote->alive)
		return false;
	if (plan->life_contested)
	{
		bool		remote_wins = (plan->alive == remote->alive);

		conflict->kind = local->alive ? CONFLICT_UPDATE_DELETE : CONFLICT_DELETE_UPDATE;
		conflict->winner = remote_wins ? WINNER_REMOTE : WINNER_LOCAL;
		conflict->rule = table->life == LIFE_UPDATE_WINS ? "update_wins" : "last_wins";
		return true;
	}
	if (!local->alive || !remote->alive)
		return false;

	for (int c = 0; c < table->nplain; c++)
	{
		AttrNumber	attno = table->plain_attnos[c];

		if (!plan->contested[c] || !merge_values_differ(rel, attno, local, remote))
			continue;
		conflict->columns = lappend(conflict->columns,
									NameStr(TupleDescAttr(RelationGetDescr(rel), attno - 1)->attname));
		if (plan->take_remote[c])
			from_remote = true;
		else
			from_local = true;
	}
	if (conflict->columns == NIL)
		return false;
	conflict->kind = unrelated(&local->version, &remote->version) ?
		CONFLICT_INSERT_INSERT : CONFLICT_UPDATE_UPDATE;
	conflict->winner = from_local && from_remote ? WINNER_MERGED :
		from_remote ? WINNER_REMOTE : WINNER_LOCAL;
	conflict->rule = table->mode == MERGE_MODE_ROW ? "row_last_writer" : "column_last_writer";
	return true;
}

/* --- one round --- */

typedef enum Round
{
	ROUND_DONE,
	ROUND_AGAIN,				/* what we found has changed: find again */
	ROUND_FETCH					/* a value is missing: get the whole state */
} Round;

/* merge remote into the row found (tomb NULL) or into the tombstone at tomb_tid */
static Round
merge_with(ApplyTarget *t, RowState *local, ApplyFound *found, ItemPointer tomb_tid,
		   RowState *remote, const char *peer, bool can_ask, ApplyResult *result)
{
	const FerryTable *table = target_table(t);
	Tombstones *tombs = target_tombstones(t);
	Relation	rel = target_relation(t);
	MergePlan	plan;
	RowState   *merged;
	Conflict	conflict;
	Conflict	invalid;
	const RowState *image = remote; /* of remote, as far as it is known */
	bool		conflicted = false;
	bool		resolved = false;

	state_merge_plan(table, local, remote, &plan);
	if (plan.outcome == MERGE_IGNORED)
	{
		*result = APPLY_IGNORED;
		return ROUND_DONE;
	}

	if (can_ask && state_lacks_value(table, &plan, local, remote, true))
		return ROUND_FETCH;
	merged = state_merge(table, rel, &plan, local, remote);
	if (plan.outcome == MERGE_MERGED)
	{
		bool		whole;

		image = state_completed(table, remote, local, &whole);

		/* what constraints tie together may have to be taken from remote */
		if (can_ask && !whole && merged->alive && RelationGetDescr(rel)->constr && RelationGetDescr(rel)->constr->num_check > 0)
			return ROUND_FETCH;
		conflicted = find_conflict(table, rel, &plan, local, image, &conflict);
		resolved = merged->alive &&
			merged_check(t, &plan, local, image, found ? found->slot : NULL, merged, false, &invalid);
	}

	if (local->alive)
	{
		if (merged->alive)
		{
			if (!target_update(t, found, merged))
				return ROUND_AGAIN;
			orphan_note_change(t, local, merged, remote->version.last);
		}
		else
		{
			if (!target_delete(t, found))
				return ROUND_AGAIN;
			tombstones_put_later(tombs, merged);
			orphan_note(t, local, remote->version.last);
			CommandCounterIncrement();
		}
	}
	else
	{
		if (merged->alive)
		{
			target_insert(t, merged);
			tombstones_remove(tombs, tomb_tid);
			if (plan.outcome == MERGE_MERGED)
				orphan_note_return(t, merged);
		}
		else
			tombstones_put(tombs, merged, tomb_tid);
		CommandCounterIncrement();
	}

	if (conflicted)
		conflict_record(table, rel, peer, local, image, &conflict);
	if (resolved)
	{
		own_write_note(t, merged);
		conflict_record(table, rel, peer, local, image, &invalid);
	}
	*result = conflicted || resolved ? APPLY_CONFLICT :
		plan.outcome == MERGE_TAKEN ? APPLY_APPLIED : APPLY_MERGED;
	return ROUND_DONE;
}

/*
 * Nothing is held of the key.  If everybody holds all that the state has seen, so
 * do we: there has been a tombstone that included it, and is gone.  But of a table
 * that is new here, that we hold something says nothing; and a row that lives at
 * another member now, who holds that tombstone's writes too, has been lost here.
 * He does hold them if he held all that our horizon covers when he read the row.
 */
bool
merge_is_old_news(const FerryTable *table, const RowState *remote)
{
	const NodeVector *horizon = horizon_current();

	if (table->is_new || !version_was_held(&remote->version, horizon))
		return false;
	return !(remote->is_current && remote->alive &&
			 (remote->held_there == NULL || vector_includes(remote->held_there, horizon)));
}

/* nothing is held of the key: the state goes in as it is */
static void
write_first_state(ApplyTarget *t, RowState *remote)
{
	Tombstones *tombs = target_tombstones(t);

	version_expand(&remote->version, remote->version.horizon, horizon_current());
	version_prune(&remote->version, horizon_current(), NULL);
	if (remote->alive)
		target_insert(t, remote);
	else
	{
		tombstones_put(tombs, remote, NULL);
		CommandCounterIncrement();
	}
}

/*
 * A row and a tombstone stand side by side (see the races above): merge the
 * tombstone into the row, which ends the pair.
 */
static Round
merge_pair(ApplyTarget *t, RowState *local, ApplyFound *found, RowState *tomb, ItemPointer tomb_tid)
{
	ApplyResult ignored;
	const FerryTable *table = target_table(t);
	Tombstones *tombs = target_tombstones(t);
	MergePlan	plan;

	state_merge_plan(table, local, tomb, &plan);
	if (plan.outcome != MERGE_IGNORED && !plan.alive)
	{
		/* the tombstone wins: the row goes, the tombstone takes the merged version */
		RowState   *merged = state_merge(table, target_relation(t), &plan, local, tomb);
		Conflict	conflict;

		if (!target_delete(t, found))
			return ROUND_AGAIN;
		tombstones_put(tombs, merged, tomb_tid);
		orphan_note(t, local, tomb->version.last);
		CommandCounterIncrement();
		if (plan.outcome == MERGE_MERGED && find_conflict(table, target_relation(t), &plan, local, tomb, &conflict))
			conflict_record(table, target_relation(t), NULL, local, tomb, &conflict);
		return ROUND_DONE;
	}
	if (merge_with(t, local, found, NULL, tomb, NULL, false, &ignored) == ROUND_AGAIN)
		return ROUND_AGAIN;
	tombstones_remove(tombs, tomb_tid);
	CommandCounterIncrement();
	return ROUND_DONE;
}

void
merge_check_clock(const RowState *remote)
{
	if (node_clock_too_far(version_max_hlc(&remote->version)))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("stamp of an incoming row lies too far in the future"),
				 errdetail("It is more than ferry.max_clock_skew (%d ms) ahead of this machine's clock.",
						   ferry_max_clock_skew_ms),
				 errhint("Set the clocks of both machines by NTP; see ferry.clock.")));
}

void
merge_raise_clock(const RowState *remote)
{
	merge_check_clock(remote);
	node_clock_raise(version_max_hlc(&remote->version));
}

/*
 * What the sender holds of the key of a state that lacks values; NULL if it is old
 * news there, or dead by what TRUNCATE left there, which has been merged now: what is
 * held here is to be found again.  Raises if the sender cannot be asked.
 */
static RowState *
whole_state(ApplyTarget *t, RowState *remote, const char *peer)
{
	const FerryTable *table = target_table(t);
	RowState   *whole;

	switch (fetch_whole(t, remote, peer, &whole))
	{
		case FETCH_WHOLE:
			merge_raise_clock(whole);
			if (ranges_cover(ranges_of(RelationGetRelid(target_relation(t))), &whole->version))
				return NULL;
			seen_note(&whole->version);
			return whole;
		case FETCH_GONE:
			return NULL;
		case FETCH_NOBODY:
			break;
	}
	for (int c = 0; c < table->nplain; c++)
		if (remote->kinds[table->plain_attnos[c] - 1] == VALUE_UNCHANGED)
			state_missing_value(table, target_relation(t), table->plain_attnos[c]);
	pg_unreachable();
}

void
merge_row_held(ApplyTarget *t, const RowState *key, RowState **row, RowState **tomb)
{
	const FerryTable *table = target_table(t);
	Tombstones *tombs = target_tombstones(t);
	Datum		key_values[INDEX_MAX_KEYS];
	ItemPointerData tid;
	ApplyFound	found;
	uint32		generation;

	/*
	 * One snapshot for both: a key whose row and tombstone take turns would be
	 * found to have neither, if it was born between two looks.  And under a horizon
	 * that was raised meanwhile it would claim what may have come since.
	 */
	state_key_values(table, key, key_values);
	do
	{
		Snapshot	snapshot;

		generation = horizon_generation();
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		*row = target_find_as_of(t, key, snapshot, &found) ? state_from_slot(table, found.slot) : NULL;
		*tomb = tombstones_any(tombs) ? tombstones_find_as_of(tombs, key_values, snapshot, &tid) : NULL;
		UnregisterSnapshot(snapshot);
	} while (generation != horizon_generation());
}

RowState *
merge_row_state(ApplyTarget *t, const RowState *key)
{
	RowState   *row;
	RowState   *tomb;

	merge_row_held(t, key, &row, &tomb);
	if (row && tomb)
		return merge_states(target_table(t), target_relation(t), row, tomb);
	return row ? row : tomb;
}

ApplyResult
merge_row(ApplyTarget *t, RowState *remote, const char *peer)
{
	const FerryTable *table = target_table(t);
	Tombstones *tombs = target_tombstones(t);
	Datum		key[INDEX_MAX_KEYS];
	bool		maybe_pair = false;
	bool		can_ask = fetch_is_possible(peer);

	/* one writer and one dot: a birth, or an update of all columns */
	bool		one_dot = remote->alive && remote->version.nvv == 1 &&
		remote->version.ncols == 0;

	/* a birth, most likely: probe the index once instead of twice */
	bool		expect_new = one_dot && target_births(t) > 0;
	Oid			relid = RelationGetRelid(target_relation(t));
	ApplyResult result = APPLY_IGNORED;
	ApplyResult written = APPLY_IGNORED;	/* in a round before one that had to end a pair */

	merge_raise_clock(remote);
	if (ranges_cover(ranges_of(relid), &remote->version))
		return APPLY_IGNORED;
	seen_note(&remote->version);
	state_key_values(table, remote, key);

	for (int round = 0; round < MAX_ROUNDS; round++)
	{
		ApplyFound	found;
		ItemPointerData tomb_tid;
		RowState   *local;

		CHECK_FOR_INTERRUPTS();
		if (!(expect_new && round == 0) && target_find(t, remote, &found))
		{
			local = state_from_slot(table, found.slot);
			if (one_dot)
				target_set_births(t, 0);
			if (maybe_pair)
			{
				RowState   *tomb = tombstones_find(tombs, key, &tomb_tid);

				maybe_pair = false;
				if (tomb)
				{
					maybe_pair = merge_pair(t, local, &found, tomb, &tomb_tid) == ROUND_AGAIN;
					continue;
				}
			}
			switch (merge_with(t, local, &found, NULL, remote, peer, can_ask, &result))
			{
				case ROUND_DONE:
					return result == APPLY_IGNORED ? written : result;
				case ROUND_FETCH:
					remote = whole_state(t, remote, peer);
					if (remote == NULL)
						return APPLY_IGNORED;
					can_ask = false;
					break;
				case ROUND_AGAIN:
					break;
			}
			continue;
		}

		if (!target_key_is_free(t, remote))
			continue;			/* it is there: find it */

		local = tombstones_any(tombs) ? tombstones_find(tombs, key, &tomb_tid) : NULL;
		if (local)
		{
			switch (merge_with(t, local, NULL, &tomb_tid, remote, peer, can_ask, &result))
			{
				case ROUND_DONE:
					break;
				case ROUND_FETCH:
					remote = whole_state(t, remote, peer);
					if (remote == NULL)
						return APPLY_IGNORED;
					can_ask = false;
					continue;
				case ROUND_AGAIN:
					continue;
			}
			if (result == APPLY_IGNORED)
				return written;
			if (remote->alive)
				return result;
		}
		else if (merge_is_old_news(table, remote))
			return APPLY_IGNORED;
		else
		{
			if (remote->alive && state_lacks_value(table, NULL, NULL, remote, false))
			{
				/* or, if there is nobody to ask, say which value it is */
				remote = whole_state(t, remote, peer);
				if (remote == NULL)
					return APPLY_IGNORED;
				can_ask = false;
				continue;
			}
			write_first_state(t, remote);
			if (one_dot)
				target_set_births(t, target_births(t) + 1);
			if (remote->alive && ranges_of(relid)->n > 0)
				range_report_outlived(t, remote, peer);
			result = APPLY_APPLIED;
			if (remote->alive)
			{
				/* did someone bury the key meanwhile? */
				if (!tombstones_any(tombs) || tombstones_key_is_free(tombs, key))
					return result;
				maybe_pair = true;
				written = result;
				continue;
			}
		}

		/* we wrote a tombstone: did someone insert the row meanwhile? */
		if (target_key_is_free(t, remote))
			return result;
		maybe_pair = true;
		written = result;
	}
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not merge a row of table \"%s\" because it keeps changing",
					RelationGetRelationName(target_relation(t)))));
}

ApplyResult
apply_state(Relation rel, FerryTable *table, RowState *remote, const char *peer)
{
	ApplyTarget *t;
	ApplyResult result;
	int			nest_level = NewGUCNestLevel();

	(void) set_config_option("session_replication_role", "replica", PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	t = target_open(rel, table);
	target_enter(t);
	result = merge_row(t, remote, peer);
	tombstones_flush(target_tombstones(t));
	if (unique_settle(t, peer) > 0)
		result = APPLY_CONFLICT;
	orphan_note_rest(t);
	target_leave(t);
	target_close(t);
	AtEOXact_GUC(true, nest_level);
	return result;
}
