/*-------------------------------------------------------------------------
 *
 * utility.c
 *		Statements that ferry has a say in.
 *
 * COPY without a column list goes on working and does not see _ferry: the list
 * is filled in, before the server reads the statement, with every live column
 * but _ferry and generated ones.  COPY FROM goes in batches where it can (copy.c).
 *
 * TRUNCATE of single partitions is seen to here (truncate.c), as no trigger fires.
 *
 * ALTER TABLE that changes the type of a key changes its tombstones' (alter.c).
 *
 * SECURITY LABEL FOR ferry, as restored by pg_upgrade, finds its provider.
 *
 * DROP EXTENSION ferry first takes the node out of service: the user's tables
 * are left as they were, links end, slots and origins go.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "tcop/utility.h"
#include "utils/rel.h"

#include "ferry.h"
#include "capture/alter.h"
#include "capture/copy.h"
#include "capture/statement.h"
#include "capture/truncate.h"
#include "node/identity.h"
#include "node/table.h"

static ProcessUtility_hook_type previous_utility = NULL;

static List *
visible_columns(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	List	   *names = NIL;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (attr->attisdropped || attr->attgenerated ||
			(attr->atttypid == ferry_version_type() &&
			 strcmp(NameStr(attr->attname), FERRY_VERSION_COLUMN) == 0))
			continue;
		names = lappend(names, makeString(pstrdup(NameStr(attr->attname))));
	}
	table_close(rel, NoLock);
	return names;
}

static bool
drops_ferry(const DropStmt *drop)
{
	ListCell   *lc;

	if (drop->removeType != OBJECT_EXTENSION)
		return false;
	foreach(lc, drop->objects)
		if (strcmp(strVal(lfirst(lc)), "ferry") == 0)
			return OidIsValid(get_extension_oid("ferry", true));
	return false;
}

/* only its owner may drop an extension: leave the error to the server */
static void
leave(void)
{
	if (!superuser())
		return;
	SPI_connect();
	SPI_execute("SELECT ferry._leave()", false, 0);
	SPI_finish();
}

static void
pass_on(PlannedStmt *pstmt, const char *query, bool read_only_tree, ProcessUtilityContext context,
		ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (previous_utility)
		previous_utility(pstmt, query, read_only_tree, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest, qc);
}

static bool
names_version(const CopyStmt *copy)
{
	ListCell   *lc;

	foreach(lc, copy->attlist)
		if (strcmp(strVal(lfirst(lc)), FERRY_VERSION_COLUMN) == 0)
			return true;
	return false;
}

/* COPY of a table, from or to */
static void
copy_table(PlannedStmt *pstmt, const char *query, bool read_only_tree, ProcessUtilityContext context,
		   ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	CopyStmt   *copy = (CopyStmt *) pstmt->utilityStmt;
	Relation	into = NULL;

	/* a missing table is the server's to report; what it locks later we only look at */
	Oid			relid = RangeVarGetRelid(copy->relation, AccessShareLock, true);

	if (OidIsValid(relid) && OidIsValid(ferry_version_type()) && table_lookup(relid))
	{
		if (copy->attlist == NIL)
		{
			pstmt = copyObject(pstmt);
			copy = (CopyStmt *) pstmt->utilityStmt;
			copy->attlist = visible_columns(relid);
		}
		if (copy->is_from && !names_version(copy) && !XactReadOnly && !RecoveryInProgress())
			into = table_open(relid, RowExclusiveLock);
	}
	if (into)
		copy_hide_trigger(into);
	PG_TRY();
	{
		pass_on(pstmt, query, read_only_tree, context, params, env, dest, qc);
	}
	PG_FINALLY();
	{
		copy_show_trigger();
	}
	PG_END_TRY();
	if (into)
		table_close(into, NoLock);
}

static void
utility(PlannedStmt *pstmt, const char *query, bool read_only_tree, ProcessUtilityContext context,
		ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Oid			altered = InvalidOid;

	copy_show_trigger();
	if (IsA(pstmt->utilityStmt, DropStmt) && drops_ferry((DropStmt *) pstmt->utilityStmt))
		leave();
	else if (IsA(pstmt->utilityStmt, SecLabelStmt))
	{
		char	   *provider = ((SecLabelStmt *) pstmt->utilityStmt)->provider;

		if (provider && strcmp(provider, "ferry") == 0)
			node_register_label_provider();
	}
	else if (IsA(pstmt->utilityStmt, TruncateStmt))
		capture_truncate_partitions((TruncateStmt *) pstmt->utilityStmt);
	else if (IsA(pstmt->utilityStmt, AlterTableStmt))
		altered = capture_alter_begin((AlterTableStmt *) pstmt->utilityStmt);
	else if (IsA(pstmt->utilityStmt, CopyStmt) && ((CopyStmt *) pstmt->utilityStmt)->relation)
	{
		copy_table(pstmt, query, read_only_tree, context, params, env, dest, qc);
		return;
	}
	pass_on(pstmt, query, read_only_tree, context, params, env, dest, qc);
	if (OidIsValid(altered))
		capture_alter_end(altered);
}

void
capture_install_hooks(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
	statement_install_hook();
}
