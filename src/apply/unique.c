/*-------------------------------------------------------------------------
 *
 * unique.c
 *		Two rows, one value: clashes in unique and exclusion constraints besides
 *		the primary key.
 *
 * Two nodes can each give a value to another row.  One row keeps it, on every
 * node: the one whose claim is the later.  A row's claim to its place in an
 * index is the greatest dot among the columns that the index looks at, which
 * changes of other columns leave alone, so that nodes which hold different
 * states of the rows decide alike.  (In row mode every write renews it.)  Of two
 * claims of one write, that of the greater key is the later, by the bytes of its wire
 * form; a later write of other columns must not decide, which not everybody may hold.
 * The other row dies: by a new write of this node that has seen its state, told to
 * all (own_write.c), its image in ferry.conflicts.  Nodes that end the same
 * clash at the same time write two deaths of one row, which merge.  A change of
 * the loser that its death has not seen is merged with that death by the table's
 * policy, as with any deletion; if it brings the value back, it clashes again.
 *
 * When.  A row is written first and judged afterwards (target.h, "suspects"), at
 * the end of the remote transaction, as the server does with deferred
 * constraints: in a transaction that exchanges two values, or passes one on, the
 * end is what counts.
 *
 * What looks like a clash may be ignorance: the other row has given up the value
 * at a node whose change has not come here yet, or comes later in a copy.  The
 * sender knows: it holds the row that it sent under the same constraint.  So
 * before a row dies the sender is asked for both (fetch.c), and what it answers is
 * merged.
 *
 * A row that clashes with several dies if one of them has the later claim, and
 * then the others live.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/sysattr.h"
#include "access/tableam.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "apply/conflict.h"
#include "apply/fetch.h"
#include "apply/merge_row.h"
#include "apply/orphan.h"
#include "apply/own_write.h"
#include "apply/unique.h"
#include "node/node.h"
#include "state/codec.h"
#include "state/local_write.h"
#include "state/tombstone.h"

/* a row as it is stored, and its state; slots live until forget_stored() */
typedef struct Stored
{
	ApplyFound	found;
	TupleTableSlot *leaf_slot;
	TupleTableSlot *root_slot;	/* NULL: the layouts are the same */
	RowState   *state;
} Stored;

/* another row that has the place of ours in an index */
typedef struct Clash
{
	Stored		other;
	Relation	index;
	IndexInfo  *info;
} Clash;

/* --- finding --- */

static void
forget_stored(Stored *s)
{
	if (s->leaf_slot)
		ExecDropSingleTupleTableSlot(s->leaf_slot);
	if (s->root_slot)
		ExecDropSingleTupleTableSlot(s->root_slot);
	memset(s, 0, sizeof(*s));
}

/* fill *s from the tuple in leaf_slot, which it takes over */
static void
stored_from_slot(ApplyTarget *t, ResultRelInfo *leaf, TupleTableSlot *leaf_slot, Stored *s)
{
	TupleConversionMap *map = leaf->ri_RelationDesc == target_relation(t) ? NULL : ExecGetChildToRootMap(leaf);

	memset(s, 0, sizeof(*s));
	ExecMaterializeSlot(leaf_slot);
	s->leaf_slot = leaf_slot;
	s->found.leaf = leaf;
	s->found.tid = leaf_slot->tts_tid;
	if (map)
	{
		s->root_slot = MakeSingleTupleTableSlot(RelationGetDescr(target_relation(t)), &TTSOpsVirtual);
		execute_attr_map_slot(map->attrMap, leaf_slot, s->root_slot);
	}
	s->found.slot = map ? s->root_slot : leaf_slot;
	s->state = state_from_slot(target_table(t), s->found.slot);
}

/* the row with this key, as it is stored now */
static bool
find_stored(ApplyTarget *t, const RowState *key, Stored *s)
{
	ApplyFound	found;
	TupleTableSlot *slot;

	if (!target_find(t, key, &found))
		return false;
	slot = table_slot_create(found.leaf->ri_RelationDesc, NULL);
	if (!table_tuple_fetch_row_version(found.leaf->ri_RelationDesc, &found.tid, SnapshotAny, slot))
		elog(ERROR, "row of table \"%s\" has vanished", RelationGetRelationName(found.leaf->ri_RelationDesc));
	stored_from_slot(t, found.leaf, slot, s);
	return true;
}

static bool
same_place(Relation index, const Oid *procs, const Datum *existing, const bool *existing_null, const Datum *new)
{
	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
		if (existing_null[i] ||
			!DatumGetBool(OidFunctionCall2Coll(procs[i], index->rd_indcollation[i], existing[i], new[i])))
			return false;
	return true;
}

