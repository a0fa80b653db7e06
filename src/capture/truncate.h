/*
 * truncate.h
 *		TRUNCATE of single partitions, before the server executes it.
 */
#ifndef FERRY_CAPTURE_TRUNCATE_H
#define FERRY_CAPTURE_TRUNCATE_H

#include "nodes/parsenodes.h"

/* bury the rows of partitions of tables under ferry that are truncated without their root */
extern void capture_truncate_partitions(const TruncateStmt *stmt);

#endif							/* FERRY_CAPTURE_TRUNCATE_H */
