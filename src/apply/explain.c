/*-------------------------------------------------------------------------
 *
 * explain.c
 *		ferry.explain_merge(rel, state): what ferry.merge would do, and why,
 *		without doing it.
 *
 * It goes the way of merge_row() up to where that writes: the same parsing, the same
 * plan, the same values, the same constraints, hence the same errors.  What merging
 * would only find out by writing is not foreseen: another row with the same unique
 * value, and what other transactions do meanwhile.  No clock is raised.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "apply/apply.h"
#include "apply/merge_row.h"
#include "apply/merged_check.h"
#include "apply/range_merge.h"
#include "node/horizon.h"
#include "node/node.h"
#include "state/merge_values.h"
#include "state/range_tombstone.h"

#define EXPLAIN_NATTS 10

typedef struct Explained
{
	ReturnSetInfo *out;
	ApplyTarget *target;
	const RowState *local;		/* NULL: nothing is held */
	const RowState *remote;
	const RowState *result;		/* NULL: nothing would be */
	Jsonb	   *local_row;		/* NULL: no values */
	Jsonb	   *remote_row;
	Jsonb	   *result_row;
} Explained;

/* a line of the result; NULL and (Datum) 0 are nulls */
typedef struct Line
{
	const char *part;
	const char *column;
	const char *rule;
	const char *winner;
	const Dot  *local_dot;
	const Dot  *remote_dot;
	Datum		local_value;
	Datum		remote_value;
	Datum		result;
	const char *detail;
} Line;

static Datum
text_or_null(const char *s, bool *isnull)
{
	*isnull = (s == NULL);
	return s ? CStringGetTextDatum(s) : (Datum) 0;
}

static Datum
dot_or_null(const Dot *d, bool *isnull)
{
	return text_or_null(d ? psprintf(UINT64_FORMAT "@%u", d->hlc, d->node) : NULL, isnull);
}

static void
put_line(Explained *e, const Line *line)
{
	Datum		values[EXPLAIN_NATTS];
	bool		nulls[EXPLAIN_NATTS] = {0};
	Name		column = palloc0(NAMEDATALEN);

	values[0] = CStringGetTextDatum(line->part);
	nulls[1] = line->column == NULL;
	if (line->column)
		strlcpy(NameStr(*column), line->column, NAMEDATALEN);
	values[1] = NameGetDatum(column);
	values[2] = text_or_null(line->rule, &nulls[2]);
	values[3] = text_or_null(line->winner, &nulls[3]);
	values[4] = dot_or_null(line->local_dot, &nulls[4]);
	values[5] = dot_or_null(line->remote_dot, &nulls[5]);
	values[6] = line->local_value;
	nulls[6] = line->local_value == (Datum) 0;
	values[7] = line->remote_value;
	nulls[7] = line->remote_value == (Datum) 0;
	values[8] = line->result;
	nulls[8] = line->result == (Datum) 0;
	values[9] = text_or_null(line->detail, &nulls[9]);
	tuplestore_putvalues(e->out->setResult, e->out->setDesc, values, nulls);
}

static Datum
json_string(const char *s)
{
	JsonbValue	v = state_json_string(s);

	return JsonbPGetDatum(JsonbValueToJsonb(&v));
}

static Datum
json_bool(bool b)
{
	JsonbValue	v;

	v.type = jbvBool;
	v.val.boolean = b;
	return JsonbPGetDatum(JsonbValueToJsonb(&v));
}

/* a column of a row's values, 0 if it is not among them */
static Datum
json_column(Jsonb *row, const char *name)
{
	JsonbValue *v = row ? getKeyJsonValueFromContainer(&row->root, name, strlen(name), NULL) : NULL;

	return v ? JsonbPGetDatum(JsonbValueToJsonb(v)) : (Datum) 0;
}

static Jsonb *
row_of(ApplyTarget *t, const RowState *state)
{
	return state ? DatumGetJsonbP(state_row_to_jsonb(target_table(t), target_relation(t), state)) : NULL;
}

/* --- parts --- */

static void
explain_state(Explained *e, const char *rule, const char *winner, const char *result, const char *detail)
{
	Line		line = {"state"};

	line.rule = rule;
	line.winner = winner;
	line.local_dot = e->local ? &e->local->version.last : NULL;
	line.remote_dot = &e->remote->version.last;
	line.result = json_string(result);
	line.detail = detail;
	put_line(e, &line);
}

