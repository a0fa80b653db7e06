/*-------------------------------------------------------------------------
 *
 * merge_values.c
 *		The values of a row that a merge plan makes of two states.
 *
 * Each column comes from the side that the plan names, or is the join of both
 * (state/strategy.c).
 *
 * A state may lack the value of a column that its last write left alone
 * (VALUE_UNCHANGED): it was TOASTed, or the sender reckoned that we hold it
 * (core/narrow.c).  It is the value that the other side holds if that has the
 * same version of the column; otherwise the state cannot be merged as it is
 * (state_lacks_value), and whoever has a sender to ask gets the whole one.
 * Where nobody can be asked a dead row may go without.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "core/horizon.h"
#include "core/narrow.h"
#include "state/merge_values.h"
#include "state/strategy.h"

void
state_missing_value(const FerryTable *table, Relation rel, AttrNumber attno)
{
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("row state lacks the value of column \"%s\" of table \"%s\"",
					get_attname(RelationGetRelid(rel), attno, false),
					RelationGetRelationName(rel)),
			 errdetail("The value was not changed by the write that the state describes, and this node holds another version of it."),
			 errhint("It can be merged once the state that wrote the value has arrived; if it waits in quarantine, that is tried from time to time.")));
}

/* take attno of out from src; an unchanged value is what other has under the same version */
static void
take_value(const FerryTable *table, Relation rel, RowState *out, AttrNumber attno,
		   const RowState *src, const RowState *other, bool includes_other)
{
	int			i = attno - 1;
	uint16		id = table->column_ids[i];

	if (src->kinds[i] == VALUE_UNCHANGED && other != NULL && other->kinds[i] == VALUE_HERE &&
		narrow_same_value(&src->version, &other->version, id, includes_other))
		src = other;
	else if (src->kinds[i] == VALUE_ABSENT && other != NULL)
		src = other;			/* a column that the other node does not have */
	if (src->kinds[i] == VALUE_UNCHANGED && out->alive)
		state_missing_value(table, rel, attno);
	out->kinds[i] = src->kinds[i];
	out->values[i] = src->values[i];
	out->nulls[i] = src->nulls[i];
}

bool
state_lacks_value(const FerryTable *table, const MergePlan *plan, const RowState *local, const RowState *remote,
				  bool image_too)
{
	if (memchr(remote->kinds, VALUE_UNCHANGED, remote->natts) == NULL)
		return false;
	for (int c = 0; c < table->nplain; c++)
	{
		int			i = table->plain_attnos[c] - 1;
		bool		joined;

		if (remote->kinds[i] != VALUE_UNCHANGED)
			continue;
		if (local == NULL)
			return true;
		joined = plan->outcome == MERGE_MERGED && plan->joined[c];
		if (!plan->alive && !joined && !(image_too && table_keeps_image(table)))
			continue;
		if (narrow_lacks(plan, c, table->plain_ids[c], &local->version, &remote->version))
			return true;
		if ((plan->outcome == MERGE_TAKEN || plan->take_remote[c]) && local->kinds[i] != VALUE_HERE)
			return true;
	}
	return false;
}

const RowState *
state_completed(const FerryTable *table, const RowState *remote, const RowState *local, bool *whole)
{
	RowState   *out;

	*whole = true;
	if (memchr(remote->kinds, VALUE_UNCHANGED, remote->natts) == NULL)
		return remote;
	out = state_create(table);
	out->alive = remote->alive;
	out->version = remote->version;
	memcpy(out->values, remote->values, sizeof(Datum) * remote->natts);
	memcpy(out->nulls, remote->nulls, sizeof(bool) * remote->natts);
	memcpy(out->kinds, remote->kinds, sizeof(uint8) * remote->natts);
	for (int c = 0; c < table->nplain; c++)
	{
		int			i = table->plain_attnos[c] - 1;

		if (out->kinds[i] != VALUE_UNCHANGED)
			continue;
		if (local->kinds[i] != VALUE_HERE ||
			!narrow_same_value(&remote->version, &local->version, table->plain_ids[c], false))
		{
			*whole = false;
			continue;
		}
		out->kinds[i] = VALUE_HERE;
		out->values[i] = local->values[i];
		out->nulls[i] = local->nulls[i];
	}
	return out;
}

/* a column that both have built on; who does not have it says nothing about it */
static void
join_value(const FerryTable *table, Relation rel, RowState *out, AttrNumber attno,
		   const RowState *local, const RowState *remote)
{
	int			i = attno - 1;

	if (local->kinds[i] != VALUE_HERE || remote->kinds[i] != VALUE_HERE)
		state_missing_value(table, rel, attno);
	strategy_join(table, RelationGetDescr(rel), table->column_ids[i], local, remote, out);
}

RowState *
state_merge(const FerryTable *table, Relation rel, const MergePlan *plan,
			const RowState *local, const RowState *remote)
{
	RowState   *out = state_create(table);
	bool		whole = (plan->outcome == MERGE_TAKEN);
	bool		remote_last = whole ||
		dot_compare(remote->version.last, local->version.last) > 0;

	out->alive = plan->alive;
	out->version = plan->version;
	for (int k = 0; k < table->nkeys; k++)
		take_value(table, rel, out, table->key_attnos[k],
				   remote_last ? remote : local, NULL, false);

	if (!out->alive && !table_keeps_image(table))
		return out;
	for (int c = 0; c < table->nplain; c++)
	{
		bool		from_remote = whole || plan->take_remote[c];

		if (!whole && plan->joined[c])
			join_value(table, rel, out, table->plain_attnos[c], local, remote);
		else
			take_value(table, rel, out, table->plain_attnos[c],
					   from_remote ? remote : local, from_remote ? local : remote, whole);
	}
	/* now that all parts are in it */
	if (plan->any_joined)
		version_prune(&out->version, out->version.horizon, NULL);
	return out;
}
