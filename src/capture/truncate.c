/*-------------------------------------------------------------------------
 *
 * truncate.c
 *		TRUNCATE of a table under ferry: every row leaves a tombstone.
 *
 * As slow as a DELETE of all rows, and as right.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(ferry_truncate_trigger);

Datum
ferry_truncate_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation	rel;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by TRUNCATE", "ferry._truncate_trigger")));
	rel = trigger->tg_relation;
	SPI_connect();
	SPI_execute(psprintf("DELETE FROM %s",
						 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
													RelationGetRelationName(rel))), false, 0);
	SPI_finish();
	return PointerGetDatum(NULL);
}
