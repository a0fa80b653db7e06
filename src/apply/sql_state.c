/*-------------------------------------------------------------------------
 *
 * sql_state.c
 *		ferry.state(rel, key) and ferry.merge(rel, state): row states in jsonb,
 *		for whoever looks at one or carries it over another transport.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/objectaddress.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"

#include "apply/apply.h"
#include "apply/merge_row.h"
#include "apply/range_merge.h"
#include "node/node.h"
#include "state/range_tombstone.h"

static const char *const result_names[] = {
	[APPLY_IGNORED] = "ignored",
	[APPLY_APPLIED] = "applied",
	[APPLY_MERGED] = "merged",
	[APPLY_CONFLICT] = "conflict",
};

void
apply_check_access(Relation rel, AclMode needed)
{
	Oid			relid = RelationGetRelid(rel);

	if (pg_class_aclmask(relid, GetUserId(), needed, ACLMASK_ALL) != needed)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, RelationGetRelationName(rel));
	if (check_enable_rls(relid, InvalidOid, false) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot use states of table \"%s\" because its row-level security applies to you",
						RelationGetRelationName(rel))));
}

Relation
apply_open_registered(Oid relid, AclMode needed, FerryTable **table)
{
	Relation	rel;

	(void) node_current();
	rel = table_open(relid, RowExclusiveLock);
	*table = table_lookup_required(relid);
	if ((*table)->rootid != relid)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is a partition", RelationGetRelationName(rel)),
				 errhint("Name the table \"%s\", of which it is a part.",
						 get_rel_name((*table)->rootid))));
	apply_check_access(rel, needed);
	return rel;
}

/*
 * The state with what TRUNCATE left of its table, which others need first: it was
 * written under all of that, whether or not its vector says so (core/range.c).
 */
static Datum
add_ranges(Oid relid, Datum state)
{
	const RangeList *list = ranges_of(relid);

	return list->n == 0 ? state : DirectFunctionCall2(jsonb_concat, state, ranges_to_jsonb(list->ranges, list->n));
}

PG_FUNCTION_INFO_V1(ferry_state);

/*
 * SQL: ferry.state(rel regclass, key jsonb) returns jsonb, null if the key was
 * never seen.  Needs SELECT on the table.
 */
Datum
ferry_state(PG_FUNCTION_ARGS)
{
	FerryTable *table;
	Relation	rel = apply_open_registered(PG_GETARG_OID(0), ACL_SELECT, &table);
	RowState   *key = state_key_from_jsonb(table, rel, PG_GETARG_DATUM(1));
	ApplyTarget *t = target_open(rel, table);
	RowState   *row = merge_row_state(t, key);
	Datum		result = (Datum) 0;

	/* what TRUNCATE took away is dead, as far as anybody knows */
	if (row == NULL)
		row = range_key_state(t, key);

	if (row)
		result = add_ranges(RelationGetRelid(rel), state_to_jsonb(target_table(t), rel, row));
	target_close(t);
	table_close(rel, NoLock);
	if (row == NULL)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}

PG_FUNCTION_INFO_V1(ferry_merge);

/*
 * SQL: ferry.merge(rel regclass, state jsonb) returns text.  Needs SELECT,
 * INSERT, UPDATE and DELETE on the table.
 */
Datum
ferry_merge(PG_FUNCTION_ARGS)
{
	FerryTable *table;
	Relation	rel = apply_open_registered(PG_GETARG_OID(0),
									  ACL_SELECT | ACL_INSERT | ACL_UPDATE | ACL_DELETE, &table);
	ApplyResult result;

	if (state_is_range(PG_GETARG_DATUM(1)))
	{
		Version		range;

		range_from_jsonb(PG_GETARG_DATUM(1), &range);
		result = apply_range(rel, table, &range, NULL);
	}
	else
	{
		RowState   *state = state_from_jsonb(table, rel, PG_GETARG_DATUM(1));
		ListCell   *lc;

		foreach(lc, state_ranges_from_jsonb(PG_GETARG_DATUM(1)))
			(void) apply_range(rel, table, lfirst(lc), NULL);
		result = apply_state(rel, table, state, NULL);
	}
	table_close(rel, NoLock);
	PG_RETURN_TEXT_P(cstring_to_text(result_names[result]));
}
