/*
 * copy.h
 *		COPY FROM in batches.
 */
#ifndef FERRY_CAPTURE_COPY_H
#define FERRY_CAPTURE_COPY_H

#include "postgres.h"

#include "utils/rel.h"

/*
 * A COPY FROM of rel, open and locked, that leaves _ferry to its default is about
 * to be executed: hide the row trigger from it, if that is sound.  The caller
 * calls copy_show_trigger() when it has ended, by an error too.
 */
extern void copy_hide_trigger(Relation rel);

/* from whatever may execute another statement, and from the default itself */
extern void copy_show_trigger(void);

#endif							/* FERRY_CAPTURE_COPY_H */
