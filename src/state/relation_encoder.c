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
	e->version_attno = table->version_attno;
	e->nkeys = table->nkeys;
	for (int k = 0; k < table->nkeys; k++)
		describe_column(&e->wire.cols[k], e, k, table, rel, table->key_attnos[k], WIRE_COLUMN_KEY, cxt);
	for (int c = 0; c < table->nplain; c++)
		describe_column(&e->wire.cols[table->nkeys + c], e, table->nkeys + c, table, rel,
						table->plain_attnos[c], 0, cxt);
	e->strategies = palloc0(sizeof(WireStrategy) * Max(2 * table->nstrategies, 1));
	for (int s = 0; s < table->nstrategies; s++)
	{
		const ColumnStrategy *strategy = &table->strategies[s];

		/* a function that was set once still merges what it made */
		if (strategy->function)
			add_strategy(e, strategy->id, KIND_FUNCTION, pstrdup(strategy->function), strategy->function_dot);
		if (strategy->kind != KIND_FUNCTION)
			add_strategy(e, strategy->id, strategy->kind, NULL, strategy->dot);
	}
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

void
relation_encode_alive(WireWriter *w, RelationEncoder *e, Datum *values, bool *nulls, bool send_toast)
{
	struct varlena *version = PG_DETOAST_DATUM_PACKED(values[e->version_attno - 1]);

	wire_put_row_head(w, true, e->wire.id, VARDATA_ANY(version), VARSIZE_ANY_EXHDR(version), e->wire.ncols);
	for (int c = 0; c < e->wire.ncols; c++)
	{
		int			i = e->attnos[c] - 1;

		if (!send_toast && !nulls[i] && e->values[c].typlen == -1 &&
			VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(values[i])))
			wire_put_value(w, WIRE_UNCHANGED, NULL, 0);
		else
			value_encode(w, &e->values[c], values[i], nulls[i]);
	}
}

/* the image's value of a column id, or absent */
static void
put_from_image(WireWriter *w, const uint8_t *image, size_t len, uint16 id)
{
	WireReader	r;

	wire_reader_init(&r, image, len);
	while (!wire_at_end(&r))
	{
		uint64		this_id = wire_get_varint(&r);
		WireValue	v;

		wire_get_value(&r, &v);
		if (r.error == NULL && this_id == id)
		{
			wire_put_value(w, v.kind, v.data, v.len);
			return;
		}
	}
	wire_put_value(w, WIRE_ABSENT, NULL, 0);
}

void
relation_encode_dead(WireWriter *w, RelationEncoder *e, Datum *values, bool *nulls)
{
	int			nkeys = e->nkeys;
	struct varlena *version = PG_DETOAST_DATUM_PACKED(values[nkeys]);
	struct varlena *image = nulls[nkeys + 1] ? NULL : PG_DETOAST_DATUM_PACKED(values[nkeys + 1]);

	wire_put_row_head(w, false, e->wire.id, VARDATA_ANY(version), VARSIZE_ANY_EXHDR(version), e->wire.ncols);
	for (int k = 0; k < nkeys; k++)
		value_encode(w, &e->values[k], values[k], false);
	for (int c = nkeys; c < e->wire.ncols; c++)
	{
		if (image)
			put_from_image(w, (const uint8_t *) VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image), e->wire.cols[c].id);
		else
			wire_put_value(w, WIRE_ABSENT, NULL, 0);
	}
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
