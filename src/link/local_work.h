/*
 * local_work.h
 *		A transaction of a worker's own, in which it asks the database by SPI.
 */
#ifndef FERRY_LINK_LOCAL_WORK_H
#define FERRY_LINK_LOCAL_WORK_H

/* begin a transaction with a snapshot, connected to SPI */
extern void local_work_begin(void);

/* commit it; goes on in cxt, which must outlive the transaction */
extern void local_work_end(MemoryContext cxt);

#endif							/* FERRY_LINK_LOCAL_WORK_H */
