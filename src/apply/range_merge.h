/*
 * range_merge.h
 *		A range tombstone of a peer, merged.
 */
#ifndef FERRY_APPLY_RANGE_MERGE_H
#define FERRY_APPLY_RANGE_MERGE_H

#include "apply/apply.h"
#include "apply/target.h"

/*
 * Put a peer's range tombstone into force: rows that it covers go, rows that were
 * changed beside it are written again as its successors and are a conflict.
 * Waits for all who write the table, and keeps them out until the transaction ends.
 * To be called inside target_enter/leave.
 */
extern ApplyResult range_tombstone_merge(ApplyTarget *t, const Version *range, const char *peer);

/* the same by itself, as apply_state() does it */
extern ApplyResult apply_range(Relation rel, FerryTable *table, const Version *range, const char *peer);

/*
 * Delete the row of this key if a range that is in force here covers it, as it
 * should have when it was put into force.  Returns the row as it was (in the
 * current context, values in the target's slot until its next find), or NULL.
 */
extern RowState *range_bury(ApplyTarget *t, const RowState *key);

/* a state of a key of which nothing is held here, changed beside a TRUNCATE that is in force: put it on record */
extern void range_report_outlived(ApplyTarget *t, const RowState *remote, const char *peer);

/* a range as the state of one key */
extern RowState *range_as_state(const FerryTable *table, const Version *range, const RowState *key);

/* the latest range in force as the state of one key; NULL if there is none */
extern RowState *range_key_state(ApplyTarget *t, const RowState *key);

#endif							/* FERRY_APPLY_RANGE_MERGE_H */
