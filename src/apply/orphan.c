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
 * misses, a child whose writer is gone for good, ferry.orphans lists and
 * ferry.resolve_orphans mends.)
 *
 * Who finds out again.  A child that was removed can come back, by a change that had
 * not seen that: at a third node, which had met the parent's death before it got the
 * child.  Whoever removed it holds its tombstone until that change is there (it is
 * older than any horizon under which the tombstone could go), and merges the two.  So a
 * row that merging takes out of its tombstone, the two being concurrent, is noted, too.
 * (Who saw the tombstone, and wrote the row again, had the parent then: that is a birth
 * like any other.)  The same goes for a row that outlives a TRUNCATE, whichever of
 * the two comes first.
 *
 * When.  A cascade's deaths come after the parent's, in the same transaction or, in a
 * copy or by another way, much later.  Each death that takes a parent is therefore
 * put on a list, in the merging transaction, and judged once this node holds
 * everything that the death's writer had written by then: the cascade is among it.
 * Judging looks at what is committed then, so that of two links that bring a death and
 * a child at the same time one at least is seen.
 *
 * A row whose parent is not here may be ahead of it: of a parent that was born again,
 * say, by a link that is slower.  Whoever gave the row its foreign key had the parent
 * at that time, and so have we, if that was us.  If it was another, all that he had was
 * written by then: once we hold everything that any member wrote up to that stamp, the
 * parent has been here, and is missing because it died.  Until then the note stays, for
 * that stamp ("after").  A member that writes nothing would never get past it; so where orphans are
 * judged every member takes a stamp after what it merges, for no row, and tells
 * (link/housekeeping.c).  Of former members we must hold all that there is.
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

/* wanted: judged once we hold that; returned: it is the row that may lack a parent (NULL: many) */
static void
put_note(ApplyTarget *t, const RowState *row, const NodeVector *wanted, bool returned)
{
	Datum		values[5];
	bool		nulls[5] = {0};
	char		buf[VECTOR_TEXT_BYTES];

	vector_format(wanted, buf);
	values[0] = ObjectIdGetDatum(RelationGetRelid(target_relation(t)));
	nulls[1] = row == NULL;
	values[1] = row ? state_image_to_jsonb(target_table(t), target_relation(t), row) : (Datum) 0;
	values[2] = CStringGetTextDatum(buf);
	values[3] = BoolGetDatum(returned);
	values[4] = Int64GetDatum(0);
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
	put_note(t, row, &wanted, false);
	deaths->noted++;
}

void
orphan_note_return(ApplyTarget *t, const RowState *row)
{
	TargetDeaths *deaths = target_deaths(t);
	NodeVector	nothing;

	if (target_table(t)->orphans == ORPHANS_KEEP || deaths->returned > NOTED_DEATHS)
		return;
	vector_clear(&nothing);
	put_note(t, deaths->returned < NOTED_DEATHS ? row : NULL, &nothing, true);
	deaths->returned++;
}

void
orphan_note_rest(ApplyTarget *t)
{
	TargetDeaths *deaths = target_deaths(t);

	if (deaths->rest.n > 0)
		put_note(t, NULL, &deaths->rest, false);
	vector_clear(&deaths->rest);
	deaths->noted = deaths->returned = 0;
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
orphans_wait(void)
{
	return SPI_execute("SELECT FROM ferry.orphan_note LIMIT 1", true, 1) == SPI_OK_SELECT && SPI_processed > 0;
}

bool
orphans_judge(Hlc until)
{
	Oid			types[1] = {INT8OID};
	Datum		args[1] = {Int64GetDatum((int64) until)};
	bool		isnull;

	SPI_execute_with_args("SELECT ferry._judge_orphans(" JUDGE_NOTES ", $1)", 1, types, args, NULL, false, 1);
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

PG_FUNCTION_INFO_V1(ferry_held_until);

/*
 * SQL: ferry._held_until(members bigint[]) returns bigint: the latest stamp up to which
 * we promise to hold everything of each of these nodes
 */
Datum
ferry_held_until(PG_FUNCTION_ARGS)
{
	NodeVector	promised;
	Datum	   *ids;
	int			n;
	int64		until = PG_INT64_MAX;

	(void) node_current();
	holding_promised(&promised);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &ids, NULL, &n);
	for (int i = 0; i < n; i++)
		until = Min(until, (int64) vector_get(&promised, (NodeId) DatumGetInt64(ids[i])));
	PG_RETURN_INT64(until);
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
