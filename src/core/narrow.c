/*
 * narrow.c
 *		States that leave out columns which the receiver holds already.
 *
 * A row of fifty columns of which one was written needs not travel whole.  A
 * column whose dot is the version's last was written by the last write; the
 * others are older: they came with the states that brought those older dots.  The
 * version always travels whole, with the dot of every column.  So the rules:
 *
 *	sender		may leave out a value whose dot is not the last one and is that
 *				of a write which this same stream has carried before (the
 *				sender's own; any, if it forwards) or which the receiver made.
 *	receiver	takes what is missing from what it holds, if that has the same
 *				dot for the column; else it must ask for the whole state.
 *
 * The sender's rule is a guess, by which asking is made rare: rows that are in
 * quarantine there, or were lost, are why it can be wrong.  What makes it right is
 * the receiver's rule alone: a dot names one write, and the write its value, so
 * that equal dots are equal values.
 *
 * Merging a narrow state then gives what merging the whole one gives:
 *
 *	- the plan is made of versions only, which are whole, so it is the same;
 *	- remote included here: nothing is written;
 *	- local included in remote: each value is remote's.  One that is missing has
 *	  a dot d there; if the column's dot here is d, the value here is remote's;
 *	- concurrent: a column comes from the side with the later dot.  From local: its
 *	  value is here.  From remote and missing: remote's dot is the later one, hence
 *	  another one than ours, and we ask.  A tie is the same dot, and the same value;
 *	- columns to which both sides wrote beside each other are asked for too, who
 *	  ever wins: whether it is a conflict takes both values.
 *
 * What is asked for is the sender's state of that moment, whole, perhaps newer:
 * merging it is merging a later state of a lattice, after which the narrow one is
 * old news.  Relays send rows as they stand in their tables, so that nothing here
 * hangs on how a state came to them.
 *
 * Columns that merge by a strategy are always sent: a value may be the join of
 * both sides' while its dot is one of them (core/parts.c).  Row mode knows no
 * columns, deaths and births bring all: tombstones carry their image, births
 * write every column.
 */
#include "core/narrow.h"

bool
narrow_may_omit(const NarrowStream *s, const Version *v, uint16_t col)
{
	Dot			d = version_column_dot(v, col);

	if (dot_equal(d, v->last) || version_column_parts(v, col) != NULL)
		return false;
	return s->forwards || d.node == s->sender || d.node == s->receiver;
}

/*
 * Of a register the dot says it all.  Of a set, a map and a counter: if src
 * includes what is held and their parts are the same, nothing was added that
 * held lacks (it would have other dots, or more) nor removed.  Extremes and
 * functions leave no trace of what went into them.
 */
bool
narrow_same_value(const Version *src, const Version *held, uint16_t col, bool src_includes_held)
{
	const ColumnParts *parts = version_column_parts(src, col);

	if (!dot_equal(version_column_dot(src, col), version_column_dot(held, col)) ||
		!version_same_parts(src, held, col))
		return false;
	return parts == NULL ||
		(src_includes_held && (parts->kind == KIND_SET || parts->kind == KIND_MAP || parts->kind == KIND_COUNTER));
}

bool
narrow_lacks(const MergePlan *plan, int c, uint16_t col, const Version *local, const Version *remote)
{
	bool		whole = (plan->outcome == MERGE_TAKEN);

	if (plan->outcome == MERGE_IGNORED)
		return false;
	if (!whole && (plan->joined[c] || plan->contested[c]))
		return true;
	if (!whole && !plan->take_remote[c])
		return false;
	return !narrow_same_value(remote, local, col, whole);
}
