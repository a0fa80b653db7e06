/*-------------------------------------------------------------------------
 *
 * import_worker.c
 *		Merging a bundle: verified whole, then block by block.
 *
 * The first pass reads every part and looks at everything that can be wrong
 * without touching a table: form, order, seals, checksums, signature, messages,
 * group, encoding.  Only then does the second pass merge.  It reads the bundle
 * again, since it may be of any size; that it is the same one is known by the
 * digest of each part, which the first pass kept (32 bytes for 256 kB).
 *
 * Each block is a transaction: its rows, and with them in ferry.bundle_import how
 * far we are.  So whatever ends an import, the next one goes on behind the last
 * block that was merged, and no block counts twice.  Blocks are committed without
 * waiting for the disk; the last commit does wait, and with it all are durable.
 *
 * A row that raises does not end the import: the block is done again row by row,
 * and what still raises goes to quarantine, as it does on a link.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apply/apply.h"
#include "bundle/import.h"
#include "bundle/reader.h"
#include "link/background.h"
#include "link/claims.h"
#include "node/holding.h"
#include "node/node.h"

/* how often a block is tried again after a deadlock and the like */
#define BLOCK_ATTEMPTS 5

typedef struct Import
{
	ImportJob  *job;
	MemoryContext cxt;			/* of the whole import */
	MemoryContext pass_cxt;		/* of one pass: the reader */
	MemoryContext part_cxt;		/* of one part */
	BundleKeys *keys;
	int			fd;				/* of a file, else -1 */
	BundleFile	file;
	uint32		part;			/* of the intake: the next one */
	BundleReader *reader;
	bool		verified;		/* the first pass is over */
	uint8_t    *digests;		/* [part] */
	uint32		nparts;
	uint32		cap;
	uint8_t		whole[BUNDLE_DIGEST_BYTES]; /* digest of the digests: the bundle as it was verified */
	int64		blocks_done;	/* as ferry.bundle_import has it */
	StreamNews *news;			/* who there is, and who holds what */
} Import;

/* --- where parts come from --- */

static long
read_file(void *arg, uint8_t *buf, size_t n)
{
	Import	   *im = arg;
	ssize_t		got;

	do
	{
		CHECK_FOR_INTERRUPTS();
		got = read(im->fd, buf, n);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not read file \"%s\": %m", im->job->path)));
	return (long) got;
}

static void
open_file(Import *im)
{
	struct stat st;

	im->fd = BasicOpenFile(im->job->path, O_RDONLY | PG_BINARY);
	if (im->fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not open file \"%s\": %m", im->job->path)));
	if (fstat(im->fd, &st) != 0 || !S_ISREG(st.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("\"%s\" is not a regular file", im->job->path)));
}

/* a part that the courier brought, in part_cxt; NULL if there is none of that number */
static bytea *
intake_part(Import *im)
{
	Oid			types[3] = {NAMEOID, UUIDOID, INT8OID};
	Datum		args[3] = {CStringGetDatum(im->job->courier), UUIDPGetDatum(&im->job->id), Int64GetDatum(im->part)};
	bytea	   *part = NULL;
	bool		isnull;

	SPI_connect();
	SPI_execute_with_args("SELECT part FROM ferry.bundle_part WHERE courier = $1 AND bundle_id = $2 AND number = $3",
						  3, types, args, NULL, true, 1);
	if (SPI_processed == 1)
		part = (bytea *) DatumGetPointer(SPI_datumTransfer(SPI_getbinval(SPI_tuptable->vals[0],
																		 SPI_tuptable->tupdesc, 1, &isnull),
														   false, -1));
	SPI_finish();
	return part ? (bytea *) PG_DETOAST_DATUM(PointerGetDatum(part)) : NULL;
}

/* the courier may have named a bundle that he has not brought */
static void
check_brought(Import *im)
{
	if (intake_part(im) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the first part of the bundle has not been brought"),
				 errhint("ferry.intake() shows what has been.")));
}

/* begin a pass */
static void
rewind_parts(Import *im)
{
	MemoryContext oldcontext;
	BundleError error;

	if (im->reader)
		bundle_reader_free(im->reader);
	MemoryContextReset(im->pass_cxt);
	oldcontext = MemoryContextSwitchTo(im->pass_cxt);
	im->reader = palloc0(sizeof(BundleReader));
	if (!bundle_reader_begin(im->reader, im->keys, &error))
		bundle_raise(&error, NULL);
	im->part = 0;
	if (im->fd >= 0)
	{
		if (lseek(im->fd, 0, SEEK_SET) != 0)
			ereport(ERROR,
					(errcode_for_file_access(), errmsg("could not seek in file \"%s\": %m", im->job->path)));
		bundle_file_begin(&im->file, read_file, im);
	}
	MemoryContextSwitchTo(oldcontext);
}

