/*-------------------------------------------------------------------------
 *
 * strategy.c
 *		Columns that merge by a strategy, between the lattice (core/parts.c) and
 *		the values (strategy_*.c): which kind is at work, what it builds on, and
 *		what holds for all of them.
 *
 * What a local write does comes from the table (ferry.set_merge); how two states
 * merge comes from the states.  Writing what a kind cannot hold (NULL, a jsonb
 * that is no object, an array of arrays, NaN in a counter) replaces the column
 * as a whole, as a register: it wins over all that was concurrent.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "state/strategy.h"

StrategyColumn
strategy_column(const FerryTable *table, TupleDesc desc, uint16 id, ColumnKind kind)
{
	StrategyColumn col;
	const ColumnStrategy *strategy = table_strategy(table, id);

	col.id = id;
	col.kind = kind;
	col.attr = TupleDescAttr(desc, table->id_attnos[id - 1] - 1);
	col.base = getBaseType(col.attr->atttypid);
	col.function = strategy ? strategy->function : NULL;
	return col;
}

/* states may come from anywhere: does the kind fit the column's type here? */
void
strategy_check_type(const StrategyColumn *col)
{
	bool		fits = true;

	switch (col->kind)
	{
		case KIND_COUNTER:
			fits = col->base == INT2OID || col->base == INT4OID || col->base == INT8OID || col->base == NUMERICOID;
			break;
		case KIND_SET:
			fits = OidIsValid(get_element_type(col->base));
			break;
		case KIND_MAP:
			fits = col->base == JSONBOID;
			break;
		default:
			break;
	}
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of type %s cannot merge by strategy \"%s\"",
						NameStr(col->attr->attname), format_type_be(col->attr->atttypid),
						strategy_kind_name(col->kind))));
}

static void
check_size(const StrategyColumn *col, const Version *v)
{
	uint64		n = 0;

	for (int p = 0; p < v->nparts; p++)
		n += v->parts[p].nparts;
	if (n > VERSION_MAX_PARTS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("column \"%s\" has too many parts to merge", NameStr(col->attr->attname)),
				 errdetail("A row may have %d elements and keys in its sets and maps, removed keys included.",
						   VERSION_MAX_PARTS)));
}

/* a merged value of a domain must be one of its values */
static void
check_domain(const StrategyColumn *col, Datum value, bool isnull)
{
	if (col->attr->atttypid != col->base)
		domain_check(value, isnull, col->attr->atttypid, NULL, NULL);
}

/* --- local writes --- */

bool
strategy_write(const FerryTable *table, TupleDesc desc, const ColumnStrategy *strategy,
			   const FoundRow *found, Dot d, Version *after, Datum *value, bool *isnull)
{
	StrategyColumn col = strategy_column(table, desc, strategy->id, strategy->kind);
	int			i = col.attr->attnum - 1;
	StrategySide old;
	StrategyWrite w = {.birth = !found || !found->alive, .dot = d, .after = after, .value = *value, .isnull = *isnull};
	Ground		ground = parts_ground(found ? found->version : NULL, col.id, col.kind, &d, &w.since);
	bool		known = found && (found->kinds == NULL || found->kinds[i] == VALUE_HERE);

	strategy_check_type(&col);
	if ((ground == GROUND_SAME || ground == GROUND_REGISTER) && known)
	{
		old.version = found->version;
		old.value = found->values[i];
		old.isnull = found->nulls[i];
		w.old = &old;
	}
	else if (ground != GROUND_NOTHING)
	{
		/* nothing that could be built on: a generation of its own */
		w.since.hlc = d.hlc;
		w.since.node = d.node;
	}
	switch (col.kind)
	{
		case KIND_COUNTER:
			counter_write(&col, &w);
			break;
		case KIND_MAX:
		case KIND_MIN:
			extreme_write(&col, &w);
			break;
		case KIND_SET:
			set_write(&col, &w);
			break;
		case KIND_MAP:
			map_write(&col, &w);
			break;
		case KIND_FUNCTION:
			function_write(&col, &w);
			break;
		case KIND_LWW:
			break;
	}
	check_size(&col, after);
	if (w.isnull == *isnull && (w.isnull || w.value == *value))
		return false;
	check_domain(&col, w.value, w.isnull);
	*value = w.value;
	*isnull = w.isnull;
	return true;
}

/* --- merging --- */

static StrategySide
side_of(const RowState *s, int i)
{
	StrategySide side = {&s->version, s->values[i], s->nulls[i]};

	return side;
}

void
strategy_join(const FerryTable *table, TupleDesc desc, uint16 id,
			  const RowState *local, const RowState *remote, RowState *out)
{
	const ColumnParts *parts = version_column_parts(&local->version, id);
	StrategyColumn col = strategy_column(table, desc, id, (ColumnKind) parts->kind);
	int			i = col.attr->attnum - 1;
	StrategySide l = side_of(local, i);
	StrategySide r = side_of(remote, i);
	StrategyJoin j = {&l, &r, parts->since, &out->version};

	strategy_check_type(&col);
	switch (col.kind)
	{
		case KIND_COUNTER:
			counter_join(&col, &j);
			break;
		case KIND_MAX:
		case KIND_MIN:
			extreme_join(&col, &j);
			break;
		case KIND_SET:
			set_join(&col, &j);
			break;
		case KIND_MAP:
			map_join(&col, &j);
			break;
		case KIND_FUNCTION:
			function_join(&col, &j);
			break;
		case KIND_LWW:
			break;
	}
	check_size(&col, &out->version);
	check_domain(&col, j.value, j.isnull);
	out->kinds[i] = VALUE_HERE;
	out->values[i] = j.value;
	out->nulls[i] = j.isnull;
}
