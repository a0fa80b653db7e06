/*-------------------------------------------------------------------------
 *
 * row_trigger.c
 *		Local writes, stamped inside the writer's transaction.
 *
 * One BEFORE ROW trigger, named so that it fires after all others: what counts
 * is the row as it will be stored.
 *
 *	INSERT	The column's default has given the row a dot.  It is kept if it was
 *			issued in this transaction; whatever else stands there (NULL from
 *			a row-typed INSERT, a version copied from another row) is replaced.
 *			If the key has a tombstone, the row is its successor: it includes
 *			the tombstone's version, and the tombstone goes.
 *	UPDATE	Columns whose bytes changed get a new dot.  A changed key is the
 *			death of the old key and the birth of the new one.
 *	DELETE	Leaves a tombstone.
 *
 * In session_replication_role = replica the trigger does not fire: rows that
 * ferry merges carry their own versions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "node/node.h"
#include "state/births.h"
#include "state/local_write.h"
#include "state/tombstone.h"

PG_FUNCTION_INFO_V1(ferry_stamp);

/* SQL: ferry._stamp() returns ferry.version: the default of column _ferry */
Datum
ferry_stamp(PG_FUNCTION_ARGS)
{
	struct varlena *v = palloc(VARHDRSZ + VERSION_SIMPLE_BYTES);

	SET_VARSIZE(v, VARHDRSZ + VERSION_SIMPLE_BYTES);
	version_put_dot((uint8_t *) VARDATA(v), node_stamp());
	PG_RETURN_POINTER(v);
}

/* a deformed row */
typedef struct Row
{
	Datum	   *values;
	bool	   *nulls;
} Row;

static Row
deform(HeapTuple tuple, TupleDesc desc)
{
	Row			row;

	row.values = palloc(sizeof(Datum) * desc->natts);
	row.nulls = palloc(sizeof(bool) * desc->natts);
	heap_deform_tuple(tuple, desc, row.values, row.nulls);
	return row;
}

static void
key_of_row(const FerryTable *table, const Row *row, Datum *key)
{
	for (int k = 0; k < table->nkeys; k++)
		key[k] = row->values[table->key_attnos[k] - 1];
}

/* the tuple with its version, and with the values that strategies adjusted */
static HeapTuple
with_version(const FerryTable *table, HeapTuple tuple, TupleDesc desc, const Version *version,
			 Row *adjusted)
{
	int			attno = table->version_attno;
	Datum		value = state_version_datum(version);
	bool		isnull = false;
	bool	   *replaced;

	if (adjusted == NULL)
		return heap_modify_tuple_by_cols(tuple, desc, 1, &attno, &value, &isnull);
	adjusted->values[attno - 1] = value;
	adjusted->nulls[attno - 1] = false;
	replaced = palloc(sizeof(bool) * desc->natts);
	memset(replaced, true, sizeof(bool) * desc->natts);
	return heap_modify_tuple(tuple, desc, adjusted->values, adjusted->nulls, replaced);
}

/* was this version issued by the default in this transaction? */
static bool
is_fresh(Datum value, bool isnull)
{
	struct varlena *v;
	Dot			d;
	Hlc			first = node_transaction_first_stamp();

	if (isnull || first == 0)
		return false;
	v = PG_DETOAST_DATUM_PACKED(value);
	if (VARSIZE_ANY_EXHDR(v) != VERSION_SIMPLE_BYTES)
		return false;
	d = version_get_last((const uint8_t *) VARDATA_ANY(v));
	return d.node == node_id() && d.hlc >= first;
}

/* the tombstone that a new row replaces, which goes; NULL if its key has none */
static RowState *
take_tombstone(const FerryTable *table, const Row *row)
{
	Datum		key[INDEX_MAX_KEYS];
	ItemPointerData tid;
	RowState   *tomb;

	if (!tombstone_any(table))
		return NULL;
	key_of_row(table, row, key);
	tomb = tombstone_find(table, key, &tid);
	if (tomb)
		tombstone_remove(table, &tid);
	return tomb;
}

