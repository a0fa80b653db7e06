/*
 * schedule.h
 *		When this node's verifier is due.
 */
#ifndef FERRY_LINK_SCHEDULE_H
#define FERRY_LINK_SCHEDULE_H

#include "postgres.h"

/* settings (defined in ferry.c), in seconds; 0: never */
extern int	ferry_verify_interval_s;
extern int	ferry_verify_deep_interval_s;

/* what the worker finds as its subject when it was started by schedule */
#define SCHEDULE_SHALLOW "shallow"
#define SCHEDULE_DEEP "deep"

/* supervisor duty, every second: start the verifier if it is due and there are peers */
extern void schedule_tend(bool has_peers);

#endif							/* FERRY_LINK_SCHEDULE_H */
