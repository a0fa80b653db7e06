/*
 * waiting.h
 *		States since a vector that wait in quarantine here.
 */
#ifndef FERRY_DELTA_WAITING_H
#define FERRY_DELTA_WAITING_H

#include "delta/scan.h"

typedef struct WaitingScan WaitingScan;

/*
 * Under the snapshot of d, in the current context.  Those of all tables, also of
 * such as are not here, or of these: (char *) qualified names, as ferry.quarantined
 * has them.
 */
extern WaitingScan *waiting_begin(DeltaScan *d, bool all, List *tables);

/* the next one as a frame, in the row_cxt of d; NULL at the end */
extern bytea *waiting_next(WaitingScan *w);

extern void waiting_end(WaitingScan *w);

#endif							/* FERRY_DELTA_WAITING_H */
