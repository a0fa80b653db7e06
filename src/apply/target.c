/*-------------------------------------------------------------------------
 *
 * target.c
 *		A local table, opened to have states merged into it: find a row by its
 *		key, insert, update, delete, below the planner and without SPI.
 *
 * Finding.  By the primary key's index, through a scan that stays open, under a
 * fresh MVCC snapshot for each row (state/key_lookup.c says why).  What it finds
 * may be outdated by the time that we write; table_tuple_update and
 * table_tuple_delete tell (TM_Updated, TM_Deleted), and then the caller finds
 * again under a newer snapshot.  No row lock is taken between the two: there is
 * nothing to lose, as the merge is simply done anew, and it saves a WAL record a
 * row.
 *
 * What a snapshot cannot see is a row that is being inserted.  That is what
 * target_key_is_free is for: it probes the key's index as a unique check does
 * and waits for the inserting transaction.
 *
 * Triggers.  Only those that are enabled for replicas may fire.  Where a table
 * has none of them, its trigger descriptor is taken away, since the executor
 * would lock each tuple for a BEFORE trigger even if that does not fire.  AFTER
 * triggers fire when the row is merged, before we are ourselves again: a
 * transaction of any size queues the events of one row, and no function of the
 * table's owner runs with our rights.
 *
 * Constraints.  Duplicates in unique and exclusion indexes other than the primary
 * key are not raised: the row goes in, as under a deferred constraint, and is
 * noted as a suspect, for apply/unique.c to settle before the local commit.
 *
 * Partitioned tables.  Rows and states are in the root's layout everywhere but
 * in the last step before the storage; the key holds the partition key (or it
 * could not be a primary key), so that it leads to the leaf.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "commands/trigger.h"
#include "executor/nodeModifyTable.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "parser/parse_relation.h"
#include "rewrite/rewriteHandler.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "apply/target.h"
#include "compat.h"
#include "state/key_lookup.h"

/* more births in a row than this say nothing more */
#define BIRTHS_MAX 1000

struct ApplyTarget
{
	Relation	rel;			/* root; the caller's reference */
	FerryTable	table;			/* our copy: the cache's entry may go away */
	EState	   *estate;
	ResultRelInfo *root;
	bool		fires_triggers;
	bool		is_referenced;	/* by foreign keys */
	ModifyTableState *mtstate;	/* only for partitioned tables */
	PartitionTupleRouting *routing;
	TupleTableSlot *scratch;	/* virtual, root layout: what is to be written */
	TupleTableSlot *found;		/* root layout, result of target_find */
	ExprState **defaults;		/* [attno - 1], made at first need */
	bool		defaults_made;
	Oid			saved_userid;
	int			saved_sec_context;
	Tombstones *tombstones;
	int			births;			/* see target_births */
	struct LeafState *leaves;
	Tuplestorestate *suspects;	/* keys, see target_take_suspect; NULL: there was none yet */
	TupleTableSlot *suspect_key;	/* on its way in */
	TupleTableSlot *suspect;	/* taken out */
	struct TargetChecks *checks;
	TargetDeaths deaths;
};

/* what target_find needs of one leaf (or of the table itself) */
typedef struct LeafState
{
	struct LeafState *next;
	ResultRelInfo *rri;
	Relation	index;			/* points into rri's open indexes */
	IndexInfo  *index_info;
	KeyLookup	lookup;			/* its slot is in the leaf's layout */
	List	   *constraints;	/* OIDs of its other unique and exclusion indexes */
	bool		same_layout;
} LeafState;

/* --- opening --- */

static bool
has_replica_triggers(Relation rel)
{
	TriggerDesc *desc = rel->trigdesc;

	if (desc == NULL)
		return false;
	for (int i = 0; i < desc->numtriggers; i++)
	{
		char		enabled = desc->triggers[i].tgenabled;

		if (enabled == TRIGGER_FIRES_ON_REPLICA || enabled == TRIGGER_FIRES_ALWAYS)
			return true;
	}
	return false;
}

/* do foreign keys refer to the table? */
static bool
is_referenced(Relation rel)
{
	TriggerDesc *desc = rel->trigdesc;

	for (int i = 0; desc && i < desc->numtriggers; i++)
		if (RI_FKey_trigger_type(desc->triggers[i].tgfoid) == RI_TRIGGER_PK)
			return true;
	return false;
}

