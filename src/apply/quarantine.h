/*
 * quarantine.h
 *		Where states wait that could not be merged.
 */
#ifndef FERRY_APPLY_QUARANTINE_H
#define FERRY_APPLY_QUARANTINE_H

#include "postgres.h"

#include "apply/relation_map.h"

/*
 * Put a row into ferry.quarantined with the error that it raised, as a frame
 * that describes itself: the relation message, the horizon under which the row is
 * to be read, then the row's (raw).
 */
extern void quarantine_put(const char *peer, const RelationMap *map, const WireRow *row,
						   const void *raw, size_t raw_bytes, const NodeVector *horizon,
						   const ErrorData *error);

/*
 * Try again one state whose time has come, of those that wait for something to
 * arrive.  Within a transaction, with SPI connected.  Returns whether there was one.
 */
extern bool quarantine_retry_due(void);

#endif							/* FERRY_APPLY_QUARANTINE_H */