static void
explain_life(Explained *e, const MergePlan *plan)
{
	const FerryTable *table = target_table(e->target);
	Line		line = {"life"};
	bool		merged = plan && plan->outcome == MERGE_MERGED;

	line.rule = !merged ? "whole_state" : table->life == LIFE_UPDATE_WINS ? "update_wins" : "last_wins";
	line.local_dot = e->local ? &e->local->version.last : NULL;
	line.remote_dot = &e->remote->version.last;
	line.local_value = e->local ? json_bool(e->local->alive) : (Datum) 0;
	line.remote_value = json_bool(e->remote->alive);
	if (e->result)
		line.result = json_bool(e->result->alive);
	if (e->local == NULL)
		line.winner = e->result ? "remote" : NULL;
	else if (e->local->alive == e->remote->alive)
		line.winner = "same";
	else
		line.winner = e->result->alive == e->remote->alive ? "remote" : "local";
	if (plan && plan->life_contested)
		line.detail = "conflict: one side deleted what the other changed";
	put_line(e, &line);
}

/* the strategy by which both sides have built a column */
static const char *
join_rule(const Explained *e, uint16 id)
{
	const ColumnParts *parts = version_column_parts(&e->local->version, id);
	const char *name = parts ? strategy_kind_name((ColumnKind) parts->kind) : NULL;

	return name ? name : "function";
}

static void
explain_column(Explained *e, const MergePlan *plan, int c, bool both_alive)
{
	const FerryTable *table = target_table(e->target);
	Relation	rel = target_relation(e->target);
	AttrNumber	attno = table->plain_attnos[c];
	uint16		id = table->plain_ids[c];
	bool		merged = plan && plan->outcome == MERGE_MERGED;
	Line		line = {"column"};
	Dot			local_dot;
	Dot			remote_dot = version_column_dot(&e->remote->version, id);

	line.column = NameStr(TupleDescAttr(RelationGetDescr(rel), attno - 1)->attname);
	line.remote_dot = &remote_dot;
	if (e->local)
	{
		local_dot = version_column_dot(&e->local->version, id);
		line.local_dot = &local_dot;
	}
	line.local_value = json_column(e->local_row, line.column);
	line.remote_value = json_column(e->remote_row, line.column);
	line.result = json_column(e->result_row, line.column);
	if (!merged)
	{
		line.rule = "whole_state";
		line.winner = e->local && (plan == NULL || plan->outcome == MERGE_IGNORED) ? "local" : e->result ? "remote" : NULL;
	}
	else if (plan->joined[c])
	{
		line.rule = join_rule(e, id);
		line.winner = "both";
	}
	else
	{
		line.rule = table->mode == MERGE_MODE_ROW ? "row_last_writer" : "column_last_writer";
		line.winner = dot_equal(local_dot, remote_dot) ? "same" : plan->take_remote[c] ? "remote" : "local";
		if (plan->contested[c] && both_alive && merge_values_differ(rel, attno, e->local, e->remote))
			line.detail = "conflict: both sides set it, to different values";
	}
	if (e->result && e->result->alive && e->remote->kinds[attno - 1] == VALUE_ABSENT)
		line.detail = e->local ? "the state does not have the column" : "the state does not have the column: its default is stored";
	put_line(e, &line);
}

static void
explain_parts(Explained *e, const MergePlan *plan)
{
	const FerryTable *table = target_table(e->target);
	bool		both_alive = e->local && e->local->alive && e->remote->alive;

	e->local_row = row_of(e->target, e->local);
	e->remote_row = row_of(e->target, e->remote);
	e->result_row = row_of(e->target, e->result);
	explain_life(e, plan);
	for (int c = 0; c < table->nplain; c++)
		explain_column(e, plan, c, both_alive);
}

/* --- outcomes --- */

static bool
has_conflict(Explained *e, const MergePlan *plan)
{
	const FerryTable *table = target_table(e->target);

	if (plan->life_contested)
		return true;
	for (int c = 0; e->local->alive && e->remote->alive && c < table->nplain; c++)
		if (plan->contested[c] &&
			merge_values_differ(target_relation(e->target), table->plain_attnos[c], e->local, e->remote))
			return true;
	return false;
}

/* the row that stands, as what a merged one is laid over; NULL if none does */
static TupleTableSlot *
standing(Explained *e)
{
	ApplyFound	found;

	return target_find(e->target, e->remote, &found) ? found.slot : NULL;
}

