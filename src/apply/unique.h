/*
 * unique.h
 *		Two rows, one value: clashes in unique and exclusion constraints besides
 *		the primary key.
 */
#ifndef FERRY_APPLY_UNIQUE_H
#define FERRY_APPLY_UNIQUE_H

#include "apply/target.h"

/*
 * Look at the rows that were written on suspicion (target_take_suspect) and end
 * every clash that is one.  To be called, inside target_enter/leave, at the end
 * of a remote transaction and before each local commit.  Returns how many rows
 * lost.  Allocates in the current, short-lived context.
 */
extern int	unique_settle(ApplyTarget *t, const char *peer);

#endif							/* FERRY_APPLY_UNIQUE_H */
