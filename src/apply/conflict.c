/*-------------------------------------------------------------------------
 *
 * conflict.c
 *		The record of conflicts: one shape, one place.
 *
 * A conflict is written by the transaction that resolves it, so that it is on
 * record exactly if its resolution is.  Each node records what it saw: the
 * state that it held (local), the one that came (remote), and who won.
 *
 * Whoever wants to act on conflicts sets a hook for the table (conflict_hook.c):
 * it sees the row of ferry.conflict in the same transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "apply/conflict.h"
#include "apply/conflict_hook.h"

#define CONFLICT_NATTS 16

static const char *const kind_names[] = {
	[CONFLICT_INSERT_INSERT] = "insert_insert",
	[CONFLICT_UPDATE_UPDATE] = "update_update",
	[CONFLICT_UPDATE_DELETE] = "update_delete",
	[CONFLICT_DELETE_UPDATE] = "delete_update",
	[CONFLICT_DIVERGENCE] = "divergence",
	[CONFLICT_UNIQUE_KEY] = "unique_key",
	[CONFLICT_FOREIGN_KEY] = "foreign_key",
	[CONFLICT_CHECK] = "check",
	[CONFLICT_TRUNCATE] = "truncate",
};

static const char *const winner_names[] = {
	[WINNER_LOCAL] = "local",
	[WINNER_REMOTE] = "remote",
	[WINNER_MERGED] = "merged",
	[WINNER_NONE] = "none",
};

static Datum
dot_text(Dot d)
{
	return CStringGetTextDatum(psprintf(UINT64_FORMAT "@%u", d.hlc, d.node));
}

static Datum
text_array(List *strings)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(list_length(strings), 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, strings)
		elems[n++] = CStringGetTextDatum((char *) lfirst(lc));
	return PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
}

void
apply_log_insert(const char *table, const Datum *values, const bool *nulls)
{
	Relation	rel = table_open(ferry_relation(table), RowExclusiveLock);
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(rel), (Datum *) values, (bool *) nulls);

	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, RowExclusiveLock);
}

/* a side's image, null if it is dead; with its key where the sides are of different rows */
static Datum
image(const FerryTable *table, Relation rel, const RowState *state, const Conflict *conflict, bool *isnull)
{
	MemoryContext cxt;
	MemoryContext oldcontext;
	Datum		result;

	*isnull = !state->alive;
	if (*isnull)
		return (Datum) 0;

	/* making it takes several times what it is, and rows may be large */
	cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry conflict image", ALLOCSET_SMALL_SIZES);
	oldcontext = MemoryContextSwitchTo(cxt);
	result = conflict->subject ? state_image_to_jsonb(table, rel, state) : state_row_to_jsonb(table, rel, state);
	MemoryContextSwitchTo(oldcontext);
	result = datumCopy(result, false, -1);
	MemoryContextDelete(cxt);
	return result;
}

void
conflict_record(const FerryTable *table, Relation rel, const char *peer,
				const RowState *local, const RowState *remote, const Conflict *conflict)
{
	Datum		values[CONFLICT_NATTS];
	bool		nulls[CONFLICT_NATTS] = {0};
	int			i = 0;

	values[i++] = Int64GetDatum(nextval_internal(ferry_relation("conflict_id_seq"), false));
	values[i++] = TimestampTzGetDatum(GetCurrentTimestamp());
	if (peer)
	{
		Name		name = palloc0(NAMEDATALEN);

		strlcpy(NameStr(*name), peer, NAMEDATALEN);
		values[i] = NameGetDatum(name);
	}
	else
		nulls[i] = true;
	i++;
	values[i++] = ObjectIdGetDatum(RelationGetRelid(rel));
	values[i++] = CStringGetTextDatum(quote_qualified_identifier(
																 get_namespace_name(RelationGetNamespace(rel)),
																 RelationGetRelationName(rel)));
	values[i++] = state_key_to_jsonb(table, rel, conflict->subject ? conflict->subject : local);
	values[i++] = CStringGetTextDatum(kind_names[conflict->kind]);
	values[i++] = text_array(conflict->columns);
	values[i] = image(table, rel, local, conflict, &nulls[i]);
	i++;
	values[i] = image(table, rel, remote, conflict, &nulls[i]);
	i++;
	values[i++] = dot_text(local->version.last);
	values[i++] = dot_text(remote->version.last);
	values[i++] = CStringGetTextDatum(winner_names[conflict->winner]);
	values[i++] = CStringGetTextDatum(conflict->rule);
	nulls[i] = conflict->constraint == NULL;
	if (conflict->constraint)
		values[i] = CStringGetTextDatum(conflict->constraint);
	i++;
	values[i++] = TransactionIdGetDatum(GetCurrentTransactionId());
	Assert(i == CONFLICT_NATTS);

	conflict_write(rel, values, nulls);
}

void
conflict_record_orphan(Relation rel, Datum key, Datum columns, Datum image, Datum dot, Datum death,
					   Datum winner, Datum rule, Datum constraint)
{
	Datum		values[CONFLICT_NATTS] = {
		Int64GetDatum(nextval_internal(ferry_relation("conflict_id_seq"), false)),
		TimestampTzGetDatum(GetCurrentTimestamp()), 0,
		ObjectIdGetDatum(RelationGetRelid(rel)),
		CStringGetTextDatum(quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
													   RelationGetRelationName(rel))),
		key, CStringGetTextDatum(kind_names[CONFLICT_FOREIGN_KEY]), columns, image, 0, dot, death,
		winner, rule, constraint, TransactionIdGetDatum(GetCurrentTransactionId())
	};
	bool		nulls[CONFLICT_NATTS] = {0};

	nulls[2] = nulls[9] = true; /* peer, remote_row */
	conflict_write(rel, values, nulls);
}

void
conflict_write(Relation rel, const Datum *values, const bool *nulls)
{
	Relation	log = table_open(ferry_relation("conflict"), RowExclusiveLock);
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(log), (Datum *) values, (bool *) nulls);

	CatalogTupleInsert(log, tuple);
	conflict_hook_call(rel, tuple, RelationGetDescr(log));
	heap_freetuple(tuple);
	table_close(log, RowExclusiveLock);
}
