/*-------------------------------------------------------------------------
 *
 * statement.c
 *		INSERT and UPDATE statements that are stamped without a row trigger, and
 *		the place where DELETEs are handed to delete_statement.c.
 *
 * A BEFORE ROW trigger is dear: an UPDATE locks the row first, with a WAL record
 * of its own, copies both tuples, and builds the new one twice.  The executor
 * makes the new row by a projection, ri_projectNew, just before it is stored.
 * Where no other trigger comes in between, that is where we stamp: once the
 * statement has been initialized, its result relations get a projection of ours
 * around the executor's, and in their copy of the trigger descriptor the flag
 * that makes the executor look for such triggers is taken away.
 *
 *		ExecModifyTable -> ExecProject(ri_projectNew)
 *							  evalfunc = stamp_updated_row
 *								  inner projection: the row as assigned
 *								  stamp_update_of(): its version
 *
 * The executor calls the projection again when it finds that someone changed the
 * row meanwhile (EvalPlanQual), with the newest old row: just as it should be.
 *
 * What stays with the trigger, which is always there: the UPDATE of ON CONFLICT,
 * MERGE, tables with other BEFORE ROW triggers for the event, UPDATEs that assign
 * a column of the key (and so all that may move a row to another partition),
 * INSERT into partitioned tables.  It is given a place to keep the
 * table's tombstones open from row to row (tomb_keeper.c).
 *
 * In session_replication_role = replica neither does anything.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "capture/copy.h"
#include "capture/delete_statement.h"
#include "capture/stamp.h"
#include "capture/statement.h"
#include "node/node.h"
#include "node/table.h"
#include "state/local_write.h"

#define ROW_TRIGGER_NAME "~ferry_row"

/* what the executor takes for its projection */
typedef struct StampProjection
{
	ProjectionInfo projection;	/* first: its pi_state.evalfunc is ours */
	ProjectionInfo *inner;		/* UPDATE: the executor's; INSERT: NULL */
	Oid			relid;
	TombKeeper *keeper;			/* INSERT */
	AttrNumber	last_attno;		/* the old row is needed up to here */
	int			ncolumns;		/* assigned plain columns: indexes into FerryTable.plain_attnos */
	int			columns[FLEXIBLE_ARRAY_MEMBER];
} StampProjection;

static ExecutorStart_hook_type previous_executor_start = NULL;
static ExecutorFinish_hook_type previous_executor_finish = NULL;

static StampProjection *
projection_of(ExprState *state)
{
	return (StampProjection *) ((char *) state - offsetof(ProjectionInfo, pi_state));
}

/* --- what is called for each row, in the statement's per-tuple context --- */

static Datum
stamp_updated_row(ExprState *state, ExprContext *econtext, bool *isnull)
{
	StampProjection *p = projection_of(state);
	ExprState  *inner = &p->inner->pi_state;
	TupleTableSlot *old = econtext->ecxt_scantuple;
	TupleTableSlot *new = state->resultslot;
	Datum		result = inner->evalfunc(inner, econtext, isnull);
	FerryTable *table = table_lookup_required(p->relid);

	/* strategies look at the whole row; they may have been set since the statement began */
	slot_getsomeattrs(old, state_plain_birth(table) ? p->last_attno : table->natts);
	(void) stamp_update_of(table, new->tts_tupleDescriptor, p->columns, p->ncolumns,
						   old->tts_values, old->tts_isnull, new->tts_values, new->tts_isnull);
	return result;
}

static Datum
stamp_inserted_row(ExprState *state, ExprContext *econtext, bool *isnull)
{
	StampProjection *p = projection_of(state);
	TupleTableSlot *from = econtext->ecxt_outertuple;
	TupleTableSlot *new = state->resultslot;

	slot_getallattrs(from);
	memcpy(new->tts_values, from->tts_values, sizeof(Datum) * new->tts_tupleDescriptor->natts);
	memcpy(new->tts_isnull, from->tts_isnull, sizeof(bool) * new->tts_tupleDescriptor->natts);
	(void) stamp_birth(table_lookup_required(p->relid), new->tts_tupleDescriptor, new->tts_values, new->tts_isnull, true, p->keeper);
	return (Datum) 0;
}

/* --- setting it up --- */

