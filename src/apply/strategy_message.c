/*-------------------------------------------------------------------------
 *
 * strategy_message.c
 *		A peer tells how a column merges.
 *
 * Settings are themselves merged: the later dot wins, on every node.  They come
 * in stream order, and again with each description of a relation.  Nothing waits
 * for them: how two states merge is said by the states (core/parts.c), and what
 * is set here says what local writes do from now on.
 *
 * A table or column that we lack, or that is not under ferry here, is passed
 * over: once it is, it is copied, and that brings the setting again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "apply/strategy_message.h"
#include "node/node.h"
#include "node/table.h"
#include "state/state.h"

/* our column of the sender's id, 0 if there is none that can merge */
static AttrNumber
find_column(const WireRelation *wire, const FerryTable *table, uint16 id)
{
	for (int c = 0; c < wire->ncols; c++)
	{
		AttrNumber	attno;

		if (wire->cols[c].id != id)
			continue;
		attno = get_attnum(table->relid, wire->cols[c].name);
		for (int p = 0; p < table->nplain; p++)
			if (table->plain_attnos[p] == attno)
				return attno;
	}
	return InvalidAttrNumber;
}

/* attno 0: what becomes of the table's orphans */
static void
put(Oid relid, AttrNumber attno, const WireStrategy *s)
{
	char		letter = attno == 0 ? orphan_policy_letter((OrphanPolicy) s->kind) : strategy_kind_letter((ColumnKind) s->kind);
	bool		is_function = attno != 0 && s->kind == KIND_FUNCTION;
	Oid			types[5] = {REGCLASSOID, INT2OID, CHAROID, TEXTOID, ferry_version_type()};
	Datum		args[5];
	Version		v;

	version_init(&v, s->dot);
	args[0] = ObjectIdGetDatum(relid);
	args[1] = Int16GetDatum(attno);
	args[2] = CharGetDatum(letter);
	args[3] = CStringGetTextDatum(s->function);
	args[4] = state_version_datum(&v);
	SPI_connect();
	SPI_execute_with_args("SELECT ferry._put_strategy($1, $2, $3, $4, $5)", 5, types, args,
						  is_function ? NULL : "   n ", false, 0);
	SPI_finish();
}

/* is a setting news, after what is held?  The clock follows it. */
static bool
is_news(Dot held, Dot d)
{
	if (dot_compare(held, d) >= 0)
		return false;
	if (node_clock_too_far(d.hlc))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("stamp of an incoming strategy lies too far in the future"),
				 errdetail("It is more than ferry.max_clock_skew (%d ms) ahead of this machine's clock.",
						   ferry_max_clock_skew_ms),
				 errhint("Set the clocks of both machines by NTP; see ferry.clock.")));
	node_clock_raise(d.hlc);
	return true;
}

bool
strategy_receive(const WireRelation *wire, const WireStrategy *s)
{
	Oid			nspid = get_namespace_oid(wire->schema, true);
	Oid			relid = OidIsValid(nspid) ? get_relname_relid(wire->name, nspid) : InvalidOid;
	const FerryTable *table = OidIsValid(relid) ? table_lookup(relid) : NULL;
	const ColumnStrategy *held;
	const Dot	none = {0, 0};
	AttrNumber	attno;

	if (table == NULL || table->rootid != relid)
		return false;
	if (s->column == 0)
	{
		if (is_news(table->orphans_dot, s->dot))
			put(relid, 0, s);
		return false;
	}
	if (table->mode != MERGE_MODE_COLUMN || (attno = find_column(wire, table, s->column)) == InvalidAttrNumber)
		return false;
	held = table_strategy(table, table->column_ids[attno - 1]);
	if (!is_news(held == NULL ? none : s->kind == KIND_FUNCTION ? held->function_dot : held->dot, s->dot))
		return false;
	put(relid, attno, s);
	ereport(LOG,
			(errmsg("strategy \"%s\" of column \"%s\" of table \"%s.%s\" was set on another node",
					s->kind == KIND_FUNCTION ? s->function : strategy_kind_name((ColumnKind) s->kind),
					get_attname(relid, attno, false), wire->schema, wire->name)));
	return true;
}