/* fetch and check the next part; false at the end.  Raises with the part's number. */
static bool
next_part(Import *im, uint8_t *digest)
{
	BundleError error;
	const uint8_t *p = NULL;
	size_t		n = 0;
	bool		more = true;
	bool		ok;

	CHECK_FOR_INTERRUPTS();
	MemoryContextReset(im->part_cxt);
	MemoryContextSwitchTo(im->part_cxt);
	if (im->fd >= 0)
	{
		ok = bundle_file_next(&im->file, &more, &error);
		p = im->file.part.data;
		n = im->file.part.len;
	}
	else
	{
		bytea	   *part = intake_part(im);

		ok = true;
		more = part != NULL;
		if (part)
		{
			p = (uint8_t *) VARDATA(part);
			n = VARSIZE(part) - VARHDRSZ;
		}
	}
	if (ok && !more)
		ok = bundle_reader_finish(im->reader, &error);
	else if (ok)
	{
		/* what the header and the end say must outlive the part */
		if (n < BUNDLE_HEAD_BYTES || p[5] != BUNDLE_BLOCK)
			MemoryContextSwitchTo(im->pass_cxt);
		ok = bundle_read_part(im->reader, p, n, &error);
		MemoryContextSwitchTo(im->part_cxt);
		if (ok && EVP_Digest(p, n, digest, NULL, EVP_sha256(), NULL) != 1)
			elog(ERROR, "OpenSSL could not make a digest");
	}
	if (!ok)
		bundle_raise(&error, psprintf(im->verified ?
									  "Found at part %u, after the bundle was verified. Parts before it are merged." :
									  "Found at part %u. Nothing was changed.", im->part));
	im->part++;
	return more;
}

/* --- first pass --- */

static void
remember_digest(Import *im, const uint8_t *digest)
{
	if (im->nparts == im->cap)
	{
		im->cap = im->cap ? im->cap * 2 : 256;
		im->digests = im->digests ?
			repalloc_huge(im->digests, (Size) im->cap * BUNDLE_DIGEST_BYTES) :
			MemoryContextAllocHuge(im->cxt, (Size) im->cap * BUNDLE_DIGEST_BYTES);
	}
	memcpy(im->digests + (Size) im->nparts * BUNDLE_DIGEST_BYTES, digest, BUNDLE_DIGEST_BYTES);
	im->nparts++;
}

static void
check_encoding(const BundleHeader *h)
{
	if (strcmp(h->encoding, GetDatabaseEncodingName()) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("encoding of the bundle's database differs"),
				 errdetail("It is %s there and %s here.", h->encoding, GetDatabaseEncodingName()),
				 errhint("Use databases of one encoding, UTF8 for preference.")));
}

static void
verify(Import *im)
{
	uint8_t		digest[BUNDLE_DIGEST_BYTES];

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	(void) node_current();
	incarnation_require_renamed();
	rewind_parts(im);
	if (im->fd < 0)
		check_brought(im);
	while (next_part(im, digest))
	{
		if (im->part == 1)
			check_encoding(&im->reader->header);
		remember_digest(im, digest);
	}
	if (EVP_Digest(im->digests, (size_t) im->nparts * BUNDLE_DIGEST_BYTES, im->whole, NULL, EVP_sha256(), NULL) != 1)
		elog(ERROR, "OpenSSL could not make a digest");
	memcpy(im->job->id.data, im->reader->head.id, UUID_LEN);
	im->verified = true;
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(im->cxt);
}

/* --- between the passes --- */

