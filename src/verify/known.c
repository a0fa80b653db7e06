/*-------------------------------------------------------------------------
 *
 * known.c
 *		Parts of a table that are as they were when their fingerprint was taken.
 *
 * A big table that nobody writes should not be read in full every five minutes.
 * What must be known surely is that the rows which a snapshot sees in a part of it
 * are those that an earlier one saw.  The server has what tells, and its own
 * index-only scans stand on the same ground, the visibility map:
 *
 *	- Whoever changes a page (inserts, updates, deletes, locks a row) whose bit
 *	  "all visible" is set clears that bit before his transaction ends, and after a
 *	  crash the log clears it once more.  So if all bits of a part are set once
 *	  a snapshot has been taken, every row there is visible to it; what is done
 *	  later it does not see.
 *	- Clearing leaves no trace but the bit.  Setting a bit is logged, and moves the
 *	  LSN of the map's page.  So if all bits are set and the page has the LSN that
 *	  it had, none has been cleared in between: to be set again it would have
 *	  moved the LSN.
 *
 * Hence the fingerprint of a part, read under a snapshot, is recorded with the LSN
 * of its page of the map if before and after the scan all its bits were set and the LSN
 * was the same; and it holds for every later snapshot under which both are so
 * again.  A new file (TRUNCATE, VACUUM FULL, a restored dump) has another
 * number, and the record goes with the file's number and with all that the digests
 * depend on: the hash key, columns, their types and ids.  After a restore of
 * the database, or on a standby that was promoted, map and record come from the same
 * moment of the log.
 *
 * What this does not see is what goes behind the server's back: a disk that
 * forgets, a file that was copied, a page written by hand.  So only the frequent
 * comparisons by schedule use it; those of values, and those on demand, read
 * everything, and every day the hash key is renewed, so that nothing is remembered
 * for longer.
 *
 * What is recorded is one sum a part, 40 bytes for 255 MB, not its tree, which for
 * keys in the order of their hashes would be as wide as the whole table's.  It
 * tells that two tables are equal, which they nearly always are; where they
 * are not, both are read.
 *
 * One page of the map speaks for 255 MB: a change there makes all of them
 * unknown until VACUUM has been by, and they have been read once more.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/visibilitymap.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"

#include "compat.h"
#include "state/codec.h"
#include "verify/known.h"

/* a table of less is read faster than it is remembered */
#define KNOWN_MIN_BLOCKS 128

/* every second bit: "all visible" of four blocks */
#define ALL_VISIBLE_BYTE (VISIBILITYMAP_ALL_VISIBLE * 0x55)

/* --- the map --- */

static bool
is_all_visible(const uint8 *map, uint32 nblocks)
{
	const uint32 per_byte = BITS_PER_BYTE / BITS_PER_HEAPBLOCK;
	uint32		rest = nblocks % per_byte;
	uint8		mask = ALL_VISIBLE_BYTE & ((1 << (rest * BITS_PER_HEAPBLOCK)) - 1);

	for (uint32 i = 0; i < nblocks / per_byte; i++)
		if ((map[i] & ALL_VISIBLE_BYTE) != ALL_VISIBLE_BYTE)
			return false;
	/* without a rest that byte may lie behind the page */
	return rest == 0 || (map[nblocks / per_byte] & mask) == mask;
}

static uint32
part_blocks(const Known *k, uint32 part)
{
	return Min(k->nblocks - part * KNOWN_PART_BLOCKS, KNOWN_PART_BLOCKS);
}

