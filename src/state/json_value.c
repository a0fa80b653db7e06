/*-------------------------------------------------------------------------
 *
 * json_value.c
 *		The columns of a row in jsonb, and back, without loss.
 *
 * A state that was carried as JSON must be the state that it was, byte for byte:
 * nodes take it for what its version says.  So a value is written as the server
 * writes it in JSON where that comes back the same, and otherwise as a string: the
 * text that the type's output function gives under settings that are the same in
 * every session.  A string is therefore always the column's text, but in columns
 * of type jsonb, which hold JSON themselves.
 *
 *		as JSON		booleans, numbers, jsonb; arrays and composite values of what
 *					is written so, or is a string anyway
 *		as text		numbers that other JSON readers change (more than 15 digits,
 *					trailing zeros, minus zero), alone or within; json, which is
 *					text; arrays that do not begin at 1; arrays and composite
 *					values that hold arrays, json or jsonb (whose null is not
 *					NULL); composite values that hold floats; types of extensions
 *					that come as something else in JSON, as hstore
 *
 * That a column of type jsonb holds null, which is not NULL, has no place in the
 * row: see "json_null" in json.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_coerce.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#include "state/codec.h"
#include "state/json_private.h"

/* digits that a double keeps */
#define SAFE_DIGITS 15

/* --- what JSON holds --- */

/* is a type of an extension turned into something by a cast of its own? */
static bool
has_json_cast(Oid typid)
{
	Oid			function;

	return typid >= FirstGenbkiObjectId &&
		find_coercion_pathway(JSONOID, typid, COERCION_EXPLICIT, &function) == COERCION_PATH_FUNC;
}

/* JSON has no minus zero */
static bool
is_minus_zero(Oid typid, Datum value)
{
	float8		f = typid == FLOAT4OID ? DatumGetFloat4(value) : DatumGetFloat8(value);

	return f == 0 && signbit(f);
}

/* does every value of a type come back from JSON, numbers aside? */
static bool
type_survives(Oid typid)
{
	bool		survives = true;

	check_stack_depth();
	typid = getBaseType(typid);
	if (typid == JSONOID || typid == JSONBOID || typid == FLOAT4OID || typid == FLOAT8OID ||
		OidIsValid(get_element_type(typid)))
		return false;
	if (type_is_rowtype(typid))
	{
		TupleDesc	desc = lookup_rowtype_tupdesc(typid, -1);

		for (int i = 0; i < desc->natts && survives; i++)
			if (!TupleDescAttr(desc, i)->attisdropped)
				survives = type_survives(TupleDescAttr(desc, i)->atttypid);
		ReleaseTupleDesc(desc);
		return survives;
	}
	return !has_json_cast(typid);
}

/* does an array come back? */
static bool
array_survives(Oid part, Datum value)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	Datum	   *values;
	bool	   *nulls;
	int			n;

	for (int i = 0; i < ARR_NDIM(array); i++)
		if (ARR_LBOUND(array)[i] != 1)
			return false;
	if (part != FLOAT4OID && part != FLOAT8OID)
		return type_survives(part);
	deconstruct_array(array, part, part == FLOAT4OID ? sizeof(float4) : sizeof(float8),
					  part == FLOAT4OID ? true : FLOAT8PASSBYVAL, part == FLOAT4OID ? TYPALIGN_INT : TYPALIGN_DOUBLE,
					  &values, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i] && is_minus_zero(part, values[i]))
			return false;
	return true;
}

/* does a value of the type come back from what the server makes of it in JSON, numbers aside? */
static bool
survives(Oid typid, Datum value)
{
	Oid			part;

	if (typid == JSONBOID)
		return true;
	if (typid == FLOAT4OID || typid == FLOAT8OID)
		return !is_minus_zero(typid, value);
	if (OidIsValid(part = get_element_type(typid)))
		return array_survives(part, value);
	return type_survives(typid);
}

/* would another JSON reader give the number back in other words? */
static bool
is_fragile_number(Numeric number)
{
	char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
	size_t		len = strlen(text);
	int			digits = 0;

	for (char *p = text; *p; p++)
		digits += (*p >= '0' && *p <= '9');
	return digits > SAFE_DIGITS || (strchr(text, '.') && text[len - 1] == '0');
}

static bool
has_fragile_number(const JsonbValue *v)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	item;

	if (v->type == jbvNumeric)
		return is_fragile_number(v->val.numeric);
	if (v->type != jbvBinary)
		return false;
	it = JsonbIteratorInit(v->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &item, false)) != WJB_DONE)
		if ((token == WJB_ELEM || token == WJB_VALUE) && item.type == jbvNumeric && is_fragile_number(item.val.numeric))
			return true;
	return false;
}

/* --- writing --- */

static char *
value_text(Oid typid, Datum value)
{
	Oid			out;
	bool		varlena;
	FmgrInfo	function;

	getTypeOutputInfo(typid, &out, &varlena);
	fmgr_info(out, &function);
	return text_output(&function, value);
}

