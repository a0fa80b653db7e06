/*
 * strategy_message.h
 *		A peer tells how a column merges.
 */
#ifndef FERRY_APPLY_STRATEGY_MESSAGE_H
#define FERRY_APPLY_STRATEGY_MESSAGE_H

#include "postgres.h"

#include "core/wire.h"

/*
 * Keep a peer's 'S' about a relation that it has described, if it is later than
 * what is set here.  Returns whether it was: tables must be opened anew then.
 * Needs a transaction; allocates in the current context.
 */
extern bool strategy_receive(const WireRelation *wire, const WireStrategy *strategy);

#endif							/* FERRY_APPLY_STRATEGY_MESSAGE_H */
