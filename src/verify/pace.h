/*
 * pace.h
 *		How a verification makes way for others.
 */
#ifndef FERRY_VERIFY_PACE_H
#define FERRY_VERIFY_PACE_H

#include "postgres.h"

/* settings (defined in verify/pace.c) */
extern int	ferry_verify_cost_limit;
extern double ferry_verify_cost_delay_ms;

/* this process has nothing else to do: let the system run others first */
extern void pace_lower_priority(void);

/* what this process is at, for pg_stat_activity: and from now on, of so many blocks, how far (0: not to be told) */
extern void pace_announce(const char *what);
extern void pace_expect(uint64 nblocks);

/*
 * Another block was read: interrupts are looked at, and, if paced, we sleep for
 * ferry.verify_cost_delay after every ferry.verify_cost_limit blocks.
 */
extern void pace_block(bool paced);

#endif							/* FERRY_VERIFY_PACE_H */
