/*-------------------------------------------------------------------------
 *
 * carried.c
 *		States that somebody carried here by ferry.changes and ferry.merge: they
 *		count as held.
 *
 * Merging a state by hand says nothing of those that may be missing.  Only who
 * carries them knows that all of them have been merged: then this node holds what
 * the token of their sender says, if it held what they begin at.  As with
 * bundles.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "storage/standby.h"
#include "utils/builtins.h"

#include "node/holding.h"
#include "node/node.h"

PG_FUNCTION_INFO_V1(ferry_raise_held);

/*
 * SQL: ferry._raise_held(since text, token text) returns boolean: all that a node
 * which holds since lacks of token is merged here and committed.  False if this
 * node does not hold since.
 */
Datum
ferry_raise_held(PG_FUNCTION_ARGS)
{
	NodeVector	from;
	NodeVector	to;
	NodeVector	here;

	(void) node_current();
	vector_clear(&from);
	if (!PG_ARGISNULL(0))
		holding_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)), &from, NULL);
	holding_parse(text_to_cstring(PG_GETARG_TEXT_PP(1)), &to, NULL);
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("states that were merged in this transaction do not count yet"),
				 errhint("Commit them first.")));
	holding_received(&here);
	if (!vector_includes(&here, &from))
		PG_RETURN_BOOL(false);

	/* what was merged by transactions that did not wait for their flush, too */
	XLogFlush(LogStandbySnapshot());
	holding_raise(&to, true);
	PG_RETURN_BOOL(true);
}
