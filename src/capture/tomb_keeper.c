/*-------------------------------------------------------------------------
 *
 * tomb_keeper.c
 *		A table's tombstones, open for as long as a statement writes its rows.
 *
 * To open them costs more than to write one.  Statements of which ExecutorStart
 * told us (statement.c) keep them open; for other callers of the trigger they
 * are opened row by row.
 *
 * Opened at the first row that needs them, closed when the statement's
 * expression contexts are shut down; after an error the resource owner has let
 * go of everything and nobody calls.  What they hold of the table's entry in our
 * cache may be replaced between two rows: then they are opened anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "utils/memutils.h"

#include "capture/tomb_keeper.h"

struct TombKeeper
{
	MemoryContext cxt;
	ExprContext *econtext;		/* whose end is the statement's; NULL: we are to be told of it */
	const FerryTable *table;	/* that ts was opened for; NULL: none is */
	Tombstones *ts;
};

static void
close_kept(TombKeeper *keeper)
{
	if (keeper->table)
		tombstones_close(keeper->ts);
	keeper->table = NULL;
}

static void
statement_ends(Datum arg)
{
	close_kept((TombKeeper *) DatumGetPointer(arg));
}

TombKeeper *
tomb_keeper_create(ExprContext *econtext)
{
	TombKeeper *keeper = palloc0(sizeof(TombKeeper));

	keeper->cxt = CurrentMemoryContext;
	keeper->econtext = econtext;
	return keeper;
}

Tombstones *
tomb_keeper_get(TombKeeper *keeper, const FerryTable *table)
{
	MemoryContext oldcontext;

	if (keeper == NULL)
		return tombstones_open(table);
	if (keeper->table == table)
		return keeper->ts;
	close_kept(keeper);
	if (keeper->econtext)
		RegisterExprContextCallback(keeper->econtext, statement_ends, PointerGetDatum(keeper));
	keeper->econtext = NULL;
	oldcontext = MemoryContextSwitchTo(keeper->cxt);
	keeper->ts = tombstones_open(table);
	MemoryContextSwitchTo(oldcontext);
	keeper->table = table;
	return keeper->ts;
}

void
tomb_keeper_flush(TombKeeper *keeper)
{
	if (keeper->table)
		tombstones_flush(keeper->ts);
}

void
tomb_keeper_release(TombKeeper *keeper, Tombstones *ts)
{
	if (keeper == NULL)
		tombstones_close(ts);
}