/* one scan for others in the place of values; 0 if it is complete, else whom to wait for */
static TransactionId
scan_place(ApplyTarget *t, const Stored *self, Relation index, IndexInfo *info,
		   Datum *values, bool *nulls, List **clashes, ItemPointer wait_tid)
{
	ResultRelInfo *leaf = self->found.leaf;
	EState	   *estate = target_estate(t);
	ExprContext *econtext = GetPerTupleExprContext(estate);
	const Oid  *procs = info->ii_ExclusionOps ? info->ii_ExclusionProcs : info->ii_UniqueProcs;
	const uint16 *strats = info->ii_ExclusionOps ? info->ii_ExclusionStrats : info->ii_UniqueStrats;
	int			nkeys = IndexRelationGetNumberOfKeyAttributes(index);
	ScanKeyData keys[INDEX_MAX_KEYS];
	SnapshotData dirty;
	IndexScanDesc scan;
	TupleTableSlot *slot = table_slot_create(leaf->ri_RelationDesc, NULL);
	TransactionId wait_for = InvalidTransactionId;

	InitDirtySnapshot(dirty);
	for (int i = 0; i < nkeys; i++)
		ScanKeyEntryInitialize(&keys[i], nulls[i] ? SK_ISNULL | SK_SEARCHNULL : 0, i + 1, strats[i],
							   InvalidOid, index->rd_indcollation[i], procs[i], values[i]);
	scan = compat_index_beginscan(leaf->ri_RelationDesc, index, &dirty, nkeys);
	index_rescan(scan, keys, nkeys, NULL, 0);
	while (!TransactionIdIsValid(wait_for) && index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		Datum		existing[INDEX_MAX_KEYS];
		bool		existing_null[INDEX_MAX_KEYS];
		Clash	   *clash;

		if (ItemPointerEquals(&slot->tts_tid, (ItemPointer) &self->found.tid))
			continue;
		if (scan->xs_recheck)
		{
			econtext->ecxt_scantuple = slot;
			FormIndexDatum(info, slot, estate, existing, existing_null);
			if (!same_place(index, procs, existing, existing_null, values))
				continue;
		}
		wait_for = TransactionIdIsValid(dirty.xmin) ? dirty.xmin : dirty.xmax;
		if (TransactionIdIsValid(wait_for))
		{
			*wait_tid = slot->tts_tid;
			break;
		}
		clash = palloc0(sizeof(Clash));
		clash->index = index;
		clash->info = info;
		stored_from_slot(t, leaf, slot, &clash->other);
		*clashes = lappend(*clashes, clash);
		slot = table_slot_create(leaf->ri_RelationDesc, NULL);
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return wait_for;
}

static void
forget_clashes(List *clashes)
{
	ListCell   *lc;

	foreach(lc, clashes)
		forget_stored(&((Clash *) lfirst(lc))->other);
	list_free_deep(clashes);
}

/* all rows that have the place of self in one index */
static List *
clashes_in(ApplyTarget *t, const Stored *self, Relation index, IndexInfo *info)
{
	EState	   *estate = target_estate(t);
	ExprContext *econtext = GetPerTupleExprContext(estate);
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	List	   *clashes = NIL;
	TransactionId wait_for;
	ItemPointerData tid;

	econtext->ecxt_scantuple = self->leaf_slot;
	if (info->ii_Predicate != NIL)
	{
		if (info->ii_PredicateState == NULL)
			info->ii_PredicateState = ExecPrepareQual(info->ii_Predicate, estate);
		if (!ExecQual(info->ii_PredicateState, econtext))
			return NIL;
	}
	FormIndexDatum(info, self->leaf_slot, estate, values, nulls);
	for (int i = 0; i < IndexRelationGetNumberOfKeyAttributes(index); i++)
		if (nulls[i] && !info->ii_NullsNotDistinct)
			return NIL;
	while (TransactionIdIsValid(wait_for = scan_place(t, self, index, info, values, nulls, &clashes, &tid)))
	{
		CHECK_FOR_INTERRUPTS();
		forget_clashes(clashes);
		clashes = NIL;
		XactLockTableWait(wait_for, self->found.leaf->ri_RelationDesc, &tid, XLTW_InsertIndex);
	}
	return clashes;
}

static List *
find_clashes(ApplyTarget *t, const Stored *self)
{
	ResultRelInfo *leaf = self->found.leaf;
	List	   *constraints = target_constraints(t, leaf);
	List	   *clashes = NIL;

	for (int i = 0; i < leaf->ri_NumIndices; i++)
	{
		Relation	index = leaf->ri_IndexRelationDescs[i];
		IndexInfo  *info = leaf->ri_IndexRelationInfo[i];

		if (!list_member_oid(constraints, RelationGetRelid(index)))
			continue;
		/* partitions' indexes are opened without what this needs */
		if (info->ii_Unique && info->ii_UniqueOps == NULL)
		{
			MemoryContext oldcontext = MemoryContextSwitchTo(target_estate(t)->es_query_cxt);

			BuildSpeculativeIndexInfo(index, info);
			MemoryContextSwitchTo(oldcontext);
		}
		clashes = list_concat(clashes, clashes_in(t, self, index, info));
	}
	return clashes;
}

/* --- deciding --- */

/* attribute numbers of the leaf that an index looks at, offset as in a Bitmapset of them */
static Bitmapset *
looked_at(Relation rel, IndexInfo *info)
{
	Bitmapset  *attrs = NULL;
	Bitmapset  *through = NULL;
	int			x = -1;

	for (int i = 0; i < info->ii_NumIndexKeyAttrs; i++)
		if (info->ii_IndexAttrNumbers[i] != 0)
			attrs = bms_add_member(attrs, info->ii_IndexAttrNumbers[i] - FirstLowInvalidHeapAttributeNumber);
	pull_varattnos((Node *) info->ii_Expressions, 1, &attrs);
	pull_varattnos((Node *) info->ii_Predicate, 1, &attrs);

	/* a generated column was written by whoever wrote what it is made of */
	while ((x = bms_next_member(attrs, x)) >= 0)
	{
		AttrNumber	attno = x + FirstLowInvalidHeapAttributeNumber;

		if (attno > 0 && TupleDescAttr(RelationGetDescr(rel), attno - 1)->attgenerated)
			pull_varattnos(build_column_default(rel, attno), 1, &through);
	}
	return bms_add_members(attrs, through);
}

static bool
is_key_id(const FerryTable *table, uint16 id)
{
	for (int k = 0; k < table->nkeys; k++)
		if (table->column_ids[table->key_attnos[k] - 1] == id)
			return true;
	return false;
}

/* when a row took its place in an index: see the top */
static Dot
claim_dot(ApplyTarget *t, const Clash *clash, const RowState *row)
{
	Relation	rel = clash->other.found.leaf->ri_RelationDesc;
	FerryTable *leaf = table_lookup_required(RelationGetRelid(rel));
	Bitmapset  *attrs = looked_at(rel, clash->info);
	Dot			claim = {0, 0};
	int			x = -1;

	while ((x = bms_next_member(attrs, x)) >= 0)
	{
		AttrNumber	attno = x + FirstLowInvalidHeapAttributeNumber;
		uint16		id = attno > 0 ? leaf->column_ids[attno - 1] : 0;
		Dot			d;

		if (id == 0 || is_key_id(target_table(t), id))
			continue;
		d = version_column_dot(&row->version, id);
		if (dot_compare(d, claim) > 0)
			claim = d;
	}
	return claim.hlc == 0 ? row->version.last : claim;
}

/* keys in an order that is the same everywhere: by the bytes of their wire form */
static int
compare_keys(ApplyTarget *t, const RowState *a, const RowState *b)
{
	const FerryTable *table = target_table(t);
	const RowState *rows[2] = {a, b};
	WireWriter	w[2];
	int			order;

	for (int i = 0; i < 2; i++)
	{
		wire_writer_init(&w[i], 64);
		for (int k = 0; k < table->nkeys; k++)
		{
			int			attr = table->key_attnos[k] - 1;
			ValueEncoder e;

			value_encoder_init(&e, TupleDescAttr(RelationGetDescr(target_relation(t)), attr)->atttypid, CurrentMemoryContext);
			value_encode(&w[i], &e, rows[i]->values[attr], false);
		}
	}
	order = memcmp(w[0].data, w[1].data, Min(w[0].len, w[1].len));
	return order != 0 ? order : (int) w[0].len - (int) w[1].len;
}

/* does the row that was there keep the place against self? */
static bool
other_wins(ApplyTarget *t, const Stored *self, const Clash *clash)
{
	const RowState *other = clash->other.state;
	int			order = dot_compare(claim_dot(t, clash, other), claim_dot(t, clash, self->state));

	if (order == 0)
		order = compare_keys(t, other, self->state);
	return order > 0;
}

/* --- acting --- */

static List *
column_names(const Clash *clash)
{
	Relation	rel = clash->other.found.leaf->ri_RelationDesc;
	Bitmapset  *attrs = looked_at(rel, clash->info);
	List	   *names = NIL;
	int			x = -1;

	while ((x = bms_next_member(attrs, x)) >= 0)
	{
		AttrNumber	attno = x + FirstLowInvalidHeapAttributeNumber;

		if (attno > 0)
			names = lappend(names, pstrdup(NameStr(TupleDescAttr(RelationGetDescr(rel), attno - 1)->attname)));
	}
	return names;
}

/* the loser dies by our hand; false if someone changed it meanwhile */
static bool
kill_row(ApplyTarget *t, Stored *self, Clash *clash, bool other_loses, const char *peer)
{
	const FerryTable *table = target_table(t);
	Stored	   *loser = other_loses ? &clash->other : self;
	Version		version;
	Conflict	conflict = {0};

	state_local_delete(table, &loser->state->version, node_stamp(), &version);
	if (!target_delete(t, &loser->found))
		return false;
	tombstone_put(table, tombstone_from_row(table, loser->state, &version), NULL);
	own_write_note(t, loser->state);
	orphan_note(t, loser->state, version.last);

	conflict.kind = CONFLICT_UNIQUE_KEY;
	conflict.winner = other_loses ? WINNER_REMOTE : WINNER_LOCAL;
	conflict.rule = "later_claim";
	conflict.columns = column_names(clash);
	conflict.subject = loser->state;
	conflict.constraint = RelationGetRelationName(clash->index);
	conflict_record(table, target_relation(t), peer, clash->other.state, self->state, &conflict);
	return true;
}

/* merge what the sender holds of all rows concerned; true if that was news */
static bool
ask_sender(ApplyTarget *t, const Stored *self, List *clashes, const char *peer)
{
	bool		news = false;	/* a TRUNCATE is, too: what we found here may be gone */
	ListCell   *lc;
	RowState   *theirs;

	foreach(lc, clashes)
	{
		theirs = fetch_state(t, ((Clash *) lfirst(lc))->other.state, peer, &news);
		if (theirs && merge_row(t, theirs, peer) != APPLY_IGNORED)
			news = true;
	}
	theirs = fetch_state(t, self->state, peer, &news);
	if (theirs && merge_row(t, theirs, peer) != APPLY_IGNORED)
		news = true;
	return news;
}

/* is it the same row as one before it: a clash in two constraints? */
static bool
is_listed_before(List *clashes, ListCell *cell)
{
	Clash	   *clash = lfirst(cell);
	ListCell   *lc;

	foreach(lc, clashes)
	{
		Clash	   *c = lfirst(lc);

		if (lc == cell)
			return false;
		if (ItemPointerEquals(&c->other.found.tid, &clash->other.found.tid))
			return true;
	}
	return false;
}

/* end what self clashes with; returns how many rows died */
static int
end_clashes(ApplyTarget *t, Stored *self, List *clashes, const char *peer)
{
	ListCell   *lc;
	int			died = 0;

	foreach(lc, clashes)
		if (other_wins(t, self, lfirst(lc)))
			return kill_row(t, self, lfirst(lc), false, peer) ? 1 : 0;
	foreach(lc, clashes)
		if (!is_listed_before(clashes, lc))
			died += kill_row(t, self, lfirst(lc), true, peer) ? 1 : 0;
	return died;
}

/* returns how many rows died */
static int
settle_one(ApplyTarget *t, const RowState *key, const char *peer)
{
	bool		asked = false;
	int			died = 0;
	Stored		self;

	while (find_stored(t, key, &self))
	{
		List	   *clashes = find_clashes(t, &self);
		bool		again = false;

		CHECK_FOR_INTERRUPTS();
		if (clashes != NIL)
		{
			again = true;
			if (asked || !ask_sender(t, &self, clashes, peer))
				died += end_clashes(t, &self, clashes, peer);
			asked = true;
		}
		forget_clashes(clashes);
		forget_stored(&self);
		if (!again)
			break;
	}
	return died;
}

int
unique_settle(ApplyTarget *t, const char *peer)
{
	MemoryContext oldcontext = CurrentMemoryContext;
	MemoryContext cxt;
	RowState   *key;
	int			died = 0;

	if (!target_has_suspects(t))
		return 0;
	cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry clash", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(cxt);
	while ((key = target_take_suspect(t)) != NULL)
	{
		died += settle_one(t, key, peer);
		MemoryContextReset(cxt);
		ResetPerTupleExprContext(target_estate(t));
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(cxt);
	return died;
}
