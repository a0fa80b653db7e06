/*
 * own_write.h
 *		Writes of our own that merging makes necessary, told to all peers.
 */
#ifndef FERRY_APPLY_OWN_WRITE_H
#define FERRY_APPLY_OWN_WRITE_H

#include "apply/target.h"

/*
 * The row of this key, alive or dead, was just written here with a stamp of our
 * own, while merging.  In a transaction that carries a peer's origin it would
 * not be sent to other peers: it is put on the list of what own_write_publish()
 * writes once more.
 */
extern void own_write_note(ApplyTarget *t, const RowState *key);

/* is there something on the list, as far as this process knows (at first: yes)? */
extern bool own_write_is_due(void);

/* outside a transaction: write all that is on the list, with fresh stamps */
extern void own_write_publish(void);

#endif							/* FERRY_APPLY_OWN_WRITE_H */