/* a copy of what the table cache said, with its arrays, in the current context */
static void
copy_table(FerryTable *dst, const FerryTable *src)
{
#define COPY_ARRAY(field, n) \
	do { \
		if ((n) > 0) \
		{ \
			dst->field = palloc(sizeof(*src->field) * (n)); \
			memcpy(dst->field, src->field, sizeof(*src->field) * (n)); \
		} \
	} while (0)

	*dst = *src;
	COPY_ARRAY(key_attnos, src->nkeys);
	COPY_ARRAY(plain_attnos, src->nplain);
	COPY_ARRAY(plain_ids, src->nplain);
	COPY_ARRAY(column_ids, src->natts);
	COPY_ARRAY(id_attnos, src->nids);
	COPY_ARRAY(strategies, src->nstrategies);
	for (int s = 0; s < dst->nstrategies; s++)
		if (dst->strategies[s].function)
			dst->strategies[s].function = pstrdup(dst->strategies[s].function);
#undef COPY_ARRAY
}

ApplyTarget *
target_open(Relation rel, const FerryTable *table)
{
	ApplyTarget *t;
	EState	   *estate = CreateExecutorState();
	MemoryContext oldcontext = MemoryContextSwitchTo(estate->es_query_cxt);
	RangeTblEntry *rte;

	t = palloc0(sizeof(ApplyTarget));
	t->rel = rel;
	t->estate = estate;
	copy_table(&t->table, table);
	t->tombstones = tombstones_open(&t->table);

	rte = makeNode(RangeTblEntry);
	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = rel->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
	compat_init_range_table(estate, rte);

	t->root = makeNode(ResultRelInfo);
	InitResultRelInfo(t->root, rel, 1, NULL, 0);
	estate->es_opened_result_relations =
		lappend(estate->es_opened_result_relations, t->root);
	estate->es_output_cid = GetCurrentCommandId(true);

	t->is_referenced = is_referenced(rel);
	t->fires_triggers = has_replica_triggers(rel);
	if (!t->fires_triggers)
		t->root->ri_TrigDesc = NULL;

	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
	{
		t->mtstate = makeNode(ModifyTableState);
		t->mtstate->ps.plan = NULL;
		t->mtstate->ps.state = estate;
		t->mtstate->operation = CMD_INSERT;
		t->mtstate->resultRelInfo = t->root;
		t->mtstate->rootResultRelInfo = t->root;
		t->routing = ExecSetupPartitionTupleRouting(estate, rel);
		t->fires_triggers = true;	/* leaves decide for themselves */
	}
	else
		ExecOpenIndices(t->root, true);

	t->scratch = ExecInitExtraTupleSlot(estate, RelationGetDescr(rel), &TTSOpsVirtual);
	MemoryContextSwitchTo(oldcontext);
	return t;
}

void
target_close(ApplyTarget *t)
{
	if (t->suspects)
		tuplestore_end(t->suspects);
	for (LeafState *leaf = t->leaves; leaf; leaf = leaf->next)
		key_lookup_end(&leaf->lookup);
	tombstones_close(t->tombstones);
	if (t->routing)
		ExecCleanupTupleRouting(t->mtstate, t->routing);
	else
		ExecCloseIndices(t->root);
	ExecResetTupleTable(t->estate->es_tupleTable, false);
	FreeExecutorState(t->estate);	/* and t with it */
}

Relation
target_relation(ApplyTarget *t)
{
	return t->rel;
}

const FerryTable *
target_table(ApplyTarget *t)
{
	return &t->table;
}

Tombstones *
target_tombstones(ApplyTarget *t)
{
	return t->tombstones;
}

int
target_births(ApplyTarget *t)
{
	return t->births;
}

void
target_set_births(ApplyTarget *t, int births)
{
	t->births = Min(births, BIRTHS_MAX);
}

void
target_enter(ApplyTarget *t)
{
	GetUserIdAndSecContext(&t->saved_userid, &t->saved_sec_context);
	SetUserIdAndSecContext(t->rel->rd_rel->relowner,
						   t->saved_sec_context | SECURITY_RESTRICTED_OPERATION);
	t->estate->es_output_cid = GetCurrentCommandId(true);
	if (t->fires_triggers)
		AfterTriggerBeginQuery();
}

