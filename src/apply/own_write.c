/*-------------------------------------------------------------------------
 *
 * own_write.c
 *		Writes of our own that merging makes necessary, told to all peers.
 *
 * Some merges end in a write that no peer has made: the death of a row that
 * lost a unique value, a parent that is revived, a row that outlived a TRUNCATE.
 * It has a stamp of this node, and every node must get it from here.  But a
 * transaction of a link's worker carries the peer's origin, so that a link that
 * forwards only local changes does not send it.
 *
 * So the write is made twice: where it is needed, in the merging transaction,
 * and again by an ordinary transaction right after it, under a new stamp that
 * includes the first.  What is to be written again stands in ferry.own_write, in
 * the merging transaction itself: a crash in between loses nothing, since each
 * worker looks there when it starts.  Until it is done nobody is told that he has
 * been sent all that we wrote up to then (node/watermark.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "replication/origin.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "apply/conflict.h"
#include "apply/merge_row.h"
#include "apply/own_write.h"
#include "node/holding.h"
#include "node/node.h"
#include "node/watermark.h"
#include "state/local_write.h"
#include "state/tombstone.h"

/* how many are published in one transaction */
#define PUBLISH_ROWS 1000

static bool is_due = true;

void
own_write_note(ApplyTarget *t, const RowState *key)
{
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (replorigin_session_origin == InvalidRepOriginId)
		return;
	LockRelationOid(ferry_relation("own_write"), RowExclusiveLock);
	watermark_withhold();
	values[0] = ObjectIdGetDatum(RelationGetRelid(target_relation(t)));
	values[1] = state_key_to_jsonb(target_table(t), target_relation(t), key);
	apply_log_insert("own_write", values, nulls);
	is_due = true;
}

bool
own_write_is_due(void)
{
	return is_due;
}

/* write what is held of a key again, unchanged but for the stamp */
static void
write_again(ApplyTarget *t, const RowState *key)
{
	const FerryTable *table = target_table(t);
	ApplyFound	found;
	ItemPointerData tid;
	Datum		values[INDEX_MAX_KEYS];

	for (int k = 0; k < table->nkeys; k++)
		values[k] = key->values[table->key_attnos[k] - 1];
	while (target_find(t, key, &found))
	{
		RowState   *row = state_from_slot(table, found.slot);
		Version		before = row->version;

		version_touch(&before, node_stamp(), table->plain_ids, table->nplain,
					  table->mode == MERGE_MODE_COLUMN, table->life == LIFE_UPDATE_WINS, true, &row->version);
		if (target_update(t, &found, row))
			return;
	}
	if (tombstone_any(table))
	{
		RowState   *tomb = tombstone_find(table, values, &tid);
		Version		before;

		if (tomb == NULL)
			return;
		before = tomb->version;
		version_touch(&before, node_stamp(), table->plain_ids, table->nplain,
					  table->mode == MERGE_MODE_COLUMN, table->life == LIFE_UPDATE_WINS, false, &tomb->version);
		tombstone_put(table, tomb, &tid);
	}
}

static void
publish(Oid relid, Datum key)
{
	Relation	rel = try_table_open(relid, RowExclusiveLock);
	FerryTable *table = rel ? table_lookup(relid) : NULL;

	if (table && table->rootid == relid)
	{
		ApplyTarget *t = target_open(rel, table);

		target_enter(t);
		write_again(t, state_key_from_jsonb(target_table(t), rel, key));
		target_leave(t);
		target_close(t);
	}
	if (rel)
		table_close(rel, NoLock);
}

void
own_write_publish(void)
{
	RepOriginId origin = replorigin_session_origin;
	uint64		n;

	/* an error ends the worker: no need to restore it then */
	replorigin_session_origin = InvalidRepOriginId;
	do
	{
		SPITupleTable *rows;

		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		SPI_connect();
		SPI_execute("DELETE FROM ferry.own_write WHERE ctid = ANY (ARRAY("
					"SELECT ctid FROM ferry.own_write LIMIT " CppAsString2(PUBLISH_ROWS) " FOR UPDATE SKIP LOCKED)) "
					"RETURNING relid, key", false, 0);
		rows = SPI_tuptable;
		n = SPI_processed;
		for (uint64 i = 0; i < n; i++)
		{
			bool		isnull;

			publish(DatumGetObjectId(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull)),
					SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));
		}
		SPI_finish();
		PopActiveSnapshot();
		CommitTransactionCommand();
	} while (n == PUBLISH_ROWS);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	holding_review_own_writes();
	PopActiveSnapshot();
	CommitTransactionCommand();
	is_due = false;
	replorigin_session_origin = origin;
}
