/*
 * judge.h
 *		A state from the other side of a comparison: is something missing here?
 */
#ifndef FERRY_VERIFY_JUDGE_H
#define FERRY_VERIFY_JUDGE_H

#include "postgres.h"

#include "apply/conflict.h"
#include "apply/relation_map.h"
#include "core/vector.h"
#include "verify/take.h"

typedef enum Verdict
{
	VERDICT_EQUAL,				/* or older than what we hold */
	VERDICT_MISSING,
	VERDICT_MISMATCH,			/* the same writes, another content */
	VERDICT_IN_FLIGHT,
	VERDICT_WAITING				/* in quarantine already */
} Verdict;

/* what is known before the first state is judged */
typedef struct JudgeBase
{
	Take	   *take;
	NodeVector	here;			/* what had arrived here */
	NodeVector	there;			/* what the other side held before it read its states */
	const NodeVector *horizon;	/* under which its states are read */
} JudgeBase;

/* what is found of one state */
typedef struct Judgement
{
	Verdict		verdict;
	bool		settled;		/* a mismatch, by a write */
	MergeOutcome outcome;		/* of merging, if something is missing */
	RowState   *local;			/* then: what is held here, NULL if nothing */
	RowState   *remote;
} Judgement;

/*
 * In the current transaction, which holds a lock on rel that keeps TRUNCATE out.
 * What it returns lives in the current context.  Raises what reading the row
 * raises, and ERRCODE_PROTOCOL_VIOLATION for a row that was not asked for.
 */
extern void judge_row(const JudgeBase *base, RelationMap *map, Relation rel, const WireRow *row, Judgement *out);

/* the same for a range tombstone; verdicts are EQUAL, MISSING and IN_FLIGHT */
extern Verdict judge_range(const JudgeBase *base, const Version *range);

/* put a divergence that was repaired on record, or (winner WINNER_NONE) could not be */
extern void judge_record(const Take *t, Relation rel, const Judgement *j, ConflictWinner winner, const char *rule);

/* raise ERRCODE_PROTOCOL_VIOLATION */
pg_noreturn extern void take_refuse(const Take *t, const char *why);

#endif							/* FERRY_VERIFY_JUDGE_H */
