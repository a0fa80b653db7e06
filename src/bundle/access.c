/*-------------------------------------------------------------------------
 *
 * access.c
 *		Who may carry bundles.
 *
 * EXECUTE is granted by an administrator to whoever carries bundles; beyond that
 * the carrier needs on the tables what he could do with them by hand, and nothing
 * on ferry's own tables.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "apply/apply.h"
#include "bundle/access.h"

void
bundle_enter(BundleUser *saved)
{
	GetUserIdAndSecContext(&saved->user, &saved->sec);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, saved->sec | SECURITY_LOCAL_USERID_CHANGE);
	SPI_connect();
}

void
bundle_leave(const BundleUser *saved)
{
	SPI_finish();
	SetUserIdAndSecContext(saved->user, saved->sec);
}

void
bundle_check_access(AclMode needed)
{
	MemoryContext cxt = CurrentMemoryContext;
	BundleUser	saved;
	Oid		   *relids;
	uint64		n;

	bundle_enter(&saved);
	SPI_execute("SELECT relid::pg_catalog.oid FROM ferry.registered_table ORDER BY relid", true, 0);
	n = SPI_processed;
	relids = MemoryContextAlloc(cxt, sizeof(Oid) * (n + 1));
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		relids[i] = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	bundle_leave(&saved);
	for (uint64 i = 0; i < n; i++)
	{
		Relation	rel = try_relation_open(relids[i], AccessShareLock);

		if (rel == NULL)
			continue;			/* dropped meanwhile */
		apply_check_access(rel, needed);
		relation_close(rel, AccessShareLock);
	}
	pfree(relids);
}
