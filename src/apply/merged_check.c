/*-------------------------------------------------------------------------
 *
 * merged_check.c
 *		Merged rows that violate a CHECK constraint which each side's row fulfils.
 *
 * CHECK (low <= high): one node raises low, another lowers high, both may.  The
 * columns merge each for itself, and the row that comes out is valid nowhere.
 *
 * No function of the merged registers can mend that: the values that would have
 * fitted together have been overwritten.  Nor may each node fall back on what it
 * happens to hold: merging would depend on the order in which states arrive.  So it
 * ends as clashes of unique values do (unique.c), by a new write: the columns that
 * constraints tie together are taken as they stand on the side that wrote the
 * latest of them, and all of them get a dot of this node, told to everybody
 * (own_write.c).  The other side's image is in ferry.conflicts.
 *
 * Tied together are columns that a constraint names, and those of all
 * constraints that share a column with it (a generated column stands for those it
 * is made of).  This divides the columns into groups that are the same whichever
 * constraint was violated, and a resolution stamps a whole group.
 *
 * Why this ends, and ends alike.  The values of a group are those of the latest
 * writes in it, of users or of resolutions.  Of two states that both include all
 * users' writes, one includes the latest resolution of either; its group is what
 * it was when that resolution was stored, under the same users' writes: the merged
 * group is this side's group, which is valid.  So a merge can only violate a
 * constraint if it brings a user's write that this side has not seen; each node
 * resolves at most once for each, and then no more.  From then on the nodes merge
 * as always.  Two nodes that end the same conflict at once choose the same side,
 * and write the same values under two dots, which is no conflict.
 *
 * Not resolved, but put into quarantine on each node that holds the other side:
 *
 *	- a sum, maximum or other join (ferry.set_merge) that a constraint refuses: to
 *	  take one side's would undo the other's, and if two nodes did so at once, twice;
 *	- what is not valid by itself, because constraints differ between nodes;
 *	- NOT NULL and the checks of domains are about single values, which were valid
 *	  where they were written, or joined.
 *
 * The quarantined state is not lost, not promised to others (node/holding.c) and on
 * record as a conflict of kind "check" that nobody has won.  It merges, and goes,
 * when the cause is gone or a later state of the row makes the sum fit.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "nodes/bitmapset.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#include "compat.h"
#include "apply/merge_row.h"
#include "apply/merged_check.h"
#include "node/node.h"
#include "node/seen.h"

typedef struct Check
{
	const char *name;
	ExprState  *state;
	Bitmapset  *columns;		/* of attribute numbers of columns outside the key */
} Check;

struct TargetChecks
{
	int			n;
	Check		checks[FLEXIBLE_ARRAY_MEMBER];
};

/* --- the constraints of a target --- */

/* the plain columns that an expression looks at */
static Bitmapset *
looked_at(const FerryTable *table, Relation rel, Node *expr)
{
	Bitmapset  *attrs = NULL;
	Bitmapset  *through = NULL;
	Bitmapset  *plain = NULL;
	int			x = -1;

	pull_varattnos(expr, 1, &attrs);
	while ((x = bms_next_member(attrs, x)) >= 0)
	{
		AttrNumber	attno = x + FirstLowInvalidHeapAttributeNumber;

		if (attno > 0 && TupleDescAttr(RelationGetDescr(rel), attno - 1)->attgenerated)
			pull_varattnos(build_column_default(rel, attno), 1, &through);
	}
	attrs = bms_add_members(attrs, through);
	for (int c = 0; c < table->nplain; c++)
		if (bms_is_member(table->plain_attnos[c] - FirstLowInvalidHeapAttributeNumber, attrs))
			plain = bms_add_member(plain, table->plain_attnos[c]);
	return plain;
}

