/*-------------------------------------------------------------------------
 *
 * orphan.c
 *		Rows whose parents died elsewhere: what is noted while merging.
 *
 * Rows are merged without looking at foreign keys: what a constraint made of a
 * write (a cascade, a refusal) was done where it was written, and comes as states
 * of its own.  So the death of a parent can meet a child that its writer did not
 * know.  The child is an orphan then, on every node, and what becomes of it is said
 * per table by ferry.set_orphans.
 *
 * Who finds out.  The node where the child was written had the parent at that time,
 * or the write would have been refused.  So that node merges the death later, and
 * finds the child.  It is therefore enough to look where a parent dies by merging,
 * which is seldom, and not where a child arrives, which is often.  (What this
 * misses, a child whose writer is gone for good, or that lives again by a change at a
 * third node which met the death before the child, ferry.orphans lists and
 * ferry.resolve_orphans mends.)
 *
 * When.  A cascade's deaths come after the parent's, in the same transaction or, in a
 * copy or by another way, much later.  Each death that takes a parent is therefore
 * put on a list, in the merging transaction, and judged once this node holds
 * everything that the death's writer had written by then: the cascade is among it.
 * Judging looks at what is committed then, so that of two links that bring a death and
 * a child at the same time one at least is seen.
 *
 * What is done is an ordinary write of this node (orphan.sql): the child dies, or
 * the parent lives again with the values that its tombstone keeps.  Several nodes may
 * find the same orphan and do the same: two deaths of one child merge; two revivals
 * change no column, only the row's life.  Doing it again finds nothing to do.  All
 * nodes get these writes and converge on them, whatever each has set at that moment.
 * The reviver has seen the death; a later one kills again, which is judged again.
 *
 * A row-mode table's tombstone has no values: there the note keeps the row as it was.
 *
 * A table of which many rows die in one remote transaction gets one note for the
 * rest of them, as does one that a TRUNCATE hits.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "apply/conflict.h"
#include "apply/merge_row.h"
#include "apply/orphan.h"
#include "node/holding.h"
#include "node/node.h"

/* deaths of one table in one remote transaction that are noted one by one */
#define NOTED_DEATHS 1000

/* notes that are judged in one transaction */
#define JUDGE_NOTES "100"

/* wanted: judged once we hold that */
static void
put_note(ApplyTarget *t, const RowState *row, const NodeVector *wanted)
{
	Datum		values[3];
	bool		nulls[3] = {0};
	char		buf[VECTOR_TEXT_BYTES];

	vector_format(wanted, buf);
	values[0] = ObjectIdGetDatum(RelationGetRelid(target_relation(t)));
	nulls[1] = row == NULL;
	values[1] = row ? state_image_to_jsonb(target_table(t), target_relation(t), row) : (Datum) 0;
	values[2] = CStringGetTextDatum(buf);
	apply_log_insert("orphan_note", values, nulls);
}

void
orphan_note(ApplyTarget *t, const RowState *row, Dot d)
{
	TargetDeaths *deaths;
	NodeVector	wanted;

	if (!target_is_referenced(t))
		return;
	deaths = target_deaths(t);
	if (row == NULL || deaths->noted >= NOTED_DEATHS)
	{
		(void) vector_raise(&deaths->rest, d.node, d.hlc);
		return;
	}
	vector_clear(&wanted);
	(void) vector_raise(&wanted, d.node, d.hlc);
	put_note(t, row, &wanted);
	deaths->noted++;
}

void
orphan_note_rest(ApplyTarget *t)
{
	TargetDeaths *deaths = target_deaths(t);

	if (deaths->rest.n > 0)
		put_note(t, NULL, &deaths->rest);
	vector_clear(&deaths->rest);
	deaths->noted = 0;
}

void
orphan_note_change(ApplyTarget *t, const RowState *before, const RowState *after, Dot d)
{
	Relation	rel = target_relation(t);
	const FerryTable *table = target_table(t);
	Bitmapset  *attrs;
	bool		changed = false;

	if (!target_is_referenced(t))
		return;
	attrs = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_KEY);
	for (int c = 0; c < table->nplain && !changed; c++)
		changed = bms_is_member(table->plain_attnos[c] - FirstLowInvalidHeapAttributeNumber, attrs) &&
			merge_values_differ(rel, table->plain_attnos[c], before, after);
	bms_free(attrs);
	if (changed)
		orphan_note(t, before, d);
}

bool
orphans_judge(void)
{
	bool		isnull;

	if (SPI_execute("SELECT FROM ferry.orphan_note LIMIT 1", false, 1) != SPI_OK_SELECT || SPI_processed == 0)
		return false;
	SPI_execute("SELECT ferry._judge_orphans(" JUDGE_NOTES ")", false, 1);
	return DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

PG_FUNCTION_INFO_V1(ferry_holds);

/*
 * SQL: ferry._holds(wanted text, dropped bigint[]) returns boolean: do we promise to
 * hold that much of every node, but for those that are dropped?
 */
Datum
ferry_holds(PG_FUNCTION_ARGS)
{
	ArrayType  *dropped = PG_GETARG_ARRAYTYPE_P(1);
	NodeVector	wanted;
	NodeVector	promised;
	Datum	   *ids;
	int			n;

	(void) node_current();
	holding_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)), &wanted, NULL);
	holding_promised(&promised);
	deconstruct_array(dropped, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &ids, NULL, &n);
	for (int i = 0; i < n; i++)
		vector_remove(&wanted, (NodeId) DatumGetInt64(ids[i]));
	PG_RETURN_BOOL(vector_includes(&promised, &wanted));
}

PG_FUNCTION_INFO_V1(ferry_record_orphan);

/*
 * SQL: ferry._record_orphan(rel regclass, key jsonb, columns text[], image jsonb,
 * local_dot text, remote_dot text, winner text, rule text, constraint_name text)
 */
Datum
ferry_record_orphan(PG_FUNCTION_ARGS)
{
	Relation	rel = table_open(PG_GETARG_OID(0), AccessShareLock);

	conflict_record_orphan(rel, PG_GETARG_DATUM(1), PG_GETARG_DATUM(2), PG_GETARG_DATUM(3),
						   PG_GETARG_DATUM(4), PG_GETARG_DATUM(5), PG_GETARG_DATUM(6), PG_GETARG_DATUM(7),
						   PG_GETARG_DATUM(8));
	table_close(rel, AccessShareLock);
	PG_RETURN_VOID();
}
