/*-------------------------------------------------------------------------
 *
 * ferry.c
 *		Module entry: settings, hooks, shared memory.
 *
 * The library is loaded in two ways: preloaded by the postmaster, which is
 * what a node needs, and on demand in a backend of a server that does not
 * preload it (CREATE EXTENSION, a stray trigger).  In the second case there is
 * no shared memory: node_current() then says what to configure.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/guc.h"

#include "ferry.h"
#include "apply/birth_check.h"
#include "apply/conflict_keep.h"
#include "bundle/settings.h"
#include "link/link.h"
#include "link/schedule.h"
#include "node/deaths.h"
#include "node/holding.h"
#include "node/node.h"
#include "node/seen.h"
#include "node/watermark.h"
#include "verify/pace.h"

PG_MODULE_MAGIC;

int			ferry_max_nodes = 64;
int			ferry_max_links = 128;
int			ferry_max_clock_skew_ms = 60000;
int			ferry_max_slot_wal_mb = 10240;
int			ferry_retry_initial_ms = 100;
int			ferry_retry_max_ms = 1500;
int			ferry_batch_ms = 100;
int			ferry_copy_workers = 2;
int			ferry_housekeeping_ms = 5000;
int			ferry_prune_after_s = 7 * 24 * 60 * 60;
int			ferry_compression = COMPRESSION_OFF;

static const struct config_enum_entry compression_options[] = {
	{"off", COMPRESSION_OFF, false},
	{"zstd", COMPRESSION_ZSTD, false},
	{NULL, 0, false}
};
int			ferry_verify_interval_s = 300;
int			ferry_verify_deep_interval_s = 86400;

static shmem_request_hook_type previous_shmem_request_hook = NULL;
static shmem_startup_hook_type previous_shmem_startup_hook = NULL;

PGDLLEXPORT void _PG_init(void);

static void
request_shared_memory(void)
{
	if (previous_shmem_request_hook)
		previous_shmem_request_hook();
	RequestAddinShmemSpace(add_size(add_size(node_shmem_size(), deaths_shmem_size()), link_shmem_size()));
	RequestAddinShmemSpace(add_size(watermark_shmem_size(), holding_shmem_size()));
	RequestAddinShmemSpace(seen_shmem_size());
	RequestNamedLWLockTranche("ferry", 5);	/* [0] nodes, [1] links, [2] deaths, [3] prepared, [4] holdings */
}

static void
start_shared_memory(void)
{
	if (previous_shmem_startup_hook)
		previous_shmem_startup_hook();
	node_shmem_init();
	watermark_shmem_init();
	holding_shmem_init();
	deaths_shmem_init();
	seen_shmem_init();
	link_shmem_init();
}

static void
define_settings(void)
{
	DefineCustomIntVariable("ferry.max_clock_skew",
							"Furthest that a stamp from a peer may lie ahead of this machine's clock.",
							"A state with a later stamp is refused and its link held.",
							&ferry_max_clock_skew_ms,
							60000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("ferry.max_slot_wal",
							"Most write-ahead log that is kept for a peer that does not fetch it.",
							"Past it the peer's slot is dropped, and what the peer lacks is copied when it comes back. -1: no limit.",
							&ferry_max_slot_wal_mb,
							10240, -1, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomIntVariable("ferry.retry_initial_ms",
							"First wait before a lost peer is tried again.",
							"Doubles with every failure, with jitter, up to ferry.retry_max_ms.",
							&ferry_retry_initial_ms,
							100, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("ferry.retry_max_ms",
							"Longest wait before a lost peer is tried again.",
							NULL,
							&ferry_retry_max_ms,
							1500, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("ferry.batch_ms",
							"Longest time that one local transaction goes on collecting remote ones.",
							"Bounds how long rows merged from a busy peer stay locked.",
							&ferry_batch_ms,
							100, 0, 60000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);

	DefineCustomIntVariable("ferry.copy_workers",
							"Most processes that copy from a peer at a time.",
							"Each copies a table, or merges for one that copies a large one. Each takes a background worker and a connection to the peer, beside the link's own.",
							&ferry_copy_workers,
							2, 1, LINK_MAX_COPIERS,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("ferry.compression",
							 "How peers compress what they send to this node.",
							 "Worth its processor time where the network is slow or costly.",
							 &ferry_compression,
							 COMPRESSION_OFF, compression_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("ferry.housekeeping_ms",
							"Time between two rounds of housekeeping.",
							"In each, what is known of other nodes is written down and what all of them hold is cleared away.",
							&ferry_housekeeping_ms,
							5000, 10, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("ferry.conflict_keep",
							"How long conflicts stay on record.",
							"-1 keeps them for ever.",
							&ferry_conflict_keep_min,
							30 * 24 * 60, -1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);
	DefineCustomIntVariable("ferry.conflict_keep_rows",
							"How many conflicts stay on record.",
							"The oldest go first. -1 keeps them all.",
							&ferry_conflict_keep_rows,
							1000000, -1, INT_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("ferry.prune_after",
							"Age at which tombstones and entries of version vectors that every member has seen are removed.",
							"A member that is away holds that back; ferry.nodes says who. -1 keeps them for ever.",
							&ferry_prune_after_s,
							7 * 24 * 60 * 60, -1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("ferry.verify_interval",
							"Time between two verifications of this node against its peers.",
							"0 turns them off.",
							&ferry_verify_interval_s,
							300, 0, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("ferry.verify_deep_interval",
							"Time between two verifications that compare the values of columns too.",
							"0 turns them off.",
							&ferry_verify_deep_interval_s,
							86400, 0, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("ferry.verify_cost_limit",
							"Number of blocks that a verification by schedule reads before it sleeps.",
							NULL,
							&ferry_verify_cost_limit,
							50, 1, INT_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomRealVariable("ferry.verify_cost_delay",
							 "How long a verification by schedule sleeps after that many blocks.",
							 "0 lets it run through.",
							 &ferry_verify_cost_delay_ms,
							 20, 0, 10000,
							 PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);

	if (process_shared_preload_libraries_in_progress)
	{
		DefineCustomIntVariable("ferry.max_nodes",
								"Number of databases of this server that can be ferry nodes.",
								NULL,
								&ferry_max_nodes,
								64, 1, 10000,
								PGC_POSTMASTER, 0, NULL, NULL, NULL);
		DefineCustomIntVariable("ferry.max_links",
								"Number of links that the nodes of this server can have in all.",
								NULL,
								&ferry_max_links,
								128, 1, 100000,
								PGC_POSTMASTER, 0, NULL, NULL, NULL);
	}
	bundle_define_settings();
	MarkGUCPrefixReserved("ferry");
}

void
_PG_init(void)
{
	define_settings();

	if (!process_shared_preload_libraries_in_progress)
		return;

	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	previous_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_shared_memory;

	/* called last at the end of a transaction, when all stamps are taken */
	watermark_install();
	capture_install_hooks();
	birth_check_install();
	link_register_launcher();
}