/* a key enters the table: before its tombstone is looked for */
static void
note_birth(const FerryTable *table, TupleDesc desc, const Row *row)
{
	births_note(table, key_hash(desc, table->key_attnos, table->nkeys, row->values));
}

/* a key is born, by an INSERT or by an UPDATE that changed it */
static HeapTuple
birth(const FerryTable *table, HeapTuple tuple, TupleDesc desc, Row *row, bool keep_fresh)
{
	int			v = table->version_attno - 1;
	RowState   *tomb;
	FoundRow	found;
	Version		version;
	bool		adjusted;

	note_birth(table, desc, row);
	tomb = take_tombstone(table, row);
	if (tomb)
		found = state_found_dead(tomb);
	else if (keep_fresh && state_plain_birth(table) && is_fresh(row->values[v], row->nulls[v]))
		return tuple;
	adjusted = state_local_write(table, desc, tomb ? &found : NULL, row->values, row->nulls,
								 node_stamp(), &version);
	return with_version(table, tuple, desc, &version, adjusted ? row : NULL);
}

static HeapTuple
on_insert(const FerryTable *table, HeapTuple tuple, TupleDesc desc)
{
	Row			row = deform(tuple, desc);

	return birth(table, tuple, desc, &row, true);
}

static bool
key_changed(const FerryTable *table, TupleDesc desc, const Row *old, const Row *new)
{
	for (int k = 0; k < table->nkeys; k++)
	{
		int			i = table->key_attnos[k] - 1;
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (!datumIsEqual(old->values[i], new->values[i], attr->attbyval, attr->attlen) &&
			!datum_image_eq(old->values[i], new->values[i], attr->attbyval, attr->attlen))
			return true;
	}
	return false;
}

static void
bury(const FerryTable *table, const Row *row, const Version *old)
{
	Version		version;

	state_local_delete(table, old, node_stamp(), &version);
	tombstone_put(table, tombstone_from_row(table, state_from_values(table, row->values, row->nulls), &version), NULL);
}

static HeapTuple
on_update(const FerryTable *table, HeapTuple oldtuple, HeapTuple newtuple, TupleDesc desc)
{
	Row			old = deform(oldtuple, desc);
	Row			new = deform(newtuple, desc);
	Version		before;
	Version		after;
	FoundRow	found = {&before, true, old.values, old.nulls, NULL};
	bool		adjusted;

	state_version_read(old.values[table->version_attno - 1], &before);
	if (key_changed(table, desc, &old, &new))
	{
		bury(table, &old, &before);
		return birth(table, newtuple, desc, &new, false);
	}
	adjusted = state_local_write(table, desc, &found, new.values, new.nulls, node_stamp(), &after);
	return with_version(table, newtuple, desc, &after, adjusted ? &new : NULL);
}

static void
on_delete(const FerryTable *table, HeapTuple tuple, TupleDesc desc)
{
	Row			row = deform(tuple, desc);
	Version		version;

	state_version_read(row.values[table->version_attno - 1], &version);
	bury(table, &row, &version);
}

PG_FUNCTION_INFO_V1(ferry_row_trigger);

Datum
ferry_row_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	FerryTable *table;
	HeapTuple	result;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called as a BEFORE ROW trigger", "ferry._row_trigger")));
	(void) node_current();
	table = table_lookup_required(RelationGetRelid(trigger->tg_relation));
	desc = RelationGetDescr(trigger->tg_relation);

	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		result = on_insert(table, trigger->tg_trigtuple, desc);
	else if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		result = on_update(table, trigger->tg_trigtuple, trigger->tg_newtuple, desc);
	else
	{
		on_delete(table, trigger->tg_trigtuple, desc);
		result = trigger->tg_trigtuple;
	}
	return PointerGetDatum(result);
}
