/*-------------------------------------------------------------------------
 *
 * digest.c
 *		A row state as two hashes: where it stands (its key) and what it is.
 *
 * Two nodes that hold the same writes must come to the same hashes, whatever
 * their collations, locales, column order or operating system.  So:
 *
 *	- keys are hashed in the binary form of their type; integers of every width
 *	  alike, numeric without trailing zeros, char(n) without trailing blanks,
 *	  floats with one zero.  Where equality is coarser still (a nondeterministic
 *	  collation, citext) the bytes count: merging takes them from the last write,
 *	  so that equal nodes have equal bytes; a difference that is only one of
 *	  spelling shows up as two items, and merging by the index's own equality
 *	  brings them together.
 *	- columns are named by their place in the sorted list of names that both
 *	  sides agreed upon, never by their numbers.
 *	- of a version, what decides counts: alive or dead, the last dot, the dots of
 *	  columns, the parts of those that merge by a strategy, and the dots that keep
 *	  a row alive.  The version vector does not, nor do the keys that were removed
 *	  from a map: what lies below the stable horizon goes at different times on
 *	  different nodes.
 *	- values count only where asked for (deep), in their type's binary form.
 *	- a range tombstone counts by its dot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/table.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "compat.h"
#include "state/codec.h"
#include "verify/digest.h"

typedef enum KeyKind
{
	KEY_INT2,
	KEY_INT4,
	KEY_INT8,
	KEY_FLOAT4,
	KEY_FLOAT8,
	KEY_NUMERIC,
	KEY_BPCHAR,
	KEY_OTHER
} KeyKind;

struct VerifyDigest
{
	FpKey		key;
	int			nkeys;
	AttrNumber *key_attnos;
	KeyKind    *key_kinds;
	ValueEncoder *key_encoders;
	AttrNumber	version_attno;
	int			ncolumns;
	uint16	   *column_ids;		/* [place in the list]; 0: not here */
	int			nvalues;
	AttrNumber *value_attnos;
	ValueEncoder *value_encoders;
	WireWriter	buf;
	Datum	   *key_values;		/* of the state at hand */
};