/* those of these columns that are to be written as JSON, as the server writes a row */
static Jsonb *
row_as_json(Relation rel, const RowState *s, const bool *wanted)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);
	HeapTuple	tuple;
	Datum		json;
	int			nest_level = text_pin_settings();

	for (int i = 0; i < desc->natts; i++)
		nulls[i] = !wanted[i];
	tuple = heap_form_tuple(desc, s->values, nulls);
	json = DirectFunctionCall1(row_to_json, heap_copy_tuple_as_datum(tuple, desc));
	AtEOXact_GUC(true, nest_level);
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(json))));
}

JsonbValue *
json_push_columns(JsonbParseState **ps, Relation rel, const RowState *s, const AttrNumber *attnos, int n)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool	   *as_json = palloc0(sizeof(bool) * desc->natts);
	bool		any = false;
	Jsonb	   *row = NULL;

	for (int c = 0; c < n; c++)
	{
		int			i = attnos[c] - 1;
		Oid			base = getBaseType(TupleDescAttr(desc, i)->atttypid);

		as_json[i] = s->kinds[i] == VALUE_HERE && !s->nulls[i] &&
			survives(base, s->values[i]);
		any |= as_json[i];
	}
	if (any)
		row = row_as_json(rel, s, as_json);

	pushJsonbValue(ps, WJB_BEGIN_OBJECT, NULL);
	for (int c = 0; c < n; c++)
	{
		int			i = attnos[c] - 1;
		Form_pg_attribute attr = TupleDescAttr(desc, i);
		JsonbValue	buf;
		JsonbValue *v = NULL;

		if (s->kinds[i] != VALUE_HERE)
			continue;
		if (as_json[i])
			v = getKeyJsonValueFromContainer(&row->root, NameStr(attr->attname), strlen(NameStr(attr->attname)), &buf);
		if (v && has_fragile_number(v) && getBaseType(attr->atttypid) != JSONBOID)
			v = NULL;
		if (v == NULL)
		{
			v = &buf;
			if (s->nulls[i])
				v->type = jbvNull;
			else
				*v = state_json_string(value_text(attr->atttypid, s->values[i]));
		}
		json_push_key(ps, NameStr(attr->attname));
		pushJsonbValue(ps, WJB_VALUE, v);
	}
	return pushJsonbValue(ps, WJB_END_OBJECT, NULL);
}

/* --- reading --- */

/* values that are no strings, by the server's own jsonb_populate_record, into values and nulls */
static void
populate(Relation rel, Jsonb *object, Datum *values, bool *nulls)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Oid			rowtype = rel->rd_rel->reltype;
	FmgrInfo	function;
	HeapTupleHeader record;
	HeapTupleData tuple;
	Datum		base;

	memset(nulls, true, sizeof(bool) * desc->natts);
	base = heap_copy_tuple_as_datum(heap_form_tuple(desc, values, nulls), desc);
	fmgr_info(F_JSONB_POPULATE_RECORD, &function);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_JSONB_POPULATE_RECORD, rowtype,
											 list_make2(makeNullConst(rowtype, -1, InvalidOid),
														makeNullConst(JSONBOID, -1, InvalidOid)),
											 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL),
					   &function);
	record = DatumGetHeapTupleHeader(FunctionCall2(&function, base, JsonbPGetDatum(object)));
	tuple.t_len = HeapTupleHeaderGetDatumLength(record);
	tuple.t_data = record;
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	heap_deform_tuple(&tuple, desc, values, nulls);
}

static Datum
value_from_text(Form_pg_attribute attr, const JsonbValue *v)
{
	Oid			in;
	Oid			ioparam;
	FmgrInfo	function;

	getTypeInputInfo(attr->atttypid, &in, &ioparam);
	fmgr_info(in, &function);
	return text_input(&function, pnstrdup(v->val.string.val, v->val.string.len), ioparam, attr->atttypmod);
}

void
json_get_columns(RowState *s, Relation rel, JsonbContainer *object, const AttrNumber *attnos, int n)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Datum	   *values = palloc0(sizeof(Datum) * desc->natts);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);
	bool	   *as_text = palloc0(sizeof(bool) * desc->natts);
	JsonbParseState *ps = NULL;
	int			nest_level;

	pushJsonbValue(&ps, WJB_BEGIN_OBJECT, NULL);
	for (int c = 0; c < n; c++)
	{
		int			i = attnos[c] - 1;
		Form_pg_attribute attr = TupleDescAttr(desc, i);
		JsonbValue *v = json_member(object, NameStr(attr->attname));

		if (v == NULL)
			continue;
		s->kinds[i] = VALUE_HERE;
		as_text[i] = v->type == jbvString && getBaseType(attr->atttypid) != JSONBOID;
		if (as_text[i])
		{
			s->values[i] = value_from_text(attr, v);
			s->nulls[i] = false;
			continue;
		}
		json_push_key(&ps, NameStr(attr->attname));
		pushJsonbValue(&ps, WJB_VALUE, v);
	}
	nest_level = text_pin_settings();
	populate(rel, JsonbValueToJsonb(pushJsonbValue(&ps, WJB_END_OBJECT, NULL)), values, nulls);
	AtEOXact_GUC(true, nest_level);
	for (int c = 0; c < n; c++)
	{
		int			i = attnos[c] - 1;

		if (s->kinds[i] != VALUE_HERE || as_text[i])
			continue;
		s->values[i] = values[i];
		s->nulls[i] = nulls[i];
	}
}