/* made at the first concurrent merge of a target, and kept with it */
static struct TargetChecks *
checks_of(ApplyTarget *t)
{
	struct TargetChecks **place = target_checks(t);
	Relation	rel = target_relation(t);
	TupleConstr *constr = RelationGetDescr(rel)->constr;
	int			n = constr ? constr->num_check : 0;
	MemoryContext oldcontext;

	if (*place)
		return *place;
	oldcontext = MemoryContextSwitchTo(target_estate(t)->es_query_cxt);
	*place = palloc0(offsetof(struct TargetChecks, checks) + sizeof(Check) * n);
	for (int i = 0; i < n; i++)
	{
		Check	   *check = &(*place)->checks[(*place)->n];
		Node	   *expr;

		if (!compat_check_is_enforced(&constr->check[i]))
			continue;
		expr = stringToNode(constr->check[i].ccbin);
		check->name = pstrdup(constr->check[i].ccname);
		check->columns = looked_at(target_table(t), rel, expr);
		check->state = ExecPrepareExpr((Expr *) expr, target_estate(t));
		(*place)->n++;
	}
	MemoryContextSwitchTo(oldcontext);
	return *place;
}

/* the first constraint that a row violates, or NULL */
static const Check *
violated(ApplyTarget *t, const struct TargetChecks *checks, RowState *row, TupleTableSlot *base)
{
	ExprContext *econtext = GetPerTupleExprContext(target_estate(t));
	const Check *found = NULL;

	econtext->ecxt_scantuple = target_row(t, row, base);
	for (int i = 0; i < checks->n && found == NULL; i++)
		if (!ExecCheck(checks->checks[i].state, econtext))
			found = &checks->checks[i];
	return found;
}

/* the columns that constraints tie to those of one */
static Bitmapset *
group_of(const struct TargetChecks *checks, const Check *check)
{
	Bitmapset  *group = bms_copy(check->columns);
	bool		grown = true;

	while (grown)
	{
		grown = false;
		for (int i = 0; i < checks->n; i++)
		{
			if (!bms_overlap(group, checks->checks[i].columns) || bms_is_subset(checks->checks[i].columns, group))
				continue;
			group = bms_add_members(group, checks->checks[i].columns);
			grown = true;
		}
	}
	return group;
}

/* --- resolving --- */

/* can the group be taken from one side: are its columns registers, and here? */
static bool
is_separable(const FerryTable *table, const MergePlan *plan, const RowState *local, const RowState *remote, const Bitmapset *group)
{
	for (int c = 0; c < table->nplain; c++)
	{
		int			i = table->plain_attnos[c] - 1;

		if (!bms_is_member(table->plain_attnos[c], group))
			continue;
		if (plan->joined[c] || local->kinds[i] != VALUE_HERE || remote->kinds[i] != VALUE_HERE ||
			version_column_parts(&local->version, table->plain_ids[c]) ||
			version_column_parts(&remote->version, table->plain_ids[c]))
			return false;
	}
	return true;
}

/* the latest dot in a group */
static Dot
claim_dot(const FerryTable *table, const RowState *side, const Bitmapset *group)
{
	Dot			claim = {0, 0};

	for (int c = 0; c < table->nplain; c++)
	{
		Dot			d = version_column_dot(&side->version, table->plain_ids[c]);

		if (bms_is_member(table->plain_attnos[c], group) && dot_compare(d, claim) > 0)
			claim = d;
	}
	return claim;
}

static void
take_group(const FerryTable *table, RowState *row, const RowState *side, const Bitmapset *group)
{
	int			attno = -1;

	while ((attno = bms_next_member(group, attno)) >= 0)
	{
		row->values[attno - 1] = side->values[attno - 1];
		row->nulls[attno - 1] = side->nulls[attno - 1];
		row->kinds[attno - 1] = side->kinds[attno - 1];
	}
}

static RowState *
copy_state(const FerryTable *table, const RowState *row)
{
	RowState   *copy = state_create(table);

	copy->alive = row->alive;
	copy->version = row->version;
	memcpy(copy->values, row->values, sizeof(Datum) * row->natts);
	memcpy(copy->nulls, row->nulls, sizeof(bool) * row->natts);
	memcpy(copy->kinds, row->kinds, sizeof(uint8) * row->natts);
	return copy;
}

