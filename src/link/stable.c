/*-------------------------------------------------------------------------
 *
 * stable.c
 *		When the horizon may rise.
 *
 * That every member holds something is not enough.  The horizon says of each row
 * here that it has seen all that lies below it, so it stays where it is while
 *
 *	- a state waits in quarantine: it may be older than a tombstone that would go,
 *	  and is merged when that is gone;
 *	- a write of our own waits to be made once more for all peers (own_write.c):
 *	  what we said to have written they do not have yet;
 *	- the death of a parent waits to be judged (apply/orphan.c): its tombstone is what
 *	  the parent lives again from;
 *	- a TRUNCATE is not on every member: see state/range_tombstone.c;
 *	- it is young: nobody shall find something cleared away that is in a backup from
 *	  within ferry.prune_after, or not known yet to another copy of that age.  A node
 *	  that has gone back further links with nobody (succession.sql);
 *	- there is nobody else: whoever takes what is here by other ways than links is
 *	  no member, and would not hear of a deletion any more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "link/stable.h"
#include "node/horizon.h"
#include "node/node.h"
#include "state/range_tombstone.h"

/* in how many steps it rises by ferry.prune_after */
#define AGE_STEPS 64

static bool
may_rise(const NodeVector *h)
{
	Oid			types[1] = {FLOAT8OID};
	Datum		args[1] = {Float8GetDatum(ferry_prune_after_s)};
	NodeVector	risen;
	bool		may;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	SPI_execute_with_args("SELECT FROM ferry.member m, ferry.local_node n WHERE m.node_id <> n.node_id AND NOT m.is_dropped "
						  "AND ($1 = 0 OR n.created_at <= pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1)) "
						  "AND NOT EXISTS (SELECT FROM ferry.quarantined) AND NOT EXISTS (SELECT FROM ferry.own_write) "
						  "AND NOT EXISTS (SELECT FROM ferry.orphan_note)",
						  1, types, args, NULL, true, 1);
	may = SPI_processed > 0;
	SPI_finish();
	if (may)
	{
		vector_copy(&risen, h);
		(void) vector_merge(&risen, horizon_current());
		may = ranges_allow_horizon(&risen);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	return may;
}

/*
 * What of h is older than ferry.prune_after.  That grows in steps, for each raise has
 * all tombstones looked through.
 */
static void
limit_age(NodeVector *h)
{
	int64		age_us = (int64) ferry_prune_after_s * 1000000;
	int64		us = GetCurrentTimestamp() - age_us;
	Hlc			limit = hlc_from_us(us - us % Max(age_us / AGE_STEPS, 1));

	for (uint32 i = 0; i < h->n; i++)
		h->entries[i].hlc = Min(h->entries[i].hlc, limit);
}

void
stable_raise(const NodeVector *h)
{
	NodeVector	old;

	if (ferry_prune_after_s < 0)
		return;
	vector_copy(&old, h);
	if (ferry_prune_after_s > 0)
		limit_age(&old);
	if (!vector_includes(horizon_current(), &old) && may_rise(&old))
		horizon_raise(&old);
}
