/*-------------------------------------------------------------------------
 *
 * side.c
 *		What this node holds of one table: fingerprints, items, states.
 *
 * A scan reads the leaves of the table and its tombstones under one snapshot
 * through a small ring of buffers, as VACUUM does, and holds back the removal of
 * dead rows for as long as it takes.  It costs one hash of the key and one of
 * the state per row.
 *
 * Range tombstones (TRUNCATE) are items beside the rows, so that one that a side
 * lacks shows like any other difference.  A row that stands here though a range
 * that is in force here covers it is no state at all: it is not told to the other
 * side but kept for who may bury it (undead.c).
 *
 * Which keys lie in a leaf is known only to who hashes them, so that listing a
 * leaf means reading the table again.  That happens once per round of at most
 * VERIFY_MAX_ITEMS items, and only where something differs; the second
 * scan remembers the keys of what it lists, so that states are then found by the
 * primary key.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "apply/merge_row.h"
#include "node/holding.h"
#include "node/horizon.h"
#include "node/node.h"
#include "state/codec.h"
#include "state/range_tombstone.h"
#include "verify/known.h"
#include "verify/side.h"
#include "verify/pace.h"

/* side_root() is worth its while if no more than this part of the table is to be read */
#define ROOT_READS_AT_MOST 4

/* called for every item of a scan, in a context that is reset now and then; range is NULL for rows and tombstones */
typedef void (*ItemCallback) (Side *h, VerifyDigest *d, const Digest *digest, const Version *range, void *arg);

Side *
side_create(MemoryContext parent, Oid relid, const VerifyShape *shape, const NodeVector *settled,
			int depth, bool paced, NodeId asker)
{
	MemoryContext cxt = AllocSetContextCreate(parent, "ferry verify", ALLOCSET_DEFAULT_SIZES);
	Side    *h = MemoryContextAllocZero(cxt, sizeof(Side));
	MemoryContext oldcontext = MemoryContextSwitchTo(cxt);

	h->cxt = cxt;
	h->relid = relid;
	h->paced = paced;
	h->asker = asker;
	vector_copy(&h->settled, settled);
	h->shape.key = shape->key;
	h->shape.ncolumns = shape->ncolumns;
	h->shape.columns = palloc(sizeof(char *) * Max(shape->ncolumns, 1));
	h->shape.with_value = palloc(sizeof(bool) * Max(shape->ncolumns, 1));
	for (int c = 0; c < shape->ncolumns; c++)
	{
		h->shape.columns[c] = pstrdup(shape->columns[c]);
		h->shape.with_value[c] = shape->with_value[c];
	}
	h->tree.depth = depth;
	h->tree.nodes = MemoryContextAllocHuge(cxt, sizeof(FpNode) * fp_tree_nodes(depth));
	h->items_cxt = AllocSetContextCreate(cxt, "ferry verify items", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(oldcontext);
	return h;
}

void
side_free(Side *h)
{
	MemoryContextDelete(h->cxt);
}

/* --- scanning --- */

/* is a tombstone with this version one that either side may have removed by now? */
static bool
is_settled(const Side *h, Datum version)
{
	struct varlena *bytes = PG_DETOAST_DATUM_PACKED(version);
	Dot			last = version_get_last((const uint8_t *) VARDATA_ANY(bytes));
	Version		v;

	if (vector_get(&h->settled, last.node) < last.hlc)
		return false;
	if (VARSIZE_ANY_EXHDR(bytes) == VERSION_SIMPLE_BYTES)
		return true;
	state_version_read(PointerGetDatum(bytes), &v);
	return vector_covers(&h->settled, &v);
}

/* a pass over all that the table holds */
typedef struct Pass
{
	Side	   *h;
	Snapshot	snapshot;
	ItemCallback callback;
	void	   *arg;
	bool		learn;			/* remember what the parts of relations come to */
	FpNode	   *skip;			/* to this, what is known is added instead of being read; NULL: all is read */
} Pass;

/* some blocks of a relation, all if InvalidBlockNumber; known may be NULL */
static void
scan_blocks(Pass *pass, Relation scanned, const FerryTable *table, bool is_tombs, VerifyDigest *d,
			BlockNumber start, BlockNumber nblocks, Known *known, MemoryContext row_cxt)
{
	Side	   *h = pass->h;
	TableScanDesc scan = table_beginscan_strat(scanned, pass->snapshot, 0, NULL, true, false);
	TupleTableSlot *slot = table_slot_create(scanned, NULL);
	MemoryContext oldcontext = MemoryContextSwitchTo(row_cxt);
	BlockNumber block = InvalidBlockNumber;
	KnownPart  *part = NULL;

	if (nblocks != InvalidBlockNumber)
		heap_setscanlimits(scan, start, nblocks);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Digest		digest;

		if (ItemPointerGetBlockNumber(&slot->tts_tid) != block)
		{
			block = ItemPointerGetBlockNumber(&slot->tts_tid);
			part = known ? known_part(known, block) : NULL;
			MemoryContextReset(row_cxt);
			pace_block(h->paced);
		}
		slot_getallattrs(slot);
		if (!is_tombs)
			digest_row(d, slot->tts_values, slot->tts_isnull, &digest);
		else if (!is_settled(h, slot->tts_values[table->nkeys]))
			digest_tombstone(d, slot->tts_values, &digest);
		else
			continue;
		if (part)
			fp_node_add(&part->sum, &digest.item);
		pass->callback(h, d, &digest, NULL, pass->arg);
		h->rows++;
	}
	MemoryContextSwitchTo(oldcontext);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
}

