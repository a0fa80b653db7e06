/*
 * reread.h
 *		So that a stream that begins anew does not read again what it has sent.
 */
#ifndef FERRY_SEND_REREAD_H
#define FERRY_SEND_REREAD_H

#include "postgres.h"

#include "access/xlogdefs.h"

/* a stream begins */
extern void reread_start(void);

/* a transaction that ended here has been sent */
extern void reread_passed(XLogRecPtr end_lsn);

#endif							/* FERRY_SEND_REREAD_H */
