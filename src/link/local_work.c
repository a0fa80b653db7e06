/*-------------------------------------------------------------------------
 *
 * local_work.c
 *		A transaction of a worker's own, in which it asks the database by SPI.
 *
 * Workers live outside transactions; what they read of the catalog they take into
 * a context that lasts.  An error in between is aborted by whoever catches it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "utils/snapmgr.h"

#include "link/local_work.h"

void
local_work_begin(void)
{
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
}

void
local_work_end(MemoryContext cxt)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(cxt);
}