/* the parts of a relation that are not known; of the others, what is */
static void
scan_unknown(Pass *pass, Relation rel, const FerryTable *table, VerifyDigest *d, Known *known, MemoryContext row_cxt)
{
	for (uint32 p = 0; p < known->nparts; p++)
	{
		BlockNumber start = p * KNOWN_PART_BLOCKS;
		KnownPart  *part = &known->parts[p];

		CHECK_FOR_INTERRUPTS();
		if (!part->is_known)
		{
			scan_blocks(pass, rel, table, false, d, start, Min(known->nblocks - start, KNOWN_PART_BLOCKS), known, row_cxt);
			continue;
		}
		fp_node_join(pass->skip, &part->sum);
		pass->h->rows += part->sum.count;
		pass->h->rows_known += part->sum.count;
	}
}

/* one leaf of the table, or its tombstones (tombid valid: then relid is the root) */
static void
scan_relation(Pass *pass, Oid relid, Oid tombid)
{
	Side	   *h = pass->h;
	Relation	rel = table_open(relid, AccessShareLock);
	Relation	tombs = OidIsValid(tombid) ? table_open(tombid, AccessShareLock) : NULL;
	FerryTable *table = table_lookup_required(relid);
	MemoryContext scan_cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry verify scan", ALLOCSET_DEFAULT_SIZES);
	MemoryContext row_cxt = AllocSetContextCreate(scan_cxt, "ferry verify row", ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(scan_cxt);
	VerifyDigest *d = digest_create(&h->shape, table, rel, scan_cxt);
	Known	   *known = pass->learn && !tombs ? known_open(rel, h->asker, d) : NULL;

	if (known && pass->skip)
		scan_unknown(pass, rel, table, d, known, row_cxt);
	else
	{
		if (known)
			known_forget(known);
		scan_blocks(pass, tombs ? tombs : rel, table, tombs != NULL, d, 0, InvalidBlockNumber, known, row_cxt);
	}
	if (known)
		known_record(known, rel);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(scan_cxt);
	if (tombs)
		table_close(tombs, NoLock);
	table_close(rel, NoLock);
}

static void
scan_ranges(Side *h, ItemCallback callback, void *arg)
{
	const RangeList *list = ranges_of(h->relid);

	for (int i = 0; i < list->n; i++)
	{
		Digest		digest;

		if (vector_covers(&h->settled, &list->ranges[i]))
			continue;
		digest_range(&h->shape.key, &list->ranges[i], &digest);
		callback(h, NULL, &digest, &list->ranges[i], arg);
	}
}

static List *
leaves_of(Oid relid)
{
	List	   *leaves = NIL;
	ListCell   *lc;

	LockRelationOid(relid, AccessShareLock);
	foreach(lc, find_all_inheritors(relid, AccessShareLock, NULL))
	{
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_RELATION)
			leaves = lappend_oid(leaves, lfirst_oid(lc));
	}
	return leaves;
}