/* the LSN of the page of the map that speaks of a part; invalid if it does not say that all is visible */
static XLogRecPtr
map_lsn(const Known *k, Relation rel, uint32 part, Buffer *buffer)
{
	XLogRecPtr	lsn = InvalidXLogRecPtr;
	Page		page;

	/* pins the page, if there is one */
	(void) visibilitymap_get_status(rel, part * KNOWN_PART_BLOCKS, buffer);
	if (!BufferIsValid(*buffer) || BufferGetBlockNumber(*buffer) != part)
		return InvalidXLogRecPtr;
	LockBuffer(*buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(*buffer);
	if (is_all_visible((const uint8 *) PageGetContents(page), part_blocks(k, part)))
		lsn = PageGetLSN(page);
	LockBuffer(*buffer, BUFFER_LOCK_UNLOCK);
	return lsn;
}

/* --- the record --- */

static bytea *
encode(const Known *k)
{
	WireWriter	w;

	wire_writer_init(&w, 32 + 40 * k->nparts);
	wire_put_u64(&w, k->definition.lo);
	wire_put_u64(&w, k->definition.hi);
	wire_put_u32(&w, k->nblocks);
	for (uint32 p = 0; p < k->nparts; p++)
	{
		wire_put_u64(&w, k->parts[p].map_lsn);
		fp_put_node(&w, &k->parts[p].sum);
	}
	return bytea_of(w.data, w.len);
}

static void
read_record(Known *k, Oid relid)
{
	Oid			types[2] = {INT8OID, OIDOID};
	Datum		args[2] = {Int64GetDatum(k->asker), ObjectIdGetDatum(relid)};
	MemoryContext cxt = CurrentMemoryContext;
	bool		isnull;

	SPI_connect();
	SPI_execute_with_args("SELECT parts FROM ferry.verify_known WHERE asker OPERATOR(pg_catalog.=) $1 "
						  "AND relid OPERATOR(pg_catalog.=) $2", 2, types, args, NULL, true, 1);
	if (SPI_processed > 0)
	{
		Datum		parts = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
		MemoryContext oldcontext = MemoryContextSwitchTo(cxt);

		k->record = DatumGetByteaPCopy(parts);
		MemoryContextSwitchTo(oldcontext);
	}
	SPI_finish();
}

/* what is on record and still true */
static void
recall(Known *k)
{
	WireReader	r;
	FpHash		definition;

	if (k->record == NULL)
		return;
	wire_reader_init(&r, VARDATA_ANY(k->record), VARSIZE_ANY_EXHDR(k->record));
	definition.lo = wire_get_u64(&r);
	definition.hi = wire_get_u64(&r);
	if (definition.lo != k->definition.lo || definition.hi != k->definition.hi || wire_get_u32(&r) != k->nblocks)
		return;
	for (uint32 p = 0; p < k->nparts; p++)
	{
		XLogRecPtr	lsn = wire_get_u64(&r);
		FpNode		sum;

		fp_get_node(&r, &sum);
		if (r.error)
			return;
		if (XLogRecPtrIsInvalid(lsn) || lsn != k->parts[p].map_lsn)
			continue;
		k->parts[p].is_known = true;
		k->parts[p].sum = sum;
		k->known_blocks += part_blocks(k, p);
	}
}

Known *
known_open(Relation rel, NodeId asker, const VerifyDigest *d)
{
	Known	   *k;
	Buffer		buffer = InvalidBuffer;

	if (rel->rd_tableam != GetHeapamTableAmRoutine() || !RelationNeedsWAL(rel))
		return NULL;
	k = palloc0(sizeof(Known));
	k->nblocks = RelationGetNumberOfBlocks(rel);
	if (k->nblocks < KNOWN_MIN_BLOCKS)
		return NULL;
	k->asker = asker;
	digest_definition(d, compat_relation_file_number(rel), &k->definition);
	k->nparts = (k->nblocks - 1) / KNOWN_PART_BLOCKS + 1;
	k->parts = palloc0(sizeof(KnownPart) * k->nparts);
	for (uint32 p = 0; p < k->nparts; p++)
		k->parts[p].map_lsn = map_lsn(k, rel, p, &buffer);
	if (BufferIsValid(buffer))
		ReleaseBuffer(buffer);
	read_record(k, RelationGetRelid(rel));
	recall(k);
	return k;
}

void
known_forget(Known *k)
{
	for (uint32 p = 0; p < k->nparts; p++)
	{
		k->parts[p].is_known = false;
		memset(&k->parts[p].sum, 0, sizeof(FpNode));
	}
	k->known_blocks = 0;
}

void
known_record(Known *k, Relation rel)
{
	Oid			types[3] = {INT8OID, OIDOID, BYTEAOID};
	Datum		args[3];
	Buffer		buffer = InvalidBuffer;
	bytea	   *record;

	for (uint32 p = 0; p < k->nparts; p++)
	{
		if (k->parts[p].map_lsn != map_lsn(k, rel, p, &buffer))
			k->parts[p].map_lsn = InvalidXLogRecPtr;
		if (XLogRecPtrIsInvalid(k->parts[p].map_lsn))
			memset(&k->parts[p].sum, 0, sizeof(FpNode));
	}
	if (BufferIsValid(buffer))
		ReleaseBuffer(buffer);
	record = encode(k);
	if (k->record && VARSIZE_ANY(record) == VARSIZE_ANY(k->record) &&
		memcmp(record, k->record, VARSIZE_ANY(record)) == 0)
		return;
	args[0] = Int64GetDatum(k->asker);
	args[1] = ObjectIdGetDatum(RelationGetRelid(rel));
	args[2] = PointerGetDatum(record);
	SPI_connect();
	SPI_execute_with_args("INSERT INTO ferry.verify_known (asker, relid, parts) VALUES ($1, $2, $3) "
						  "ON CONFLICT (asker, relid) DO UPDATE SET parts = excluded.parts",
						  3, types, args, NULL, false, 0);
	SPI_execute("DELETE FROM ferry.verify_known k WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c "
				"WHERE c.oid OPERATOR(pg_catalog.=) k.relid) OR NOT EXISTS (SELECT FROM ferry.member m "
				"WHERE m.node_id OPERATOR(pg_catalog.=) k.asker AND NOT m.is_dropped)", false, 0);
	SPI_finish();
}

/* --- the hash key --- */

static bool
read_key(FpKey *key)
{
	bool		found = false;
	bool		isnull;

	if (SPI_execute("SELECT key FROM ferry.verify_key WHERE pg_catalog.now() OPERATOR(pg_catalog.>=) since "
					"AND pg_catalog.now() OPERATOR(pg_catalog.<) (since OPERATOR(pg_catalog.+) "
					"'1 day'::pg_catalog.interval)", true, 1) == SPI_OK_SELECT && SPI_processed > 0)
	{
		bytea	   *bytes = DatumGetByteaPP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));

		found = VARSIZE_ANY_EXHDR(bytes) == sizeof(FpKey);
		if (found)
			memcpy(key, VARDATA_ANY(bytes), sizeof(FpKey));
	}
	return found;
}

void
known_key(FpKey *key)
{
	SPI_connect();
	if (!read_key(key))
	{
		Oid			types[1] = {BYTEAOID};
		Datum		args[1];

		digest_random_key(key);
		args[0] = PointerGetDatum(bytea_of(key, sizeof(FpKey)));
		SPI_execute("DELETE FROM ferry.verify_key", false, 0);
		SPI_execute_with_args("INSERT INTO ferry.verify_key (key) VALUES ($1)", 1, types, args, NULL, false, 0);
	}
	SPI_finish();
}
