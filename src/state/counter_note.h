/*
 * counter_note.h
 *		What counters held before this run of the server wrote them.
 */
#ifndef FERRY_STATE_COUNTER_NOTE_H
#define FERRY_STATE_COUNTER_NOTE_H

#include "state/local_write.h"
#include "state/state.h"

/*
 * A row, alive or dead, is about to be written here: note this node's contributions to
 * its counters, if that may be needed.  found has the table's layout; key holds the key's
 * values in it.  Cheap where it is not needed.
 */
extern void counter_note_take(const FerryTable *table, const FoundRow *found, const Datum *key);

/* a note of a former id of this node, made since a stamp: *share points into the current context; false: none */
extern bool counter_note_find(Oid rootid, Datum key, uint16 col, NodeId node, Hlc since, Part *share);

#endif							/* FERRY_STATE_COUNTER_NOTE_H */
