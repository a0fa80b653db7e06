/*
 * merge_row.h
 *		One state merged into one open target.
 */
#ifndef FERRY_APPLY_MERGE_ROW_H
#define FERRY_APPLY_MERGE_ROW_H

#include "apply/apply.h"
#include "apply/target.h"

/* raises ERRCODE_CONFIGURATION_LIMIT_EXCEEDED if a state's stamps are too far ahead */
extern void merge_check_clock(const RowState *remote);

/* the local clock follows what comes in; raises ERRCODE_CONFIGURATION_LIMIT_EXCEEDED if that is too far ahead */
extern void merge_raise_clock(const RowState *remote);

/* see apply_state(); allocates in the current, short-lived context */
extern ApplyResult merge_row(ApplyTarget *t, RowState *remote, const char *peer);

/* is a state of a key of which nothing is held older than a tombstone that is gone? */
extern bool merge_is_old_news(const FerryTable *table, const RowState *remote);

/* what is held of a key: its row, its tombstone, NULL where there is none */
extern void merge_row_held(ApplyTarget *t, const RowState *key, RowState **row, RowState **tomb);

/* the one state of a key that this amounts to; NULL if it was never seen */
extern RowState *merge_row_state(ApplyTarget *t, const RowState *key);

/* two states of one key merged, without writing anything */
extern RowState *merge_states(const FerryTable *table, Relation rel,
							  const RowState *local, const RowState *remote);

/* do two states have different values of a column, byte for byte? */
extern bool merge_values_differ(Relation rel, AttrNumber attno, const RowState *a, const RowState *b);

#endif							/* FERRY_APPLY_MERGE_ROW_H */
