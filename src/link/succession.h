/*
 * succession.h
 *		Finding out who we are, where that is in doubt.
 */
#ifndef FERRY_LINK_SUCCESSION_H
#define FERRY_LINK_SUCCESSION_H

#include "postgres.h"

/*
 * In the supervisor, when the node is in doubt about itself (node/incarnation.c):
 * ask and decide.  May take as long as a connection attempt; does nothing if it
 * has been called a moment ago.  Afterwards the doubt is over, or this is the
 * copy of a node that lives.
 */
extern void succession_resolve(void);

#endif							/* FERRY_LINK_SUCCESSION_H */
