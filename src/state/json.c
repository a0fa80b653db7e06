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
 * or, of a whole table, what TRUNCATE left:
 *
 *		{"truncate": true, "last": ["<hlc>", "<node id>"], "vv": {"<node id>": "<hlc>", ...}}
 *
 * A state that was written under what a TRUNCATE left has that in "truncates", an
 * array of such objects, if ferry.state() gave it: it is merged first (core/range.c).
 *
 * "columns" holds those that an older dot than the last wrote, "live" the dots
 * that keep a row alive (under last_wins: the one that decides whether it is) where
 * they are not just the last one; both are left out
 * when empty, as is "strategies" (json_strategies.c).  "horizon" is there if entries
 * of "vv" were dropped: up to there the state has seen everything.  "json_null"
 * names columns of type jsonb that hold the JSON null, which would else be NULL;
 * "lacks" names those whose value a dead row's last state did not bring.
 * json_value.c has the values.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "core/vector.h"
#include "state/json_private.h"

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

static Datum
columns_to_jsonb(Relation rel, const RowState *s, const AttrNumber *attnos, int n)
{
	JsonbParseState *ps = NULL;

	return JsonbPGetDatum(JsonbValueToJsonb(json_push_columns(&ps, rel, s, attnos, n)));
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

/* the last dot and the vector */
static void
push_writers(JsonbParseState **ps, const Version *v)
{
	json_push_key(ps, "last");
	json_push_dot(ps, v->last);
	json_push_key(ps, "vv");
	pushJsonbValue(ps, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < v->nvv; i++)
	{
		json_push_key(ps, psprintf("%u", v->vv[i].node));
		json_push_string(ps, WJB_VALUE, hlc_text(v->vv[i].hlc));
	}
	pushJsonbValue(ps, WJB_END_OBJECT, NULL);
}

static void
push_flag(JsonbParseState **ps, const char *name, bool value)
{
	JsonbValue	flag;

	flag.type = jbvBool;
	flag.val.boolean = value;
	json_push_key(ps, name);
	pushJsonbValue(ps, WJB_VALUE, &flag);
}

static JsonbValue *
push_range(JsonbParseState **ps, const Version *range)
{
	pushJsonbValue(ps, WJB_BEGIN_OBJECT, NULL);
	push_flag(ps, "truncate", true);
	push_writers(ps, range);
	return pushJsonbValue(ps, WJB_END_OBJECT, NULL);
}

Datum
range_to_jsonb(const Version *range)
{
	JsonbParseState *ps = NULL;

	return JsonbPGetDatum(JsonbValueToJsonb(push_range(&ps, range)));
}

static int
compare_ranges(const void *a, const void *b)
{
	return dot_compare(((const Version *) a)->last, ((const Version *) b)->last);
}

Datum
ranges_to_jsonb(const Version *ranges, int n)
{
	JsonbParseState *ps = NULL;
	Version    *sorted = palloc(sizeof(Version) * n);

	/* in whatever order they arrived here: equal states look equal */
	memcpy(sorted, ranges, sizeof(Version) * n);
	qsort(sorted, n, sizeof(Version), compare_ranges);
	pushJsonbValue(&ps, WJB_BEGIN_OBJECT, NULL);
	json_push_key(&ps, "truncates");
	pushJsonbValue(&ps, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < n; i++)
		(void) push_range(&ps, &sorted[i]);
	pushJsonbValue(&ps, WJB_END_ARRAY, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&ps, WJB_END_OBJECT, NULL)));
}

/* names of columns as an array, if there are any */
static void
push_names(JsonbParseState **ps, const char *member, const FerryTable *table, Relation rel, const RowState *s,
		   bool (*applies) (const RowState *s, Form_pg_attribute attr))
{
	bool		any = false;

	for (int c = 0; c < table->nplain; c++)
	{
		Form_pg_attribute attr = TupleDescAttr(RelationGetDescr(rel), table->plain_attnos[c] - 1);

		if (!applies(s, attr))
			continue;
		if (!any)
		{
			json_push_key(ps, member);
			pushJsonbValue(ps, WJB_BEGIN_ARRAY, NULL);
		}
		any = true;
		json_push_string(ps, WJB_ELEM, NameStr(attr->attname));
	}
	if (any)
		pushJsonbValue(ps, WJB_END_ARRAY, NULL);
}

static bool
is_json_null(const RowState *s, Form_pg_attribute attr)
{
	int			i = attr->attnum - 1;
	JsonbContainer *root;
	JsonbValue	scalar;

	if (s->kinds[i] != VALUE_HERE || s->nulls[i] || getBaseType(attr->atttypid) != JSONBOID)
		return false;
	root = &DatumGetJsonbP(s->values[i])->root;
	return JsonContainerIsScalar(root) && JsonbExtractScalar(root, &scalar) && scalar.type == jbvNull;
}

static bool
is_lacking(const RowState *s, Form_pg_attribute attr)
{
	return s->kinds[attr->attnum - 1] == VALUE_UNCHANGED;
}

Datum
state_to_jsonb(const FerryTable *table, Relation rel, const RowState *s)
{
	JsonbParseState *ps = NULL;
	JsonbValue *result;
	const Version *v = &s->version;

	pushJsonbValue(&ps, WJB_BEGIN_OBJECT, NULL);
	push_flag(&ps, "alive", s->alive);
	json_push_key(&ps, "key");
	json_push_columns(&ps, rel, s, table->key_attnos, table->nkeys);
	json_push_key(&ps, "row");
	json_push_columns(&ps, rel, s, table->plain_attnos, table->nplain);
	push_names(&ps, "json_null", table, rel, s, is_json_null);
	push_names(&ps, "lacks", table, rel, s, is_lacking);
	push_writers(&ps, v);
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
		JsonbValue	yes = {.type = jbvBool,.val.boolean = true};

		json_push_key(&ps, "pruned");
		pushJsonbValue(&ps, WJB_VALUE, &yes);
	}
	if (v->pruned || (version_needs_horizon(v) && v->horizon && v->horizon->n > 0))
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
