/*-------------------------------------------------------------------------
 *
 * strategy_extreme.c
 *		max and min: the greater, the lesser value.
 *
 * A local write stores the better of old and new: if a lowered value were
 * stored, it would depend on the order of merging whether it lasts.  (1: M is
 * 5 at A and B.  2: A lowers it to 3.  3: B, not knowing, changes another
 * column.  A's state alone says 3; merged with B's it says 5; and merged with a
 * state that has seen both, one of the two again.)  So a maximum only grows, in
 * the life of a row and after it.  NULL gives way to every value.
 *
 * Nodes must agree whatever their locale: text compares by bytes (collation
 * "C"), and values that are equal but not the same (1.0 and 1.00) by their
 * binary form.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "utils/builtins.h"
#include "utils/typcache.h"

#include "state/codec.h"
#include "state/strategy.h"

static int
compare_forms(Oid type, Datum a, Datum b)
{
	ValueEncoder encoder;
	WireWriter	wa;
	WireWriter	wb;

	value_encoder_init(&encoder, type, CurrentMemoryContext);
	wire_writer_init(&wa, 64);
	wire_writer_init(&wb, 64);
	value_encode(&wa, &encoder, a, false);
	value_encode(&wb, &encoder, b, false);
	if (wa.len != wb.len)
		return wa.len < wb.len ? -1 : 1;
	return memcmp(wa.data, wb.data, wa.len);
}

static int
compare(const StrategyColumn *col, Datum a, Datum b)
{
	TypeCacheEntry *type = lookup_type_cache(col->base, TYPECACHE_CMP_PROC_FINFO);
	int			order;

	if (!OidIsValid(type->cmp_proc))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("could not identify a comparison function for type %s", format_type_be(col->base))));
	order = DatumGetInt32(FunctionCall2Coll(&type->cmp_proc_finfo, C_COLLATION_OID, a, b));
	return order != 0 ? order : compare_forms(col->base, a, b);
}

/* does the second value beat the first? */
static bool
second_wins(const StrategyColumn *col, Datum a, bool a_null, Datum b, bool b_null)
{
	if (a_null || b_null)
		return !b_null;
	return col->kind == KIND_MAX ? compare(col, b, a) > 0 : compare(col, b, a) < 0;
}

void
extreme_write(const StrategyColumn *col, StrategyWrite *w)
{
	ColumnParts parts = {.col = col->id, .kind = col->kind, .since = w->since};

	version_put_parts(w->after, &parts);
	if (w->old && !second_wins(col, w->old->value, w->old->isnull, w->value, w->isnull))
	{
		w->value = w->old->value;
		w->isnull = w->old->isnull;
	}
}

void
extreme_join(const StrategyColumn *col, StrategyJoin *j)
{
	ColumnParts parts = {.col = col->id, .kind = col->kind, .since = j->since};
	bool		remote = second_wins(col, j->local->value, j->local->isnull,
									 j->remote->value, j->remote->isnull);
	const StrategySide *winner = remote ? j->remote : j->local;

	version_put_parts(j->out, &parts);
	j->value = winner->value;
	j->isnull = winner->isnull;
}