void
target_leave(ApplyTarget *t)
{
	if (t->fires_triggers)
		AfterTriggerEndQuery(t->estate);
	SetUserIdAndSecContext(t->saved_userid, t->saved_sec_context);
	ResetPerTupleExprContext(t->estate);
}

/* --- leaves --- */

/* put a state's values into a slot of the root's layout; version as it stands */
static void
fill_key(ApplyTarget *t, TupleTableSlot *slot, const RowState *key)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * t->table.natts);
	for (int i = 0; i < t->table.nkeys; i++)
	{
		int			a = t->table.key_attnos[i] - 1;

		slot->tts_values[a] = key->values[a];
		slot->tts_isnull[a] = false;
	}
	ExecStoreVirtualTuple(slot);
}

/* the index and scan keys of one leaf; made once per target */
static LeafState *
leaf_state(ApplyTarget *t, ResultRelInfo *rri)
{
	LeafState  *leaf;
	MemoryContext oldcontext;
	Oid			key_index;

	for (leaf = t->leaves; leaf; leaf = leaf->next)
		if (leaf->rri == rri)
			return leaf;

	oldcontext = MemoryContextSwitchTo(t->estate->es_query_cxt);
	leaf = palloc0(sizeof(LeafState));
	leaf->rri = rri;
	leaf->same_layout = (rri == t->root || ExecGetChildToRootMap(rri) == NULL);

	if (rri != t->root && !has_replica_triggers(rri->ri_RelationDesc))
		rri->ri_TrigDesc = NULL;

	key_index = RelationGetPrimaryKeyIndex(rri->ri_RelationDesc COMPAT_PK_ARG);
	for (int i = 0; i < rri->ri_NumIndices; i++)
	{
		if (RelationGetRelid(rri->ri_IndexRelationDescs[i]) == key_index)
		{
			leaf->index = rri->ri_IndexRelationDescs[i];
			leaf->index_info = rri->ri_IndexRelationInfo[i];
		}
		else if (rri->ri_IndexRelationInfo[i]->ii_Unique || rri->ri_IndexRelationInfo[i]->ii_ExclusionOps)
			leaf->constraints = lappend_oid(leaf->constraints, RelationGetRelid(rri->ri_IndexRelationDescs[i]));
	}
	if (leaf->index == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no usable primary key",
						RelationGetRelationName(rri->ri_RelationDesc))));
	/* partitions' indexes are opened without what the unique check needs */
	if (leaf->index_info->ii_UniqueOps == NULL)
		BuildSpeculativeIndexInfo(leaf->index, leaf->index_info);

	key_lookup_init(&leaf->lookup, rri->ri_RelationDesc, leaf->index,
					table_slot_create(rri->ri_RelationDesc, &t->estate->es_tupleTable));

	leaf->next = t->leaves;
	t->leaves = leaf;
	MemoryContextSwitchTo(oldcontext);
	return leaf;
}

/* where a row with the key in slot (root layout) belongs; raises if nowhere */
static ResultRelInfo *
route(ApplyTarget *t, TupleTableSlot *slot)
{
	ResultRelInfo *rri;
	MemoryContext oldcontext;

	if (t->routing == NULL)
		return t->root;
	oldcontext = MemoryContextSwitchTo(GetPerTupleMemoryContext(t->estate));
	rri = ExecFindPartition(t->mtstate, t->root, t->routing, slot, t->estate);
	MemoryContextSwitchTo(oldcontext);
	return rri;
}

/* a root-layout slot in the layout of a leaf */
static TupleTableSlot *
to_leaf(ApplyTarget *t, ResultRelInfo *rri, TupleTableSlot *slot)
{
	TupleConversionMap *map;

	if (rri == t->root)
		return slot;
	map = compat_root_to_leaf_map(rri, t->estate);
	if (map == NULL)
		return slot;
	return execute_attr_map_slot(map->attrMap, slot, rri->ri_PartitionTupleSlot);
}

/* --- finding --- */

bool
target_find(ApplyTarget *t, const RowState *key, ApplyFound *found)
{
	return target_find_as_of(t, key, NULL, found);
}

