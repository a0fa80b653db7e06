/*-------------------------------------------------------------------------
 *
 * merge_values.c
 *		The values of a row that a merge plan makes of two states.
 *
 * Each column comes from the side that the plan names, or is the join of both
 * (state/strategy.c).
 *
 * A state may lack the value of a TOASTed column that its last write left alone
 * (VALUE_UNCHANGED).  It is the value that the other side holds if that has the
 * same version of the column; otherwise the state cannot be merged as it is
 * (state_lacks_value), and whoever has a sender to ask gets the whole one.
 * Only a dead row may go without.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
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
			 errhint("It can be merged once the state that wrote the value has arrived: call ferry.retry_quarantine().")));
}

/* take attno of out from src; an unchanged value is what other has under the same version */
static void
take_value(const FerryTable *table, Relation rel, RowState *out, AttrNumber attno,
		   const RowState *src, const RowState *other, bool includes_other)
{
	int			i = attno - 1;
	uint16		id = table->column_ids[i];

	if (src->kinds[i] == VALUE_UNCHANGED && other != NULL && other->kinds[i] == VALUE_HERE &&
		strategy_same_value(src, other, id, includes_other))
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
state_lacks_value(const FerryTable *table, const MergePlan *plan, const RowState *local, const RowState *remote)
{
	if (memchr(remote->kinds, VALUE_UNCHANGED, remote->natts) == NULL)
		return false;
	for (int c = 0; c < table->nplain; c++)
	{
		int			i = table->plain_attnos[c] - 1;
		bool		whole;

		if (remote->kinds[i] != VALUE_UNCHANGED)
			continue;
		if (local == NULL)
			return true;
		whole = plan->outcome == MERGE_TAKEN;
		if (!whole && plan->joined[c])
			return true;
		if (plan->alive && (whole || plan->take_remote[c]) &&
			(local->kinds[i] != VALUE_HERE || !strategy_same_value(remote, local, table->plain_ids[c], whole)))
			return true;
	}
	return false;
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
	return out;
}
