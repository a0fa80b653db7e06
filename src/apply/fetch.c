/*-------------------------------------------------------------------------
 *
 * fetch.c
 *		A row's state, asked of the peer from which we merge just now.
 *
 * Two things cannot be decided from a state alone: the value of a TOASTed column
 * that its last write left out and that we do not hold, and whether a row that
 * stands in the way of a unique value is still there at its writer's.  Both are
 * answered by the sender, which has merged what it sends.  What it answers is a
 * state like any other, perhaps newer than the stream's: merging it early does
 * no harm.
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
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "apply/fetch.h"
#include "apply/merge_row.h"
#include "apply/relation_map.h"
#include "node/node.h"
#include "state/codec.h"

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

RowState *
fetch_state(ApplyTarget *t, const RowState *key, const char *peer)
{
	Relation	rel = target_relation(t);
	const FerryTable *table = target_table(t);
	Jsonb	   *json;
	void	   *frame;
	size_t		len;
	WireReader	reader;
	RelationMap map = {0};
	WireRow		row;
	WireValue  *values;
	RowState   *state;
	uint8_t		type;

	if (source_get == NULL || peer == NULL || strcmp(peer, source_peer) != 0)
		return NULL;
	json = DatumGetJsonbP(state_key_to_jsonb(table, rel, key));
	frame = source_get(source_arg, get_namespace_name(RelationGetNamespace(rel)), RelationGetRelationName(rel),
					   JsonbToCString(NULL, &json->root, VARSIZE(json)), &len);
	if (frame == NULL)
		return NULL;

	wire_reader_init(&reader, frame, len);
	if (wire_get_u8(&reader) != WIRE_RELATION)
		bad_answer(peer, "no relation");
	wire_get_relation(&reader, &map.wire);
	type = wire_get_u8(&reader);
	values = palloc(sizeof(WireValue) * WIRE_MAX_COLUMNS);
	wire_get_row(&reader, &row, values, WIRE_MAX_COLUMNS);
	if (reader.error || (type != WIRE_ALIVE && type != WIRE_DEAD))
		bad_answer(peer, reader.error ? reader.error : "no row");
	row.alive = (type == WIRE_ALIVE);
	relation_map_resolve(&map);
	if (map.relid != RelationGetRelid(rel))
		bad_answer(peer, "another table");
	state = relation_map_decode(&map, table, &row);
	relation_map_reset(&map);
	return state;
}

/* --- answering --- */

PG_FUNCTION_INFO_V1(ferry_state_frame);

/*
 * SQL: ferry._state_frame(schema text, name text, key jsonb) returns bytea: the
 * state of a row as a frame; null if the table is not under ferry here or the
 * key was never seen.
 */
Datum
ferry_state_frame(PG_FUNCTION_ARGS)
{
	Oid			nspid = get_namespace_oid(text_to_cstring(PG_GETARG_TEXT_PP(0)), true);
	Oid			relid = OidIsValid(nspid) ? get_relname_relid(text_to_cstring(PG_GETARG_TEXT_PP(1)), nspid) : InvalidOid;
	Relation	rel;
	FerryTable *table;
	ApplyTarget *t;
	RowState   *state;
	RelationEncoder *encoder;
	WireWriter	w;
	bytea	   *frame;

	(void) node_current();
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
	state = merge_row_state(t, state_key_from_jsonb(target_table(t), rel, PG_GETARG_DATUM(2)));
	if (state)
	{
		encoder = relation_encoder_create(target_table(t), rel, CurrentMemoryContext);
		wire_writer_init(&w, 1024);
		wire_put_relation(&w, &encoder->wire);
		relation_encode_state(&w, encoder, state);
	}
	target_close(t);
	table_close(rel, NoLock);
	if (state == NULL)
		PG_RETURN_NULL();
	frame = palloc(VARHDRSZ + w.len);
	SET_VARSIZE(frame, VARHDRSZ + w.len);
	memcpy(VARDATA(frame), w.data, w.len);
	PG_RETURN_BYTEA_P(frame);
}
