/*-------------------------------------------------------------------------
 *
 * quarantine.c
 *		Where states wait that could not be merged: a missing table, a type
 *		that does not fit, a constraint.
 *
 * A quarantined state is kept as the frame in which it came, so that merging it
 * later is merging it as if it came now, and in a readable form for people.
 * The table may not exist here and its types may be unknown: the readable form
 * is best effort, by the sender's type names.
 *
 * Most causes end when a person mends something, who then calls
 * ferry.retry_quarantine().  One ends by itself: a state lacks a value that its
 * write left alone (core/narrow.c), which we do not hold under that version, and
 * the sender could not be asked or did not know.  The state that wrote the value,
 * or a later one, is on its way by another link or in another frame; once it is
 * here, the one that waits merges, or is old news.  Such states housekeeping tries
 * again (link/housekeeping.c), the first time soon, then each time after twice as
 * long, so that one that never merges costs next to nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apply/apply.h"
#include "apply/conflict.h"
#include "apply/quarantine.h"
#include "node/holding.h"
#include "state/codec.h"

#define QUARANTINED_NATTS 12

/* a state that waits for a value is tried again after so long, and at the latest after so long */
#define RETRY_FIRST_MS 1000
#define RETRY_LAST_MS (3600 * 1000)

/* is the cause one that ends when something else arrives? */
static bool
ends_by_itself(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_NO_DATA_FOUND;
}

/* when to try again what has failed so many times */
static TimestampTz
next_retry(int attempts)
{
	int64		ms = RETRY_FIRST_MS;

	for (int i = 1; i < attempts && ms < RETRY_LAST_MS; i++)
		ms *= 2;
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Min(ms, RETRY_LAST_MS));
}

/* a value's text, or NULL if it cannot be told; errors of hostile bytes are swallowed */
static char *
readable_value(const WireColumn *col, const WireValue *v)
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext cxt = CurrentMemoryContext;
	char	   *volatile text = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		text = value_decode_to_text(col, v);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	return text;
}

/* the key columns or the others as a jsonb object of strings */
static Datum
readable_row(const RelationMap *map, const WireRow *row, bool want_key)
{
	JsonbParseState *ps = NULL;
	JsonbValue *result;

	pushJsonbValue(&ps, WJB_BEGIN_OBJECT, NULL);
	for (int c = 0; c < row->ncols && c < map->wire.ncols; c++)
	{
		const WireColumn *col = &map->wire.cols[c];
		const WireValue *v = &row->values[c];
		JsonbValue	name = state_json_string(col->name);
		JsonbValue	value;
		char	   *text;

		if (((col->flags & WIRE_COLUMN_KEY) != 0) != want_key ||
			v->kind == WIRE_ABSENT || v->kind == WIRE_UNCHANGED)
			continue;
		text = v->kind == WIRE_NULL ? NULL : readable_value(col, v);
		if (text)
			value = state_json_string(text);
		else
			value.type = jbvNull;
		pushJsonbValue(&ps, WJB_KEY, &name);
		pushJsonbValue(&ps, WJB_VALUE, &value);
	}
	result = pushJsonbValue(&ps, WJB_END_OBJECT, NULL);
	return JsonbPGetDatum(JsonbValueToJsonb(result));
}

/* its version vector as text: what is not promised while it waits; empty if the bytes are bad */
static Datum
vector_of(const WireRow *row, Version *version)
{
	StringInfoData text;
	const char *error;

	initStringInfo(&text);
	if (!version_decode(row->version, row->version_len, version, &error))
		memset(version, 0, sizeof(*version));
	for (int i = 0; i < version->nvv && i < VECTOR_MAX; i++)
		appendStringInfo(&text, "%s%u:" UINT64_FORMAT, i > 0 ? "," : "", version->vv[i].node, version->vv[i].hlc);
	return CStringGetTextDatum(text.data);
}

void
quarantine_put(const char *peer, const RelationMap *map, const WireRow *row,
			   const void *raw, size_t raw_bytes, const NodeVector *horizon, const ErrorData *error)
{
	Datum		values[QUARANTINED_NATTS];
	bool		nulls[QUARANTINED_NATTS] = {0};
	Name		name = palloc0(NAMEDATALEN);
	bytea	   *frame;
	WireWriter	w;
	Datum		vector;
	StringInfoData text;
	Version		version;
	int			i = 0;

	strlcpy(NameStr(*name), peer, NAMEDATALEN);
	wire_writer_init(&w, map->raw_bytes + raw_bytes + 64);
	wire_put_bytes(&w, map->raw, map->raw_bytes);
	vector = vector_of(row, &version);
	if (version_needs_horizon(&version))
		wire_put_horizon(&w, horizon);
	wire_put_bytes(&w, raw, raw_bytes);
	frame = bytea_of(w.data, w.len);

	initStringInfo(&text);
	appendStringInfoString(&text, error->message ? error->message : "unknown error");
	if (error->detail)
		appendStringInfo(&text, "\nDETAIL: %s", error->detail);
	if (error->hint)
		appendStringInfo(&text, "\nHINT: %s", error->hint);

	values[i++] = Int64GetDatum(nextval_internal(ferry_relation("quarantined_id_seq"), false));
	values[i++] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[i++] = NameGetDatum(name);
	values[i++] = CStringGetTextDatum(quote_qualified_identifier(map->wire.schema, map->wire.name));
	values[i++] = readable_row(map, row, true);
	if (row->alive)
		values[i] = readable_row(map, row, false);
	else
		nulls[i] = true;
	i++;
	values[i++] = PointerGetDatum(frame);
	values[i++] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
	values[i++] = CStringGetTextDatum(text.data);
	values[i++] = Int32GetDatum(1);
	values[i++] = vector;
	nulls[i] = !ends_by_itself(error->sqlerrcode);
	values[i++] = TimestampTzGetDatum(next_retry(1));
	Assert(i == QUARANTINED_NATTS);
	apply_log_insert("quarantined", values, nulls);
	if (version.nvv > 0)
		holding_quarantined(&version);
	CommandCounterIncrement();

	ereport(LOG,
			(errmsg("row of table %s.%s from peer \"%s\" put into quarantine: %s",
					map->wire.schema, map->wire.name, peer,
					error->message ? error->message : "unknown error"),
			 errhint("See ferry.quarantine; merge it by ferry.retry_quarantine() when the cause is gone.")));
}

