/*
 * greeting.h
 *		What two nodes tell each other when one connects: whom they know.
 */
#ifndef FERRY_LINK_GREETING_H
#define FERRY_LINK_GREETING_H

#include "postgres.h"

#include "core/version.h"
#include "libpq-fe.h"

/*
 * Tell the peer of the members that we know and learn of those that it knows.
 * Each also says what it has seen of the other: raises if that shows that one of
 * us went back in time, which is then seen to.  Nothing may be taken from a peer over
 * a connection that has not begun with this, nor be given to it.  Runs transactions of
 * its own.  If there was news, the node's configuration has changed when it returns.
 */
extern void greeting_exchange(PGconn *conn, NodeId peer);

/* how many former members our list has; if asked before a greeting: of so many the peer knows after it */
extern int	greeting_formers(void);

/* does a node go on under another id, as far as we know?  In no transaction. */
extern bool greeting_has_succeeded(NodeId former, NodeId successor);

#endif							/* FERRY_LINK_GREETING_H */
