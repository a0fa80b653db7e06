/*
 * delete_statement.h
 *		DELETE statements whose rows get their tombstones without a row trigger.
 */
#ifndef FERRY_CAPTURE_DELETE_STATEMENT_H
#define FERRY_CAPTURE_DELETE_STATEMENT_H

#include "postgres.h"

#include "nodes/execnodes.h"

/*
 * Take over one result relation of a DELETE that has been initialized: its only
 * BEFORE ROW trigger for the event is ferry's.  Allocates in the statement's
 * context, which must be current.
 */
extern void delete_statement_take(ModifyTableState *state, ResultRelInfo *rel);

/* before the AFTER triggers of a statement, taken or not, that may have ended early */
extern void delete_statement_finish(ModifyTableState *state);

#endif							/* FERRY_CAPTURE_DELETE_STATEMENT_H */
