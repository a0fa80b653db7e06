/*-------------------------------------------------------------------------
 *
 * strategy_set.c
 *		Arrays as sets: additions win against concurrent removals, element by
 *		element.
 *
 * An element is what its binary form is (by the type's send function): so 1.0
 * and 1.00 are two, on every node.  A local write is the difference between the
 * old array and the new one.  What is stored is the set: each element once, in
 * the order of the binary forms, shorter ones first (for integers that are not
 * negative, their own order), on every node the same.
 *
 * Arrays of more than one dimension are no sets: they are registers, as NULL is.
 * The ground of a NULL is the empty set.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/qunique.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "state/codec.h"
#include "state/strategy.h"

typedef struct ElementType
{
	Oid			typid;
	int16		len;
	bool		byval;
	char		align;
	bool		binary;			/* has a send function that says the same everywhere; else its text tells */
	FmgrInfo	out;
} ElementType;

/* what goes along with an item */
typedef struct Element
{
	Datum		value;
	bool		isnull;
	int			at;				/* where it stood */
} Element;

static ElementType
element_type(const StrategyColumn *col)
{
	ElementType t;
	Oid			function;
	bool		varlena;
	HeapTuple	tuple;

	t.typid = get_element_type(col->base);
	get_typlenbyvalalign(t.typid, &t.len, &t.byval, &t.align);
	getTypeOutputInfo(t.typid, &function, &varlena);
	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(t.typid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", t.typid);
	t.binary = OidIsValid(((Form_pg_type) GETSTRUCT(tuple))->typsend) && type_is_portable(t.typid);
	if (t.binary)
		function = ((Form_pg_type) GETSTRUCT(tuple))->typsend;
	ReleaseSysCache(tuple);
	fmgr_info(function, &t.out);
	return t;
}

/* NULL is no bytes; everything else has a byte before it */
static void
give_key(PartItem *item, ElementType *t, const Element *e)
{
	uint8	   *key;

	item->key = NULL;
	item->key_len = 0;
	if (e->isnull)
		return;
	if (t->binary)
	{
		bytea	   *bytes = SendFunctionCall(&t->out, e->value);

		item->key_len = VARSIZE(bytes) - VARHDRSZ + 1;
		key = palloc(item->key_len);
		memcpy(key + 1, VARDATA(bytes), item->key_len - 1);
	}
	else
	{
		char	   *text = text_output(&t->out, e->value);

		item->key_len = strlen(text) + 1;
		key = palloc(item->key_len);
		memcpy(key + 1, text, item->key_len - 1);
	}
	key[0] = 1;
	item->key = key;
}

static int
compare_items(const void *a, const void *b)
{
	return item_compare(a, b);
}

static bool
is_set(Datum value, bool isnull)
{
	return isnull || ARR_NDIM(DatumGetArrayTypeP(value)) <= 1;
}

/* the elements, sorted, each once, without dots */
static int
open_array(ElementType *t, Datum value, bool isnull, PartItem **items)
{
	Datum	   *values;
	bool	   *nulls;
	int			n;

	*items = NULL;
	if (isnull)
		return 0;
	deconstruct_array(DatumGetArrayTypeP(value), t->typid, t->len, t->byval, t->align, &values, &nulls, &n);
	*items = palloc0(sizeof(PartItem) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		Element    *e = palloc(sizeof(Element));

		e->value = values[i];
		e->isnull = nulls[i];
		e->at = i;
		(*items)[i].handle = e;
		give_key(&(*items)[i], t, e);
	}
	qsort(*items, n, sizeof(PartItem), compare_items);
	return qunique(*items, n, sizeof(PartItem), compare_items);
}

static int
open_side(const StrategyColumn *col, ElementType *t, const StrategySide *side, PartItem **items)
{
	const ColumnParts *parts = version_column_parts(side->version, col->id);
	int			n = open_array(t, side->value, side->isnull, items);

	if (parts && parts->nparts != (uint32) n)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("set column \"%s\" has %d elements where its version has %u",
						NameStr(col->attr->attname), n, parts->nparts)));
	for (int i = 0; i < n; i++)
	{
		if (parts)
		{
			(*items)[i].dots = parts->parts[i].dots;
			(*items)[i].ndots = parts->parts[i].ndots;
			continue;
		}
		(*items)[i].dots = palloc(sizeof(Dot));
		(*items)[i].dots[0] = version_column_dot(side->version, col->id);
		(*items)[i].ndots = 1;
	}
	return n;
}

bool
set_is_stored_form(const StrategyColumn *col, const StrategySide *side)
{
	const ColumnParts *parts = version_column_parts(side->version, col->id);
	ElementType t = element_type(col);
	PartItem   *items;
	int			n;

	if (!is_set(side->value, side->isnull))
		return false;
	n = side->isnull ? 0 : ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(side->value)),
										  ARR_DIMS(DatumGetArrayTypeP(side->value)));
	if (open_array(&t, side->value, side->isnull, &items) != n || parts->nparts != (uint32) n)
		return false;
	/* elements were made in the array's order: sorting must have moved none */
	for (int i = 1; i < n; i++)
		if (((const Element *) items[i - 1].handle)->at >= ((const Element *) items[i].handle)->at)
			return false;
	return true;
}

/* the array of these items, and their dots into version */
static Datum
close_items(const StrategyColumn *col, ElementType *t, Version *version, PartsSince since,
			const PartItem *items, int n)
{
	ColumnParts parts = {.col = col->id, .kind = KIND_SET, .since = since, .nparts = n};
	Datum	   *values = palloc(sizeof(Datum) * Max(n, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(n, 1));
	int			lower = 1;

	parts.parts = palloc0(sizeof(Part) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		const Element *e = items[i].handle;

		values[i] = e->value;
		nulls[i] = e->isnull;
		parts.parts[i].dots = items[i].dots;
		parts.parts[i].ndots = items[i].ndots;
	}
	version_put_parts(version, &parts);
	if (n == 0)
		return PointerGetDatum(construct_empty_array(t->typid));
	return PointerGetDatum(construct_md_array(values, nulls, 1, &n, &lower, t->typid, t->len, t->byval, t->align));
}

void
set_write(const StrategyColumn *col, StrategyWrite *w)
{
	ElementType t = element_type(col);
	PartItem   *old = NULL;
	PartItem   *fresh;
	PartItem   *items;
	int			nold = 0;
	int			n;

	if (w->isnull ? w->old && !w->old->isnull : !is_set(w->value, false))
		return;
	if (w->old && !is_set(w->old->value, w->old->isnull))
		return;
	if (w->old)
		nold = open_side(col, &t, w->old, &old);
	n = open_array(&t, w->value, w->isnull, &fresh);
	items = palloc(sizeof(PartItem) * (nold + n + 1));
	n = items_write(KIND_SET, old, nold, fresh, n, w->birth, &w->dot, items);
	if (w->isnull)
		(void) close_items(col, &t, w->after, w->since, items, n);
	else
		w->value = close_items(col, &t, w->after, w->since, items, n);
}

void
set_join(const StrategyColumn *col, StrategyJoin *j)
{
	ElementType t = element_type(col);
	PartItem   *l;
	PartItem   *r;
	int			nl = open_side(col, &t, j->local, &l);
	int			nr = open_side(col, &t, j->remote, &r);
	PartItem   *items = palloc(sizeof(PartItem) * (nl + nr + 1));
	int			n = items_merge(KIND_SET, l, nl, j->local->version, r, nr, j->remote->version, items);

	j->value = close_items(col, &t, j->out, j->since, items, n);
	j->isnull = j->local->isnull && j->remote->isnull;
}
