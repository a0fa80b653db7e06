/*-------------------------------------------------------------------------
 *
 * fetch.c
 *		A row's state, asked of the peer from which we merge just now.
 *
 * Two things cannot be decided from a state alone: the value of a column
 * that it left out and that we do not hold (core/narrow.c), and whether a row that
 * stands in the way of a unique value is still there at its writer's.  Both are
 * answered by the sender, which has merged what it sends.  What it answers is a
 * state like any other, perhaps newer than the stream's: merging it early does
 * no harm.
 *
 * It must not be older.  A stream brings a transaction as soon as its commit is in
 * the log, which is before others at the sender can see it.  So whoever needs the
 * values of a state says which one, and the sender waits until it sees it.  If it
 * never will, because a TRUNCATE has taken it or its tombstone has been removed
 * since, the state is old news, of which the stream will tell.
 *
 * What TRUNCATE left at the sender travels ahead of the state, as on every way
 * (core/range.c), and is merged first: for the state may have been written, there or
 * farther away, under a range of which the stream tells later.  Mostly it is here
 * already.  If it is not, merging it takes a lock against writers of the table in a
 * transaction that may have written to it, as a stream does where a TRUNCATE follows
 * rows: if that ends in a deadlock, the link begins the transaction again.
 *
 * How the peer is reached is not our business: the link's worker says so
 * (fetch_set_source).  Where nobody did (ferry.merge, retries, files), nothing
 * is fetched.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "apply/fetch.h"
#include "apply/merge_row.h"
#include "apply/range_merge.h"
#include "apply/relation_map.h"
#include "node/holding.h"
#include "node/horizon.h"
#include "node/node.h"
#include "state/codec.h"
#include "state/range_tombstone.h"

/* --- asking --- */

static char source_peer[NAMEDATALEN];
static FetchFunction source_get = NULL;
static void *source_arg;

void
fetch_set_source(const char *peer, FetchFunction get, void *arg)
{
	strlcpy(source_peer, peer, NAMEDATALEN);
	source_get = get;
	source_arg = arg;
}

static void
bad_answer(const char *peer, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("peer \"%s\" gave an invalid answer", peer),
			 errdetail_internal("%s", why)));
}

bool
fetch_is_possible(const char *peer)
{
	return source_get != NULL && peer != NULL && strcmp(peer, source_peer) == 0;
}

/* one of the ranges in an answer, merged; true if it was news */
static bool
take_range(ApplyTarget *t, const char *peer, WireReader *reader, uint32 relation)
{
	WireRange	wire;
	Version		range;
	const char *error = NULL;

	wire_get_range(reader, &wire);
	if (reader->error)
		bad_answer(peer, reader->error);
	if (wire.relation != relation)
		bad_answer(peer, "a range of another table");
	if (!version_decode(wire.version, wire.version_len, &range, &error))
		bad_answer(peer, error);
	return range_tombstone_merge(t, &range, peer) != APPLY_IGNORED;
}

/* the state in an answer; the ranges that precede it are merged, *truncated set if one was news */
static RowState *
read_answer(ApplyTarget *t, const char *peer, const void *frame, size_t len, bool *truncated)
{
	const FerryTable *table = target_table(t);
	WireReader	reader;
	RelationMap map = {0};
	NodeVector *horizon = palloc(sizeof(NodeVector));
	WireRow		row;
	WireValue  *values;
	RowState   *state;
	uint8_t		type;

	wire_reader_init(&reader, frame, len);
	if (wire_get_u8(&reader) != WIRE_HORIZON)
		bad_answer(peer, "no horizon");
	wire_get_vector(&reader, horizon);
	if (wire_get_u8(&reader) != WIRE_RELATION)
		bad_answer(peer, "no relation");
	wire_get_relation(&reader, &map.wire);
	if (reader.error)
		bad_answer(peer, reader.error);
	relation_map_resolve(&map);
	if (map.relid != RelationGetRelid(target_relation(t)))
		bad_answer(peer, "another table");
	while ((type = wire_get_u8(&reader)) == WIRE_RANGE)
		*truncated |= take_range(t, peer, &reader, map.wire.id);
	values = palloc(sizeof(WireValue) * WIRE_MAX_COLUMNS);
	wire_get_row(&reader, &row, values, WIRE_MAX_COLUMNS);
	if (reader.error || (type != WIRE_ALIVE && type != WIRE_DEAD))
		bad_answer(peer, reader.error ? reader.error : "no row");
	row.alive = (type == WIRE_ALIVE);
	state = relation_map_decode(&map, table, &row);
	state->version.horizon = horizon;
	relation_map_reset(&map);
	return state;
}

static FetchOutcome
ask(ApplyTarget *t, const RowState *key, const char *peer, const char *at_least, RowState **state, bool *truncated)
{
	Relation	rel = target_relation(t);
	Jsonb	   *json;
	void	   *frame;
	size_t		len;

	if (!fetch_is_possible(peer))
		return FETCH_NOBODY;
	json = DatumGetJsonbP(state_key_to_jsonb(target_table(t), rel, key));
	frame = source_get(source_arg, get_namespace_name(RelationGetNamespace(rel)), RelationGetRelationName(rel),
					   JsonbToCString(NULL, &json->root, VARSIZE(json)), at_least, &len);
	if (frame == NULL)
		return FETCH_NOBODY;
	if (len == 0)
		return FETCH_GONE;
	*state = read_answer(t, peer, frame, len, truncated);
	return FETCH_WHOLE;
}

