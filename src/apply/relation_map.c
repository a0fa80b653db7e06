/*-------------------------------------------------------------------------
 *
 * relation_map.c
 *		From a peer's relation, as its stream describes it, to ours.
 *
 * Tables are matched by schema and name, columns by name, so that dropped
 * columns and another column order do no harm.  A column that the sender has
 * and we have not is an error for rows that carry a value in it: dropping the
 * value would claim in the version that we hold it.  A column that only we have
 * keeps our value or takes its default.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "apply/relation_map.h"

void
relation_map_reset(RelationMap *map)
{
	if (map->cxt)
		MemoryContextDelete(map->cxt);
	map->cxt = NULL;
	map->resolved = false;
}

static void
check_key(const RelationMap *map, const FerryTable *table, Relation rel)
{
	int			nkeys = 0;

	for (int c = 0; c < map->wire.ncols; c++)
	{
		if (!(map->wire.cols[c].flags & WIRE_COLUMN_KEY))
			continue;
		if (c != nkeys || nkeys >= table->nkeys || map->attnos[c] != table->key_attnos[nkeys])
		{
			nkeys = -1;
			break;
		}
		nkeys++;
	}
	if (nkeys != table->nkeys)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("primary key of table \"%s.%s\" differs between this node and its peer",
						map->wire.schema, map->wire.name),
				 errhint("Give the table the same primary key on all nodes.")));
}

void
relation_map_resolve(RelationMap *map)
{
	Oid			nspid;
	Oid			relid;
	Relation	rel;
	FerryTable *table;
	MemoryContext oldcontext;

	if (map->resolved)
		return;
	relation_map_reset(map);

	nspid = get_namespace_oid(map->wire.schema, true);
	relid = OidIsValid(nspid) ? get_relname_relid(map->wire.name, nspid) : InvalidOid;
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s.%s\" does not exist", map->wire.schema, map->wire.name),
				 errhint("Create it here, call ferry.add_table, then ferry.retry_quarantine().")));

	rel = table_open(relid, AccessShareLock);
	table = table_lookup(relid);
	if (table == NULL || table->rootid != relid)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s.%s\" is not under ferry", map->wire.schema, map->wire.name),
				 errhint("Call ferry.add_table, then ferry.retry_quarantine().")));

	map->cxt = AllocSetContextCreate(CacheMemoryContext, "ferry relation map", ALLOCSET_SMALL_SIZES);
	oldcontext = MemoryContextSwitchTo(map->cxt);
	map->relid = relid;
	map->attnos = palloc0(sizeof(AttrNumber) * Max(map->wire.ncols, 1));
	map->decoders = palloc0(sizeof(ValueDecoder) * Max(map->wire.ncols, 1));
	map->nids = 1;
	for (int c = 0; c < map->wire.ncols; c++)
		map->nids = Max(map->nids, map->wire.cols[c].id + 1);
	map->ids = palloc0(sizeof(uint16) * map->nids);

	for (int c = 0; c < map->wire.ncols; c++)
	{
		const WireColumn *col = &map->wire.cols[c];
		AttrNumber	attno = get_attnum(relid, col->name);
		Form_pg_attribute attr;

		if (attno <= 0 || attno == table->version_attno)
			continue;
		attr = TupleDescAttr(RelationGetDescr(rel), attno - 1);
		if (attr->attgenerated)
			continue;
		map->attnos[c] = attno;
		map->ids[col->id] = table->column_ids[attno - 1];
		value_decoder_init(&map->decoders[c], col, attr->atttypid, attr->atttypmod, map->cxt);
	}
	check_key(map, table, rel);
	MemoryContextSwitchTo(oldcontext);
	table_close(rel, AccessShareLock);
	map->resolved = true;
}

/* one value into place; v is HERE, UNCHANGED or ABSENT for our column */
static void
decode_value(RelationMap *map, const FerryTable *table, RowState *state, int c, const WireValue *v)
{
	AttrNumber	attno = map->attnos[c];
	int			i = attno - 1;

	if (v->kind == WIRE_ABSENT)
		return;
	if (attno == 0)
	{
		/* a column that we lack: only a NULL can be left out without loss */
		if (v->kind == WIRE_NULL)
			return;
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of table \"%s.%s\" does not exist",
						map->wire.cols[c].name, map->wire.schema, map->wire.name),
				 errhint("Add the column here, then call ferry.retry_quarantine().")));
	}
	if (v->kind == WIRE_UNCHANGED)
	{
		state->kinds[i] = VALUE_UNCHANGED;
		return;
	}
	state->kinds[i] = VALUE_HERE;
	state->nulls[i] = (v->kind == WIRE_NULL);
	state->values[i] = state->nulls[i] ? (Datum) 0 : value_decode(&map->decoders[c], v);
}

RowState *
relation_map_decode(RelationMap *map, const FerryTable *table, const WireRow *row)
{
	RowState   *state = state_create(table);
	const char *error = NULL;

	if (row->ncols != map->wire.ncols)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("row of table \"%s.%s\" has %d columns where %d were announced",
						map->wire.schema, map->wire.name, row->ncols, map->wire.ncols)));
	if (!version_decode(row->version, row->version_len, &state->version, &error))
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("invalid version in a row of table \"%s.%s\"",
						map->wire.schema, map->wire.name),
				 errdetail_internal("%s", error)));
	if (state->version.ncols > 0 || state->version.nparts > 0)
		version_map_columns(&state->version, map->ids, map->nids);

	state->alive = row->alive;
	for (int c = 0; c < row->ncols; c++)
		decode_value(map, table, state, c, &row->values[c]);
	for (int k = 0; k < table->nkeys; k++)
	{
		int			i = table->key_attnos[k] - 1;

		if (state->kinds[i] != VALUE_HERE || state->nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_PROTOCOL_VIOLATION),
					 errmsg("row of table \"%s.%s\" comes without its key",
							map->wire.schema, map->wire.name)));
	}
	return state;
}
