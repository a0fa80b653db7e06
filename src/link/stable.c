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
 *	- a TRUNCATE is not on every member: see state/range_tombstone.c;
 *	- there is nobody else: whoever takes what is here by other ways than links is
 *	  no member, and would not hear of a deletion any more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "utils/snapmgr.h"

#include "link/stable.h"
#include "node/horizon.h"
#include "node/node.h"
#include "state/range_tombstone.h"

static bool
may_rise(const NodeVector *h)
{
	NodeVector	risen;
	bool		may;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	SPI_execute("SELECT FROM ferry.member m, ferry.local_node n WHERE m.node_id <> n.node_id AND NOT m.is_dropped "
				"AND NOT EXISTS (SELECT FROM ferry.quarantined) AND NOT EXISTS (SELECT FROM ferry.own_write)",
				true, 1);
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

void
stable_raise(const NodeVector *h)
{
	if (!ferry_prune || vector_includes(horizon_current(), h))
		return;
	if (may_rise(h))
		horizon_raise(h);
}
