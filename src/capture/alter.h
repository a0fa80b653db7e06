/*
 * alter.h
 *		ALTER TABLE ... ALTER COLUMN ... TYPE of a key under ferry.
 */
#ifndef FERRY_CAPTURE_ALTER_H
#define FERRY_CAPTURE_ALTER_H

#include "nodes/parsenodes.h"

/*
 * Before the server executes it: the table under ferry whose columns get other types,
 * locked; InvalidOid if there is none.  Raises if the new keys would be computed.
 */
extern Oid	capture_alter_begin(const AlterTableStmt *stmt);

/* afterwards: the keys of its tombstones get the types of its own; raises if they cannot */
extern void capture_alter_end(Oid relid);

#endif							/* FERRY_CAPTURE_ALTER_H */
