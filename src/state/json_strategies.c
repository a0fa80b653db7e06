/*-------------------------------------------------------------------------
 *
 * json_strategies.c
 *		"strategies" in a row state in jsonb: what columns that merge by a
 *		strategy keep beside their values; written and read.
 *
 *		{"<column>": {"kind": "counter", "since": ["<hlc>", "<node id>"],
 *					  "shares": {"<node id>": "<number>", ...}},
 *		 "<column>": {"kind": "set", "elements": [[["<hlc>", "<node id>"], ...], ...]},
 *		 "<column>": {"kind": "map", "keys": {"<key>": ["<hlc>", "<node id>"], ...},
 *					  "removed": {"<key>": ["<hlc>", "<node id>"], ...}},
 *		 "<column>": {"kind": "max"}, ...}
 *
 * "since" is left out for a row that was born under the strategy.  The node of
 * the column's dot has no share of its own: it has what the others leave of the
 * value.  "elements" are the dots of the array's elements, in its order.  A key that
 * was brought past a TRUNCATE (core/range.c) has two dots, as an element may have:
 * [[...], [...]].
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/rel.h"

#include "state/json_private.h"
#include "state/strategy.h"

static const char *
kind_name(ColumnKind kind)
{
	return kind == KIND_FUNCTION ? "function" : strategy_kind_name(kind);
}

/* --- writing --- */

static void
push_shares(JsonbParseState **ps, const StrategyColumn *col, const ColumnParts *cp)
{
	json_push_key(ps, "shares");
	pushJsonbValue(ps, WJB_BEGIN_OBJECT, NULL);
	for (uint32 i = 0; i < cp->nparts; i++)
	{
		json_push_key(ps, psprintf("%u", cp->parts[i].node));
		json_push_string(ps, WJB_VALUE, counter_share_text(col, &cp->parts[i]));
	}
	pushJsonbValue(ps, WJB_END_OBJECT, NULL);
}

static void
push_dots(JsonbParseState **ps, const Dot *dots, uint32 n)
{
	pushJsonbValue(ps, WJB_BEGIN_ARRAY, NULL);
	for (uint32 d = 0; d < n; d++)
		json_push_dot(ps, dots[d]);
	pushJsonbValue(ps, WJB_END_ARRAY, NULL);
}

static void
push_elements(JsonbParseState **ps, const ColumnParts *cp)
{
	json_push_key(ps, "elements");
	pushJsonbValue(ps, WJB_BEGIN_ARRAY, NULL);
	for (uint32 i = 0; i < cp->nparts; i++)
		push_dots(ps, cp->parts[i].dots, cp->parts[i].ndots);
	pushJsonbValue(ps, WJB_END_ARRAY, NULL);
}

static void
push_keys(JsonbParseState **ps, const PartItem *items, int n, bool removed)
{
	json_push_key(ps, removed ? "removed" : "keys");
	pushJsonbValue(ps, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < n; i++)
	{
		if (items[i].removed != removed)
			continue;
		json_push_key(ps, pnstrdup((const char *) items[i].key, items[i].key_len));
		if (items[i].ndots == 1)
			json_push_dot(ps, items[i].dots[0]);
		else
			push_dots(ps, items[i].dots, items[i].ndots);
	}
	pushJsonbValue(ps, WJB_END_OBJECT, NULL);
}

void
json_push_strategies(JsonbParseState **ps, const FerryTable *table, Relation rel, const RowState *s)
{
	if (s->version.nparts == 0)
		return;
	json_push_key(ps, "strategies");
	pushJsonbValue(ps, WJB_BEGIN_OBJECT, NULL);
	for (int p = 0; p < s->version.nparts; p++)
	{
		const ColumnParts *cp = &s->version.parts[p];
		AttrNumber	attno = cp->col <= table->nids ? table->id_attnos[cp->col - 1] : 0;
		StrategyColumn col;
		StrategySide side = {&s->version};

		if (attno == 0)
			continue;
		col = strategy_column(table, RelationGetDescr(rel), cp->col, (ColumnKind) cp->kind);
		side.value = s->values[attno - 1];
		side.isnull = s->nulls[attno - 1];
		json_push_key(ps, NameStr(col.attr->attname));
		pushJsonbValue(ps, WJB_BEGIN_OBJECT, NULL);
		json_push_key(ps, "kind");
		json_push_string(ps, WJB_VALUE, kind_name(col.kind));
		if (cp->since.hlc != 0)
		{
			json_push_key(ps, "since");
			json_push_dot(ps, (Dot) {cp->since.hlc, cp->since.node});
		}
		if (cp->kind == KIND_COUNTER)
			push_shares(ps, &col, cp);
		else if (cp->kind == KIND_SET)
			push_elements(ps, cp);
		else if (cp->kind == KIND_MAP && s->kinds[attno - 1] == VALUE_HERE)
		{
			PartItem   *items;
			int			n = map_open(&col, &side, &items);

			push_keys(ps, items, n, false);
			push_keys(ps, items, n, true);
		}
		pushJsonbValue(ps, WJB_END_OBJECT, NULL);
	}
	pushJsonbValue(ps, WJB_END_OBJECT, NULL);
}