void
digest_random_key(FpKey *key)
{
	if (!pg_strong_random(key, sizeof(*key)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a random key")));
}

static KeyKind
key_kind(Oid typid)
{
	switch (typid)
	{
		case INT2OID:
			return KEY_INT2;
		case INT4OID:
			return KEY_INT4;
		case INT8OID:
			return KEY_INT8;
		case FLOAT4OID:
			return KEY_FLOAT4;
		case FLOAT8OID:
			return KEY_FLOAT8;
		case NUMERICOID:
			return KEY_NUMERIC;
		case BPCHAROID:
			return KEY_BPCHAR;
		default:
			return KEY_OTHER;
	}
}

VerifyDigest *
digest_create(const VerifyShape *shape, const FerryTable *table, Relation rel, MemoryContext cxt)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(cxt);
	VerifyDigest *d = palloc0(sizeof(VerifyDigest));
	TupleDesc	desc = RelationGetDescr(rel);

	d->key = shape->key;
	d->nkeys = table->nkeys;
	d->key_attnos = palloc(sizeof(AttrNumber) * d->nkeys);
	d->key_kinds = palloc(sizeof(KeyKind) * d->nkeys);
	d->key_encoders = palloc(sizeof(ValueEncoder) * d->nkeys);
	d->key_values = palloc(sizeof(Datum) * d->nkeys);
	for (int k = 0; k < d->nkeys; k++)
	{
		Oid			typid = getBaseType(TupleDescAttr(desc, table->key_attnos[k] - 1)->atttypid);

		d->key_attnos[k] = table->key_attnos[k];
		d->key_kinds[k] = key_kind(typid);
		value_encoder_init(&d->key_encoders[k], typid, cxt);
	}
	d->version_attno = table->version_attno;
	d->ncolumns = shape->ncolumns;
	d->column_ids = palloc0(sizeof(uint16) * Max(d->ncolumns, 1));
	d->value_attnos = palloc(sizeof(AttrNumber) * Max(d->ncolumns, 1));
	d->value_encoders = palloc(sizeof(ValueEncoder) * Max(d->ncolumns, 1));
	for (int c = 0; c < d->ncolumns; c++)
	{
		AttrNumber	attno = get_attnum(table->relid, shape->columns[c]);

		if (attno <= 0)
			continue;
		d->column_ids[c] = table->column_ids[attno - 1];
		if (!shape->with_value[c])
			continue;
		d->value_attnos[d->nvalues] = attno;
		value_encoder_init(&d->value_encoders[d->nvalues++], TupleDescAttr(desc, attno - 1)->atttypid, cxt);
	}
	wire_writer_init(&d->buf, 256);
	MemoryContextSwitchTo(oldcontext);
	return d;
}

void
digest_definition(const VerifyDigest *d, uint32 file, FpHash *out)
{
	WireWriter	w;

	wire_writer_init(&w, 256);
	wire_put_u32(&w, file);
	wire_put_u32(&w, d->nkeys);
	for (int k = 0; k < d->nkeys; k++)
	{
		wire_put_u32(&w, d->key_attnos[k]);
		wire_put_u32(&w, d->key_encoders[k].typid);
	}
	wire_put_u32(&w, d->version_attno);
	wire_put_u32(&w, d->ncolumns);
	for (int c = 0; c < d->ncolumns; c++)
		wire_put_u32(&w, d->column_ids[c]);
	wire_put_u32(&w, d->nvalues);
	for (int c = 0; c < d->nvalues; c++)
		wire_put_u32(&w, d->value_attnos[c]);
	*out = fp_hash(&d->key, w.data, w.len);
}

/* --- keys --- */

static void
put_int(WireWriter *w, int64 v)
{
	wire_put_u8(w, 8);
	wire_put_u64(w, (uint64) v);
}

static void
put_float(WireWriter *w, float8 v)
{
	uint64		bits;

	if (v == 0)
		v = 0;					/* minus zero */
	memcpy(&bits, &v, sizeof(bits));
	wire_put_u8(w, 8);
	wire_put_u64(w, isnan(v) ? PG_UINT64_MAX : bits);
}

static void
put_bpchar(WireWriter *w, Datum value)
{
	struct varlena *v = PG_DETOAST_DATUM_PACKED(value);
	const char *p = VARDATA_ANY(v);
	int			n = VARSIZE_ANY_EXHDR(v);

	while (n > 0 && p[n - 1] == ' ')
		n--;
	wire_put_varint(w, n);
	wire_put_bytes(w, p, n);
}

/* d->key_values in canonical form, at the start of the buffer */
static void
put_key(VerifyDigest *d)
{
	WireWriter *w = &d->buf;

	w->len = 0;
	for (int k = 0; k < d->nkeys; k++)
	{
		Datum		value = d->key_values[k];

		switch (d->key_kinds[k])
		{
			case KEY_INT2:
				put_int(w, DatumGetInt16(value));
				break;
			case KEY_INT4:
				put_int(w, DatumGetInt32(value));
				break;
			case KEY_INT8:
				put_int(w, DatumGetInt64(value));
				break;
			case KEY_FLOAT4:
				put_float(w, DatumGetFloat4(value));
				break;
			case KEY_FLOAT8:
				put_float(w, DatumGetFloat8(value));
				break;
			case KEY_NUMERIC:
				value_encode(w, &d->key_encoders[k], DirectFunctionCall1(numeric_trim_scale, value), false);
				break;
			case KEY_BPCHAR:
				put_bpchar(w, value);
				break;
			case KEY_OTHER:
				value_encode(w, &d->key_encoders[k], value, false);
				break;
		}
	}
}

const Datum *
digest_key_values(VerifyDigest *d)
{
	return d->key_values;
}

void
digest_key_write(VerifyDigest *d, const Datum *key_values, WireWriter *w)
{
	for (int k = 0; k < d->nkeys; k++)
		value_encode(w, &d->key_encoders[k], key_values[k], false);
}

RowState *
digest_key_read(const FerryTable *table, Relation rel, WireReader *r)
{
	RowState   *state = state_create(table);

	for (int k = 0; k < table->nkeys; k++)
	{
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel), table->key_attnos[k] - 1);
		ValueDecoder decoder;
		WireValue	v;

		wire_get_value(r, &v);
		if (r->error)
			elog(ERROR, "remembered key is damaged: %s", r->error);
		value_decoder_init_own(&decoder, getBaseType(attr->atttypid), -1, CurrentMemoryContext);
		state->values[attr->attnum - 1] = value_decode(&decoder, &v);
		state->kinds[attr->attnum - 1] = VALUE_HERE;
	}
	return state;
}

/* --- states --- */

static void
put_dot(WireWriter *w, Dot dot)
{
	wire_reserve(w, VERSION_SIMPLE_BYTES);
	version_put_dot(w->data + w->len, dot);
	w->len += VERSION_SIMPLE_BYTES;
}