bool
statement_only_ours(const TriggerDesc *triggers, int16 event)
{
	bool		ours = false;

	for (int i = 0; triggers && i < triggers->numtriggers; i++)
	{
		const Trigger *t = &triggers->triggers[i];

		if (!TRIGGER_TYPE_MATCHES(t->tgtype, TRIGGER_TYPE_ROW, TRIGGER_TYPE_BEFORE, event) ||
			t->tgenabled == TRIGGER_DISABLED)
			continue;
		if (strcmp(t->tgname, ROW_TRIGGER_NAME) != 0 || t->tgqual != NULL ||
			t->tgenabled == TRIGGER_FIRES_ON_REPLICA)
			return false;
		ours = true;
	}
	return ours;
}

/* the executor's expression context of a statement, made if it has none yet */
static ExprContext *
expression_context(ModifyTableState *state)
{
	if (state->ps.ps_ExprContext == NULL)
		ExecAssignExprContext(state->ps.state, &state->ps);
	return state->ps.ps_ExprContext;
}

static StampProjection *
make_projection(ExprContext *econtext, ResultRelInfo *rel, ExprStateEvalFunc evaluate, int ncolumns)
{
	StampProjection *p = palloc0(offsetof(StampProjection, columns) + sizeof(int) * ncolumns);

	p->projection.type = T_ProjectionInfo;
	p->projection.pi_exprContext = econtext;
	p->projection.pi_state.type = T_ExprState;
	p->projection.pi_state.evalfunc = evaluate;
	p->projection.pi_state.resultslot = rel->ri_newTupleSlot;
	p->relid = RelationGetRelid(rel->ri_RelationDesc);
	return p;
}

/* which plain columns an UPDATE assigns; -1: one of the key's */
static int
assigned_columns(const FerryTable *table, List *assigned, int *columns)
{
	int			n = 0;

	for (int k = 0; k < table->nkeys; k++)
		if (list_member_int(assigned, table->key_attnos[k]))
			return -1;
	for (int c = 0; c < table->nplain; c++)
		if (list_member_int(assigned, table->plain_attnos[c]))
			columns[n++] = c;
	return n;
}

static bool
has_generated_key(const FerryTable *table, TupleDesc desc)
{
	for (int k = 0; k < table->nkeys; k++)
		if (TupleDescAttr(desc, table->key_attnos[k] - 1)->attgenerated)
			return true;
	return false;
}

/* after what ExecInitUpdateProjection() does at the first row */
static void
take_update(ModifyTableState *state, ResultRelInfo *rel, int which, const FerryTable *table)
{
	EState	   *estate = state->ps.state;
	List	   *assigned = list_nth(COMPAT_UPDATE_COLNOS(state), which);
	int		   *columns = palloc(sizeof(int) * Max(table->nplain, 1));
	int			n = assigned_columns(table, assigned, columns);
	ProjectionInfo *inner;
	StampProjection *p;

	if (n < 0)
		return;
	rel->ri_oldTupleSlot = table_slot_create(rel->ri_RelationDesc, &estate->es_tupleTable);
	rel->ri_newTupleSlot = table_slot_create(rel->ri_RelationDesc, &estate->es_tupleTable);
	inner = ExecBuildUpdateProjection(outerPlan(state->ps.plan)->targetlist, false, assigned,
									  RelationGetDescr(rel->ri_RelationDesc), expression_context(state),
									  rel->ri_newTupleSlot, &state->ps);
	p = make_projection(expression_context(state), rel, stamp_updated_row, n);
	p->inner = inner;
	p->last_attno = table->version_attno;
	p->ncolumns = n;
	for (int c = 0; c < n; c++)
	{
		p->columns[c] = columns[c];
		p->last_attno = Max(p->last_attno, table->plain_attnos[columns[c]]);
	}
	rel->ri_projectNew = &p->projection;
	rel->ri_projectNewInfoValid = true;
	rel->ri_TrigDesc->trig_update_before_row = false;
}

/* does the plan give rows of the table as it is?  If not, the executor raises, not we */
static bool
plan_fits(List *targetlist, TupleDesc desc)
{
	ListCell   *lc;
	int			i = 0;

	foreach(lc, targetlist)
	{
		TargetEntry *entry = lfirst(lc);
		Form_pg_attribute attr;

		if (entry->resjunk || i >= desc->natts)
			return false;
		attr = TupleDescAttr(desc, i++);
		if (attr->attisdropped ? !IsA(entry->expr, Const) : exprType((Node *) entry->expr) != attr->atttypid)
			return false;
	}
	return i == desc->natts;
}

