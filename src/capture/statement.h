/*
 * statement.h
 *		INSERT and UPDATE statements that are stamped without a row trigger.
 */
#ifndef FERRY_CAPTURE_STATEMENT_H
#define FERRY_CAPTURE_STATEMENT_H

#include "postgres.h"

#include "utils/reltrigger.h"

extern void statement_install_hook(void);

/*
 * Is ferry's row trigger the only one that fires before rows are written by an
 * event (TRIGGER_TYPE_INSERT, ...) on origin?  False if it does not fire at all.
 */
extern bool statement_only_ours(const TriggerDesc *triggers, int16 event);

#endif							/* FERRY_CAPTURE_STATEMENT_H */
