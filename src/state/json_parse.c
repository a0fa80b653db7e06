/*-------------------------------------------------------------------------
 *
 * json_parse.c
 *		Row states read from jsonb: the other half of json.c.
 *
 * The text comes from a user or over somebody's transport: nothing is taken on
 * trust.  A version is built as it stands and then sent through the encoder and
 * the strict decoder, which knows all that a version must fulfil.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"

#include "core/vector.h"
#include "state/json_private.h"

/* --- pieces --- */

JsonbValue *
json_member(JsonbContainer *object, const char *name)
{
	return getKeyJsonValueFromContainer(object, name, strlen(name), NULL);
}

JsonbContainer *
json_object_member(JsonbContainer *object, const char *name, bool required)
{
	JsonbValue *v = json_member(object, name);

	if (v == NULL && !required)
		return NULL;
	if (v == NULL || v->type != jbvBinary || !JsonContainerIsObject(v->val.binary.data))
		bad_state("\"%s\" must be an object.", name);
	return v->val.binary.data;
}

/* a string or a number that is an unsigned integer of at most max; never 0 */
uint64
json_unsigned(const char *what, const JsonbValue *v, uint64 max)
{
	char	   *digits;
	uint64		n = 0;

	if (v->type == jbvString)
		digits = pnstrdup(v->val.string.val, v->val.string.len);
	else if (v->type == jbvNumeric)
		digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric)));
	else
		bad_state("%s must be a string of digits.", what);
	if (*digits == '\0' || strspn(digits, "0123456789") != strlen(digits) || *digits == '0')
		bad_state("%s must be a positive integer.", what);
	for (char *p = digits; *p; p++)
	{
		if (n > (max - (*p - '0')) / 10)
			bad_state("%s is out of range.", what);
		n = n * 10 + (*p - '0');
	}
	return n;
}

/* ["<hlc>", "<node id>"] */
Dot
json_dot(const char *what, const JsonbValue *v)
{
	Dot			d;

	if (v == NULL || v->type != jbvBinary || !JsonContainerIsArray(v->val.binary.data) ||
		JsonContainerSize(v->val.binary.data) != 2)
		bad_state("%s must be an array of stamp and node id.", what);
	d.hlc = json_unsigned("A stamp", getIthJsonbValueFromContainer(v->val.binary.data, 0), PG_UINT64_MAX);
	d.node = json_unsigned("A node id", getIthJsonbValueFromContainer(v->val.binary.data, 1), PG_UINT32_MAX);
	return d;
}

static int
compare_by_node(const void *a, const void *b)
{
	NodeId		x = ((const Dot *) a)->node;
	NodeId		y = ((const Dot *) b)->node;

	return (x > y) - (x < y);
}

static int
compare_dots(const void *a, const void *b)
{
	return dot_compare(*(const Dot *) a, *(const Dot *) b);
}

static int
compare_columns(const void *a, const void *b)
{
	return (int) ((const ColumnDot *) a)->col - (int) ((const ColumnDot *) b)->col;
}

/* --- version --- */

static void
get_vv(JsonbContainer *object, Version *v)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	item;

	if (JsonContainerSize(object) > VERSION_MAX_WRITERS)
		bad_state("\"vv\" has more than %d entries.", VERSION_MAX_WRITERS);
	v->vv = palloc(sizeof(Dot) * Max(JsonContainerSize(object), 1));
	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			v->vv[v->nvv].node = json_unsigned("A node id", &item, PG_UINT32_MAX);
		else if (token == WJB_VALUE)
			v->vv[v->nvv++].hlc = json_unsigned("A stamp", &item, PG_UINT64_MAX);
	}
	qsort(v->vv, v->nvv, sizeof(Dot), compare_by_node);
	if (version_entry(v, v->last.node) != v->last.hlc)
		bad_state("\"vv\" must hold the dot in \"last\".");
	for (int i = 0; i < v->nvv; i++)
		if (v->vv[i].hlc > v->last.hlc)
			bad_state("\"last\" must be the latest stamp in \"vv\".");
}