/* the bundle's groups as a uuid[] */
static Datum
groups_datum(const BundleHeader *h)
{
	Datum	   *elems = palloc(sizeof(Datum) * h->ngroups);

	for (int i = 0; i < h->ngroups; i++)
		elems[i] = UUIDPGetDatum((pg_uuid_t *) (h->groups + i * UUID_LEN));
	return PointerGetDatum(construct_array(elems, h->ngroups, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

static void
check_group(const Import *im, Datum groups)
{
	Oid			types[1] = {UUIDARRAYOID};

	SPI_execute_with_args("SELECT 1 FROM ferry.local_node WHERE groups OPERATOR(pg_catalog.&&) $1",
						  1, types, &groups, NULL, true, 1);
	if (SPI_processed == 0 && !im->job->adopt_group)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the bundle comes from another group of nodes"),
				 errdetail("It was written by node \"%s\" (id %u), whose group this node does not belong to.",
						   im->reader->header.source_name, im->reader->header.source),
				 errhint("If the two are to be one group, say adopt_group => true.")));
}

/*
 * Begin, or find, the bundle's row in ferry.bundle_import; true if it was merged
 * whole before.  A bundle that has the id of another one is a forgery, or a very
 * strange accident.
 */
static bool
begin_record(Import *im)
{
	const BundleHeader *h = &im->reader->header;
	const BundleTotals *t = &im->reader->totals;
	bytea	   *whole = palloc(VARHDRSZ + BUNDLE_DIGEST_BYTES);
	Oid			types[11] = {UUIDOID, BYTEAOID, INT8OID, NAMEOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID,
	TEXTOID, TEXTOID, TEXTOID};
	NameData	source;
	Datum		args[11];
	char		nulls[12] = "           ";
	Oid			array_type[1] = {UUIDARRAYOID};
	Datum		groups;
	bool		finished;
	bool		isnull;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	groups = groups_datum(h);
	check_group(im, groups);
	SPI_execute_with_args("SELECT ferry._join_groups($1)", 1, array_type, &groups, NULL, false, 1);

	SET_VARSIZE(whole, VARHDRSZ + BUNDLE_DIGEST_BYTES);
	memcpy(VARDATA(whole), im->whole, BUNDLE_DIGEST_BYTES);
	namestrcpy(&source, h->source_name);
	args[0] = UUIDPGetDatum(&im->job->id);
	args[1] = PointerGetDatum(whole);
	args[2] = Int64GetDatum(h->source);
	args[3] = NameGetDatum(&source);
	args[4] = TimestampTzGetDatum((TimestampTz) h->created_us);
	args[5] = Int64GetDatum(t->blocks);
	args[6] = Int64GetDatum(t->tables);
	args[7] = Int64GetDatum(t->states);
	args[8] = CStringGetTextDatum(h->since);
	args[9] = CStringGetTextDatum(t->reach);
	args[10] = im->reader->signed_by ? CStringGetTextDatum(im->reader->signed_by->name) : (Datum) 0;
	nulls[10] = im->reader->signed_by ? ' ' : 'n';
	SPI_execute_with_args("INSERT INTO ferry.bundle_import (bundle_id, digest, source_id, source, created_at, blocks, "
						  "tables, states, begins, reaches, signed_by) "
						  "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, nullif($9, ''), nullif($10, ''), $11) "
						  "ON CONFLICT DO NOTHING",
						  11, types, args, nulls, false, 0);
	SPI_execute_with_args("SELECT blocks_done, finished_at IS NOT NULL FROM ferry.bundle_import "
						  "WHERE bundle_id = $1 AND digest = $2",
						  2, types, args, NULL, false, 1);
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("another bundle with the same id was imported before"),
				 errdetail("It differs from this one.")));
	im->blocks_done = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	finished = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(im->cxt);
	return finished;
}

/* --- second pass --- */

/* one more block is done, with these results; raises if somebody else did it */
static void
record_block(Import *im, const ApplyProgress *p)
{
	Oid			types[7] = {UUIDOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID};
	Datum		args[7] = {UUIDPGetDatum(&im->job->id), Int64GetDatum(im->blocks_done),
		Int64GetDatum(p->results[APPLY_APPLIED]), Int64GetDatum(p->results[APPLY_MERGED]),
		Int64GetDatum(p->results[APPLY_IGNORED]), Int64GetDatum(p->results[APPLY_CONFLICT]),
	Int64GetDatum(p->quarantined)};

	SPI_connect();
	SPI_execute_with_args("UPDATE ferry.bundle_import SET blocks_done = blocks_done + 1, applied = applied + $3, "
						  "merged = merged + $4, ignored = ignored + $5, conflicts = conflicts + $6, "
						  "quarantined = quarantined + $7 "
						  "WHERE bundle_id = $1 AND blocks_done = $2",
						  7, types, args, NULL, false, 0);
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the bundle is being imported by another session")));
	SPI_finish();
}

