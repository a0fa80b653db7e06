/*
 * fetch.h
 *		A row's state, asked of the peer from which we merge just now.
 */
#ifndef FERRY_APPLY_FETCH_H
#define FERRY_APPLY_FETCH_H

#include "apply/target.h"

/*
 * Whoever merges what comes from a peer may say how that peer can be asked: get
 * returns the frame of one state (allocated in the current context), which
 * includes the vector at_least, given as text; NULL if the peer knows nothing of
 * the key, no bytes if it knows that such a state is dead and forgotten; raises
 * class 08 if the peer is away.
 */
typedef void *(*FetchFunction) (void *arg, const char *schema, const char *name, const char *key,
								const char *at_least, size_t *len);

extern void fetch_set_source(const char *peer, FetchFunction get, void *arg);

/* would fetch_state ask this peer? */
extern bool fetch_is_possible(const char *peer);

/*
 * What peer holds of the key: allocated in the current context; NULL if it holds
 * nothing or cannot be asked (it is not the one named by fetch_set_source).
 *
 * What TRUNCATE left there comes along and has been merged when this returns, under a
 * lock on the table that excludes writers, if it was news: what was found in the
 * table before may be gone or changed.  fetch_state sets *truncated if so, and leaves
 * it alone if not.
 */
extern RowState *fetch_state(ApplyTarget *t, const RowState *key, const char *peer, bool *truncated);

typedef enum FetchOutcome
{
	FETCH_WHOLE,
	FETCH_GONE,					/* dead at the peer, and so are its tombstone and all that it included */
	FETCH_NOBODY				/* the peer cannot be asked, or knows nothing */
} FetchOutcome;

/* the same, of a state that came from peer without all its values: one that includes it */
extern FetchOutcome fetch_whole(ApplyTarget *t, const RowState *part, const char *peer, RowState **whole);

#endif							/* FERRY_APPLY_FETCH_H */
