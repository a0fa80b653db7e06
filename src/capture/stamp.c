/*-------------------------------------------------------------------------
 *
 * stamp.c
 *		Local writes, stamped inside the writer's transaction.
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
 * What counts is the row as it will be stored, so that whoever calls this is the
 * last to touch it: the row trigger, which fires after all others, or a
 * projection of the executor where there are no others.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/datum.h"

#include "compat.h"
#include "capture/copy.h"
#include "capture/stamp.h"
#include "node/node.h"
#include "state/births.h"
#include "state/counter_note.h"
#include "state/local_write.h"
#include "state/tombstone.h"

PG_FUNCTION_INFO_V1(ferry_stamp);

static Datum
dot_datum(Dot d)
{
	struct varlena *v = palloc(VARHDRSZ_SHORT + VERSION_SIMPLE_BYTES);

	SET_VARSIZE_SHORT(v, VARHDRSZ_SHORT + VERSION_SIMPLE_BYTES);
	version_put_dot((uint8_t *) VARDATA_SHORT(v), d);
	return PointerGetDatum(v);
}

/* SQL: ferry._stamp() returns ferry.version: the default of column _ferry */
Datum
ferry_stamp(PG_FUNCTION_ARGS)
{
	copy_show_trigger();
	PG_RETURN_DATUM(dot_datum(node_stamp()));
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
take_tombstone(const FerryTable *table, const Datum *values, TombKeeper *keeper)
{
	Tombstones *ts = tomb_keeper_get(keeper, table);
	Datum		key[INDEX_MAX_KEYS];
	ItemPointerData tid;
	RowState   *tomb;

	for (int k = 0; k < table->nkeys; k++)
		key[k] = values[table->key_attnos[k] - 1];

	/* one that is not committed yet may have been reported before we noted the birth: wait for it */
	while ((tomb = tombstones_find(ts, key, &tid)) == NULL && !tombstones_key_is_free(ts, key))
		CHECK_FOR_INTERRUPTS();
	if (tomb)
		tombstones_remove(ts, &tid);
	tomb_keeper_release(keeper, ts);
	return tomb;
}

static void
set_version(const FerryTable *table, Datum *values, bool *nulls, Datum version)
{
	values[table->version_attno - 1] = version;
	nulls[table->version_attno - 1] = false;
}

Stamped
stamp_birth(const FerryTable *table, TupleDesc desc, Datum *values, bool *nulls, bool keep_fresh,
			TombKeeper *keeper)
{
	int			v = table->version_attno - 1;
	RowState   *tomb = NULL;
	FoundRow	found;
	Version		version;
	bool		adjusted;

	/* before the tombstone is looked for: see apply/birth_check.c */
	births_note(table, key_hash(desc, table->key_attnos, table->nkeys, values));
	if (births_meet_tombstones(table))
		tomb = take_tombstone(table, values, keeper);
	if (tomb)
	{
		Datum		key[INDEX_MAX_KEYS];

		found = state_found_dead(tomb);
		state_key_values(table, tomb, key);
		counter_note_take(table, &found, key);
	}
	else if (state_birth_is_dot(table))
	{
		if (keep_fresh && is_fresh(values[v], nulls[v]))
			return STAMPED_ALREADY;
		set_version(table, values, nulls, dot_datum(node_stamp()));
		return STAMPED_VERSION;
	}
	adjusted = state_local_write(table, desc, tomb ? &found : NULL, values, nulls, node_stamp(), &version);
	set_version(table, values, nulls, state_version_datum(&version));
	return adjusted ? STAMPED_VALUES : STAMPED_VERSION;
}

static bool
is_same(Form_pg_attribute attr, Datum a, bool a_null, Datum b, bool b_null)
{
	if (a_null || b_null)
		return a_null && b_null;
	return datumIsEqual(a, b, attr->attbyval, attr->attlen) ||
		datum_image_eq(a, b, attr->attbyval, attr->attlen);
}

static bool
key_changed(const FerryTable *table, TupleDesc desc, const Datum *old, const Datum *new)
{
	for (int k = 0; k < table->nkeys; k++)
	{
		int			i = table->key_attnos[k] - 1;

		if (!is_same(TupleDescAttr(desc, i), old[i], false, new[i], false))
			return true;
	}
	return false;
}

/* before a live row is written */
static void
note_counters(const FerryTable *table, const FoundRow *found)
{
	Datum		key[INDEX_MAX_KEYS];

	for (int k = 0; k < table->nkeys; k++)
		key[k] = found->values[table->key_attnos[k] - 1];
	counter_note_take(table, found, key);
}

/* any version, any strategy */
static Stamped
update_row(const FerryTable *table, TupleDesc desc, const Datum *old_values, const bool *old_nulls,
		   Datum *values, bool *nulls)
{
	Version		before;
	Version		after;
	FoundRow	found = {&before, true, old_values, old_nulls, NULL};
	bool		adjusted;

	state_version_read(old_values[table->version_attno - 1], &before);
	note_counters(table, &found);
	adjusted = state_local_write(table, desc, &found, values, nulls, node_stamp(), &after);
	set_version(table, values, nulls, state_version_datum(&after));
	return adjusted ? STAMPED_VALUES : STAMPED_VERSION;
}

Stamped
stamp_update(const FerryTable *table, TupleDesc desc, const Datum *old_values, const bool *old_nulls,
			 Datum *values, bool *nulls, TombKeeper *keeper)
{
	if (key_changed(table, desc, old_values, values))
	{
		Stamped		stamped;

		stamp_death(table, old_values, old_nulls, keeper);
		stamped = stamp_birth(table, desc, values, nulls, false, keeper);
		Assert(stamped != STAMPED_ALREADY);
		return stamped;
	}
	return update_row(table, desc, old_values, old_nulls, values, nulls);
}

/* the usual bytes made of the usual bytes; 0: it is not so simple */
static Datum
rewrite(const FerryTable *table, Datum before, const uint16 *changed, int nchanged, Dot d)
{
	struct varlena *old = PG_DETOAST_DATUM_PACKED(before);
	size_t		room = VERSION_REWRITE_ROOM(VARSIZE_ANY_EXHDR(old), table->nplain);
	struct varlena *new = palloc(VARHDRSZ + room);
	size_t		n;

	n = version_rewrite((const uint8_t *) VARDATA_ANY(old), VARSIZE_ANY_EXHDR(old), d,
						changed, nchanged, table->plain_ids, table->nplain,
						table->mode == MERGE_MODE_COLUMN, (uint8_t *) VARDATA(new));
	if (n == 0)
		return (Datum) 0;
	SET_VARSIZE(new, VARHDRSZ + n);
	return PointerGetDatum(new);
}

Stamped
stamp_update_of(const FerryTable *table, TupleDesc desc, const int *columns, int n,
				const Datum *old_values, const bool *old_nulls, Datum *values, bool *nulls)
{
	int			v = table->version_attno - 1;
	uint16		changed[VERSION_MAX_COLUMNS];
	int			nchanged = 0;
	Datum		version;

	if (!state_plain_birth(table) || old_nulls[v])
		return update_row(table, desc, old_values, old_nulls, values, nulls);
	for (int c = 0; c < n; c++)
	{
		int			i = table->plain_attnos[columns[c]] - 1;

		if (!is_same(TupleDescAttr(desc, i), old_values[i], old_nulls[i], values[i], nulls[i]))
			changed[nchanged++] = table->plain_ids[columns[c]];
	}
	version = rewrite(table, old_values[v], changed, nchanged, node_stamp());
	if (version == (Datum) 0)
		return update_row(table, desc, old_values, old_nulls, values, nulls);
	set_version(table, values, nulls, version);
	return STAMPED_VERSION;
}

/* the tombstone of a row that is deleted now */
static RowState *
make_tombstone(const FerryTable *table, const Datum *values, const bool *nulls)
{
	Version		before;
	Version		after;
	FoundRow	found = {&before, true, values, nulls, NULL};

	state_version_read(values[table->version_attno - 1], &before);
	note_counters(table, &found);
	state_local_delete(table, &before, node_stamp(), &after);
	return tombstone_from_row(table, state_from_values(table, values, nulls), &after);
}

void
stamp_death(const FerryTable *table, const Datum *values, const bool *nulls, TombKeeper *keeper)
{
	Tombstones *ts = tomb_keeper_get(keeper, table);

	tombstones_put(ts, make_tombstone(table, values, nulls), NULL);
	tomb_keeper_release(keeper, ts);
}

void
stamp_deleted(const FerryTable *table, const Datum *values, const bool *nulls, TombKeeper *keeper)
{
	tombstones_put_later(tomb_keeper_get(keeper, table), make_tombstone(table, values, nulls));
}