static void
merge_once(Import *im, bool careful)
{
	ApplyStream *s;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(im->part_cxt);
	s = apply_stream_create(im->reader->header.source_name, im->reader->header.source, careful);
	apply_stream_frame(s, im->reader->payload, im->reader->payload_bytes);
	(void) apply_stream_commit(s);
	record_block(im, apply_stream_progress(s));
	stream_news_move(apply_stream_progress(s)->news, im->news);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(im->part_cxt);
}

static void
merge_block(Import *im)
{
	volatile bool careful = false;

	for (volatile int attempt = 1;; attempt++)
	{
		volatile bool done = false;

		PG_TRY();
		{
			merge_once(im, careful);
			done = true;
		}
		PG_CATCH();
		{
			ErrorData  *error;
			bool		transient;

			MemoryContextSwitchTo(im->part_cxt);
			error = CopyErrorData();
			transient = ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK ||
				error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
			if (attempt >= BLOCK_ATTEMPTS || error->sqlerrcode == ERRCODE_OBJECT_IN_USE ||
				(!transient && (careful || apply_error_is_transient(error->sqlerrcode))))
				PG_RE_THROW();
			FlushErrorState();
			AbortOutOfAnyTransaction();
			MemoryContextSwitchTo(im->part_cxt);
			careful = careful || !transient;
		}
		PG_END_TRY();
		if (done)
			break;
	}
	im->blocks_done++;
}

/* a block that was merged before and has no rows: what it says of nodes, and of tables, is read again */
static void
read_news(Import *im)
{
	ApplyStream *s;

	MemoryContextSwitchTo(im->part_cxt);
	s = apply_stream_create(im->reader->header.source_name, im->reader->header.source, false);
	apply_stream_frame(s, im->reader->payload, im->reader->payload_bytes);
	(void) apply_stream_commit(s);
	stream_news_move(apply_stream_progress(s)->news, im->news);
}

/* all blocks are merged: the parts in the intake have done their work; and all becomes durable */
static void
finish_record(Import *im)
{
	Oid			types[2] = {UUIDOID, NAMEOID};
	Datum		args[2] = {UUIDPGetDatum(&im->job->id), CStringGetDatum(im->job->courier)};

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	SPI_execute_with_args("UPDATE ferry.bundle_import SET finished_at = coalesce(finished_at, pg_catalog.clock_timestamp()) "
						  "WHERE bundle_id = $1", 2, types, args, NULL, false, 0);
	if (im->fd < 0)
		SPI_execute_with_args("DELETE FROM ferry.bundle_part WHERE courier = $2 AND bundle_id = $1",
							  2, types, args, NULL, false, 0);
	SPI_finish();
	PopActiveSnapshot();
	XactLastCommitEnd = InvalidXLogRecPtr;
	CommitTransactionCommand();
	if (XactLastCommitEnd != InvalidXLogRecPtr)
		XLogFlush(XactLastCommitEnd);
	MemoryContextSwitchTo(im->cxt);
}

