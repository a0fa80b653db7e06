/*-------------------------------------------------------------------------
 *
 * import.c
 *		ferry.import_bundle() and ferry.import_intake(): a session asks, a
 *		background worker does.
 *
 * A function cannot commit, and a bundle of any size must not be one transaction:
 * so a worker merges it, block by block (import_worker.c), while the session
 * waits.  The worker also has what a link's worker has: pinned settings, and
 * ferry's own rights.  What it commits stays: when the session goes away, or the
 * server, the next call goes on behind the last block.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "bundle/access.h"
#include "bundle/import.h"
#include "link/background.h"
#include "node/node.h"

/* in a transaction block the worker would neither see what it did nor get what it locked */
static void
check_no_transaction(const char *function)
{
	if (IsTransactionBlock() || IsSubTransaction())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("%s cannot run inside a transaction block", function),
				 errdetail("Every block of a bundle is a transaction of its own.")));
}

static void
stop_worker(int code, Datum arg)
{
	TerminateBackgroundWorker((BackgroundWorkerHandle *) DatumGetPointer(arg));
}

/* run the job and raise what it raised */
static void
run_job(const ImportJob *order, ImportJob *answer)
{
	dsm_segment *segment = dsm_create(sizeof(ImportJob), 0);
	ImportJob  *job = dsm_segment_address(segment);
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	*job = *order;
	background_describe(&worker, "import", "", "ferry_import_main");
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
	worker.bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("out of background worker slots for ferry"),
				 errhint("Increase max_worker_processes and restart the server.")));
	PG_ENSURE_ERROR_CLEANUP(stop_worker, PointerGetDatum(handle));
	{
		if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
			ereport(FATAL,
					(errcode(ERRCODE_ADMIN_SHUTDOWN), errmsg("postmaster is gone")));
	}
	PG_END_ENSURE_ERROR_CLEANUP(stop_worker, PointerGetDatum(handle));
	*answer = *job;
	dsm_detach(segment);
	if (!answer->finished)
		ereport(ERROR,
				(errcode(ERRCODE_OPERATOR_INTERVENTION),
				 errmsg("the import was stopped"),
				 errhint("Call it again: it goes on behind the last block that was merged.")));
	if (answer->sqlerrcode != 0)
		ereport(ERROR,
				(errcode(answer->sqlerrcode),
				 errmsg_internal("%s", answer->message),
				 answer->detail[0] ? errdetail_internal("%s", answer->detail) : 0,
				 answer->hint[0] ? errhint("%s", answer->hint) : 0));
}

/* ferry.bundle_import's row of this bundle, as the function's result */
static Datum
report(FunctionCallInfo fcinfo, const ImportJob *answer)
{
	Oid			types[1] = {UUIDOID};
	Datum		args[1] = {UUIDPGetDatum(&answer->id)};
	TupleDesc	desc;
	Datum		result;
	BundleUser	saved;
	bool		reached;
	bool		isnull;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	bundle_enter(&saved);
	PushActiveSnapshot(GetLatestSnapshot());
	SPI_execute_with_args("SELECT bundle_id, source, begins, reaches, reached, tables, states, blocks, "
						  "applied, merged, ignored, conflicts, quarantined, signed_by "
						  "FROM ferry.bundle_import WHERE bundle_id = $1", 1, types, args, NULL, true, 1);
	PopActiveSnapshot();
	if (SPI_processed != 1)
		elog(ERROR, "no report of the import");
	result = SPI_datumTransfer(heap_copy_tuple_as_datum(SPI_tuptable->vals[0], desc), false, -1);
	reached = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 5, &isnull));
	bundle_leave(&saved);
	if (!reached)
		ereport(WARNING,
				(errmsg("the bundle begins at a vector that this node does not hold"),
				 errdetail("Its states are merged, but what was written before it may be missing here."),
				 errhint("Import the bundles before it, in any order, or have a whole one exported.")));
	return result;
}

PG_FUNCTION_INFO_V1(ferry_import_bundle);