static NodeVector *
get_horizon(JsonbContainer *object)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	item;
	NodeVector *h = palloc0(sizeof(NodeVector));
	NodeId		node = NODE_ID_NONE;

	if (JsonContainerSize(object) > VECTOR_MAX)
		bad_state("\"horizon\" has more than %d entries.", VECTOR_MAX);
	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			node = json_unsigned("A node id", &item, PG_UINT32_MAX);
		else if (token == WJB_VALUE)
			(void) vector_raise(h, node, json_unsigned("A stamp", &item, PG_UINT64_MAX));
	}
	return h;
}

Dot
json_covered_dot(const char *what, const JsonbValue *v, const Version *version)
{
	Dot			d = json_dot(what, v);

	if (!version_covers(version, d))
		bad_state("%s holds a dot that \"vv\" does not include.", what);
	return d;
}

static void
get_column_dots(const FerryTable *table, Relation rel, JsonbContainer *object, Version *v)
{
	if (table->mode != MERGE_MODE_COLUMN)
		bad_state("Table \"%s\" merges by row: there are no dots of columns.", RelationGetRelationName(rel));
	v->cols = palloc(sizeof(ColumnDot) * Max(table->nplain, 1));
	for (int c = 0; c < table->nplain; c++)
	{
		char	   *name = NameStr(TupleDescAttr(RelationGetDescr(rel), table->plain_attnos[c] - 1)->attname);
		JsonbValue *item = json_member(object, name);
		ColumnDot	cd;

		if (item == NULL)
			continue;
		cd.col = table->plain_ids[c];
		cd.dot = json_covered_dot("\"columns\"", item, v);
		if (!dot_equal(cd.dot, v->last))
			v->cols[v->ncols++] = cd;
	}
	qsort(v->cols, v->ncols, sizeof(ColumnDot), compare_columns);
}

static void
get_live(const FerryTable *table, JsonbContainer *array, Version *v)
{
	int			n = JsonContainerSize(array);

	if (table->life != LIFE_UPDATE_WINS && n != 1)
		bad_state("\"live\" is one dot in tables under last_wins.");
	if (n > VERSION_MAX_LIVE)
		bad_state("\"live\" has more than %d entries.", VERSION_MAX_LIVE);
	v->live = palloc(sizeof(Dot) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		v->live[i] = json_covered_dot("\"live\"", getIthJsonbValueFromContainer(array, i), v);
	}
	v->nlive = n;
	qsort(v->live, n, sizeof(Dot), compare_dots);
}

/* table and rel are NULL where there can only be a dot and a vector */
static void
get_version(const FerryTable *table, Relation rel, JsonbContainer *object, Version *out)
{
	Version		v = {0};
	JsonbValue *live = json_member(object, "live");
	JsonbContainer *columns = json_object_member(object, "columns", false);
	JsonbContainer *strategies = json_object_member(object, "strategies", false);
	JsonbContainer *horizon = json_object_member(object, "horizon", false);
	JsonbValue *pruned = json_member(object, "pruned");
	const char *error = NULL;
	uint8_t    *bytes;
	size_t		n;

	v.last = json_dot("\"last\"", json_member(object, "last"));
	v.pruned = pruned && pruned->type == jbvBool && pruned->val.boolean;
	if (pruned && (!v.pruned || horizon == NULL))
		bad_state("\"pruned\" can only be true, and stands with \"horizon\".");
	v.horizon = horizon ? get_horizon(horizon) : NULL;
	get_vv(json_object_member(object, "vv", true), &v);
	if (columns)
		get_column_dots(table, rel, columns, &v);
	if (live)
	{
		if (live->type != jbvBinary || !JsonContainerIsArray(live->val.binary.data))
			bad_state("\"live\" must be an array of dots.");
		get_live(table, live->val.binary.data, &v);
	}
	if (strategies)
		json_get_strategies(table, rel, strategies, &v);
	bytes = palloc(version_encoded_bytes(&v));
	n = version_encode(&v, bytes);
	if (!version_decode(bytes, n, out, &error))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid row state"),
				 errdetail_internal("%s", error)));
	out->horizon = v.horizon;
}

/* --- values --- */

