/*
 * rename.h
 *		What this node wrote as its former incarnation, not knowing that it was set
 *		back, becomes its present one's.
 */
#ifndef FERRY_APPLY_RENAME_H
#define FERRY_APPLY_RENAME_H

#include "postgres.h"

/*
 * In the supervisor, in no transaction: do what ferry.renaming asks for.  False if it
 * has to be tried again, since transactions are open that have written under the former
 * id.  Raises what reading and writing rows raises; all begins anew then.
 */
extern bool rename_own_writes(void);

#endif							/* FERRY_APPLY_RENAME_H */
