/*
 * merge_row.h
 *		One state merged into one open target.
 */
#ifndef FERRY_APPLY_MERGE_ROW_H
#define FERRY_APPLY_MERGE_ROW_H

#include "apply/apply.h"
#include "apply/target.h"

/* see apply_state(); allocates in the current, short-lived context */
extern ApplyResult merge_row(ApplyTarget *t, RowState *remote, const char *peer);

#endif							/* FERRY_APPLY_MERGE_ROW_H */
