/*-------------------------------------------------------------------------
 *
 * background.c
 *		ferry's background workers: how one is described and started.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/guc.h"

#include "link/background.h"

void
background_describe(BackgroundWorker *worker, const char *kind, const char *subject, const char *function)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker->bgw_library_name, BGW_MAXLEN, "ferry");
	snprintf(worker->bgw_function_name, BGW_MAXLEN, "%s", function);
	snprintf(worker->bgw_type, BGW_MAXLEN, "ferry %s", kind);
	snprintf(worker->bgw_name, BGW_MAXLEN, subject[0] ? "ferry %s %s" : "ferry %s", kind, subject);
	strlcpy(worker->bgw_extra, subject, NAMEDATALEN);
}

BackgroundWorkerHandle *
background_start(Oid dboid, const char *kind, const char *subject, const char *function)
{
	static bool complained = false;
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	background_describe(&worker, kind, subject, function);
	worker.bgw_main_arg = ObjectIdGetDatum(dboid);
	worker.bgw_notify_pid = MyProcPid;
	if (RegisterDynamicBackgroundWorker(&worker, &handle))
		return handle;
	if (!complained)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("out of background worker slots for ferry"),
				 errhint("Increase max_worker_processes and restart the server.")));
	complained = true;
	return NULL;
}

/* --- sessions of workers that merge --- */

static void
set_option(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_OVERRIDE, GUC_ACTION_SET, true, 0, false);
}

void
background_pin_settings(void)
{
	set_option("search_path", "");
	set_option("session_replication_role", "replica");
	set_option("synchronous_commit", "off");
	set_option("datestyle", "ISO");
	set_option("intervalstyle", "postgres");
	set_option("timezone", "UTC");
	set_option("extra_float_digits", "3");
	set_option("bytea_output", "hex");
	set_option("statement_timeout", "0");
	set_option("lock_timeout", "0");
	set_option("idle_in_transaction_session_timeout", "0");
	set_option("default_transaction_read_only", "off");
	set_option("default_transaction_isolation", "read committed");
	set_option("default_transaction_deferrable", "off");
	set_option("row_security", "off");
	set_option("deadlock_timeout", "50ms");
	set_option("jit", "off");
}