/* --- reading --- */

static void
add_part(ColumnParts *cp, Part part)
{
	if (cp->nparts >= VERSION_MAX_PARTS)
		bad_state("\"strategies\" has more than %d parts.", VERSION_MAX_PARTS);
	cp->parts[cp->nparts++] = part;
}

static int
compare_dots(const void *a, const void *b)
{
	return dot_compare(*(const Dot *) a, *(const Dot *) b);
}

static Part
part_of_dots(const char *what, JsonbContainer *array, const Version *version)
{
	Part		part = {0};

	part.ndots = JsonContainerSize(array);
	part.dots = palloc(sizeof(Dot) * part.ndots);
	for (uint32 d = 0; d < part.ndots; d++)
		part.dots[d] = json_covered_dot(what, getIthJsonbValueFromContainer(array, d), version);
	qsort(part.dots, part.ndots, sizeof(Dot), compare_dots);
	return part;
}

/* one dot, or two in an array */
static Part
part_of_key(const JsonbValue *v, const Version *version)
{
	Part		part = {0};

	if (v->type == jbvBinary && JsonContainerIsArray(v->val.binary.data) &&
		JsonContainerSize(v->val.binary.data) == MAP_MAX_DOTS &&
		getIthJsonbValueFromContainer(v->val.binary.data, 0)->type == jbvBinary)
		return part_of_dots("\"strategies\"", v->val.binary.data, version);
	part.dots = palloc(sizeof(Dot));
	part.dots[0] = json_covered_dot("\"strategies\"", v, version);
	part.ndots = 1;
	return part;
}

static int
compare_by_node(const void *a, const void *b)
{
	NodeId		x = ((const Part *) a)->node;
	NodeId		y = ((const Part *) b)->node;

	return (x > y) - (x < y);
}

static void
get_shares(const StrategyColumn *col, JsonbContainer *object, const Version *version, ColumnParts *cp)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	item;
	NodeId		node = 0;

	cp->parts = palloc(sizeof(Part) * Max(JsonContainerSize(object), 1));
	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		char	   *text;
		Part		part;

		if (token == WJB_KEY)
			node = json_unsigned("A node id", &item, PG_UINT32_MAX);
		if (token != WJB_VALUE)
			continue;
		if (item.type == jbvString)
			text = pnstrdup(item.val.string.val, item.val.string.len);
		else if (item.type == jbvNumeric)
			text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(item.val.numeric)));
		else
			bad_state("A share must be a number.");
		if (node == version_column_dot(version, col->id).node || version_entry(version, node) == 0)
			bad_state("\"shares\" names a node that is not in \"vv\", or the one that wrote the column last.");
		part = counter_share_from_text(col, node, text);
		if (part.len > 0)
			add_part(cp, part);
	}
	qsort(cp->parts, cp->nparts, sizeof(Part), compare_by_node);
}

static void
get_elements(JsonbContainer *array, const Version *version, ColumnParts *cp)
{
	int			n = JsonContainerSize(array);

	cp->parts = palloc(sizeof(Part) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		JsonbValue *v = getIthJsonbValueFromContainer(array, i);

		if (v->type != jbvBinary || !JsonContainerIsArray(v->val.binary.data) ||
			JsonContainerSize(v->val.binary.data) == 0)
			bad_state("\"elements\" must have an array of dots for each element.");
		add_part(cp, part_of_dots("\"elements\"", v->val.binary.data, version));
	}
}

