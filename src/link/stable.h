/*
 * stable.h
 *		When the horizon may rise.
 */
#ifndef FERRY_LINK_STABLE_H
#define FERRY_LINK_STABLE_H

#include "core/vector.h"

/*
 * Every member holds this, says our own reckoning or a peer: raise the horizon to it
 * (node/horizon.h), unless something here forbids that.  Transactions of its own, not
 * to be called within one.
 */
extern void stable_raise(const NodeVector *h);

#endif							/* FERRY_LINK_STABLE_H */
