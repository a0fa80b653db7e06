/*
 * merge.h
 *		The merge of two states of one key, on metadata alone: what is alive,
 *		which side each column comes from, and the version of the result.
 *
 * Values stay with the caller, who takes each column from the side that the
 * plan names and compares values where the plan says that both sides wrote.
 */
#ifndef FERRY_CORE_MERGE_H
#define FERRY_CORE_MERGE_H

#include "core/horizon.h"
#include "core/version.h"

typedef enum MergeMode
{
	MERGE_MODE_COLUMN = 'c',
	MERGE_MODE_ROW = 'r'
} MergeMode;

typedef enum LifePolicy
{
	LIFE_LAST_WINS = 'l',
	LIFE_UPDATE_WINS = 'u'
} LifePolicy;

typedef enum MergeOutcome
{
	MERGE_IGNORED,				/* remote <= local: nothing to do */
	MERGE_TAKEN,				/* local <= remote: take it whole */
	MERGE_MERGED				/* concurrent */
} MergeOutcome;

/*
 * The columns are those of the rules, ids[0..n); take_remote and contested are indexed
 * alike.  contested[i]: both sides wrote the column since they parted (neither
 * has seen the other's dot), so that different values there are a conflict.
 * life_contested: one side is dead, the other alive, and neither had seen the
 * other's last write.
 *
 * joined[i]: both sides have built on the same generation of a column that is
 * no register (core/parts.h): its value is neither's but the join of both, which
 * the caller computes; it then puts the column's parts into version.
 */
typedef struct MergePlan
{
	MergeOutcome outcome;
	bool		alive;
	bool		life_contested;
	bool		life_from_remote;	/* whose life register won (MERGED) */
	Version		version;
	bool	   *take_remote;
	bool	   *contested;
	bool	   *joined;
	bool		any_joined;
} MergePlan;

/* how the rows of one table merge; ids are those of its columns outside the key */
typedef struct MergeRules
{
	MergeMode	mode;
	LifePolicy	life;
	const uint16_t *ids;		/* sorted */
	int			n;
	const NodeVector *horizon;	/* of this node, under which the result will be read; NULL: none */
} MergeRules;

/* one of the two states; its version says under which horizon it was read */
typedef struct MergeSide
{
	const Version *version;
	bool		alive;
} MergeSide;

/* everything in *plan is allocated; the inputs are not kept */
extern void merge_plan(const MergeRules *rules, const MergeSide *local, const MergeSide *remote,
					   MergePlan *plan);

#endif							/* FERRY_CORE_MERGE_H */
