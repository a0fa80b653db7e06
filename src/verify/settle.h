/*
 * settle.h
 *		Two states of one version with different content: who is right?
 */
#ifndef FERRY_VERIFY_SETTLE_H
#define FERRY_VERIFY_SETTLE_H

#include "verify/take.h"

/*
 * For Take.on_mismatch: settles it by a new write where constraints or the
 * other nodes tell who is right, else records it for ferry.heal().
 */
extern bool settle_mismatch(Take *t, Relation rel, const FerryTable *table,
							RowState *local, RowState *remote);

/* let go of the connections that settle_mismatch() made to other peers */
extern void settle_end(void);

#endif							/* FERRY_VERIFY_SETTLE_H */
