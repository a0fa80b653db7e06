/*-------------------------------------------------------------------------
 *
 * conflict_keep.c
 *		How long conflicts stay on record, and how many of them.
 *
 * The record is this node's alone: every node trims its own.  A round of
 * housekeeping looks at the TRIM_ROWS oldest, by their ids, which grow with time
 * but for transactions that overlap.  Counting is only done when the span of ids
 * says that there may be too many.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"

#include "apply/conflict_keep.h"

#define TRIM_ROWS 1000

int			ferry_conflict_keep_min = 30 * 24 * 60;
int			ferry_conflict_keep_rows = 1000000;

static int64
select_int64(const char *sql, Oid argtype, Datum arg, int64 if_null)
{
	Oid			types[1] = {argtype};
	bool		isnull = true;
	int64		result = 0;

	SPI_execute_with_args(sql, OidIsValid(argtype) ? 1 : 0, types, &arg, NULL, false, 1);
	if (SPI_processed > 0)
		result = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	return isnull ? if_null : result;
}

/* conflicts up to this id are more than ferry.conflict_keep_rows */
static int64
last_surplus_id(void)
{
	if (ferry_conflict_keep_rows < 0 ||
		select_int64("SELECT max(id) - min(id) + 1 FROM ferry.conflict", InvalidOid, 0, 0) <= ferry_conflict_keep_rows)
		return -1;
	return select_int64("SELECT id FROM ferry.conflict ORDER BY id DESC OFFSET $1 LIMIT 1",
						INT8OID, Int64GetDatum(ferry_conflict_keep_rows), -1);
}

/* is the oldest conflict too old? */
static bool
is_overdue(void)
{
	return ferry_conflict_keep_min >= 0 &&
		select_int64("SELECT (at < pg_catalog.now() - pg_catalog.make_interval(mins => $1))::int::bigint "
					 "FROM ferry.conflict ORDER BY id LIMIT 1",
					 INT4OID, Int32GetDatum(ferry_conflict_keep_min), 0) != 0;
}

bool
conflict_trim(void)
{
	Oid			types[2] = {INT8OID, INT4OID};
	int64		surplus = last_surplus_id();
	Datum		args[2] = {Int64GetDatum(surplus), Int32GetDatum(ferry_conflict_keep_min)};

	if (surplus < 0 && !is_overdue())
		return false;
	SPI_execute_with_args("DELETE FROM ferry.conflict c "
						  "USING (SELECT id, at FROM ferry.conflict ORDER BY id LIMIT " CppAsString2(TRIM_ROWS) ") o "
						  "WHERE c.id = o.id AND (o.id <= $1 OR "
						  "($2 >= 0 AND o.at < pg_catalog.now() - pg_catalog.make_interval(mins => $2)))",
						  2, types, args, NULL, false, 0);
	return SPI_processed == TRIM_ROWS;
}
