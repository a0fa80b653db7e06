/*-------------------------------------------------------------------------
 *
 * relation_encoder.c
 *		Rows of a relation as messages, for the output plugin and the delta.
 *
 * A partition describes itself under its root's name, with the root's column
 * ids: partitioning is nobody else's business.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "state/codec.h"
#include "state/state.h"

/* below that it is not worth that the receiver might have to ask */
#define NARROW_WORTH_BYTES 128

static void
describe_column(WireColumn *col, RelationEncoder *e, int c, const FerryTable *table, Relation rel,
				AttrNumber attno, uint8 flags, MemoryContext cxt)
{
	Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel), attno - 1);
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(attr->atttypid));
	Form_pg_type type;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", attr->atttypid);
	type = (Form_pg_type) GETSTRUCT(tuple);
	col->id = table->column_ids[attno - 1];
	col->flags = flags;
	col->name = pstrdup(NameStr(attr->attname));
	col->type_schema = get_namespace_name(type->typnamespace);
	col->type_name = pstrdup(NameStr(type->typname));
	ReleaseSysCache(tuple);
	e->attnos[c] = attno;
	value_encoder_init(&e->values[c], attr->atttypid, cxt);
}

static void
add_strategy(RelationEncoder *e, uint16 id, ColumnKind kind, char *function, Dot dot)
{
	WireStrategy *s = &e->strategies[e->nstrategies++];

	s->relation = e->wire.id;
	s->column = id;
	s->kind = kind;
	s->function = function;
	s->dot = dot;
}

RelationEncoder *
relation_encoder_create(const FerryTable *table, Relation rel, MemoryContext cxt)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(cxt);
	RelationEncoder *e = palloc0(sizeof(RelationEncoder));
	int			ncols = table->nkeys + table->nplain;

	e->wire.id = table->rootid;
	e->wire.schema = get_namespace_name(get_rel_namespace(table->rootid));
	e->wire.name = get_rel_name(table->rootid);
	e->wire.ncols = ncols;
	e->wire.cols = palloc0(sizeof(WireColumn) * ncols);
	e->attnos = palloc0(sizeof(AttrNumber) * ncols);
	e->values = palloc0(sizeof(ValueEncoder) * ncols);
	e->omitted = palloc0(sizeof(bool) * ncols);
	e->version_attno = table->version_attno;
	e->nkeys = table->nkeys;
	for (int k = 0; k < table->nkeys; k++)
		describe_column(&e->wire.cols[k], e, k, table, rel, table->key_attnos[k], WIRE_COLUMN_KEY, cxt);
	for (int c = 0; c < table->nplain; c++)
		describe_column(&e->wire.cols[table->nkeys + c], e, table->nkeys + c, table, rel,
						table->plain_attnos[c], 0, cxt);
	e->strategies = palloc0(sizeof(WireStrategy) * (2 * table->nstrategies + 1));
	for (int s = 0; s < table->nstrategies; s++)
	{
		const ColumnStrategy *strategy = &table->strategies[s];

		/* a function that was set once still merges what it made */
		if (strategy->function)
			add_strategy(e, strategy->id, KIND_FUNCTION, pstrdup(strategy->function), strategy->function_dot);
		if (strategy->kind != KIND_FUNCTION)
			add_strategy(e, strategy->id, strategy->kind, NULL, strategy->dot);
	}
	if (table->orphans_dot.hlc != 0)
		add_strategy(e, 0, (ColumnKind) table->orphans, NULL, table->orphans_dot);
	MemoryContextSwitchTo(oldcontext);
	return e;
}

void
relation_encode_description(WireWriter *w, const RelationEncoder *e)
{
	wire_put_relation(w, &e->wire);
	for (int s = 0; s < e->nstrategies; s++)
		wire_put_strategy(w, &e->strategies[s]);
}

static void
put_head(WireWriter *w, RelationEncoder *e, Datum version_value)
{
	struct varlena *version = PG_DETOAST_DATUM_PACKED(version_value);

	wire_put_row_head(w, true, e->wire.id, VARDATA_ANY(version), VARSIZE_ANY_EXHDR(version), e->wire.ncols);
}

void
relation_encode_alive(WireWriter *w, RelationEncoder *e, Datum *values, bool *nulls)
{
	put_head(w, e, values[e->version_attno - 1]);
	for (int c = 0; c < e->wire.ncols; c++)
		value_encode(w, &e->values[c], values[e->attnos[c] - 1], nulls[e->attnos[c] - 1]);
}

static bool
is_on_disk(const ValueEncoder *e, Datum value, bool isnull)
{
	return !isnull && e->typlen == -1 && VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(value));
}

/* bytes of a value that a header of one byte can stand for */
static Size
value_bytes(const ValueEncoder *e, Datum value)
{
	if (e->typlen > 0)
		return e->typlen;
	return e->typlen == -1 ? VARSIZE_ANY_EXHDR(DatumGetPointer(value)) : strlen(DatumGetCString(value));
}

static bool
merges_by_strategy(const RelationEncoder *e, uint16 id)
{
	for (int s = 0; s < e->nstrategies; s++)
		if (e->strategies[s].column == id)
			return true;
	return false;
}