/* SQL: ferry.import_bundle(file text, adopt_group boolean default false, OUT ...) */
Datum
ferry_import_bundle(PG_FUNCTION_ARGS)
{
	const char *path = text_to_cstring(PG_GETARG_TEXT_PP(0));
	ImportJob  *order = palloc0(sizeof(ImportJob));
	ImportJob  *answer = palloc(sizeof(ImportJob));

	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to read a file of the server"),
				 errdetail("Only roles with privileges of pg_read_server_files may."),
				 errhint("Copy the bundle into ferry.bundle_intake from the client and call ferry.import_intake().")));
	if (!is_absolute_path(path) || strlen(path) >= MAXPGPATH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("relative path not allowed for a file of the server: \"%s\"", path)));
	(void) node_current();
	check_no_transaction("ferry.import_bundle");
	bundle_check_access(ACL_INSERT | ACL_UPDATE | ACL_DELETE);
	order->database = MyDatabaseId;
	strlcpy(order->path, path, MAXPGPATH);
	order->adopt_group = PG_GETARG_BOOL(1);
	bundle_settings_now(&order->settings);
	run_job(order, answer);
	return report(fcinfo, answer);
}

/* the one bundle that this courier has brought, or raise */
static pg_uuid_t
the_waiting_bundle(const char *courier)
{
	Oid			types[1] = {NAMEOID};
	Datum		args[1] = {CStringGetDatum(courier)};
	BundleUser	saved;
	pg_uuid_t	id = {{0}};
	uint64		n;
	bool		isnull;

	bundle_enter(&saved);
	SPI_execute_with_args("SELECT DISTINCT bundle_id FROM ferry.bundle_part WHERE courier = $1",
						  1, types, args, NULL, true, 0);
	n = SPI_processed;
	if (n == 1)
		id = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	bundle_leave(&saved);
	if (n == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("role \"%s\" has brought no bundle", courier),
				 errhint("First use \\copy ferry.bundle_intake FROM 'file' (FORMAT binary) in psql.")));
	if (n > 1)
		ereport(ERROR,
				(errcode(ERRCODE_AMBIGUOUS_PARAMETER),
				 errmsg("role \"%s\" has brought more than one bundle", courier),
				 errhint("Name one of those that ferry.intake() shows.")));
	return id;
}

PG_FUNCTION_INFO_V1(ferry_import_intake);

/* SQL: ferry.import_intake(bundle uuid default null, adopt_group boolean default false, OUT ...) */
Datum
ferry_import_intake(PG_FUNCTION_ARGS)
{
	ImportJob  *order = palloc0(sizeof(ImportJob));
	ImportJob  *answer = palloc(sizeof(ImportJob));

	(void) node_current();
	check_no_transaction("ferry.import_intake");
	bundle_check_access(ACL_INSERT | ACL_UPDATE | ACL_DELETE);
	order->database = MyDatabaseId;
	strlcpy(order->courier, GetUserNameFromId(GetSessionUserId(), false), NAMEDATALEN);
	order->id = PG_ARGISNULL(0) ? the_waiting_bundle(order->courier) : *PG_GETARG_UUID_P(0);
	order->adopt_group = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	bundle_settings_now(&order->settings);
	run_job(order, answer);
	return report(fcinfo, answer);
}

PG_FUNCTION_INFO_V1(ferry_bundle_part_name);

/* SQL: ferry._bundle_part_name(part bytea, OUT bundle_id uuid, OUT number bigint): whose part it says it is */
Datum
ferry_bundle_part_name(PG_FUNCTION_ARGS)
{
	bytea	   *part = PG_GETARG_BYTEA_PP(0);
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));
	BundleHead	head;
	BundleError error;
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {0};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (!bundle_get_head((uint8_t *) VARDATA_ANY(part), VARSIZE_ANY_EXHDR(part), &head, &error))
		bundle_raise(&error, NULL);
	memcpy(id->data, head.id, UUID_LEN);
	values[0] = UUIDPGetDatum(id);
	values[1] = Int64GetDatum(head.number);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
