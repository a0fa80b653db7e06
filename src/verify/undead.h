/*
 * undead.h
 *		Rows that stand although a TRUNCATE that is in force here covers them.
 */
#ifndef FERRY_VERIFY_UNDEAD_H
#define FERRY_VERIFY_UNDEAD_H

#include "verify/side.h"
#include "verify/take.h"

/*
 * Count those that the last side_states() met, and delete them if repair says so,
 * in the current transaction.  Each is met once.
 */
extern void undead_bury(Side *h, const char *peer, bool repair, TakeCounts *counts);

#endif							/* FERRY_VERIFY_UNDEAD_H */