static void
scan_table(Pass *pass)
{
	Side	   *h = pass->h;
	List	   *leaves = leaves_of(h->relid);
	ListCell   *lc;

	h->rows = h->rows_known = 0;
	pass->snapshot = RegisterSnapshot(GetLatestSnapshot());
	foreach(lc, leaves)
		scan_relation(pass, lfirst_oid(lc), InvalidOid);
	scan_relation(pass, h->relid, table_lookup_required(h->relid)->tombid);
	scan_ranges(h, pass->callback, pass->arg);
	UnregisterSnapshot(pass->snapshot);
}

static void
add_to_tree(Side *h, VerifyDigest *d, const Digest *digest, const Version *range, void *arg)
{
	fp_tree_add(&h->tree, digest->key, &digest->item);
}

void
side_scan(Side *h)
{
	Pass		pass = {.h = h,.callback = add_to_tree,.learn = h->asker != NODE_ID_NONE};

	memset(h->tree.nodes, 0, sizeof(FpNode) * fp_tree_nodes(h->tree.depth));
	scan_table(&pass);
	fp_tree_finish(&h->tree);
}

/* --- what is known --- */

bool
side_is_mostly_known(Side *h)
{
	List	   *leaves = leaves_of(h->relid);
	ListCell   *lc;
	uint64		blocks = 0;
	uint64		known_blocks = 0;

	foreach(lc, leaves)
	{
		Relation	rel = table_open(lfirst_oid(lc), NoLock);
		VerifyDigest *d = digest_create(&h->shape, table_lookup_required(lfirst_oid(lc)), rel, CurrentMemoryContext);
		Known	   *known = known_open(rel, h->asker, d);

		blocks += known ? known->nblocks : RelationGetNumberOfBlocks(rel);
		known_blocks += known ? known->known_blocks : 0;
		table_close(rel, NoLock);
	}
	return known_blocks > 0 && (blocks - known_blocks) * ROOT_READS_AT_MOST <= blocks;
}

static void
add_to_root(Side *h, VerifyDigest *d, const Digest *digest, const Version *range, void *arg)
{
	fp_node_add(arg, &digest->item);
}

void
side_root(Side *h, FpNode *root)
{
	Pass		pass = {.h = h,.callback = add_to_root,.arg = root,.learn = true,.skip = root};

	memset(root, 0, sizeof(*root));
	scan_table(&pass);
}

/* --- items --- */

typedef struct ListState
{
	uint8	   *wanted;			/* a bit per leaf */
	size_t		max;
	size_t		room;
	int			nkeys;
} ListState;

static void
remember_key(Side *h, VerifyDigest *d, uint64 hash, const Version *range)
{
	bool		found;
	KeyEntry   *e = hash_search(h->keys, &hash, HASH_ENTER, &found);
	WireWriter	w;

	if (found)
		return;
	wire_writer_init(&w, 64);
	e->is_range = range != NULL;
	if (range)
	{
		wire_reserve(&w, version_encoded_bytes(range));
		w.len = version_encode(range, w.data);
	}
	else
		digest_key_write(d, digest_key_values(d), &w);
	e->len = w.len;
	e->bytes = MemoryContextAlloc(h->items_cxt, w.len);
	memcpy(e->bytes, w.data, w.len);
}

static void
add_item(Side *h, VerifyDigest *d, const Digest *digest, const Version *range, void *arg)
{
	ListState  *state = arg;
	uint32		leaf = fp_leaf(h->tree.depth, digest->key);

	if (!(state->wanted[leaf / 8] & (1 << (leaf % 8))))
		return;
	if (h->nitems >= state->max)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("table \"%s\" changes too much to be verified now", get_rel_name(h->relid)),
				 errhint("It is verified again in the next round.")));
	if (h->nitems >= state->room)
	{
		state->room *= 2;
		h->items = repalloc_huge(h->items, sizeof(FpItem) * state->room);
	}
	h->items[h->nitems].key = digest->key;
	h->items[h->nitems++].state = digest->item.hi;
	remember_key(h, d, digest->key, range);
}