bool
target_find_as_of(ApplyTarget *t, const RowState *key, Snapshot snapshot, ApplyFound *found)
{
	ResultRelInfo *rri;
	LeafState  *leaf;
	Datum		values[INDEX_MAX_KEYS];

	if (t->routing)
		fill_key(t, t->scratch, key);
	rri = route(t, t->scratch);
	leaf = leaf_state(t, rri);

	/* key columns of the index are in key order, by whatever attno the leaf has */
	for (int k = 0; k < t->table.nkeys; k++)
		values[k] = key->values[t->table.key_attnos[k] - 1];
	if (!(snapshot ? key_lookup_find_as_of(&leaf->lookup, values, snapshot) :
		  key_lookup_find(&leaf->lookup, values)))
		return false;

	found->leaf = rri;
	found->tid = leaf->lookup.slot->tts_tid;
	if (leaf->same_layout)
		found->slot = leaf->lookup.slot;
	else
	{
		if (t->found == NULL)
		{
			MemoryContext oldcontext = MemoryContextSwitchTo(t->estate->es_query_cxt);

			t->found = ExecInitExtraTupleSlot(t->estate, RelationGetDescr(t->rel),
											  &TTSOpsVirtual);
			MemoryContextSwitchTo(oldcontext);
		}
		found->slot = execute_attr_map_slot(ExecGetChildToRootMap(rri)->attrMap,
											leaf->lookup.slot, t->found);
	}
	return true;
}

bool
target_key_is_free(ApplyTarget *t, const RowState *key)
{
	ResultRelInfo *rri;
	LeafState  *leaf;
	ItemPointerData conflict;

	fill_key(t, t->scratch, key);
	rri = route(t, t->scratch);
	leaf = leaf_state(t, rri);
	return compat_check_index_constraints(rri, to_leaf(t, rri, t->scratch), t->estate, &conflict,
										  list_make1_oid(RelationGetRelid(leaf->index)));
}

/* --- writing --- */

/* expressions for columns that a state does not carry */
static void
make_defaults(ApplyTarget *t)
{
	TupleDesc	desc = RelationGetDescr(t->rel);
	MemoryContext oldcontext = MemoryContextSwitchTo(t->estate->es_query_cxt);

	t->defaults = palloc0(sizeof(ExprState *) * desc->natts);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);
		Node	   *expr;

		if (attr->attisdropped || attr->attgenerated || i + 1 == t->table.version_attno)
			continue;
		expr = build_column_default(t->rel, i + 1);
		if (expr)
			t->defaults[i] = ExecInitExpr(expression_planner((Expr *) expr), NULL);
	}
	t->defaults_made = true;
	MemoryContextSwitchTo(oldcontext);
}

/* the whole row into slot (root layout); absent columns get what base has or, without it, their default */
static TupleTableSlot *
fill_row(ApplyTarget *t, TupleTableSlot *slot, RowState *row, TupleTableSlot *base)
{
	TupleDesc	desc = RelationGetDescr(t->rel);

	ExecClearTuple(slot);
	for (int i = 0; i < t->table.natts; i++)
	{
		if (i + 1 == t->table.version_attno)
		{
			slot->tts_values[i] = state_version_datum(&row->version);
			slot->tts_isnull[i] = false;
		}
		else if (row->kinds[i] == VALUE_HERE)
		{
			slot->tts_values[i] = row->values[i];
			slot->tts_isnull[i] = row->nulls[i];
		}
		else
		{
			slot->tts_values[i] = (Datum) 0;
			slot->tts_isnull[i] = true;
			if (TupleDescAttr(desc, i)->attisdropped || TupleDescAttr(desc, i)->attgenerated)
				continue;
			if (base)
				slot->tts_values[i] = slot_getattr(base, i + 1, &slot->tts_isnull[i]);
			else
			{
				if (!t->defaults_made)
					make_defaults(t);
				if (t->defaults[i])
					slot->tts_values[i] =
						ExecEvalExpr(t->defaults[i], GetPerTupleExprContext(t->estate),
									 &slot->tts_isnull[i]);
			}
		}
	}
	return ExecStoreVirtualTuple(slot);
}

/*
 * A row whose value another one may have in a unique or exclusion index: dups are
 * those indexes.  A transaction may have millions of them; they wait in a file if
 * they are more than work_mem holds.
 */