/* jsonb keeps keys in the order that parts have */
static void
get_keys(JsonbContainer *object, bool removed, const Version *version, ColumnParts *cp)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	item;
	JsonbValue	key = {0};

	if (object == NULL)
		return;
	it = JsonbIteratorInit(object);
	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		Part		part;

		if (token == WJB_KEY)
			key = item;
		if (token != WJB_VALUE)
			continue;
		part = part_of_key(&item, version);
		part.removed = removed;
		if (removed)
		{
			part.bytes = (const uint8_t *) key.val.string.val;
			part.len = key.val.string.len;
		}
		add_part(cp, part);
	}
}

static ColumnKind
get_kind(JsonbContainer *object)
{
	JsonbValue *v = json_member(object, "kind");

	for (int kind = KIND_LWW + 1; v && v->type == jbvString && kind <= KIND_LAST; kind++)
	{
		const char *name = kind_name((ColumnKind) kind);

		if (strlen(name) == (size_t) v->val.string.len && memcmp(name, v->val.string.val, v->val.string.len) == 0)
			return (ColumnKind) kind;
	}
	bad_state("\"kind\" must be counter, max, min, set, map or function.");
	return KIND_LWW;			/* keep the compiler quiet */
}

static void
get_column(const FerryTable *table, Relation rel, uint16 id, JsonbContainer *object, Version *version)
{
	ColumnParts cp = {.col = id};
	StrategyColumn col;
	JsonbValue *since = json_member(object, "since");
	JsonbValue *elements = json_member(object, "elements");

	cp.kind = get_kind(object);
	col = strategy_column(table, RelationGetDescr(rel), id, (ColumnKind) cp.kind);
	strategy_check_type(&col);
	if (since)
	{
		Dot			d = json_covered_dot("\"since\"", since, version);

		cp.since.hlc = d.hlc;
		cp.since.node = d.node;
	}
	if (cp.kind == KIND_COUNTER)
		get_shares(&col, json_object_member(object, "shares", true), version, &cp);
	else if (cp.kind == KIND_SET)
	{
		if (elements == NULL || elements->type != jbvBinary || !JsonContainerIsArray(elements->val.binary.data))
			bad_state("\"elements\" must be an array.");
		get_elements(elements->val.binary.data, version, &cp);
	}
	else if (cp.kind == KIND_MAP)
	{
		JsonbContainer *keys = json_object_member(object, "keys", true);
		JsonbContainer *removed = json_object_member(object, "removed", false);

		cp.parts = palloc(sizeof(Part) * (JsonContainerSize(keys) + (removed ? JsonContainerSize(removed) : 0) + 1));
		get_keys(keys, false, version, &cp);
		get_keys(removed, true, version, &cp);
	}
	version_put_parts(version, &cp);
}

void
json_get_strategies(const FerryTable *table, Relation rel, JsonbContainer *object, Version *version)
{
	if (table->mode != MERGE_MODE_COLUMN)
		bad_state("Table \"%s\" merges by row: its columns have no strategies.", RelationGetRelationName(rel));
	json_check_names("strategies", object, rel, table->plain_attnos, table->nplain);
	for (int c = 0; c < table->nplain; c++)
	{
		char	   *name = NameStr(TupleDescAttr(RelationGetDescr(rel), table->plain_attnos[c] - 1)->attname);
		JsonbContainer *column = json_object_member(object, name, false);

		if (column)
			get_column(table, rel, table->plain_ids[c], column, version);
	}
}

void
json_check_strategies(const FerryTable *table, Relation rel, const RowState *s)
{
	for (int p = 0; p < s->version.nparts; p++)
	{
		const ColumnParts *cp = &s->version.parts[p];
		int			i = table->id_attnos[cp->col - 1] - 1;
		StrategyColumn col = strategy_column(table, RelationGetDescr(rel), cp->col, (ColumnKind) cp->kind);
		StrategySide side = {&s->version, s->values[i], s->nulls[i]};
		Part	   *shares;
		PartItem   *items;

		if (s->kinds[i] != VALUE_HERE)
			bad_state("\"strategies\" names column \"%s\", whose value is missing.", NameStr(col.attr->attname));
		if (col.kind == KIND_COUNTER)
			(void) counter_open(&col, &side, &shares);
		else if (col.kind == KIND_MAP)
			(void) map_open(&col, &side, &items);
		else if (col.kind == KIND_SET && !set_is_stored_form(&col, &side))
			bad_state("Column \"%s\" is a set: its elements must stand each once and in order, as many as \"elements\" has.",
					  NameStr(col.attr->attname));
	}
}
