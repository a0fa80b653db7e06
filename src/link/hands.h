/*
 * hands.h
 *		One table that is copied, merged by several processes.
 */
#ifndef FERRY_LINK_HANDS_H
#define FERRY_LINK_HANDS_H

#include "postgres.h"

#include "link/copy_table.h"
#include "link/link.h"

typedef struct Hands Hands;

/* is the table so large that several processes should merge what is copied of it? */
extern bool hands_are_worth(const DueTable *t);

/*
 * For who copies a table: from now on processes that have nothing to copy may
 * help (hands_lend).  NULL if that is not worth it, or not possible now.  Lives
 * until hands_finish, or this process ends.
 */
extern Hands *hands_offer(LinkShared *link, LinkCopier *copier, const DueTable *t);

/*
 * Does another process take this frame?  Not if it holds more than rows, or if all
 * are busy: merge it yourself then.  What rows rely on (strategies, truncations)
 * must have been committed.  Raises what a helping process raised.
 */
extern bool hands_take(Hands *h, const void *frame, size_t len);

/* rows that others have merged until now */
extern uint64 hands_rows(Hands *h);

/*
 * There are no more frames: wait until what others took is committed; returns how
 * many rows that were.  The caller has no transaction open, on whose locks they
 * might wait.  Raises what one of them raised.
 */
extern uint64 hands_finish(Hands *h);

/* forget what was offered, if anything was; the link's mutex is held */
extern void hands_withdraw(LinkCopier *copier);

/*
 * For who has nothing to copy: merge for one who copies from the link's peer, until
 * his table is done; false if none of them wants help.
 */
extern bool hands_lend(LinkShared *link, const LinkCopier *self, NodeId peer_id, const CopyManner *manner);

#endif							/* FERRY_LINK_HANDS_H */
