/*-------------------------------------------------------------------------
 *
 * json.c
 *		Row states written as jsonb: for ferry.state() and ferry.conflicts.
 *
 *		{"alive": true, "key": {...}, "row": {...},
 *		 "last": ["<hlc>", "<node id>"], "vv": {"<node id>": "<hlc>", ...},
 *		 "columns": {"<name>": ["<hlc>", "<node id>"], ...},
 *		 "live": [["<hlc>", "<node id>"], ...],
 *		 "strategies": {...}}
 *
 * "columns" holds those that an older dot than the last wrote, "live" the dots
 * that keep a row alive where they are not just the last one; both are left out
 * when empty, as is "strategies" (json_strategies.c).  "horizon" is there if entries
 * of "vv" were dropped: up to there the state has seen everything.  Numbers that
 * need more than 53 bits are strings.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"

#include "core/vector.h"
#include "state/json_private.h"

/* digits that a double keeps */
#define SAFE_DIGITS 15

JsonbValue
state_json_string(const char *s)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.len = strlen(s);
	v.val.string.val = unconstify(char *, s);
	return v;
}

void
json_push_key(JsonbParseState **ps, const char *name)
{
	JsonbValue	key = state_json_string(name);

	pushJsonbValue(ps, WJB_KEY, &key);
}

void
json_push_string(JsonbParseState **ps, JsonbIteratorToken token, const char *s)
{
	JsonbValue	v = state_json_string(s);

	pushJsonbValue(ps, token, &v);
}

static char *
hlc_text(Hlc hlc)
{
	return psprintf(UINT64_FORMAT, hlc);
}

void
json_push_dot(JsonbParseState **ps, Dot d)
{
	pushJsonbValue(ps, WJB_BEGIN_ARRAY, NULL);
	json_push_string(ps, WJB_ELEM, hlc_text(d.hlc));
	json_push_string(ps, WJB_ELEM, psprintf("%u", d.node));
	pushJsonbValue(ps, WJB_END_ARRAY, NULL);
}

/* a number that other JSON readers would round becomes a string; JSON columns are left alone */
static void
protect_number(JsonbValue *v, Oid typid)
{
	char	   *text;
	int			digits = 0;

	typid = getBaseType(typid);
	if (v->type != jbvNumeric || typid == JSONBOID || typid == JSONOID)
		return;
	text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric)));
	for (char *p = text; *p; p++)
		digits += (*p >= '0' && *p <= '9');
	if (digits > SAFE_DIGITS)
		*v = state_json_string(text);
}

/* the whole row as the server writes it in JSON */
static Jsonb *
whole_row(Relation rel, const RowState *s)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool	   *nulls = palloc(sizeof(bool) * desc->natts);
	HeapTuple	tuple;
	Datum		json;
	char	   *cstr;

	for (int i = 0; i < desc->natts; i++)
		nulls[i] = s->kinds[i] != VALUE_HERE || s->nulls[i];
	tuple = heap_form_tuple(desc, s->values, nulls);
	json = DirectFunctionCall1(row_to_json, heap_copy_tuple_as_datum(tuple, desc));
	cstr = TextDatumGetCString(json);
	json = DirectFunctionCall1(jsonb_in, CStringGetDatum(cstr));
	return DatumGetJsonbP(json);
}

/* these columns of a state as an object; returns it if it is the outermost */
static JsonbValue *
push_columns(JsonbParseState **ps, Relation rel, const RowState *s, const AttrNumber *attnos, int n)
{
	Jsonb	   *row = whole_row(rel, s);

	pushJsonbValue(ps, WJB_BEGIN_OBJECT, NULL);
	for (int c = 0; c < n; c++)
	{
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel), attnos[c] - 1);
		char	   *name = NameStr(attr->attname);
		JsonbValue	buf;
		JsonbValue *v;

		if (s->kinds[attnos[c] - 1] != VALUE_HERE ||
			(v = getKeyJsonValueFromContainer(&row->root, name, strlen(name), &buf)) == NULL)
			continue;
		protect_number(v, attr->atttypid);
		json_push_key(ps, name);
		pushJsonbValue(ps, WJB_VALUE, v);
	}
	return pushJsonbValue(ps, WJB_END_OBJECT, NULL);
}

