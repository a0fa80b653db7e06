/*-------------------------------------------------------------------------
 *
 * tombstone.c
 *		Where dead rows live: one table ferry.tombstone_N per registered table.
 *
 * Found as rows are (see apply/target.c): under a fresh MVCC snapshot, which
 * misses nothing that stands.  Written with the unique index as arbiter: who
 * inserts a key that another transaction is inserting waits for it, then merges
 * with what it finds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "parser/parse_relation.h"
#include "storage/bufmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "node/deaths.h"
#include "state/codec.h"
#include "state/key_hash.h"
#include "state/merge_values.h"
#include "state/tombstone.h"

bool
tombstone_any(const FerryTable *table)
{
	Relation	rel = table_open(table->tombid, AccessShareLock);
	bool		any = RelationGetNumberOfBlocks(rel) > 0;

	table_close(rel, NoLock);
	return any;
}

static uint64 written_here = 0;

uint64
tombstone_written_here(void)
{
	return written_here;
}

/* --- image --- */

static Datum
make_image(const FerryTable *table, const RowState *dead)
{
	Relation	rel = table_open(table->relid, NoLock);
	WireWriter	w;
	bytea	   *image;

	wire_writer_init(&w, 256);
	for (int c = 0; c < table->nplain; c++)
	{
		int			i = table->plain_attnos[c] - 1;
		ValueEncoder e;

		if (dead->kinds[i] == VALUE_ABSENT)
			continue;
		wire_put_varint(&w, table->plain_ids[c]);
		if (dead->kinds[i] == VALUE_UNCHANGED)
		{
			wire_put_value(&w, WIRE_UNCHANGED, NULL, 0);
			continue;
		}
		value_encoder_init(&e, TupleDescAttr(RelationGetDescr(rel), i)->atttypid, CurrentMemoryContext);
		value_encode(&w, &e, dead->values[i], dead->nulls[i]);
	}
	table_close(rel, NoLock);
	image = palloc(VARHDRSZ + w.len);
	SET_VARSIZE(image, VARHDRSZ + w.len);
	memcpy(VARDATA(image), w.data, w.len);
	return PointerGetDatum(image);
}

static void
read_image(const FerryTable *table, RowState *state, Datum datum)
{
	struct varlena *image = PG_DETOAST_DATUM_PACKED(datum);
	Relation	rel = table_open(table->relid, NoLock);
	WireReader	r;

	wire_reader_init(&r, VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image));
	while (!wire_at_end(&r))
	{
		uint64		id = wire_get_varint(&r);
		WireValue	v;
		AttrNumber	attno;
		Form_pg_attribute attr;
		ValueDecoder d;

		wire_get_value(&r, &v);
		if (r.error || id == 0 || id > (uint64) table->nids)
			continue;
		attno = table->id_attnos[id - 1];
		if (attno == 0 || v.kind == WIRE_ABSENT)
			continue;			/* a column that was dropped since */
		attr = TupleDescAttr(RelationGetDescr(rel), attno - 1);
		if (v.kind == WIRE_UNCHANGED)
		{
			state->kinds[attno - 1] = VALUE_UNCHANGED;
			continue;
		}
		state->kinds[attno - 1] = VALUE_HERE;
		state->nulls[attno - 1] = (v.kind == WIRE_NULL);
		if (v.kind == WIRE_NULL)
			continue;
		value_decoder_init_own(&d, attr->atttypid, attr->atttypmod, CurrentMemoryContext);
		state->values[attno - 1] = value_decode(&d, &v);
	}
	table_close(rel, NoLock);
}

RowState *
tombstone_decode(const FerryTable *table, Datum *values, bool *nulls)
{
	RowState   *state = state_create(table);

	for (int k = 0; k < table->nkeys; k++)
	{
		int			i = table->key_attnos[k] - 1;

		state->values[i] = values[k];
		state->nulls[i] = false;
		state->kinds[i] = VALUE_HERE;
	}
	state_version_read(values[table->nkeys], &state->version);
	if (!nulls[table->nkeys + 1])
		read_image(table, state, values[table->nkeys + 1]);
	return state;
}

RowState *
tombstone_from_row(const FerryTable *table, const RowState *row, const Version *version)
{
	RowState   *dead = state_create(table);

	memcpy(dead->values, row->values, sizeof(Datum) * row->natts);
	memcpy(dead->nulls, row->nulls, sizeof(bool) * row->natts);
	memcpy(dead->kinds, row->kinds, sizeof(uint8) * row->natts);
	dead->version = *version;
	dead->alive = false;
	return dead;
}

/* --- finding --- */

