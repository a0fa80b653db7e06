/*-------------------------------------------------------------------------
 *
 * delete_statement.c
 *		DELETE statements whose rows get their tombstones without a row trigger.
 *
 * The BEFORE ROW trigger makes the executor lock each row first, with a WAL
 * record of its own, and must write the tombstone at once, by itself: four
 * records for a deletion that is one without us, and who decodes pays for each.
 * What we need is a call after a row was deleted, whatever other sessions did to
 * it meanwhile, with the row that it was.  The executor has such a call: it
 * computes RETURNING.
 *
 *		ExecModifyTable -> ExecDelete			deletes, follows newer versions
 *								ExecProcessReturning(row as deleted)
 *									evalfunc = bury_deleted_row
 *										stamp_deleted(): a tombstone that waits
 *										inner projection: the user's RETURNING
 *
 * A statement without RETURNING gets one of no columns, and must not be seen to
 * return anything: its node is run by run_delete(), which goes on until the
 * executor's own has ended.
 *
 * The tombstones of the statement are written together (state/tombstone_batch.c),
 * the last of them when the node has ended, or, where nobody wants all the rows
 * that it returns, when the statement is finished: before its AFTER triggers, of
 * which those of foreign keys are some.
 *
 * Not so, and by the trigger as ever: tables with BEFORE DELETE triggers of
 * others, which may change or end the transaction's view of the row; MERGE; rows
 * that an UPDATE moves to another partition.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tupdesc.h"
#include "executor/executor.h"
#include "utils/rel.h"

#include "capture/delete_statement.h"
#include "capture/stamp.h"
#include "compat.h"
#include "node/table.h"

/* what the executor takes for the projection of RETURNING */
typedef struct DeathProjection
{
	ProjectionInfo projection;	/* first: its pi_state.evalfunc is ours */
	ProjectionInfo *inner;		/* the user's RETURNING, or NULL */
	ExecProcNodeMtd run;		/* the executor's, of the whole node */
	Oid			relid;
	TombKeeper *keeper;
} DeathProjection;

static Datum
bury_deleted_row(ExprState *state, ExprContext *econtext, bool *isnull)
{
	DeathProjection *p = (DeathProjection *) ((char *) state - offsetof(ProjectionInfo, pi_state));
	TupleTableSlot *old = econtext->ecxt_scantuple;

	slot_getallattrs(old);
	stamp_deleted(table_lookup_required(p->relid), old->tts_values, old->tts_isnull, p->keeper);
	if (p->inner == NULL)
		return (Datum) 0;
	compat_pass_returning_flags(state, &p->inner->pi_state);
	return p->inner->pi_state.evalfunc(&p->inner->pi_state, econtext, isnull);
}

static DeathProjection *
projection_of(ResultRelInfo *rel)
{
	ProjectionInfo *p = rel->ri_projectReturning;

	return p && p->pi_state.evalfunc == bury_deleted_row ? (DeathProjection *) p : NULL;
}

/* of any result relation; NULL: none was taken */
static DeathProjection *
any_projection(ModifyTableState *state)
{
	for (int i = 0; i < state->mt_nrels; i++)
	{
		DeathProjection *p = projection_of(&state->resultRelInfo[i]);

		if (p)
			return p;
	}
	return NULL;
}

void
delete_statement_finish(ModifyTableState *state)
{
	for (int i = 0; i < state->mt_nrels; i++)
	{
		DeathProjection *p = projection_of(&state->resultRelInfo[i]);

		if (p)
			tomb_keeper_flush(p->keeper);
	}
}

/* in place of ExecModifyTable, around it */
static TupleTableSlot *
run_delete(PlanState *node)
{
	ModifyTableState *state = castNode(ModifyTableState, node);
	DeathProjection *p = any_projection(state);
	TupleTableSlot *slot;

	do
		slot = p->run(node);
	while (slot != NULL && p->inner == NULL);
	if (slot == NULL)
		delete_statement_finish(state);
	return slot;
}

void
delete_statement_take(ModifyTableState *state, ResultRelInfo *rel)
{
	DeathProjection *other = any_projection(state);
	DeathProjection *p = palloc0(sizeof(DeathProjection));
	ExprState  *expression = &p->projection.pi_state;

	if (state->ps.ps_ExprContext == NULL)
		ExecAssignExprContext(state->ps.state, &state->ps);
	p->inner = rel->ri_projectReturning;
	p->relid = RelationGetRelid(rel->ri_RelationDesc);
	p->keeper = tomb_keeper_create(state->ps.ps_ExprContext);
	p->projection.type = T_ProjectionInfo;
	p->projection.pi_exprContext = p->inner ? p->inner->pi_exprContext : state->ps.ps_ExprContext;
	expression->type = T_ExprState;
	expression->evalfunc = bury_deleted_row;
	expression->flags = p->inner ? p->inner->pi_state.flags : 0;
	expression->resultslot = p->inner ? p->inner->pi_state.resultslot :
		ExecInitExtraTupleSlot(state->ps.state, CreateTemplateTupleDesc(0), &TTSOpsVirtual);
	p->run = other ? other->run : state->ps.ExecProcNodeReal;
	if (other == NULL)
		state->ps.ExecProcNodeReal = run_delete;
	rel->ri_projectReturning = &p->projection;
	rel->ri_TrigDesc->trig_delete_before_row = false;
}
