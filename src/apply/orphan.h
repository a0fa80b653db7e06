/*
 * orphan.h
 *		Rows whose parents died elsewhere: what is noted while merging.
 */
#ifndef FERRY_APPLY_ORPHAN_H
#define FERRY_APPLY_ORPHAN_H

#include "apply/target.h"

/*
 * A row of the target, as it was held here (NULL: many rows), stands no longer
 * for those that refer to it, by the write at dot d.  If foreign keys refer to the
 * table, that is put on the list of what is judged later.
 */
extern void orphan_note(ApplyTarget *t, const RowState *row, Dot d);

/* the same, if a change took away a value that foreign keys may refer to */
extern void orphan_note_change(ApplyTarget *t, const RowState *before, const RowState *after, Dot d);

/* before the local transaction commits, and at the end of each remote one: what was noted together */
extern void orphan_note_rest(ApplyTarget *t);

/* judge some of what is on the list and due; true if there may be more.  Within a transaction, SPI connected. */
extern bool orphans_judge(void);

#endif							/* FERRY_APPLY_ORPHAN_H */
