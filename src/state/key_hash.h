/*
 * key_hash.h
 *		A hash of a row's key: equal keys have equal hashes.
 */
#ifndef FERRY_STATE_KEY_HASH_H
#define FERRY_STATE_KEY_HASH_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "node/table.h"

/*
 * values are in the layout of desc; attnos name the key's columns there, in key
 * order.  For this process and server only: it depends on the byte order.
 */
extern uint32 key_hash(TupleDesc desc, const AttrNumber *attnos, int nkeys, const Datum *values);

#endif							/* FERRY_STATE_KEY_HASH_H */