static void
suspect(ApplyTarget *t, const RowState *row, List *dups)
{
	TupleDesc	desc = RelationGetDescr(t->rel);
	MemoryContext oldcontext;

	if (dups == NIL)
		return;
	list_free(dups);
	oldcontext = MemoryContextSwitchTo(t->estate->es_query_cxt);
	if (t->suspects == NULL)
	{
		t->suspects = tuplestore_begin_heap(false, false, work_mem);
		t->suspect = ExecInitExtraTupleSlot(t->estate, desc, &TTSOpsMinimalTuple);
		t->suspect_key = ExecInitExtraTupleSlot(t->estate, desc, &TTSOpsVirtual);
	}
	fill_key(t, t->suspect_key, row);
	tuplestore_puttupleslot(t->suspects, t->suspect_key);
	MemoryContextSwitchTo(oldcontext);
}

bool
target_has_suspects(const ApplyTarget *t)
{
	return t->suspects != NULL && tuplestore_tuple_count(t->suspects) > 0;
}

RowState *
target_take_suspect(ApplyTarget *t)
{
	RowState   *key;
	MemoryContext oldcontext;
	bool		found;

	if (t->suspects == NULL)
		return NULL;
	oldcontext = MemoryContextSwitchTo(t->estate->es_query_cxt);
	found = tuplestore_gettupleslot(t->suspects, true, true, t->suspect);
	MemoryContextSwitchTo(oldcontext);
	if (!found)
	{
		tuplestore_clear(t->suspects);
		return NULL;
	}
	slot_getallattrs(t->suspect);
	key = state_create(&t->table);
	for (int k = 0; k < t->table.nkeys; k++)
	{
		int			i = t->table.key_attnos[k] - 1;

		key->values[i] = t->suspect->tts_values[i];
		key->kinds[i] = VALUE_HERE;
	}
	return key;
}

List *
target_constraints(ApplyTarget *t, ResultRelInfo *leaf)
{
	return leaf_state(t, leaf)->constraints;
}

TupleTableSlot *
target_row(ApplyTarget *t, RowState *row, TupleTableSlot *base)
{
	TupleTableSlot *slot = fill_row(t, t->scratch, row, base);
	TupleConstr *constr = t->rel->rd_att->constr;

	if (constr && constr->has_generated_stored)
		ExecComputeStoredGenerated(t->root, t->estate, slot, CMD_INSERT);
	return slot;
}

struct TargetChecks **
target_checks(ApplyTarget *t)
{
	return &t->checks;
}

bool
target_is_referenced(ApplyTarget *t)
{
	return t->is_referenced;
}

TargetDeaths *
target_deaths(ApplyTarget *t)
{
	return &t->deaths;
}

/* what holds for every row that is stored: generated columns, constraints, partition bounds */
static void
check_row(ApplyTarget *t, ResultRelInfo *rri, TupleTableSlot *slot)
{
	Relation	rel = rri->ri_RelationDesc;

	/* all of them: CMD_UPDATE would want to know which columns changed */
	if (rel->rd_att->constr && rel->rd_att->constr->has_generated_stored)
		ExecComputeStoredGenerated(rri, t->estate, slot, CMD_INSERT);
	if (rel->rd_att->constr)
		ExecConstraints(rri, slot, t->estate);
	if (rel->rd_rel->relispartition)
		ExecPartitionCheck(rri, slot, t->estate, true);
}

void
target_check(ApplyTarget *t, RowState *row, TupleTableSlot *base)
{
	check_row(t, t->root, fill_row(t, t->scratch, row, base));
}

ResultRelInfo *
target_takes_runs(ApplyTarget *t)
{
	ResultRelInfo *rri = t->root;

	if (t->routing || rri->ri_TrigDesc)
		return NULL;
	for (int i = 0; i < rri->ri_NumIndices; i++)
	{
		IndexInfo  *info = rri->ri_IndexRelationInfo[i];

		if ((info->ii_Unique && rri->ri_IndexRelationDescs[i] != leaf_state(t, rri)->index) || info->ii_ExclusionOps)
			return NULL;
	}
	return rri;
}

EState *
target_estate(ApplyTarget *t)
{
	return t->estate;
}