RowState *
tombstone_find(const FerryTable *table, const Datum *key_values, ItemPointer tid)
{
	Relation	rel = table_open(table->tombid, RowExclusiveLock);
	Relation	index = index_open(table->tomb_index, RowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData keys[INDEX_MAX_KEYS];
	IndexScanDesc scan;
	RowState   *state = NULL;

	for (int k = 0; k < table->nkeys; k++)
	{
		Oid			op = get_opfamily_member(index->rd_opfamily[k], index->rd_opcintype[k],
											 index->rd_opcintype[k], BTEqualStrategyNumber);

		ScanKeyInit(&keys[k], k + 1, BTEqualStrategyNumber, get_opcode(op), key_values[k]);
		keys[k].sk_collation = index->rd_indcollation[k];
	}
	scan = compat_index_beginscan(rel, index, snapshot, table->nkeys);
	index_rescan(scan, keys, table->nkeys, NULL, 0);
	if (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		Datum	   *values;
		bool	   *nulls;
		TupleDesc	desc = RelationGetDescr(rel);
		HeapTuple	tuple = ExecCopySlotHeapTuple(slot);

		*tid = slot->tts_tid;
		values = palloc(sizeof(Datum) * desc->natts);
		nulls = palloc(sizeof(bool) * desc->natts);
		heap_deform_tuple(tuple, desc, values, nulls);
		state = tombstone_decode(table, values, nulls);
	}
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return state;
}

/* --- writing --- */

/* the open tombstone table, for one write */
typedef struct TombWriter
{
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *rri;
	TupleTableSlot *slot;
} TombWriter;

static void
open_writer(TombWriter *w, const FerryTable *table)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	w->rel = table_open(table->tombid, RowExclusiveLock);
	w->estate = CreateExecutorState();
	rte->rtekind = RTE_RELATION;
	rte->relid = table->tombid;
	rte->relkind = RELKIND_RELATION;
	rte->rellockmode = RowExclusiveLock;
	compat_init_range_table(w->estate, rte);
	w->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(w->rri, w->rel, 1, NULL, 0);
	ExecOpenIndices(w->rri, true);
	w->slot = MakeSingleTupleTableSlot(RelationGetDescr(w->rel), &TTSOpsVirtual);
}

static void
close_writer(TombWriter *w)
{
	ExecDropSingleTupleTableSlot(w->slot);
	ExecCloseIndices(w->rri);
	FreeExecutorState(w->estate);
	table_close(w->rel, NoLock);
}

static void
fill_slot(TupleTableSlot *slot, const FerryTable *table, const RowState *dead)
{
	ExecClearTuple(slot);
	for (int k = 0; k < table->nkeys; k++)
	{
		slot->tts_values[k] = dead->values[table->key_attnos[k] - 1];
		slot->tts_isnull[k] = false;
	}
	slot->tts_values[table->nkeys] = state_version_datum(&dead->version);
	slot->tts_isnull[table->nkeys] = false;
	slot->tts_isnull[table->nkeys + 1] = (table->mode == MERGE_MODE_ROW);
	if (table->mode != MERGE_MODE_ROW)
		slot->tts_values[table->nkeys + 1] = make_image(table, dead);
	ExecStoreVirtualTuple(slot);
}

static bool
replace(TombWriter *w, ItemPointer tid)
{
	TM_FailureData tmfd;
	LockTupleMode lockmode;
	CompatUpdateIndexes update_indexes;
	TM_Result	result = table_tuple_update(w->rel, tid, w->slot, GetCurrentCommandId(true),
											InvalidSnapshot, InvalidSnapshot, true, &tmfd,
											&lockmode, &update_indexes);

	if (result == TM_Updated || result == TM_Deleted)
		return false;
	if (result != TM_Ok)
		elog(ERROR, "unexpected result %d of writing a tombstone", result);
	if (compat_wants_index_update(update_indexes))
		list_free(compat_insert_index_tuples(w->rri, w->slot, w->estate, true, update_indexes));
	return true;
}

/* merge what stands into dead; a tombstone of the same key by someone else */
static const RowState *
merge_dead(const FerryTable *table, const RowState *here, const RowState *dead)
{
	MergePlan	plan;
	Relation	rel;
	RowState   *out;

	state_merge_plan(table, here, dead, &plan);
	if (plan.outcome == MERGE_IGNORED)
		return here;
	rel = table_open(table->relid, NoLock);
	out = state_merge(table, rel, &plan, here, dead);
	out->alive = false;
	table_close(rel, NoLock);
	return out;
}

static uint32
hash_of_slot(const FerryTable *table, TupleTableSlot *slot)
{
	AttrNumber	attnos[INDEX_MAX_KEYS];

	for (int k = 0; k < table->nkeys; k++)
		attnos[k] = k + 1;
	return key_hash(slot->tts_tupleDescriptor, attnos, table->nkeys, slot->tts_values);
}

void
tombstone_put(const FerryTable *table, const RowState *dead, ItemPointer tid)
{
	TombWriter	w;
	bool		done = false;

	written_here++;
	open_writer(&w, table);
	fill_slot(w.slot, table, dead);
	if (tid && ItemPointerIsValid(tid))
		done = replace(&w, tid);
	while (!done)
	{
		ItemPointerData conflict;
		Datum		key[INDEX_MAX_KEYS];
		RowState   *here;

		CHECK_FOR_INTERRUPTS();
		if (compat_check_index_constraints(w.rri, w.slot, w.estate, &conflict,
										   list_make1_oid(table->tomb_index)))
		{
			table_tuple_insert(w.rel, w.slot, GetCurrentCommandId(true), 0, NULL);
			list_free(compat_insert_index_tuples(w.rri, w.slot, w.estate, false,
												 COMPAT_UPDATE_ALL_INDEXES));
			break;
		}
		for (int k = 0; k < table->nkeys; k++)
			key[k] = dead->values[table->key_attnos[k] - 1];
		here = tombstone_find(table, key, &conflict);
		if (here == NULL)
			continue;
		dead = merge_dead(table, here, dead);
		fill_slot(w.slot, table, dead);
		done = replace(&w, &conflict);
	}
	deaths_report(table->tombid, hash_of_slot(table, w.slot), &w.slot->tts_tid);
	close_writer(&w);
	CommandCounterIncrement();
}

void
tombstone_remove(const FerryTable *table, ItemPointer tid)
{
	Relation	rel = table_open(table->tombid, RowExclusiveLock);
	TM_FailureData tmfd;

	/* gone or changed by someone else: whoever changed it sees the row too */
	(void) compat_tuple_delete(rel, tid, GetCurrentCommandId(true), &tmfd);
	table_close(rel, NoLock);
	CommandCounterIncrement();
}