void
side_list(Side *h, const uint32_t *leaves, size_t nleaves, size_t max)
{
	HASHCTL		ctl = {0};
	ListState	state;
	Pass		pass = {.h = h,.callback = add_item,.arg = &state};

	MemoryContextReset(h->items_cxt);
	h->undead = NIL;
	ctl.keysize = sizeof(uint64);
	ctl.entrysize = sizeof(KeyEntry);
	ctl.hcxt = h->items_cxt;
	h->keys = hash_create("ferry verify keys", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	state.room = 1024;
	state.max = max;
	h->items = MemoryContextAlloc(h->items_cxt, sizeof(FpItem) * state.room);
	h->nitems = 0;
	state.wanted = MemoryContextAllocZero(h->items_cxt, fp_level_width(h->tree.depth) / 8);
	for (size_t i = 0; i < nleaves; i++)
		state.wanted[leaves[i] / 8] |= 1 << (leaves[i] % 8);
	scan_table(&pass);
	fp_items_sort(h->items, h->nitems);
}

/* --- states --- */

static void
put_state(WireWriter *w, RelationEncoder *e, const RowState *s)
{
	struct varlena *version = PG_DETOAST_DATUM_PACKED(state_version_datum(&s->version));

	wire_put_row_head(w, s->alive, e->wire.id, VARDATA_ANY(version), VARSIZE_ANY_EXHDR(version), e->wire.ncols);
	for (int c = 0; c < e->wire.ncols; c++)
	{
		int			i = e->attnos[c] - 1;

		if (s->kinds[i] == VALUE_HERE)
			value_encode(w, &e->values[c], s->values[i], s->nulls[i]);
		else
			wire_put_value(w, s->kinds[i] == VALUE_ABSENT ? WIRE_ABSENT : WIRE_UNCHANGED, NULL, 0);
	}
}

/* what we hold of a key; NULL: nothing, or a row that should not stand */
static RowState *
state_of(Side *h, ApplyTarget *t, KeyEntry *entry)
{
	Relation	rel = target_relation(t);
	MemoryContext oldcontext;
	WireReader	r;
	RowState   *state;

	wire_reader_init(&r, entry->bytes, entry->len);
	state = merge_row_state(t, digest_key_read(target_table(t), rel, &r));
	if (state == NULL || !state->alive || !ranges_cover(ranges_of(h->relid), &state->version))
		return state;
	oldcontext = MemoryContextSwitchTo(h->items_cxt);
	h->undead = lappend(h->undead, entry);
	MemoryContextSwitchTo(oldcontext);
	return NULL;
}

/* ranges before rows: to merge one takes a lock on the table, which nobody should want who has written rows */
static void
put_ranges(Side *h, RelationEncoder *e, const uint64 *keys, size_t nkeys, WireWriter *frame)
{
	for (size_t i = 0; i < nkeys; i++)
	{
		KeyEntry   *entry = hash_search(h->keys, &keys[i], HASH_FIND, NULL);

		if (entry && entry->is_range)
			wire_put_range(frame, e->wire.id, entry->bytes, entry->len);
	}
}

size_t
side_states(Side *h, const uint64 *keys, size_t nkeys, WireWriter *frame)
{
	Relation	rel = table_open(h->relid, RowExclusiveLock);
	FerryTable *table = table_lookup_required(h->relid);
	ApplyTarget *t = target_open(rel, table);
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry verify states", ALLOCSET_DEFAULT_SIZES);
	RelationEncoder *e = relation_encoder_create(target_table(t), rel, cxt);
	MemoryContext row_cxt = AllocSetContextCreate(cxt, "ferry verify state", ALLOCSET_DEFAULT_SIZES);
	size_t		i = 0;
	uint32		generation = 0;
	bool		said = false;
	NodeVector	held;

	/* before the first is read: what one reads later includes it */
	holding_promised(&held);
	wire_put_holds(frame, node_id(), &held);
	wire_put_relation(frame, &e->wire);
	if (h->keys)
		put_ranges(h, e, keys, nkeys, frame);
	for (; i < nkeys && frame->len < VERIFY_STATES_BYTES; i++)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(row_cxt);
		KeyEntry   *entry = h->keys ? hash_search(h->keys, &keys[i], HASH_FIND, NULL) : NULL;
		RowState   *state;

		CHECK_FOR_INTERRUPTS();
		state = entry && !entry->is_range ? state_of(h, t, entry) : NULL;
		if (state)
		{
			/* the horizon stands before what is read under it */
			if (version_needs_horizon(&state->version) && (!said || horizon_generation() != generation))
			{
				generation = horizon_generation();
				wire_put_horizon(frame, state->version.horizon);
				said = true;
			}
			put_state(frame, e, state);
		}
		MemoryContextSwitchTo(oldcontext);
		MemoryContextReset(row_cxt);
	}
	target_close(t);
	MemoryContextDelete(cxt);
	table_close(rel, NoLock);
	return i;
}
