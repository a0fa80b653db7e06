/*
 * fetch.h
 *		A row's state, asked of the peer from which we merge just now.
 */
#ifndef FERRY_APPLY_FETCH_H
#define FERRY_APPLY_FETCH_H

#include "apply/target.h"

/*
 * Whoever merges what comes from a peer may say how that peer can be asked: get
 * returns the frame of one state (allocated in the current context), NULL if the
 * peer knows nothing of the key; raises class 08 if the peer is away.
 */
typedef void *(*FetchFunction) (void *arg, const char *schema, const char *name, const char *key, size_t *len);

extern void fetch_set_source(const char *peer, FetchFunction get, void *arg);

/*
 * What peer holds of the key: allocated in the current context; NULL if it holds
 * nothing or cannot be asked (it is not the one named by fetch_set_source).
 */
extern RowState *fetch_state(ApplyTarget *t, const RowState *key, const char *peer);

#endif							/* FERRY_APPLY_FETCH_H */
