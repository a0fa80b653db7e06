/*
 * insert_run.h
 *		New rows, many at a time.
 */
#ifndef FERRY_APPLY_INSERT_RUN_H
#define FERRY_APPLY_INSERT_RUN_H

#include "apply/apply.h"
#include "apply/target.h"

typedef struct InsertRun InsertRun;

/* a run for a target, as long as the target is open; NULL if the table takes none */
extern InsertRun *insert_run_create(ApplyTarget *t);

/* is a state of one dot a birth here, going by those before it? */
extern bool insert_run_is_likely(InsertRun *run);

/* where the rows of a run are to be decoded; the same as long as nothing is flushed */
extern MemoryContext insert_run_context(InsertRun *run);

/*
 * Take a state, made in insert_run_context(), into the run.  False if it is not a
 * birth: it must be merged by itself, the run flushed first.
 */
extern bool insert_run_add(InsertRun *run, RowState *state);

/* full: flush it before more is added */
extern bool insert_run_is_full(const InsertRun *run);

/*
 * Write what has gathered.  Rows whose key turns out to be held are merged.  To
 * be called inside target_enter/target_leave, before another state is merged into
 * the table, before the target is closed, and in a context that is short-lived.
 * What became of each is counted in results, by ApplyResult.
 */
extern void insert_run_flush(InsertRun *run, const char *peer, uint64 *results);

#endif							/* FERRY_APPLY_INSERT_RUN_H */