void
target_fill(ApplyTarget *t, TupleTableSlot *slot, RowState *row)
{
	check_row(t, t->root, fill_row(t, slot, row, NULL));
}

void
target_insert(ApplyTarget *t, RowState *row)
{
	TupleTableSlot *slot = fill_row(t, t->scratch, row, NULL);
	ResultRelInfo *rri = route(t, slot);
	LeafState  *leaf = leaf_state(t, rri);

	slot = to_leaf(t, rri, slot);

	if (rri->ri_TrigDesc && rri->ri_TrigDesc->trig_insert_before_row &&
		!ExecBRInsertTriggers(t->estate, rri, slot))
		return;
	check_row(t, rri, slot);
	table_tuple_insert(rri->ri_RelationDesc, slot, GetCurrentCommandId(true), 0, NULL);
	if (rri->ri_NumIndices > 0)
		suspect(t, row, compat_insert_index_tuples_soft(rri, slot, t->estate, false,
														COMPAT_UPDATE_ALL_INDEXES, leaf->constraints));
	if (rri->ri_TrigDesc)
		ExecARInsertTriggers(t->estate, rri, slot, NIL, NULL);
	CommandCounterIncrement();
}

/* TM_Ok true, someone else was faster false, the rest cannot be */
static bool
check_result(TM_Result result, Relation rel)
{
	switch (result)
	{
		case TM_Ok:
			return true;
		case TM_Updated:
		case TM_Deleted:
			CHECK_FOR_INTERRUPTS();
			return false;
		default:
			elog(ERROR, "unexpected result %d of writing a row of table \"%s\"",
				 result, RelationGetRelationName(rel));
	}
	return false;				/* keep the compiler quiet */
}

bool
target_update(ApplyTarget *t, ApplyFound *found, RowState *row)
{
	TupleTableSlot *slot = fill_row(t, t->scratch, row, found->slot);
	ResultRelInfo *rri = route(t, slot);
	TM_FailureData tmfd;
	LockTupleMode lockmode;
	CompatUpdateIndexes update_indexes;

	/* the same key can be routed elsewhere only if its bytes differ (1.0, 1.00) */
	if (rri != found->leaf)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("merged row of table \"%s\" would move to another partition",
						RelationGetRelationName(t->rel))));

	slot = to_leaf(t, rri, slot);
	if (rri->ri_TrigDesc && rri->ri_TrigDesc->trig_update_before_row)
	{
		EPQState	epqstate;

		compat_epq_init(&epqstate, t->estate);
		if (!compat_br_update_triggers(t->estate, &epqstate, rri, &found->tid, slot))
			return true;
	}
	check_row(t, rri, slot);
	if (!check_result(table_tuple_update(rri->ri_RelationDesc, &found->tid, slot,
										 GetCurrentCommandId(true), InvalidSnapshot,
										 InvalidSnapshot, true, &tmfd, &lockmode,
										 &update_indexes),
					  rri->ri_RelationDesc))
		return false;
	if (rri->ri_NumIndices > 0 && compat_wants_index_update(update_indexes))
		suspect(t, row, compat_insert_index_tuples_soft(rri, slot, t->estate, true, update_indexes,
														leaf_state(t, rri)->constraints));
	if (rri->ri_TrigDesc)
		ExecARUpdateTriggers(t->estate, rri, NULL, NULL, &found->tid, NULL, slot,
							 NIL, NULL, false);
	CommandCounterIncrement();
	return true;
}

bool
target_delete(ApplyTarget *t, ApplyFound *found)
{
	ResultRelInfo *rri = found->leaf;
	TM_FailureData tmfd;

	if (rri->ri_TrigDesc && rri->ri_TrigDesc->trig_delete_before_row)
	{
		EPQState	epqstate;

		compat_epq_init(&epqstate, t->estate);
		if (!compat_br_delete_triggers(t->estate, &epqstate, rri, &found->tid))
			return true;
	}
	if (!check_result(compat_tuple_delete(rri->ri_RelationDesc, &found->tid,
										  GetCurrentCommandId(true), &tmfd),
					  rri->ri_RelationDesc))
		return false;
	if (rri->ri_TrigDesc)
		ExecARDeleteTriggers(t->estate, rri, &found->tid, NULL, NULL, false);
	CommandCounterIncrement();
	return true;
}
