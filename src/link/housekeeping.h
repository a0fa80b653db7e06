/*
 * housekeeping.h
 *		What a supervisor does for its node besides tending links.
 */
#ifndef FERRY_LINK_HOUSEKEEPING_H
#define FERRY_LINK_HOUSEKEEPING_H

#include "postgres.h"

/* do what is due; returns the milliseconds until something may be due again */
extern long housekeeping(void);

#endif							/* FERRY_LINK_HOUSEKEEPING_H */