/*
 * Which values may be left out, in e->omitted; false: none, or it saves too
 * little.  A NULL stays: it costs as much as its omission, and who lacks the
 * column can do without it.
 */
static bool
choose_omitted(RelationEncoder *e, const NarrowStream *stream, Datum *values, bool *nulls)
{
	struct varlena *bytes;
	Version		version;
	Size		saved = 0;

	if (e->wire.ncols - e->nkeys < 2)
		return false;
	bytes = PG_DETOAST_DATUM_PACKED(values[e->version_attno - 1]);
	if (VARSIZE_ANY_EXHDR(bytes) == VERSION_SIMPLE_BYTES)
		return false;			/* all columns are of one dot */
	state_version_read(PointerGetDatum(bytes), &version);
	memset(e->omitted, false, e->wire.ncols);
	for (int c = e->nkeys; c < e->wire.ncols; c++)
	{
		int			i = e->attnos[c] - 1;
		uint16		id = e->wire.cols[c].id;

		if (nulls[i] || is_on_disk(&e->values[c], values[i], false) ||
			merges_by_strategy(e, id) || !narrow_may_omit(stream, &version, id))
			continue;
		e->omitted[c] = true;
		saved += value_bytes(&e->values[c], values[i]);
	}
	return saved >= NARROW_WORTH_BYTES;
}

void
relation_encode_logged(WireWriter *w, RelationEncoder *e, const NarrowStream *stream,
					   Datum *values, bool *nulls)
{
	bool		narrow = stream && choose_omitted(e, stream, values, nulls);

	put_head(w, e, values[e->version_attno - 1]);
	for (int c = 0; c < e->wire.ncols; c++)
	{
		int			i = e->attnos[c] - 1;

		if ((narrow && e->omitted[c]) || is_on_disk(&e->values[c], values[i], nulls[i]))
			wire_put_value(w, WIRE_UNCHANGED, NULL, 0);
		else
			value_encode(w, &e->values[c], values[i], nulls[i]);
	}
}

/* an image, read once: its columns and the wire's are both in the order of their ids */
typedef struct ImageReader
{
	WireReader	r;
	uint64		id;				/* of value; 0: none was read yet */
	uint64		typid;			/* of the column when it was written */
	WireValue	value;
} ImageReader;

/* the image's value of the wire's column c, or absent; their ids ascend from call to call */
static void
put_from_image(WireWriter *w, RelationEncoder *e, int c, ImageReader *image)
{
	uint16		id = e->wire.cols[c].id;
	bool		has_value;
	ValueDecoder d;

	while (image->id < id && !wire_at_end(&image->r))
	{
		image->id = wire_get_varint(&image->r);
		image->typid = wire_get_varint(&image->r);
		wire_get_value(&image->r, &image->value);
	}
	has_value = image->value.kind != WIRE_NULL && image->value.kind != WIRE_UNCHANGED && image->value.kind != WIRE_ABSENT;
	if (image->id != id || image->r.error != NULL)
		wire_put_value(w, WIRE_ABSENT, NULL, 0);
	else if (has_value && (Oid) image->typid != e->values[c].typid)
	{
		/* the column has another type since */
		if (value_decoder_init_former(&d, (Oid) image->typid, e->values[c].typid, -1, CurrentMemoryContext))
			value_encode(w, &e->values[c], value_decode(&d, &image->value), false);
		else
			wire_put_value(w, WIRE_ABSENT, NULL, 0);
	}
	else
		wire_put_value(w, image->value.kind, image->value.data, image->value.len);
}

void
relation_encode_dead(WireWriter *w, RelationEncoder *e, Datum *values, bool *nulls)
{
	int			nkeys = e->nkeys;
	struct varlena *version = PG_DETOAST_DATUM_PACKED(values[nkeys]);
	struct varlena *image = nulls[nkeys + 1] ? NULL : PG_DETOAST_DATUM_PACKED(values[nkeys + 1]);
	ImageReader reader = {0};

	wire_put_row_head(w, false, e->wire.id, VARDATA_ANY(version), VARSIZE_ANY_EXHDR(version), e->wire.ncols);
	for (int k = 0; k < nkeys; k++)
		value_encode(w, &e->values[k], values[k], false);
	if (image)
		wire_reader_init(&reader.r, VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image));
	for (int c = nkeys; c < e->wire.ncols; c++)
		put_from_image(w, e, c, &reader);
}

void
relation_encode_state(WireWriter *w, RelationEncoder *e, const RowState *state)
{
	struct varlena *version = (struct varlena *) DatumGetPointer(state_version_datum(&state->version));

	wire_put_row_head(w, state->alive, e->wire.id, VARDATA_ANY(version), VARSIZE_ANY_EXHDR(version), e->wire.ncols);
	for (int c = 0; c < e->wire.ncols; c++)
	{
		int			i = e->attnos[c] - 1;

		if (state->kinds[i] == VALUE_HERE)
			value_encode(w, &e->values[c], state->values[i], state->nulls[i]);
		else
			wire_put_value(w, state->kinds[i] == VALUE_UNCHANGED ? WIRE_UNCHANGED : WIRE_ABSENT, NULL, 0);
	}
}
