/*-------------------------------------------------------------------------
 *
 * tombstone.c
 *		Where dead rows live: one table ferry.tombstone_N per registered table.
 *
 * Found as rows are (key_lookup.c): under a fresh MVCC snapshot, which misses
 * nothing that stands.  Written with the unique index as arbiter: a tombstone goes
 * in, and the index says whether its key may be there already.  That is seldom so;
 * then ours is taken back, and we wait for whoever is writing the other one and
 * merge with what it left.
 *
 * A Tombstones keeps table, index and scan open, for those who bury many: links,
 * statements.  They may let tombstones wait, to be written page by page
 * (tombstone_batch.c); whoever looks into the table has them written first.
 * The functions that take a FerryTable open one for a single step.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "parser/parse_relation.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "compat.h"
#include "node/deaths.h"
#include "node/horizon.h"
#include "state/codec.h"
#include "state/key_hash.h"
#include "state/key_lookup.h"
#include "state/merge_values.h"
#include "state/tombstone.h"
#include "state/tombstone_batch.h"

struct Tombstones
{
	const FerryTable *table;
	MemoryContext cxt;			/* lives as long as this */
	Relation	rel;			/* NULL until first used; so are those below */
	EState	   *estate;
	ResultRelInfo *rri;
	List	   *arbiter;		/* OID of the key's index */
	TupleTableSlot *slot;		/* what is to be written */
	KeyLookup	lookup;
	ValueEncoder *encoders;		/* [c] as table->plain_attnos */
	TombBatch  *batch;			/* what waits to be written; NULL: nothing did yet */
};

/* --- opening --- */

Tombstones *
tombstones_open(const FerryTable *table)
{
	Tombstones *ts = palloc0(sizeof(Tombstones));

	ts->table = table;
	ts->cxt = CurrentMemoryContext;
	return ts;
}

static void
open_table(Tombstones *ts)
{
	if (ts->rel == NULL)
		ts->rel = table_open(ts->table->tombid, RowExclusiveLock);
}

/* all that finding and writing need */
static void
open_all(Tombstones *ts)
{
	MemoryContext oldcontext;
	RangeTblEntry *rte;

	if (ts->estate)
		return;
	open_table(ts);
	oldcontext = MemoryContextSwitchTo(ts->cxt);
	ts->estate = CreateExecutorState();
	MemoryContextSwitchTo(ts->estate->es_query_cxt);
	rte = makeNode(RangeTblEntry);
	rte->rtekind = RTE_RELATION;
	rte->relid = ts->table->tombid;
	rte->relkind = RELKIND_RELATION;
	rte->rellockmode = RowExclusiveLock;
	compat_init_range_table(ts->estate, rte);
	ts->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(ts->rri, ts->rel, 1, NULL, 0);
	ExecOpenIndices(ts->rri, true);
	ts->slot = ExecInitExtraTupleSlot(ts->estate, RelationGetDescr(ts->rel), &TTSOpsVirtual);
	ts->arbiter = list_make1_oid(ts->table->tomb_index);
	for (int i = 0; i < ts->rri->ri_NumIndices; i++)
	{
		if (RelationGetRelid(ts->rri->ri_IndexRelationDescs[i]) == ts->table->tomb_index)
			key_lookup_init(&ts->lookup, ts->rel, ts->rri->ri_IndexRelationDescs[i],
							table_slot_create(ts->rel, &ts->estate->es_tupleTable));
	}
	MemoryContextSwitchTo(oldcontext);
	if (ts->lookup.rel == NULL)
		elog(ERROR, "index %u is not one of table \"%s\"",
			 ts->table->tomb_index, RelationGetRelationName(ts->rel));
}

void
tombstones_flush(Tombstones *ts)
{
	if (ts->batch)
		tomb_batch_flush(ts->batch);
}