/* the part's digest must be what it was in the first pass */
static void
check_unchanged(const Import *im, const uint8_t *digest)
{
	if (im->part > im->nparts ||
		memcmp(im->digests + (Size) (im->part - 1) * BUNDLE_DIGEST_BYTES, digest, BUNDLE_DIGEST_BYTES) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the bundle was changed while it was imported")));
}

static void
merge_blocks(Import *im)
{
	uint8_t		digest[BUNDLE_DIGEST_BYTES];
	NodeVector	from;
	NodeVector	here;
	bool		more;

	rewind_parts(im);
	do
	{
		uint64		states = im->reader->count.states;

		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		more = next_part(im, digest);
		if (more)
			check_unchanged(im, digest);
		PopActiveSnapshot();
		CommitTransactionCommand();
		MemoryContextSwitchTo(im->part_cxt);
		if (!more || im->reader->head.type != BUNDLE_BLOCK)
			continue;
		if (im->reader->head.number > im->blocks_done)
			merge_block(im);
		else if (im->reader->count.states == states)
			read_news(im);
	} while (more);
	MemoryContextSwitchTo(im->cxt);

	/* what it says of who holds what counts if nothing before it is missing here */
	holding_parse(im->reader->header.since, &from, NULL);
	holding_received(&here);
	claims_start(im->reader->header.source, true, vector_includes(&here, &from));
	claims_store(im->news, GetCurrentTimestamp());
	MemoryContextSwitchTo(im->cxt);
}

/* --- what we hold now --- */

/* has what we hold grown past this bundle's beginning?  Then we hold what it reaches. */
static bool
reach(const char *begins, const char *reaches)
{
	NodeVector	from;
	NodeVector	to;
	NodeVector	here;

	holding_parse(begins, &from, NULL);
	holding_parse(reaches, &to, NULL);
	holding_received(&here);
	if (!vector_includes(&here, &from))
		return false;
	holding_raise(&to, true);
	return true;
}

/*
 * Every bundle that was merged whole counts as soon as this node holds what it
 * begins at, in whatever order they came; each is asked again at every import,
 * since a crash may forget what shared memory held.  Their states are durable.
 */
static void
reach_vectors(void)
{
	Oid			types[1] = {UUIDOID};
	SPITupleTable *bundles;
	uint64		n;
	uint64		reached = 0;
	uint64		before;
	bool	   *done;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	SPI_execute("SELECT bundle_id, coalesce(begins, ''), reaches FROM ferry.bundle_import "
				"WHERE finished_at IS NOT NULL AND reaches IS NOT NULL ORDER BY created_at", true, 0);
	bundles = SPI_tuptable;
	n = SPI_processed;
	done = palloc0(n + 1);
	do
	{
		before = reached;
		for (uint64 i = 0; i < n; i++)
		{
			HeapTuple	tuple = bundles->vals[i];
			Datum		id;
			bool		isnull;

			if (done[i] || !reach(SPI_getvalue(tuple, bundles->tupdesc, 2), SPI_getvalue(tuple, bundles->tupdesc, 3)))
				continue;
			id = SPI_getbinval(tuple, bundles->tupdesc, 1, &isnull);
			SPI_execute_with_args("UPDATE ferry.bundle_import SET reached = true WHERE bundle_id = $1 AND NOT reached",
								  1, types, &id, NULL, false, 0);
			done[i] = true;
			reached++;
		}
	} while (reached > before);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* --- the worker --- */

static void
answer_error(ImportJob *job, const ErrorData *error)
{
	job->sqlerrcode = error->sqlerrcode ? error->sqlerrcode : ERRCODE_INTERNAL_ERROR;
	strlcpy(job->message, error->message ? error->message : "unknown error", IMPORT_TEXT_BYTES);
	strlcpy(job->detail, error->detail ? error->detail : "", IMPORT_TEXT_BYTES);
	strlcpy(job->hint, error->hint ? error->hint : "", IMPORT_TEXT_BYTES);
	job->message[pg_mbcliplen(job->message, strlen(job->message), IMPORT_TEXT_BYTES - 1)] = '\0';
	job->detail[pg_mbcliplen(job->detail, strlen(job->detail), IMPORT_TEXT_BYTES - 1)] = '\0';
	job->hint[pg_mbcliplen(job->hint, strlen(job->hint), IMPORT_TEXT_BYTES - 1)] = '\0';
}

static void
run(ImportJob *job)
{
	Import	   *im = palloc0(sizeof(Import));

	im->job = job;
	im->cxt = CurrentMemoryContext;
	im->pass_cxt = AllocSetContextCreate(im->cxt, "ferry bundle pass", ALLOCSET_DEFAULT_SIZES);
	im->part_cxt = AllocSetContextCreate(im->cxt, "ferry bundle part", ALLOCSET_DEFAULT_SIZES);
	im->fd = -1;
	im->keys = bundle_keys_load(&job->settings, false);
	if (job->path[0])
		open_file(im);
	verify(im);
	im->news = stream_news_create(im->reader->header.source, im->cxt);
	if (!begin_record(im))
		merge_blocks(im);
	finish_record(im);
	reach_vectors();
}

void
ferry_import_main(Datum arg)
{
	dsm_segment *segment;
	ImportJob  *job;
	MemoryContext cxt;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "ferry import");
	segment = dsm_attach(DatumGetUInt32(arg));
	if (segment == NULL)
		proc_exit(0);			/* the session has gone already */
	dsm_pin_mapping(segment);
	job = dsm_segment_address(segment);
	BackgroundWorkerInitializeConnectionByOid(job->database, InvalidOid, 0);
	background_pin_settings();
	pgstat_report_appname("ferry import");
	cxt = AllocSetContextCreate(TopMemoryContext, "ferry import", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		run(job);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		answer_error(job, error);
		FlushErrorState();
		AbortOutOfAnyTransaction();
	}
	PG_END_TRY();
	job->finished = true;
	proc_exit(0);
}