/* every member must be a column of ours among those given */
void
json_check_names(const char *what, JsonbContainer *object, Relation rel, const AttrNumber *attnos, int n)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	item;

	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		bool		known = false;

		if (token != WJB_KEY)
			continue;
		for (int c = 0; c < n && !known; c++)
		{
			char	   *name = NameStr(TupleDescAttr(RelationGetDescr(rel), attnos[c] - 1)->attname);

			known = strlen(name) == (size_t) item.val.string.len &&
				memcmp(name, item.val.string.val, item.val.string.len) == 0;
		}
		if (!known)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("invalid row state"),
					 errdetail("\"%s\" names \"%s\", which table \"%s\" does not have there.", what,
							   pnstrdup(item.val.string.val, item.val.string.len),
							   RelationGetRelationName(rel))));
	}
}

/* an array of names of columns outside the key; what is said of each is done */
static void
get_names(RowState *s, const FerryTable *table, Relation rel, JsonbContainer *object, const char *member,
		  void (*say) (RowState *s, Form_pg_attribute attr))
{
	JsonbValue *names = json_member(object, member);

	if (names == NULL)
		return;
	if (names->type != jbvBinary || !JsonContainerIsArray(names->val.binary.data))
		bad_state("\"%s\" must be an array of names of columns.", member);
	for (uint32 i = 0; i < JsonContainerSize(names->val.binary.data); i++)
	{
		JsonbValue *name = getIthJsonbValueFromContainer(names->val.binary.data, i);
		Form_pg_attribute attr = NULL;

		for (int c = 0; c < table->nplain && name->type == jbvString && attr == NULL; c++)
		{
			attr = TupleDescAttr(RelationGetDescr(rel), table->plain_attnos[c] - 1);
			if (strlen(NameStr(attr->attname)) != (size_t) name->val.string.len ||
				memcmp(NameStr(attr->attname), name->val.string.val, name->val.string.len) != 0)
				attr = NULL;
		}
		if (attr == NULL)
			bad_state("\"%s\" must be an array of names of columns.", member);
		say(s, attr);
	}
}

static void
say_json_null(RowState *s, Form_pg_attribute attr)
{
	int			i = attr->attnum - 1;

	if (getBaseType(attr->atttypid) != JSONBOID || s->kinds[i] != VALUE_HERE || !s->nulls[i])
		bad_state("\"json_null\" names \"%s\", which is not of type jsonb or not null.", NameStr(attr->attname));
	s->values[i] = DirectFunctionCall1(jsonb_in, CStringGetDatum("null"));
	s->nulls[i] = false;
}

static void
say_lacking(RowState *s, Form_pg_attribute attr)
{
	if (s->kinds[attr->attnum - 1] != VALUE_ABSENT)
		bad_state("\"lacks\" names \"%s\", which has a value.", NameStr(attr->attname));
	s->kinds[attr->attnum - 1] = VALUE_UNCHANGED;
}

static void
get_key(RowState *s, const FerryTable *table, Relation rel, JsonbContainer *object)
{
	json_check_names("key", object, rel, table->key_attnos, table->nkeys);
	json_get_columns(s, rel, object, table->key_attnos, table->nkeys);
	for (int k = 0; k < table->nkeys; k++)
	{
		int			i = table->key_attnos[k] - 1;

		if (s->kinds[i] != VALUE_HERE || s->nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("key lacks column \"%s\" of the primary key of table \"%s\"",
							NameStr(TupleDescAttr(RelationGetDescr(rel), i)->attname),
							RelationGetRelationName(rel)),
					 errhint("Give all columns of the primary key, such as {\"id\": 1}.")));
	}
}

/* the row may name the key's columns, too, as a row made by to_jsonb() does: if they say the same */
static void
check_key_in_row(const RowState *s, const FerryTable *table, Relation rel, JsonbContainer *row)
{
	RowState   *again = state_create(table);

	json_get_columns(again, rel, row, table->key_attnos, table->nkeys);
	for (int k = 0; k < table->nkeys; k++)
	{
		int			i = table->key_attnos[k] - 1;
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);

		if (again->kinds[i] == VALUE_HERE &&
			(again->nulls[i] || !datum_image_eq(again->values[i], s->values[i], att->attbyval, att->attlen)))
			bad_state("\"row\" has another value of \"%s\" than \"key\".", NameStr(att->attname));
	}
}

/* --- whole --- */

