/*
 * conflict_keep.h
 *		How long conflicts stay on record, and how many of them.
 */
#ifndef FERRY_APPLY_CONFLICT_KEEP_H
#define FERRY_APPLY_CONFLICT_KEEP_H

#include "postgres.h"

extern int	ferry_conflict_keep_min;	/* -1: for ever */
extern int	ferry_conflict_keep_rows;	/* -1: all */

/*
 * Remove some of the conflicts that are kept no longer, oldest first: a bounded
 * number.  Returns whether there are more.  Within a transaction, SPI connected.
 */
extern bool conflict_trim(void);

#endif							/* FERRY_APPLY_CONFLICT_KEEP_H */