/* --- retry --- */

/*
 * Merge one frame again.  Returns NULL or the error, in the caller's context.
 * A stream in normal mode raises, which the subtransaction catches.  Unless the
 * caller is patient, an error that says nothing of the state goes on.
 */
static ErrorData *
retry_frame(const char *peer, bytea *frame, bool patient)
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext cxt = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		ApplyStream *s = apply_stream_create(peer, NODE_ID_NONE, false);

		/* while it waited we promised nothing of it: old news it cannot be */
		apply_stream_expect_current(s, NULL);
		apply_stream_frame(s, VARDATA_ANY(frame), VARSIZE_ANY_EXHDR(frame));
		apply_stream_commit(s);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	if (error && apply_error_is_transient(error->sqlerrcode) &&
		error->sqlerrcode != ERRCODE_PROTOCOL_VIOLATION &&
		(!patient || ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION))
		ReThrowError(error);
	return error;
}

static void
settle(int64 id, int attempts, const ErrorData *error)
{
	Oid			types[4] = {INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum		args[4] = {Int64GetDatum(id), 0, 0, 0};
	char		nulls[5] = "    ";

	if (error == NULL)
	{
		SPI_execute_with_args("DELETE FROM ferry.quarantined WHERE id = $1",
							  1, types, args, NULL, false, 0);
		return;
	}
	args[1] = CStringGetTextDatum(error->message ? error->message : "unknown error");
	args[2] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
	args[3] = TimestampTzGetDatum(next_retry(attempts + 1));
	if (!ends_by_itself(error->sqlerrcode) && !apply_error_is_transient(error->sqlerrcode))
		nulls[3] = 'n';
	SPI_execute_with_args("UPDATE ferry.quarantined SET attempts = attempts + 1, error = $2, sqlstate = $3, retry_at = $4 "
						  "WHERE id = $1",
						  4, types, args, nulls, false, 0);
}

/*
 * Try the first state that a query gives (id, peer, frame, attempts), of those with
 * an id greater than after, by SPI.  Returns its id, 0 if there is none.
 */
static int64
retry_next(const char *query, int64 after, bool patient, MemoryContext cxt, bool *merged)
{
	Oid			types[1] = {INT8OID};
	Datum		args[1] = {Int64GetDatum(after)};
	bool		isnull;
	MemoryContext oldcontext;
	HeapTuple	tuple;
	TupleDesc	desc;
	int64		id;
	int			attempts;
	char	   *peer;
	bytea	   *frame;
	ErrorData  *error;

	SPI_execute_with_args(query, 1, types, args, NULL, false, 1);
	if (SPI_processed == 0)
		return 0;
	tuple = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	oldcontext = MemoryContextSwitchTo(cxt);
	id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
	peer = pstrdup(NameStr(*DatumGetName(SPI_getbinval(tuple, desc, 2, &isnull))));
	frame = DatumGetByteaPCopy(SPI_getbinval(tuple, desc, 3, &isnull));
	attempts = DatumGetInt32(SPI_getbinval(tuple, desc, 4, &isnull));
	SPI_freetuptable(SPI_tuptable);

	error = retry_frame(peer, frame, patient);
	*merged = (error == NULL);
	settle(id, attempts, error);
	MemoryContextSwitchTo(oldcontext);
	MemoryContextReset(cxt);
	return id;
}

bool
quarantine_retry_due(void)
{
	int			nest_level = NewGUCNestLevel();
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry retry", ALLOCSET_DEFAULT_SIZES);
	bool		merged;
	int64		id;

	(void) set_config_option("session_replication_role", "replica", PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	id = retry_next("SELECT id, peer, frame, attempts FROM ferry.quarantined "
					"WHERE id > $1 AND retry_at <= pg_catalog.clock_timestamp() "
					"ORDER BY retry_at LIMIT 1 FOR UPDATE SKIP LOCKED", 0, true, cxt, &merged);
	AtEOXact_GUC(true, nest_level);
	MemoryContextDelete(cxt);
	return id != 0;
}

PG_FUNCTION_INFO_V1(ferry_retry_quarantine);

/*
 * SQL: ferry.retry_quarantine() returns bigint: how many states could be
 * merged now.  The others stay, with the error that they raised this time.
 */
Datum
ferry_retry_quarantine(PG_FUNCTION_ARGS)
{
	int64		merged = 0;
	int64		last_id = 0;
	int			nest_level = NewGUCNestLevel();
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry retry",
											  ALLOCSET_DEFAULT_SIZES);

	(void) set_config_option("session_replication_role", "replica", PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
	for (;;)
	{
		bool		is_merged;

		CHECK_FOR_INTERRUPTS();
		last_id = retry_next("SELECT id, peer, frame, attempts FROM ferry.quarantined WHERE id > $1 "
							 "ORDER BY id LIMIT 1 FOR UPDATE", last_id, false, cxt, &is_merged);
		if (last_id == 0)
			break;
		if (is_merged)
			merged++;
	}
	SPI_finish();
	AtEOXact_GUC(true, nest_level);
	MemoryContextDelete(cxt);
	PG_RETURN_INT64(merged);
}