void
tombstones_close(Tombstones *ts)
{
	tombstones_flush(ts);
	if (ts->estate)
	{
		key_lookup_end(&ts->lookup);
		ExecCloseIndices(ts->rri);
		ExecResetTupleTable(ts->estate->es_tupleTable, false);
		FreeExecutorState(ts->estate);
	}
	if (ts->rel)
		table_close(ts->rel, NoLock);
	pfree(ts);
}

bool
tombstones_any(Tombstones *ts)
{
	tomb_batch_flush_table(ts->table->tombid);
	open_table(ts);
	return RelationGetNumberOfBlocks(ts->rel) > 0;
}

static uint64 written_here = 0;

uint64
tombstone_written_here(void)
{
	return written_here;
}

/* --- image --- */

static void
make_encoders(Tombstones *ts)
{
	const FerryTable *table = ts->table;
	Relation	rel = table_open(table->relid, NoLock);

	ts->encoders = MemoryContextAlloc(ts->estate->es_query_cxt, sizeof(ValueEncoder) * Max(table->nplain, 1));
	for (int c = 0; c < table->nplain; c++)
		value_encoder_init(&ts->encoders[c],
						   TupleDescAttr(RelationGetDescr(rel), table->plain_attnos[c] - 1)->atttypid,
						   ts->estate->es_query_cxt);
	table_close(rel, NoLock);
}

