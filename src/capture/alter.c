/*-------------------------------------------------------------------------
 *
 * alter.c
 *		ALTER TABLE ... ALTER COLUMN ... TYPE of a column of the key.
 *
 * A row and its tombstone are found by the same key, so the tombstones' table has
 * the key's types (node/table.sql).  When they change, those of the tombstones
 * change with them, in the same statement and by the same cast: a dead row of key 7
 * is that of the row 7, whether it died before or after.
 *
 * Nodes change at different times.  Meanwhile keys travel as any values do whose
 * type differs on both sides (state/codec.c): through their text.  A key that has no
 * place in the type here (5000000000 in an integer) goes to quarantine and
 * merges once the type has been changed here too.
 *
 * The tombstones belong to the owner of the extension, and casting runs as him.
 * Types that are not the server's own could have him execute anybody's function:
 * they are refused.  So is USING, which could make one key of two: rows would change
 * places without a write.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/tablecmds.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

#include "capture/alter.h"
#include "node/table.h"

static bool
changes_types(const AlterTableStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
		if (((AlterTableCmd *) lfirst(lc))->subtype == AT_AlterColumnType)
			return true;
	return false;
}

static bool
is_key(const FerryTable *table, AttrNumber attno)
{
	for (int k = 0; k < table->nkeys; k++)
		if (table->key_attnos[k] == attno)
			return true;
	return false;
}

Oid
capture_alter_begin(const AlterTableStmt *stmt)
{
	Oid			relid;
	const FerryTable *table;
	ListCell   *lc;

	if (!changes_types(stmt) || !OidIsValid(ferry_version_type()))
		return InvalidOid;

	/* as the server does before it executes the statement */
	relid = RangeVarGetRelidExtended(stmt->relation, AccessExclusiveLock, RVR_MISSING_OK, RangeVarCallbackOwnsRelation, NULL);
	if (!OidIsValid(relid))
		return InvalidOid;
	table = table_lookup(relid);
	if (table == NULL || table->rootid != relid)
		return InvalidOid;
	foreach(lc, stmt->cmds)
	{
		const AlterTableCmd *cmd = lfirst(lc);

		if (cmd->subtype == AT_AlterColumnType && ((ColumnDef *) cmd->def)->raw_default != NULL &&
			is_key(table, get_attnum(relid, cmd->name)))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("key column \"%s\" of table \"%s\" cannot be changed by an expression",
							cmd->name, get_rel_name(relid)),
					 errdetail("It says which row is which on all nodes."),
					 errhint("Take the table from ferry by ferry.drop_table on every node, change it, and add it again.")));
	}
	return relid;
}

/* the statement by which key column k of the tombstones becomes what attr is */
static char *
retype_sql(Relation tomb, int k, const Form_pg_attribute attr, const char *table_name)
{
	Form_pg_attribute held = TupleDescAttr(RelationGetDescr(tomb), k);
	const char *column = quote_identifier(NameStr(held->attname));
	const char *type = format_type_with_typemod(attr->atttypid, attr->atttypmod);

	if (attr->atttypid >= FirstNormalObjectId || held->atttypid >= FirstNormalObjectId)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("key column \"%s\" of table \"%s\" cannot change to type %s",
						NameStr(attr->attname), table_name, type),
				 errdetail("Keys change between the server's own types only."),
				 errhint("Take the table from ferry by ferry.drop_table on every node, change it, and add it again.")));
	return psprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s%s%s USING %s::%s",
					quote_qualified_identifier(get_namespace_name(RelationGetNamespace(tomb)), RelationGetRelationName(tomb)),
					column, type,
					OidIsValid(attr->attcollation) ? " COLLATE " : "",
					OidIsValid(attr->attcollation) ? generate_collation_name(attr->attcollation) : "",
					column, type);
}

void
capture_alter_end(Oid relid)
{
	const FerryTable *table;
	Relation	rel;
	Relation	tomb;
	List	   *statements = NIL;
	ListCell   *lc;
	Oid			owner;
	Oid			user;
	int			sec_context;

	CommandCounterIncrement();
	table = table_lookup_required(relid);
	rel = table_open(relid, NoLock);
	tomb = table_open(table->tombid, AccessExclusiveLock);
	owner = tomb->rd_rel->relowner;
	for (int k = 0; k < table->nkeys; k++)
	{
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel), table->key_attnos[k] - 1);
		Form_pg_attribute held = TupleDescAttr(RelationGetDescr(tomb), k);

		if (attr->atttypid != held->atttypid || attr->atttypmod != held->atttypmod || attr->attcollation != held->attcollation)
			statements = lappend(statements, retype_sql(tomb, k, attr, RelationGetRelationName(rel)));
	}
	table_close(tomb, NoLock);
	table_close(rel, NoLock);
	if (statements == NIL)
		return;

	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(owner, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	SPI_connect();
	foreach(lc, statements)
		SPI_execute(lfirst(lc), false, 0);
	SPI_finish();
	SetUserIdAndSecContext(user, sec_context);

	/* what processes have cached of the table names the index that was made anew */
	CacheInvalidateRelcacheByRelid(relid);
	CommandCounterIncrement();
}
