/*-------------------------------------------------------------------------
 *
 * conflict_hook.c
 *		A user's function that hears of a table's conflicts.
 *
 * It is called in the transaction that resolves the conflict, after the conflict
 * was put on record, with the row of ferry.conflict as jsonb: what it writes is
 * there exactly if the resolution is.  It runs as the table's owner, under the
 * restrictions of an index expression's function (SECURITY_RESTRICTED_OPERATION)
 * and with a search_path of nothing, whoever merges.
 *
 * A hook cannot do harm to merging: it runs in a subtransaction, and an error
 * rolls back what it did and is a WARNING.  The conflict stays on record and
 * resolved.  What it does not return from it does hold up, like any function that
 * is called while rows are merged.
 *
 * Which rows it meets depends on the node, since each node records what it saw.
 * So it has no business in tables under ferry, and cannot stamp rows there: while
 * rows are merged nothing is stamped (session_replication_role is replica).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "apply/conflict_hook.h"
#include "node/table.h"

/* the function's name, quoted, from ferry.conflict_hook (relid, function); NULL: none */
static char *
hook_of(Oid relid)
{
	Relation	rel = table_open(ferry_relation("conflict_hook"), AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	char	   *function = NULL;
	HeapTuple	tuple;

	while (function == NULL && (tuple = systable_getnext(scan)) != NULL)
	{
		bool		isnull;

		if (DatumGetObjectId(heap_getattr(tuple, 1, RelationGetDescr(rel), &isnull)) == relid)
			function = TextDatumGetCString(heap_getattr(tuple, 2, RelationGetDescr(rel), &isnull));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return function;
}

static Datum
tuple_as_jsonb(HeapTuple tuple, TupleDesc desc)
{
	Datum		json = DirectFunctionCall1(row_to_json, heap_copy_tuple_as_datum(tuple, desc));

	return DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(json)));
}

/* as the owner, in a subtransaction that the caller has begun and ends */
static void
call(const char *function, Oid owner, Datum conflict)
{
	Oid			types[1] = {JSONBOID};
	Oid			userid;
	int			sec_context;
	int			nest_level = NewGUCNestLevel();

	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(owner, sec_context | SECURITY_RESTRICTED_OPERATION | SECURITY_LOCAL_USERID_CHANGE);
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
	SPI_execute_with_args(psprintf("SELECT %s($1)", function), 1, types, &conflict, NULL, false, 0);
	SPI_finish();
	SetUserIdAndSecContext(userid, sec_context);
	AtEOXact_GUC(true, nest_level);
}

void
conflict_hook_call(Relation rel, HeapTuple conflict, TupleDesc desc)
{
	static bool calling = false;
	ResourceOwner resowner = CurrentResourceOwner;
	MemoryContext cxt = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;
	char	   *function;
	Datum		argument;

	/* a hook that merges something does not hear of that */
	if (calling || (function = hook_of(RelationGetRelid(rel))) == NULL)
		return;
	argument = tuple_as_jsonb(conflict, desc);
	calling = true;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		call(function, rel->rd_rel->relowner, argument);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	calling = false;
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = resowner;
	if (error == NULL)
		return;
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED && MyBackendType == B_BACKEND)
		ReThrowError(error);
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("conflict hook %s of table \"%s\" failed: %s", function, RelationGetRelationName(rel), error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 errhint("The conflict is on record and resolved. See ferry.set_conflict_hook.")));
	FreeErrorData(error);
}
