/*-------------------------------------------------------------------------
 *
 * strategy_map.c
 *		jsonb objects as maps: each key of the outermost object is a register of
 *		its own, the last writer wins, and a removal is a write too.
 *
 * One level deep: what stands under a key, objects and arrays as well, is
 * replaced as one.  A local write is the difference between the old object and
 * the new one; a value is the same if its jsonb bytes are.
 *
 * A removed key is kept with the dot of its removal, so that an older write of
 * it, still on its way, is known to be older; until every node has the removal
 * (core/horizon.c).
 *
 * jsonb that is no object is a register, as NULL is.  The ground of a NULL is
 * the empty object.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "compat.h"
#include "state/strategy.h"

static bool
is_map(Datum value, bool isnull)
{
	return isnull || JB_ROOT_IS_OBJECT(DatumGetJsonbP(value));
}

/* the keys, in jsonb's own order, which is that of items; without dots; room for more */
static int
open_object(Datum value, bool isnull, int more, PartItem **items)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	Jsonb	   *object;
	int			n = 0;

	*items = palloc0(sizeof(PartItem) * (more + 1));
	if (isnull)
		return 0;
	object = DatumGetJsonbP(value);
	*items = palloc0(sizeof(PartItem) * (JsonContainerSize(&object->root) + more + 1));
	it = JsonbIteratorInit(&object->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		PartItem   *item = &(*items)[n];

		if (token == WJB_KEY)
		{
			item->key = (const uint8_t *) v.val.string.val;
			item->key_len = v.val.string.len;
		}
		else if (token == WJB_VALUE)
		{
			JsonbValue *copy = palloc(sizeof(JsonbValue));
			Jsonb	   *bytes = JsonbValueToJsonb(&v);

			*copy = v;
			item->handle = copy;
			item->value = (const uint8_t *) VARDATA(bytes);
			item->value_len = VARSIZE(bytes) - VARHDRSZ;
			n++;
		}
	}
	return n;
}

static int
compare_items(const void *a, const void *b)
{
	return item_compare(a, b);
}

pg_noreturn static void
report_mismatch(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("keys of a map column do not match its version")));
}

int
map_open(const StrategyColumn *col, const StrategySide *side, PartItem **items)
{
	const ColumnParts *parts = version_column_parts(side->version, col->id);
	int			living;
	int			n;

	if (!is_map(side->value, side->isnull))
		report_mismatch();
	living = n = open_object(side->value, side->isnull, parts ? parts->nparts : 0, items);
	for (int i = 0; i < living; i++)
	{
		PartItem   *item = &(*items)[i];

		if (parts && ((uint32) i >= parts->nparts || parts->parts[i].removed))
			report_mismatch();
		if (parts)
		{
			item->dots = parts->parts[i].dots;
			item->ndots = parts->parts[i].ndots;
			continue;
		}
		item->dots = palloc(sizeof(Dot));
		item->dots[0] = version_column_dot(side->version, col->id);
		item->ndots = 1;
	}
	for (uint32 p = living; parts && p < parts->nparts; p++)
	{
		PartItem   *item = &(*items)[n++];

		if (!parts->parts[p].removed)
			report_mismatch();
		item->removed = true;
		item->key = parts->parts[p].bytes;
		item->key_len = parts->parts[p].len;
		item->dots = parts->parts[p].dots;
		item->ndots = parts->parts[p].ndots;
	}
	if (n > living)
		qsort(*items, n, sizeof(PartItem), compare_items);
	for (int i = 1; i < n; i++)
		if (item_compare(&(*items)[i - 1], &(*items)[i]) == 0)
			report_mismatch();
	return n;
}

static Datum
close_items(const StrategyColumn *col, Version *version, PartsSince since, const PartItem *items, int n)
{
	ColumnParts parts = {.col = col->id, .kind = KIND_MAP, .since = since};
	JsonbParseState *ps = NULL;
	JsonbValue *object;

	parts.parts = palloc0(sizeof(Part) * Max(n, 1));
	pushJsonbValue(&ps, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < n; i++)
	{
		JsonbValue	key;

		if (items[i].removed)
			continue;
		key.type = jbvString;
		key.val.string.val = unconstify(char *, (const char *) items[i].key);
		key.val.string.len = items[i].key_len;
		pushJsonbValue(&ps, WJB_KEY, &key);
		pushJsonbValue(&ps, WJB_VALUE, unconstify(JsonbValue *, (const JsonbValue *) items[i].handle));
		parts.parts[parts.nparts].dots = items[i].dots;
		parts.parts[parts.nparts++].ndots = items[i].ndots;
	}
	object = pushJsonbValue(&ps, WJB_END_OBJECT, NULL);
	for (int i = 0; i < n; i++)
	{
		Part	   *part = &parts.parts[parts.nparts];

		if (!items[i].removed)
			continue;
		part->removed = true;
		part->bytes = items[i].key;
		part->len = items[i].key_len;
		part->dots = items[i].dots;
		part->ndots = items[i].ndots;
		parts.nparts++;
	}
	version_put_parts(version, &parts);
	return JsonbPGetDatum(JsonbValueToJsonb(object));
}

void
map_write(const StrategyColumn *col, StrategyWrite *w)
{
	PartItem   *old = NULL;
	PartItem   *fresh;
	PartItem   *items;
	int			nold = 0;
	int			n;

	if (w->isnull ? w->old && !w->old->isnull : !is_map(w->value, false))
		return;
	if (w->old && !is_map(w->old->value, w->old->isnull))
		return;
	if (w->old)
		nold = map_open(col, w->old, &old);
	n = open_object(w->value, w->isnull, 0, &fresh);
	items = palloc(sizeof(PartItem) * (nold + n + 1));
	n = items_write(KIND_MAP, old, nold, fresh, n, w->birth, &w->dot, items);
	(void) close_items(col, w->after, w->since, items, n);
}

void
map_join(const StrategyColumn *col, StrategyJoin *j)
{
	PartItem   *l;
	PartItem   *r;
	int			nl = map_open(col, j->local, &l);
	int			nr = map_open(col, j->remote, &r);
	PartItem   *items = palloc(sizeof(PartItem) * (nl + nr + 1));
	int			n = items_merge(KIND_MAP, l, nl, j->local->version, r, nr, j->remote->version, items);

	j->value = close_items(col, j->out, j->since, items, n);
	j->isnull = j->local->isnull && j->remote->isnull;
}
