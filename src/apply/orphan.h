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

/*
 * A row that was dead here lives by merging, by a write that had not seen that.  If its
 * table says what becomes of orphans, it is put on the list, too: has it got parents?
 */
extern void orphan_note_return(ApplyTarget *t, const RowState *row);

/* before the local transaction commits, and at the end of each remote one: what was noted together */
extern void orphan_note_rest(ApplyTarget *t);

/* is something on the list?  Within a transaction, SPI connected. */
extern bool orphans_wait(void);

/*
 * Judge some of what is on the list and due; true if there may be more.  All that any
 * member wrote up to the stamp until is here.  Within a transaction, SPI connected.
 */
extern bool orphans_judge(Hlc until);

#endif							/* FERRY_APPLY_ORPHAN_H */