/* what a column that merges by a strategy keeps beside its dot (core/parts.h) */
static void
put_parts(WireWriter *w, const ColumnParts *p)
{
	uint32		n = 0;

	while (n < p->nparts && !p->parts[n].removed)
		n++;
	wire_put_u8(w, p->kind);
	put_dot(w, (Dot) {p->since.hlc, p->since.node});
	wire_put_varint(w, n);
	for (uint32 i = 0; i < n; i++)
	{
		const Part *part = &p->parts[i];

		wire_put_u32(w, part->node);
		wire_put_varint(w, part->ndots);
		for (uint32 k = 0; k < part->ndots; k++)
			put_dot(w, part->dots[k]);
		wire_put_varint(w, part->len);
		wire_put_bytes(w, part->bytes, part->len);
	}
}

static void
put_version(VerifyDigest *d, bool alive, const Version *v)
{
	WireWriter *w = &d->buf;

	wire_put_u8(w, alive);
	put_dot(w, v->last);
	for (int c = 0; v->ncols > 0 && c < d->ncolumns; c++)
	{
		Dot			dot;

		if (d->column_ids[c] == 0)
			continue;
		dot = version_column_dot(v, d->column_ids[c]);
		if (dot_equal(dot, v->last))
			continue;
		wire_put_varint(w, c + 1);
		put_dot(w, dot);
	}
	for (int c = 0; v->nparts > 0 && c < d->ncolumns; c++)
	{
		const ColumnParts *parts = d->column_ids[c] ? version_column_parts(v, d->column_ids[c]) : NULL;

		if (parts == NULL)
			continue;
		wire_put_varint(w, c + 1);
		put_parts(w, parts);
	}
	if (v->nlive == 0)
		return;
	wire_put_varint(w, 0);
	for (int i = 0; i < v->nlive; i++)
		put_dot(w, v->live[i]);
}

/* the simple form, and most versions are, needs no decoding */
static void
put_version_datum(VerifyDigest *d, bool alive, Datum datum)
{
	struct varlena *bytes = PG_DETOAST_DATUM_PACKED(datum);
	Version		v;

	if (VARSIZE_ANY_EXHDR(bytes) == VERSION_SIMPLE_BYTES)
	{
		memset(&v, 0, sizeof(v));
		v.last = version_get_last((const uint8_t *) VARDATA_ANY(bytes));
	}
	else
		state_version_read(PointerGetDatum(bytes), &v);
	put_version(d, alive, &v);
}

static void
finish(VerifyDigest *d, size_t key_bytes, Digest *out)
{
	out->key = fp_hash(&d->key, d->buf.data, key_bytes).lo;
	out->item = fp_hash(&d->key, d->buf.data, d->buf.len);
}

static void
put_values(VerifyDigest *d, const Datum *values, const bool *nulls)
{
	for (int c = 0; c < d->nvalues; c++)
	{
		int			i = d->value_attnos[c] - 1;

		value_encode(&d->buf, &d->value_encoders[c], values[i], nulls[i]);
	}
}

void
digest_row(VerifyDigest *d, const Datum *values, const bool *nulls, Digest *out)
{
	size_t		key_bytes;

	for (int k = 0; k < d->nkeys; k++)
		d->key_values[k] = values[d->key_attnos[k] - 1];
	put_key(d);
	key_bytes = d->buf.len;
	put_version_datum(d, true, values[d->version_attno - 1]);
	put_values(d, values, nulls);
	finish(d, key_bytes, out);
}

void
digest_tombstone(VerifyDigest *d, const Datum *tomb_values, Digest *out)
{
	size_t		key_bytes;

	memcpy(d->key_values, tomb_values, sizeof(Datum) * d->nkeys);
	put_key(d);
	key_bytes = d->buf.len;
	put_version_datum(d, false, tomb_values[d->nkeys]);
	finish(d, key_bytes, out);
}

bool
digest_has_values(const VerifyDigest *d, const RowState *state)
{
	for (int c = 0; state->alive && c < d->nvalues; c++)
	{
		if (state->kinds[d->value_attnos[c] - 1] != VALUE_HERE)
			return false;
	}
	return true;
}

void
digest_state(VerifyDigest *d, const RowState *state, Digest *out)
{
	size_t		key_bytes;

	for (int k = 0; k < d->nkeys; k++)
		d->key_values[k] = state->values[d->key_attnos[k] - 1];
	put_key(d);
	key_bytes = d->buf.len;
	put_version(d, state->alive, &state->version);
	out->version = fp_hash(&d->key, d->buf.data, d->buf.len);
	if (state->alive)
		put_values(d, state->values, state->nulls);
	finish(d, key_bytes, out);
}

void
digest_range(const FpKey *key, const Version *range, Digest *out)
{
	FpKey		other = {~key->k0, key->k1};
	uint8_t		dot[VERSION_SIMPLE_BYTES];

	version_put_dot(dot, range->last);
	out->item = fp_hash(&other, dot, sizeof(dot));
	out->key = out->item.lo;
}