static Datum
make_image(Tombstones *ts, const RowState *dead)
{
	const FerryTable *table = ts->table;
	WireWriter	w;

	if (ts->encoders == NULL)
		make_encoders(ts);
	wire_writer_init(&w, 256);
	for (int c = 0; c < table->nplain; c++)
	{
		int			i = table->plain_attnos[c] - 1;

		if (dead->kinds[i] == VALUE_ABSENT)
			continue;
		wire_put_varint(&w, table->plain_ids[c]);
		wire_put_varint(&w, ts->encoders[c].typid);
		if (dead->kinds[i] == VALUE_UNCHANGED)
		{
			wire_put_value(&w, WIRE_UNCHANGED, NULL, 0);
			continue;
		}
		value_encode(&w, &ts->encoders[c], dead->values[i], dead->nulls[i]);
	}
	return PointerGetDatum(bytea_of(w.data, w.len));
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
		uint64		typid = wire_get_varint(&r);
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
		if (!value_decoder_init_former(&d, (Oid) typid, attr->atttypid, attr->atttypmod, CurrentMemoryContext))
		{
			state->kinds[attno - 1] = VALUE_ABSENT;
			continue;
		}
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
	state->version.horizon = horizon_current();
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
tombstones_find(Tombstones *ts, const Datum *key_values, ItemPointer tid)
{
	return tombstones_find_as_of(ts, key_values, NULL, tid);
}

RowState *
tombstones_find_as_of(Tombstones *ts, const Datum *key_values, Snapshot snapshot, ItemPointer tid)
{
	TupleDesc	desc;
	HeapTuple	tuple;
	Datum	   *values;
	bool	   *nulls;

	tomb_batch_flush_table(ts->table->tombid);
	open_all(ts);
	if (!(snapshot ? key_lookup_find_as_of(&ts->lookup, key_values, snapshot) :
		  key_lookup_find(&ts->lookup, key_values)))
		return NULL;
	*tid = ts->lookup.slot->tts_tid;
	desc = RelationGetDescr(ts->rel);
	tuple = ExecCopySlotHeapTuple(ts->lookup.slot);
	values = palloc(sizeof(Datum) * desc->natts);
	nulls = palloc(sizeof(bool) * desc->natts);
	heap_deform_tuple(tuple, desc, values, nulls);
	return tombstone_decode(ts->table, values, nulls);
}

bool
tombstones_key_is_free(Tombstones *ts, const Datum *key_values)
{
	ItemPointerData conflict;

	tomb_batch_flush_table(ts->table->tombid);
	open_all(ts);
	ExecClearTuple(ts->slot);
	memcpy(ts->slot->tts_values, key_values, sizeof(Datum) * ts->table->nkeys);
	memset(ts->slot->tts_isnull, true, sizeof(bool) * ts->slot->tts_tupleDescriptor->natts);
	memset(ts->slot->tts_isnull, false, sizeof(bool) * ts->table->nkeys);
	ExecStoreVirtualTuple(ts->slot);
	return compat_check_index_constraints(ts->rri, ts->slot, ts->estate, &conflict, ts->arbiter);
}

/* --- writing --- */

static void
fill_slot(Tombstones *ts, const RowState *dead)
{
	const FerryTable *table = ts->table;
	TupleTableSlot *slot = ts->slot;

	ExecClearTuple(slot);
	for (int k = 0; k < table->nkeys; k++)
	{
		slot->tts_values[k] = dead->values[table->key_attnos[k] - 1];
		slot->tts_isnull[k] = false;
	}
	slot->tts_values[table->nkeys] = state_version_datum(&dead->version);
	slot->tts_isnull[table->nkeys] = false;
	slot->tts_isnull[table->nkeys + 1] = !table_keeps_image(table);
	if (table_keeps_image(table))
		slot->tts_values[table->nkeys + 1] = make_image(ts, dead);
	ExecStoreVirtualTuple(slot);
}

/* write the slot over the tombstone at tid; false if someone else was faster */
static bool
replace(Tombstones *ts, ItemPointer tid)
{
	TM_FailureData tmfd;
	LockTupleMode lockmode;
	CompatUpdateIndexes update_indexes;
	TM_Result	result = table_tuple_update(ts->rel, tid, ts->slot, GetCurrentCommandId(true),
											InvalidSnapshot, InvalidSnapshot, true, &tmfd,
											&lockmode, &update_indexes);

	if (result == TM_Updated || result == TM_Deleted)
		return false;
	if (result != TM_Ok)
		elog(ERROR, "unexpected result %d of writing a tombstone", result);
	if (compat_wants_index_update(update_indexes))
		list_free(compat_insert_index_tuples(ts->rri, ts->slot, ts->estate, true, update_indexes));
	return true;
}

/* write the slot; false, and nothing is left of it, if its key may be there already */
static bool
insert(Tombstones *ts)
{
	TM_FailureData tmfd;
	ItemPointerData tid;

	table_tuple_insert(ts->rel, ts->slot, GetCurrentCommandId(true), 0, NULL);
	if (compat_insert_index_tuples_soft(ts->rri, ts->slot, ts->estate, false,
										COMPAT_UPDATE_ALL_INDEXES, ts->arbiter) == NIL)
		return true;
	CommandCounterIncrement();
	tid = ts->slot->tts_tid;
	(void) compat_tuple_delete(ts->rel, &tid, GetCurrentCommandId(true), &tmfd);
	CommandCounterIncrement();
	return false;
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
tombstones_put(Tombstones *ts, const RowState *dead, ItemPointer tid)
{
	const FerryTable *table = ts->table;
	bool		done;

	written_here++;
	open_all(ts);
	fill_slot(ts, dead);
	done = tid && ItemPointerIsValid(tid) ? replace(ts, tid) : insert(ts);
	while (!done)
	{
		ItemPointerData conflict;
		Datum		key[INDEX_MAX_KEYS];
		RowState   *here;

		CHECK_FOR_INTERRUPTS();

		/* waits for whoever is writing it */
		if (compat_check_index_constraints(ts->rri, ts->slot, ts->estate, &conflict, ts->arbiter))
		{
			done = insert(ts);
			continue;
		}
		state_key_values(table, dead, key);
		here = tombstones_find(ts, key, &conflict);
		if (here == NULL)
			continue;
		dead = merge_dead(table, here, dead);
		fill_slot(ts, dead);
		done = replace(ts, &conflict);
	}
	deaths_report(table->tombid, hash_of_slot(table, ts->slot), &ts->slot->tts_tid);
	ResetPerTupleExprContext(ts->estate);
	CommandCounterIncrement();
}

bool
tombstones_rewrite(Tombstones *ts, const RowState *dead, ItemPointer tid)
{
	bool		done;

	open_all(ts);
	fill_slot(ts, dead);
	done = replace(ts, tid);
	if (done)
	{
		written_here++;
		deaths_report(ts->table->tombid, hash_of_slot(ts->table, ts->slot), &ts->slot->tts_tid);
	}
	ResetPerTupleExprContext(ts->estate);
	CommandCounterIncrement();
	return done;
}

/* --- many at a time --- */

/* one that was written although its key may be there already: take it back, and merge */
static void
put_again(Tombstones *ts, TupleTableSlot *slot)
{
	TM_FailureData tmfd;
	ItemPointerData tid = slot->tts_tid;

	(void) compat_tuple_delete(ts->rel, &tid, GetCurrentCommandId(true), &tmfd);
	CommandCounterIncrement();
	tombstones_put(ts, tombstone_decode(ts->table, slot->tts_values, slot->tts_isnull), NULL);
}

/* TombBatchWrite: as insert(), page by page */
static void
write_batch(void *arg, TupleTableSlot **slots, int n)
{
	Tombstones *ts = arg;
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry tombstones", ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(cxt);
	bool		held[TOMB_BATCH_ROWS];

	table_multi_insert(ts->rel, slots, n, GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < n; i++)
	{
		held[i] = compat_insert_index_tuples_soft(ts->rri, slots[i], ts->estate, false,
												  COMPAT_UPDATE_ALL_INDEXES, ts->arbiter) != NIL;
		ResetPerTupleExprContext(ts->estate);
	}
	CommandCounterIncrement();
	for (int i = 0; i < n; i++)
	{
		slot_getallattrs(slots[i]);
		if (held[i])
			put_again(ts, slots[i]);
		else
			deaths_report(ts->table->tombid, hash_of_slot(ts->table, slots[i]), &slots[i]->tts_tid);
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(cxt);
}

void
tombstones_put_later(Tombstones *ts, const RowState *dead)
{
	open_all(ts);
	fill_slot(ts, dead);
	if (ts->batch == NULL)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(ts->estate->es_query_cxt);

		ts->batch = tomb_batch_create(ts->rel, &ts->estate->es_tupleTable, write_batch, ts);
		MemoryContextSwitchTo(oldcontext);
	}
	if (tomb_batch_add(ts->batch, ts->slot->tts_values, ts->slot->tts_isnull))
		written_here++;
	else
		tombstones_put(ts, dead, NULL);
}

void
tombstones_remove(Tombstones *ts, ItemPointer tid)
{
	TM_FailureData tmfd;

	open_table(ts);

	/* gone or changed by someone else: whoever changed it sees the row too */
	(void) compat_tuple_delete(ts->rel, tid, GetCurrentCommandId(true), &tmfd);
	CommandCounterIncrement();
}

/* --- one step --- */

/* on the hot path of writers: the lock on the table itself keeps this one in place */
bool
tombstone_any(const FerryTable *table)
{
	Relation	rel;
	bool		any;

	tomb_batch_flush_table(table->tombid);
	rel = RelationIdGetRelation(table->tombid);
	if (!RelationIsValid(rel))
		elog(ERROR, "could not open tombstone table %u", table->tombid);
	any = RelationGetNumberOfBlocks(rel) > 0;
	RelationClose(rel);
	return any;
}

RowState *
tombstone_find(const FerryTable *table, const Datum *key_values, ItemPointer tid)
{
	Tombstones *ts = tombstones_open(table);
	RowState   *state = tombstones_find(ts, key_values, tid);

	tombstones_close(ts);
	return state;
}

void
tombstone_put(const FerryTable *table, const RowState *dead, ItemPointer tid)
{
	Tombstones *ts = tombstones_open(table);

	tombstones_put(ts, dead, tid);
	tombstones_close(ts);
}

void
tombstone_remove(const FerryTable *table, ItemPointer tid)
{
	Tombstones *ts = tombstones_open(table);

	tombstones_remove(ts, tid);
	tombstones_close(ts);
}