static void
explain_held(Explained *e)
{
	const FerryTable *table = target_table(e->target);
	Relation	rel = target_relation(e->target);
	MergePlan	plan;
	Conflict	invalid;
	RowState   *merged;
	bool		resolved = false;

	state_merge_plan(table, e->local, e->remote, &plan);
	if (plan.outcome == MERGE_IGNORED)
	{
		bool		equal = version_compare(&e->remote->version, &e->local->version) == VERSION_EQUAL;

		e->result = e->local;
		explain_state(e, equal ? "same_version" : "older", "local", "ignored",
					  "what is held here includes every write of the state");
		explain_parts(e, &plan);
		return;
	}
	merged = state_merge(table, rel, &plan, e->local, e->remote);
	if (plan.outcome == MERGE_MERGED && merged->alive)
		resolved = merged_check(e->target, &plan, e->local, e->remote, standing(e), merged, true, &invalid);
	if (merged->alive)
		target_check(e->target, merged, standing(e));
	e->result = merged;
	if (plan.outcome == MERGE_TAKEN)
		explain_state(e, "newer", "remote", "applied", "the state includes every write of what is held here");
	else
		explain_state(e, "concurrent", "merged", resolved || has_conflict(e, &plan) ? "conflict" : "merged",
					  "each has seen writes that the other has not");
	explain_parts(e, &plan);
	if (resolved)
	{
		Line		line = {"check"};

		line.rule = invalid.rule;
		line.winner = invalid.winner == WINNER_REMOTE ? "remote" : "local";
		line.detail = psprintf("conflict: the merged row violates the constraint \"%s\": the columns that it ties together are taken from one side, by a new write",
							   invalid.constraint);
		put_line(e, &line);
	}
}

/*
 * What TRUNCATE left where the state comes from goes first: a line for each that is
 * not in force here, and what would be held after it.  Returns all that would be
 * in force then.
 */
static const RangeList *
explain_truncates(Explained *e, List *truncates)
{
	const RangeList *here = ranges_of(RelationGetRelid(target_relation(e->target)));
	RangeList  *then = palloc(sizeof(RangeList));
	ListCell   *lc;

	then->n = here->n;
	then->ranges = palloc(sizeof(Version) * (here->n + list_length(truncates) + 1));
	for (int i = 0; i < here->n; i++)
		then->ranges[i] = here->ranges[i];
	foreach(lc, truncates)
	{
		const Version *range = lfirst(lc);
		Line		line = {"truncate"};

		/* as range_tombstone_merge() has it */
		if (ranges_cover(then, range) ||
			(!target_table(e->target)->is_new && vector_covers(horizon_current(), range)))
			continue;
		then->ranges[then->n++] = *range;
		line.rule = "truncate";
		line.winner = "remote";
		line.local_dot = e->local ? &e->local->version.last : NULL;
		line.remote_dot = &range->last;
		line.detail = "a TRUNCATE that is not in force here is merged first";
		if (e->local && range_covers(range, &e->local->version))
		{
			line.detail = "a TRUNCATE that is not in force here is merged first: it includes every write of what is held";
			line.local_value = json_bool(e->local->alive);
			line.result = json_bool(false);
			put_line(e, &line);
			e->local = NULL;
			continue;
		}
		if (e->local && e->local->alive && range_was_outlived(range, &e->local->version))
		{
			line.winner = "local";
			line.detail = "conflict: a TRUNCATE that is not in force here is merged first, and the row has been changed beside it: it is written again";
		}
		put_line(e, &line);
	}
	return then;
}

static void
explain(Explained *e, List *truncates)
{
	const RangeList *ranges;

	merge_check_clock(e->remote);
	e->local = merge_row_state(e->target, e->remote);
	ranges = explain_truncates(e, truncates);
	if (ranges_cover(ranges, &e->remote->version))
	{
		e->result = e->local;
		explain_state(e, "truncated", "local", "ignored", "a TRUNCATE in force here includes every write of the state");
		return;
	}
	if (e->local)
	{
		explain_held(e);
		return;
	}
	if (merge_is_old_news(target_table(e->target), e->remote))
	{
		explain_state(e, "old_news", "local", "ignored",
					  "every node has seen all of the state: the row has been deleted since, and its tombstone is gone");
		return;
	}
	if (e->remote->alive)
		target_check(e->target, unconstify(RowState *, e->remote), NULL);
	e->result = e->remote;
	explain_state(e, "first", "remote", "applied", "nothing is held of the key");
	explain_parts(e, NULL);
}

PG_FUNCTION_INFO_V1(ferry_explain_merge);

/* SQL: ferry.explain_merge(rel regclass, state jsonb) returns setof record.  Needs what ferry.merge needs. */
Datum
ferry_explain_merge(PG_FUNCTION_ARGS)
{
	FerryTable *table;
	Relation	rel = apply_open_registered(PG_GETARG_OID(0), ACL_SELECT | ACL_INSERT | ACL_UPDATE | ACL_DELETE, &table);
	Explained	e = {0};

	InitMaterializedSRF(fcinfo, 0);
	e.out = (ReturnSetInfo *) fcinfo->resultinfo;
	e.remote = state_from_jsonb(table, rel, PG_GETARG_DATUM(1));
	e.target = target_open(rel, table);
	target_enter(e.target);
	explain(&e, state_ranges_from_jsonb(PG_GETARG_DATUM(1)));
	target_leave(e.target);
	target_close(e.target);
	table_close(rel, NoLock);
	return (Datum) 0;
}