static void
check_members(JsonbContainer *object, const char *const *known, int nknown)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	item;

	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		bool		found = false;

		if (token != WJB_KEY)
			continue;
		for (int i = 0; i < nknown && !found; i++)
			found = strlen(known[i]) == (size_t) item.val.string.len &&
				memcmp(known[i], item.val.string.val, item.val.string.len) == 0;
		if (!found)
			bad_state("\"%s\" is not a part of a row state.",
					  pnstrdup(item.val.string.val, item.val.string.len));
	}
}

bool
state_is_range(Datum jsonb)
{
	JsonbContainer *object = &DatumGetJsonbP(jsonb)->root;

	return JsonContainerIsObject(object) && json_member(object, "truncate") != NULL;
}

static void
get_range(JsonbContainer *object, Version *out)
{
	static const char *const known[] = {"truncate", "last", "vv"};
	JsonbValue *flag;

	check_members(object, known, lengthof(known));
	flag = json_member(object, "truncate");
	if (flag == NULL || flag->type != jbvBool || !flag->val.boolean)
		bad_state("\"truncate\" must be true.");
	get_version(NULL, NULL, object, out);
}

void
range_from_jsonb(Datum jsonb, Version *out)
{
	get_range(&DatumGetJsonbP(jsonb)->root, out);
}

List *
state_ranges_from_jsonb(Datum jsonb)
{
	JsonbContainer *object = &DatumGetJsonbP(jsonb)->root;
	JsonbValue *array = JsonContainerIsObject(object) ? json_member(object, "truncates") : NULL;
	List	   *ranges = NIL;

	if (array == NULL)
		return NIL;
	if (array->type != jbvBinary || !JsonContainerIsArray(array->val.binary.data))
		bad_state("\"truncates\" must be an array of objects.");
	for (uint32 i = 0; i < JsonContainerSize(array->val.binary.data); i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(array->val.binary.data, i);
		Version    *range = palloc(sizeof(Version));

		if (item->type != jbvBinary || !JsonContainerIsObject(item->val.binary.data))
			bad_state("\"truncates\" must be an array of objects.");
		get_range(item->val.binary.data, range);
		ranges = lappend(ranges, range);
	}
	return ranges;
}

RowState *
state_from_jsonb(const FerryTable *table, Relation rel, Datum jsonb)
{
	static const char *const known[] = {"alive", "key", "row", "last", "vv", "columns", "live", "strategies", "horizon", "pruned", "json_null", "lacks", "truncates"};
	JsonbContainer *object = &DatumGetJsonbP(jsonb)->root;
	JsonbContainer *row;
	JsonbValue *alive;
	RowState   *s = state_create(table);

	if (!JsonContainerIsObject(object))
		bad_state("It must be an object.");
	check_members(object, known, lengthof(known));
	alive = json_member(object, "alive");
	if (alive == NULL || alive->type != jbvBool)
		bad_state("\"alive\" must be true or false.");
	s->alive = alive->val.boolean;
	get_key(s, table, rel, json_object_member(object, "key", true));
	row = json_object_member(object, "row", s->alive);
	if (row)
	{
		AttrNumber *attnos = palloc(sizeof(AttrNumber) * (table->nkeys + table->nplain));

		memcpy(attnos, table->key_attnos, sizeof(AttrNumber) * table->nkeys);
		memcpy(attnos + table->nkeys, table->plain_attnos, sizeof(AttrNumber) * table->nplain);
		json_check_names("row", row, rel, attnos, table->nkeys + table->nplain);
		check_key_in_row(s, table, rel, row);
		json_get_columns(s, rel, row, table->plain_attnos, table->nplain);
	}
	get_names(s, table, rel, object, "json_null", say_json_null);
	get_names(s, table, rel, object, "lacks", say_lacking);
	get_version(table, rel, object, &s->version);
	json_check_strategies(table, rel, s);
	return s;
}

RowState *
state_key_from_jsonb(const FerryTable *table, Relation rel, Datum jsonb)
{
	JsonbContainer *object = &DatumGetJsonbP(jsonb)->root;
	RowState   *s = state_create(table);

	if (!JsonContainerIsObject(object))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key must be a JSON object"),
				 errhint("Give all columns of the primary key, such as {\"id\": 1}.")));
	get_key(s, table, rel, object);
	return s;
}