/* the group's columns are written by us */
static void
stamp_group(const FerryTable *table, RowState *row, const Bitmapset *group)
{
	Version		before = row->version;
	uint16	   *ids = palloc(sizeof(uint16) * Max(table->nplain, 1));
	int			n = 0;

	for (int c = 0; c < table->nplain; c++)
		if (bms_is_member(table->plain_attnos[c], group))
			ids[n++] = table->plain_ids[c];
	version_write(&before, node_stamp(), ids, n, table->plain_ids, table->nplain,
				  true, table->life == LIFE_UPDATE_WINS, true, &row->version);
	seen_note(&row->version);
}

bool
merged_check(ApplyTarget *t, const MergePlan *plan, const RowState *local, const RowState *remote,
			 TupleTableSlot *base, RowState *merged, bool explain, Conflict *conflict)
{
	const FerryTable *table = target_table(t);
	TupleDesc	desc = RelationGetDescr(target_relation(t));
	const struct TargetChecks *checks;
	const Check *check;
	const RowState *sides[2];
	Bitmapset  *group;
	RowState   *row;
	int			side = 0;

	if (table->mode != MERGE_MODE_COLUMN || desc->constr == NULL || desc->constr->num_check == 0)
		return false;
	checks = checks_of(t);
	check = violated(t, checks, merged, base);
	if (check == NULL)
		return false;
	group = group_of(checks, check);
	if (bms_is_empty(group) || !is_separable(table, plan, local, remote, group))
		return false;

	side = dot_compare(claim_dot(table, remote, group), claim_dot(table, local, group)) > 0;
	sides[0] = local;
	sides[1] = remote;
	row = copy_state(table, merged);
	take_group(table, row, sides[side], group);
	if (violated(t, checks, row, base))
	{
		/* not valid by itself, so constraints differ between nodes: is the other? */
		side = 1 - side;
		take_group(table, row, sides[side], group);
		if (violated(t, checks, row, base))
			return false;
	}
	*merged = *row;
	if (!explain)
		stamp_group(table, merged, group);

	memset(conflict, 0, sizeof(*conflict));
	conflict->kind = CONFLICT_CHECK;
	conflict->winner = side == 1 ? WINNER_REMOTE : WINNER_LOCAL;
	conflict->rule = "later_claim";
	conflict->constraint = check->name;
	for (int c = 0; c < table->nplain; c++)
		if (bms_is_member(table->plain_attnos[c], group))
			conflict->columns = lappend(conflict->columns, NameStr(TupleDescAttr(desc, table->plain_attnos[c] - 1)->attname));
	return true;
}

/* --- what could not be resolved --- */

/* in a subtransaction of the caller's */
static void
report(const char *peer, RelationMap *map, const WireRow *wire, const NodeVector *horizon, const ErrorData *error)
{
	Relation	rel;
	ApplyTarget *t;
	const FerryTable *table;
	RowState   *remote;
	RowState   *local;
	MergePlan	plan;

	relation_map_resolve(map);
	rel = table_open(map->relid, RowExclusiveLock);
	t = target_open(rel, table_lookup_required(map->relid));
	table = target_table(t);
	remote = relation_map_decode(map, table, wire);
	remote->version.horizon = horizon;
	local = merge_row_state(t, remote);
	if (local)
		state_merge_plan(table, local, remote, &plan);
	if (local && plan.outcome == MERGE_MERGED)
	{
		Conflict	conflict = {0};

		conflict.kind = CONFLICT_CHECK;
		conflict.winner = WINNER_NONE;
		conflict.rule = "quarantined";
		conflict.constraint = error->constraint_name;
		if (error->column_name)
			conflict.columns = list_make1(error->column_name);
		conflict_record(table, rel, peer, local, remote, &conflict);
	}
	target_close(t);
	table_close(rel, NoLock);
}

void
merged_check_report(const char *peer, RelationMap *map, const WireRow *row, const NodeVector *horizon, const ErrorData *error)
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext cxt = CurrentMemoryContext;

	if (error->sqlerrcode != ERRCODE_CHECK_VIOLATION && error->sqlerrcode != ERRCODE_NOT_NULL_VIOLATION)
		return;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		report(peer, map, row, horizon, error);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		/* a conflict less on record: the state is in quarantine all the same */
		MemoryContextSwitchTo(cxt);
		EmitErrorReport();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		map->resolved = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
}