static Datum
columns_to_jsonb(Relation rel, const RowState *s, const AttrNumber *attnos, int n)
{
	JsonbParseState *ps = NULL;

	return JsonbPGetDatum(JsonbValueToJsonb(push_columns(&ps, rel, s, attnos, n)));
}

Datum
state_key_to_jsonb(const FerryTable *table, Relation rel, const RowState *s)
{
	return columns_to_jsonb(rel, s, table->key_attnos, table->nkeys);
}

Datum
state_row_to_jsonb(const FerryTable *table, Relation rel, const RowState *s)
{
	return columns_to_jsonb(rel, s, table->plain_attnos, table->nplain);
}

Datum
state_image_to_jsonb(const FerryTable *table, Relation rel, const RowState *s)
{
	AttrNumber *attnos = palloc(sizeof(AttrNumber) * (table->nkeys + table->nplain));

	memcpy(attnos, table->key_attnos, sizeof(AttrNumber) * table->nkeys);
	memcpy(attnos + table->nkeys, table->plain_attnos, sizeof(AttrNumber) * table->nplain);
	return columns_to_jsonb(rel, s, attnos, table->nkeys + table->nplain);
}

Datum
state_to_jsonb(const FerryTable *table, Relation rel, const RowState *s)
{
	JsonbParseState *ps = NULL;
	JsonbValue	flag;
	JsonbValue *result;
	const Version *v = &s->version;

	pushJsonbValue(&ps, WJB_BEGIN_OBJECT, NULL);
	json_push_key(&ps, "alive");
	flag.type = jbvBool;
	flag.val.boolean = s->alive;
	pushJsonbValue(&ps, WJB_VALUE, &flag);
	json_push_key(&ps, "key");
	push_columns(&ps, rel, s, table->key_attnos, table->nkeys);
	json_push_key(&ps, "row");
	push_columns(&ps, rel, s, table->plain_attnos, table->nplain);
	json_push_key(&ps, "last");
	json_push_dot(&ps, v->last);
	json_push_key(&ps, "vv");
	pushJsonbValue(&ps, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < v->nvv; i++)
	{
		json_push_key(&ps, psprintf("%u", v->vv[i].node));
		json_push_string(&ps, WJB_VALUE, hlc_text(v->vv[i].hlc));
	}
	pushJsonbValue(&ps, WJB_END_OBJECT, NULL);
	if (v->ncols > 0)
	{
		json_push_key(&ps, "columns");
		pushJsonbValue(&ps, WJB_BEGIN_OBJECT, NULL);
		for (int c = 0; c < v->ncols; c++)
		{
			AttrNumber	attno = v->cols[c].col <= table->nids ? table->id_attnos[v->cols[c].col - 1] : 0;

			if (attno == 0)
				continue;
			json_push_key(&ps, NameStr(TupleDescAttr(RelationGetDescr(rel), attno - 1)->attname));
			json_push_dot(&ps, v->cols[c].dot);
		}
		pushJsonbValue(&ps, WJB_END_OBJECT, NULL);
	}
	if (v->nlive > 0)
	{
		json_push_key(&ps, "live");
		pushJsonbValue(&ps, WJB_BEGIN_ARRAY, NULL);
		for (int i = 0; i < v->nlive; i++)
			json_push_dot(&ps, v->live[i]);
		pushJsonbValue(&ps, WJB_END_ARRAY, NULL);
	}
	json_push_strategies(&ps, table, rel, s);
	if (v->pruned)
	{
		json_push_key(&ps, "horizon");
		pushJsonbValue(&ps, WJB_BEGIN_OBJECT, NULL);
		for (uint32 i = 0; v->horizon && i < v->horizon->n; i++)
		{
			json_push_key(&ps, psprintf("%u", v->horizon->entries[i].node));
			json_push_string(&ps, WJB_VALUE, hlc_text(v->horizon->entries[i].hlc));
		}
		pushJsonbValue(&ps, WJB_END_OBJECT, NULL);
	}
	result = pushJsonbValue(&ps, WJB_END_OBJECT, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(result));
}
