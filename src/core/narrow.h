/*
 * narrow.h
 *		States that leave out columns which the receiver holds already.
 */
#ifndef FERRY_CORE_NARROW_H
#define FERRY_CORE_NARROW_H

#include "core/merge.h"

/* who sends what to whom */
typedef struct NarrowStream
{
	NodeId		sender;
	NodeId		receiver;
	bool		forwards;		/* other nodes' writes travel in it too */
} NarrowStream;

/* may the value of a register be left out of a state with version v? */
extern bool narrow_may_omit(const NarrowStream *s, const Version *v, uint16_t col);

/*
 * Is the value of a column that src does not carry surely the one that held has?
 * src_includes_held: as version_compare() says.
 */
extern bool narrow_same_value(const Version *src, const Version *held, uint16_t col, bool src_includes_held);

/*
 * plan is merge_plan(local, remote), and remote does not carry the value of col,
 * the c-th of the rules' columns: can the merge not be done without asking for it?
 */
extern bool narrow_lacks(const MergePlan *plan, int c, uint16_t col,
						 const Version *local, const Version *remote);

#endif							/* FERRY_CORE_NARROW_H */