static void
take_insert(ModifyTableState *state, ResultRelInfo *rel)
{
	EState	   *estate = state->ps.state;
	ExprContext *econtext = GetPerTupleExprContext(estate);	/* which the executor needs anyway */
	StampProjection *p;

	if (!plan_fits(outerPlan(state->ps.plan)->targetlist, RelationGetDescr(rel->ri_RelationDesc)))
		return;
	rel->ri_newTupleSlot = table_slot_create(rel->ri_RelationDesc, &estate->es_tupleTable);
	p = make_projection(econtext, rel, stamp_inserted_row, 0);
	p->keeper = tomb_keeper_create(econtext);
	rel->ri_projectNew = &p->projection;
	rel->ri_projectNewInfoValid = true;
	rel->ri_TrigDesc->trig_insert_before_row = false;
}

/* the trigger is called: let it keep the tombstones open */
static void
give_keeper(ModifyTableState *state, ResultRelInfo *rel)
{
	for (int i = 0; i < rel->ri_TrigDesc->numtriggers; i++)
	{
		const Trigger *t = &rel->ri_TrigDesc->triggers[i];
		FmgrInfo   *function = &rel->ri_TrigFunctions[i];

		if (strcmp(t->tgname, ROW_TRIGGER_NAME) != 0 || OidIsValid(function->fn_oid))
			continue;
		fmgr_info(t->tgfoid, function);
		if (function->fn_addr == ferry_row_trigger)
			function->fn_extra = tomb_keeper_create(expression_context(state));
	}
}

/* one result relation of a statement */
static void
take_relation(ModifyTableState *state, ResultRelInfo *rel, int which)
{
	CmdType		operation = state->operation;
	int16		event = operation == CMD_UPDATE ? TRIGGER_TYPE_UPDATE : TRIGGER_TYPE_INSERT;
	FerryTable *table;

	if (rel->ri_TrigDesc == NULL || rel->ri_projectNewInfoValid ||
		rel->ri_RelationDesc->rd_rel->relkind != RELKIND_RELATION)
		return;
	table = table_lookup(RelationGetRelid(rel->ri_RelationDesc));
	if (table == NULL || node_current_or_null() == NULL)
		return;
	if ((operation == CMD_UPDATE || operation == CMD_INSERT) &&
		statement_only_ours(rel->ri_TrigDesc, event) &&
		!has_generated_key(table, RelationGetDescr(rel->ri_RelationDesc)))
	{
		if (operation == CMD_UPDATE)
			take_update(state, rel, which, table);
		else
			take_insert(state, rel);
	}
	if (operation == CMD_DELETE && statement_only_ours(rel->ri_TrigDesc, TRIGGER_TYPE_DELETE))
	{
		delete_statement_take(state, rel);
		return;
	}
	/* ON CONFLICT DO UPDATE goes on by the trigger */
	if (!rel->ri_projectNewInfoValid || ((ModifyTable *) state->ps.plan)->onConflictAction == ONCONFLICT_UPDATE)
		give_keeper(state, rel);
}

static void
take_statement(ModifyTableState *state)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(state->ps.state->es_query_cxt);

	for (int i = 0; i < state->mt_nrels; i++)
		take_relation(state, &state->resultRelInfo[i], i);
	MemoryContextSwitchTo(oldcontext);
}

static void
executor_start(QueryDesc *query, int eflags)
{
	ListCell   *lc;

	copy_show_trigger();
	if (previous_executor_start)
		previous_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);

	if ((eflags & EXEC_FLAG_EXPLAIN_ONLY) || SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA)
		return;
	/* the statement itself is on top, those in WITH are on the list */
	if (query->operation != CMD_SELECT && IsA(query->planstate, ModifyTableState))
		take_statement(castNode(ModifyTableState, query->planstate));
	foreach(lc, query->estate->es_auxmodifytables)
		take_statement(lfirst_node(ModifyTableState, lc));
}

static void
executor_finish(QueryDesc *query)
{
	if (query->planstate && IsA(query->planstate, ModifyTableState))
		delete_statement_finish(castNode(ModifyTableState, query->planstate));
	if (previous_executor_finish)
		previous_executor_finish(query);
	else
		standard_ExecutorFinish(query);
}

void
statement_install_hook(void)
{
	previous_executor_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = executor_finish;
	previous_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
}