RowState *
fetch_state(ApplyTarget *t, const RowState *key, const char *peer, bool *truncated)
{
	RowState   *state;

	return ask(t, key, peer, "", &state, truncated) == FETCH_WHOLE ? state : NULL;
}

FetchOutcome
fetch_whole(ApplyTarget *t, const RowState *part, const char *peer, RowState **whole)
{
	StringInfoData at_least;
	const Version *v = &part->version;
	bool		truncated = false;
	FetchOutcome outcome;

	initStringInfo(&at_least);
	for (int i = 0; i < v->nvv; i++)
		appendStringInfo(&at_least, "%s%u:" UINT64_FORMAT, i > 0 ? "," : "", v->vv[i].node, v->vv[i].hlc);
	outcome = ask(t, part, peer, at_least.data, whole, &truncated);
	if (outcome == FETCH_WHOLE)
		for (int i = 0; i < v->nvv; i++)
			if (!version_covers(&(*whole)->version, v->vv[i]))
				bad_answer(peer, "an older row");
	return outcome;
}

/* --- answering --- */

/* how long the sender waits to see what it has sent */
#define SEE_MS 5000

static bool
covers_all(const Version *v, const NodeVector *dots)
{
	for (uint32 i = 0; i < dots->n; i++)
		if (version_seen(v, dots->entries[i].node) < dots->entries[i].hlc)
			return false;
	return true;
}

/* is a state with these writes dead here, and nothing left of it? */
static bool
is_gone(Oid relid, const NodeVector *dots)
{
	const RangeList *ranges = ranges_of(relid);

	for (int i = 0; i < ranges->n; i++)
		if (covers_all(&ranges->ranges[i], dots))
			return true;
	return vector_includes(horizon_current(), dots);
}

/*
 * What is held of a key that includes these writes: true if it is to be had,
 * *state NULL if it is gone.  Waits for what is committed but not yet visible.
 */
static bool
find_at_least(ApplyTarget *t, const RowState *key, const NodeVector *dots, RowState **state)
{
	Oid			relid = RelationGetRelid(target_relation(t));

	for (int waited_ms = 0; waited_ms < SEE_MS; waited_ms++)
	{
		*state = merge_row_state(t, key);
		if (dots->n == 0)
			return *state != NULL;
		if (*state && covers_all(&(*state)->version, dots))
			return true;
		AcceptInvalidationMessages();
		if (is_gone(relid, dots))
		{
			*state = NULL;
			return true;
		}
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000);
	}
	return false;				/* it was lost behind ferry's back */
}

PG_FUNCTION_INFO_V1(ferry_state_frame);

/*
 * SQL: ferry._state_frame(schema text, name text, key jsonb, at_least text)
 * returns bytea: the state of a row, which includes the writes of this vector, as
 * a frame, after what TRUNCATE left of its table; no bytes if such a state is dead and forgotten here; null if the table
 * is not under ferry here or there is no such row.
 */
Datum
ferry_state_frame(PG_FUNCTION_ARGS)
{
	Oid			nspid = get_namespace_oid(text_to_cstring(PG_GETARG_TEXT_PP(0)), true);
	Oid			relid = OidIsValid(nspid) ? get_relname_relid(text_to_cstring(PG_GETARG_TEXT_PP(1)), nspid) : InvalidOid;
	Relation	rel;
	FerryTable *table;
	ApplyTarget *t;
	NodeVector	at_least;
	RowState   *state;
	bool		known;
	RelationEncoder *encoder;
	WireWriter	w;

	(void) node_current();
	holding_parse(text_to_cstring(PG_GETARG_TEXT_PP(3)), &at_least, NULL);
	if (!OidIsValid(relid))
		PG_RETURN_NULL();
	rel = table_open(relid, RowExclusiveLock);
	table = table_lookup(relid);
	if (table == NULL || table->rootid != relid)
	{
		table_close(rel, NoLock);
		PG_RETURN_NULL();
	}
	t = target_open(rel, table);
	wire_writer_init(&w, 1024);
	known = find_at_least(t, state_key_from_jsonb(target_table(t), rel, PG_GETARG_DATUM(2)), &at_least, &state);
	if (known && state)
	{
		const RangeList *ranges = ranges_of(relid);

		encoder = relation_encoder_create(target_table(t), rel, CurrentMemoryContext);
		wire_put_horizon(&w, state->version.horizon);
		wire_put_relation(&w, &encoder->wire);
		for (int i = 0; i < ranges->n; i++)
			range_encode(&w, encoder->wire.id, &ranges->ranges[i]);
		relation_encode_state(&w, encoder, state);
	}
	target_close(t);
	table_close(rel, NoLock);
	if (!known)
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(bytea_of(w.data, w.len));
}
