/*-------------------------------------------------------------------------
 *
 * merge_sql.c
 *		ferry.merge(rel, state): a state in jsonb, merged as if it came from a
 *		peer, for whoever carries states over another transport.
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
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"

#include "apply/apply.h"
#include "node/node.h"

static const char *const result_names[] = {
	[APPLY_IGNORED] = "ignored",
	[APPLY_APPLIED] = "applied",
	[APPLY_MERGED] = "merged",
	[APPLY_CONFLICT] = "conflict",
};

/* a state can insert, update and delete, whatever the row's policies say */
static void
check_may_merge(Relation rel)
{
	AclMode		needed = ACL_SELECT | ACL_INSERT | ACL_UPDATE | ACL_DELETE;
	AclResult	result = pg_class_aclcheck(RelationGetRelid(rel), GetUserId(), ACL_SELECT);

	if (pg_class_aclmask(RelationGetRelid(rel), GetUserId(), needed, ACLMASK_ALL) != needed)
		result = ACLCHECK_NO_PRIV;
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_TABLE, RelationGetRelationName(rel));
	if (check_enable_rls(RelationGetRelid(rel), InvalidOid, false) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot merge into table \"%s\" because its row-level security applies to you",
						RelationGetRelationName(rel))));
}

PG_FUNCTION_INFO_V1(ferry_merge);

/*
 * SQL: ferry.merge(rel regclass, state jsonb) returns text.  Needs SELECT,
 * INSERT, UPDATE and DELETE on the table.
 */
Datum
ferry_merge(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Relation	rel;
	FerryTable *table;
	RowState   *state;
	ApplyResult result;

	(void) node_current();
	rel = table_open(relid, RowExclusiveLock);
	table = table_lookup_required(relid);
	if (table->rootid != relid)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is a partition", RelationGetRelationName(rel)),
				 errhint("Name the table \"%s\", of which it is a part.",
						 get_rel_name(table->rootid))));
	check_may_merge(rel);
	state = state_from_jsonb(table, rel, PG_GETARG_DATUM(1));
	result = apply_state(rel, table, state, NULL);
	table_close(rel, NoLock);
	PG_RETURN_TEXT_P(cstring_to_text(result_names[result]));
}
