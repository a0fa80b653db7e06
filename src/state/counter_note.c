/*-------------------------------------------------------------------------
 *
 * counter_note.c
 *		What counters held before this run of the server wrote them.
 *
 * A node that finds out that its disk was set back takes what it has written since
 * the start for another's (core/rename.c).  Which those are, dots say; but a
 * counter keeps what a node has contributed as one sum, and what of that was
 * added since is not to be seen.  So, from the start of the server until the node has
 * met a peer, the first write of a row notes the node's contributions as they
 * stood.  That is a moment, as a rule; and one row of ferry.counter_note for each row with
 * a counter that is written in it.
 *
 * That it is the first, the row's version tells: no own write is in it that is
 * later than the start.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "compat.h"
#include "node/node.h"
#include "state/counter_note.h"
#include "state/strategy.h"

enum {NOTE_NODE, NOTE_SINCE, NOTE_RELID, NOTE_KEY, NOTE_COL, NOTE_SHARE, NOTE_NATTS};

static void
write_note(const FerryTable *table, const NodeShared *node, Datum key, uint16 col, const Part *shares, int n)
{
	Relation	notes = table_open(ferry_relation("counter_note"), RowExclusiveLock);
	Datum		values[NOTE_NATTS];
	bool		nulls[NOTE_NATTS] = {0};
	bytea	   *share;
	uint32		len = 0;
	const uint8_t *bytes = NULL;

	for (int i = 0; i < n; i++)
	{
		if (shares[i].node != node->id)
			continue;
		len = shares[i].len;
		bytes = shares[i].bytes;
	}
	share = palloc(VARHDRSZ + len);
	SET_VARSIZE(share, VARHDRSZ + len);
	if (len > 0)
		memcpy(VARDATA(share), bytes, len);
	values[NOTE_NODE] = Int64GetDatum(node->id);
	values[NOTE_SINCE] = Int64GetDatum((int64) node->first_possible);
	values[NOTE_RELID] = ObjectIdGetDatum(table->rootid);
	values[NOTE_KEY] = key;
	values[NOTE_COL] = Int32GetDatum(col);
	values[NOTE_SHARE] = PointerGetDatum(share);
	CatalogTupleInsert(notes, heap_form_tuple(RelationGetDescr(notes), values, nulls));
	table_close(notes, NoLock);
}

/* of which columns there is something to be noted */
static void
take_all(const FerryTable *table, const NodeShared *node, const FoundRow *found, const Datum *key)
{
	Relation	rel = table_open(table->relid, NoLock);
	RowState   *s = state_create(table);

	for (int k = 0; k < table->nkeys; k++)
	{
		s->values[table->key_attnos[k] - 1] = key[k];
		s->kinds[table->key_attnos[k] - 1] = VALUE_HERE;
	}
	for (int c = 0; c < table->nstrategies; c++)
	{
		uint16		id = table->strategies[c].id;
		int			i = table->id_attnos[id - 1] - 1;
		StrategyColumn col;
		StrategySide side;
		Part	   *shares;
		int			n;

		if (table->strategies[c].kind != KIND_COUNTER || (found->kinds && found->kinds[i] != VALUE_HERE))
			continue;
		col = strategy_column(table, RelationGetDescr(rel), id, KIND_COUNTER);
		if (!counter_is_countable(&col, found->values[i], found->nulls[i]))
			continue;
		side = (StrategySide) {found->version, found->values[i], found->nulls[i]};
		n = counter_open(&col, &side, &shares);
		write_note(table, node, state_key_to_jsonb(table, rel, s), id, shares, n);
	}
	table_close(rel, NoLock);
}

void
counter_note_take(const FerryTable *table, const FoundRow *found, const Datum *key)
{
	NodeShared *node;

	if (!table->has_strategies || table->mode != MERGE_MODE_COLUMN)
		return;
	node = node_current();
	if (pg_atomic_read_u32(&node->met) == 0 && version_entry(found->version, node->id) < node->first_possible)
		take_all(table, node, found, key);
}

bool
counter_note_find(Oid rootid, Datum key, uint16 col, NodeId node, Hlc since, Part *share)
{
	MemoryContext cxt = CurrentMemoryContext;
	Oid			types[5] = {OIDOID, JSONBOID, INT4OID, INT8OID, INT8OID};
	Datum		args[5] = {ObjectIdGetDatum(rootid), key, Int32GetDatum(col), Int64GetDatum(node), Int64GetDatum((int64) since)};
	bool		found;
	bool		isnull;

	SPI_connect();
	SPI_execute_with_args("SELECT share FROM ferry.counter_note n WHERE n.key OPERATOR(pg_catalog.=) $2 AND n.relid OPERATOR(pg_catalog.=) $1 "
						  "AND n.col OPERATOR(pg_catalog.=) $3 AND n.node_id OPERATOR(pg_catalog.=) $4 AND n.since OPERATOR(pg_catalog.>=) $5 "
						  "ORDER BY n.since LIMIT 1", 5, types, args, NULL, true, 1);
	found = SPI_processed == 1;
	if (found)
	{
		bytea	   *bytes = DatumGetByteaPP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));

		memset(share, 0, sizeof(*share));
		share->node = node;
		share->len = VARSIZE_ANY_EXHDR(bytes);
		share->bytes = MemoryContextAlloc(cxt, share->len + 1);
		memcpy(unconstify(uint8_t *, share->bytes), VARDATA_ANY(bytes), share->len);
	}
	SPI_finish();
	return found;
}
