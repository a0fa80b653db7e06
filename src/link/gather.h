/*
 * gather.h
 *		Joining through a sponsor: its copy brings what the others wrote.
 */
#ifndef FERRY_LINK_GATHER_H
#define FERRY_LINK_GATHER_H

#include "libpq-fe.h"

/*
 * Before tables are copied from a peer: where it is the sponsor of a join, wait
 * until it holds what the others had written before their slots for us, or long
 * enough.
 */
extern void gather_others(PGconn *conn, const char *sponsor);

/* its copy is complete: those that it includes are, too, the others copy for themselves */
extern void gather_release(const char *sponsor);

#endif							/* FERRY_LINK_GATHER_H */
