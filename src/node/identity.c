/*-------------------------------------------------------------------------
 *
 * identity.c
 *		A database becomes a node: ferry.create_node().
 *
 * That a database is a node must be known to the launcher, which is connected to
 * none.  So it is written where it can read it: a security label of provider
 * "ferry" on the database, in the shared catalog pg_shseclabel, by the same
 * transaction that makes the node.  The provider is registered when a SECURITY
 * LABEL statement names it, as those of pg_upgrade and pg_restore do; all others
 * see a server without providers, as before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/seclabel.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "node/identity.h"
#include "node/node.h"

void
node_set_label(const char *label)
{
	ObjectAddress database;

	ObjectAddressSet(database, DatabaseRelationId, MyDatabaseId);
	SetSecurityLabel(&database, "ferry", label);
}

/* labels are ours to set; a restored dump may set them too */
static void
check_label(const ObjectAddress *object, const char *label)
{
	if (object->classId != DatabaseRelationId)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("security labels of provider \"ferry\" mark databases only")));
}

void
node_register_label_provider(void)
{
	static bool registered = false;

	if (!registered)
		register_label_provider("ferry", check_label);
	registered = true;
}

NodeId
node_random_id(void)
{
	NodeId		id = NODE_ID_NONE;

	while (id == NODE_ID_NONE)
	{
		if (!pg_strong_random(&id, sizeof(id)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate a random node id")));
	}
	return id;
}

/* names go into synchronous_standby_names and into slots' and peers' lists */
static void
check_name(const char *name)
{
	if (name[0] == '\0' || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(name))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid node name \"%s\"", name),
				 errhint("Use lower-case letters, digits and underscores.")));
}

PG_FUNCTION_INFO_V1(ferry_create_node);

/*
 * SQL: ferry.create_node(name, dsn, group_id) returns bigint.  Raises if the
 * database is a node already, ferry is not preloaded or wal_level is not logical.
 */
Datum
ferry_create_node(PG_FUNCTION_ARGS)
{
	char	   *name = NameStr(*PG_GETARG_NAME(0));
	NodeShared *node;
	NodeId		id;
	Oid			types[4] = {INT8OID, NAMEOID, TEXTOID, UUIDOID};
	Datum		args[4];

	check_name(name);
	if (!node_is_preloaded())
		(void) node_current();	/* says what is missing */
	if (wal_level < WAL_LEVEL_LOGICAL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("\"wal_level\" is insufficient for ferry"),
				 errhint("Set wal_level = logical in postgresql.conf and restart the server.")));
	node = node_current_or_null();
	if (node)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("database \"%s\" is already the ferry node \"%s\"",
						get_database_name(MyDatabaseId), node_name())));

	id = node_random_id();
	args[0] = Int64GetDatum(id);
	args[1] = PG_GETARG_DATUM(0);
	args[2] = PG_GETARG_DATUM(1);
	args[3] = PG_GETARG_DATUM(2);
	SPI_connect();
	SPI_execute_with_args("INSERT INTO ferry.local_node (node_id, name, dsn, groups, system_id, timeline, database) "
						  "SELECT $1, $2, $3, ARRAY[$4], h.system_id, h.timeline, h.database FROM ferry._here() h",
						  4, types, args, NULL, false, 0);
	SPI_execute_with_args("INSERT INTO ferry.member (node_id, name, dsn, dsn_at) "
						  "VALUES ($1, $2, $3, pg_catalog.clock_timestamp())",
						  3, types, args, NULL, false, 0);
	SPI_finish();
	node_set_label("node");
	node_list_changed();
	PG_RETURN_INT64(id);
}

char *
node_groups(void)
{
	MemoryContext cxt = CurrentMemoryContext;
	char	   *groups = NULL;

	(void) node_current();
	SPI_connect();
	SPI_execute("SELECT groups::pg_catalog.text FROM ferry.local_node", true, 1);
	if (SPI_processed == 1)
		groups = MemoryContextStrdup(cxt, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	SPI_finish();
	return groups;
}

void
node_join_groups(const char *groups)
{
	Oid			types[1] = {TEXTOID};
	Datum		args[1] = {CStringGetTextDatum(groups)};

	SPI_connect();
	SPI_execute_with_args("SELECT ferry._join_groups($1::pg_catalog.uuid[])", 1, types, args, NULL, false, 1);
	SPI_finish();
}

PG_FUNCTION_INFO_V1(ferry_require_node);

/* SQL: ferry._require_node(): raise unless this database is a node */
Datum
ferry_require_node(PG_FUNCTION_ARGS)
{
	(void) node_current();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ferry_config_changed);

/* SQL: ferry._config_changed(): peers or tables have changed */
Datum
ferry_config_changed(PG_FUNCTION_ARGS)
{
	node_config_changed();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(ferry_unmark);

/* SQL: ferry._unmark(): this database is no node any more */
Datum
ferry_unmark(PG_FUNCTION_ARGS)
{
	node_set_label(NULL);
	node_list_changed();
	PG_RETURN_VOID();
}
