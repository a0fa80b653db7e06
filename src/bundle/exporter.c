/*-------------------------------------------------------------------------
 *
 * exporter.c
 *		This node's states as a bundle, part by part.
 *
 * The states are what ferry._delta_frames() gives, read through a cursor, so that
 * memory is a block whatever the size of the tables, and all comes from one
 * snapshot.  Frames are gathered until they make a block; each frame describes
 * its relations, so a block relies on no other, and can be merged alone after an
 * interruption.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "bundle/exporter.h"
#include "node/node.h"

#define BLOCK_BYTES (256 * 1024)	/* before compression; one frame more at most */

typedef enum ExportStep
{
	EXPORT_HEADER,
	EXPORT_BLOCKS,
	EXPORT_END,
	EXPORT_SIGNATURE,
	EXPORT_DONE
} ExportStep;

struct Exporter
{
	MemoryContext cxt;
	BundleKeys *keys;
	BundleWriter writer;
	char	   *cursor;			/* name of the portal */
	WireWriter	block;			/* frames that were gathered */
	ExportStep	step;			/* what is due */
};

/* who carries tables away must be allowed to read them */
static void
check_may_read(void)
{
	SPI_execute("SELECT r.relid::pg_catalog.regclass::pg_catalog.text FROM ferry.registered_table r "
				"WHERE NOT pg_catalog.has_table_privilege(r.relid, 'SELECT') "
				"OR pg_catalog.row_security_active(r.relid) LIMIT 1", true, 1);
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for table %s",
						SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1)),
				 errdetail("A bundle holds all rows of all tables under ferry.")));
}

static void
read_identity(Exporter *e, BundleHeader *h)
{
	Datum	   *elems;
	bool		isnull;
	int			n;

	SPI_execute("SELECT groups, incarnation FROM ferry.local_node", true, 1);
	if (SPI_processed != 1)
		elog(ERROR, "ferry.local_node is empty");
	deconstruct_array(DatumGetArrayTypeP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)),
					  UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &elems, NULL, &n);
	if (n > BUNDLE_MAX_GROUPS)
		elog(ERROR, "too many groups");
	h->ngroups = n;
	h->groups = MemoryContextAlloc(e->cxt, n * UUID_LEN);
	for (int i = 0; i < n; i++)
		memcpy(h->groups + i * UUID_LEN, DatumGetUUIDP(elems[i])->data, UUID_LEN);
	h->incarnation = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
}

/* the states themselves, as a cursor: opened by ferry's own right, the caller's was checked */
static void
open_cursor(Exporter *e)
{
	Portal		portal;
	Oid			user;
	int			sec;

	GetUserIdAndSecContext(&user, &sec);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, sec | SECURITY_LOCAL_USERID_CHANGE);
	portal = SPI_cursor_open_with_args(NULL, "SELECT ferry._delta_frames(NULL)", 0, NULL, NULL, NULL, true, 0);
	SetUserIdAndSecContext(user, sec);
	e->cursor = MemoryContextStrdup(e->cxt, portal->name);
}

static void
free_writer(void *arg)
{
	bundle_writer_free((BundleWriter *) arg);
}

Exporter *
exporter_begin(const char *since)
{
	Exporter   *e = palloc0(sizeof(Exporter));
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));
	BundleSettings settings;
	BundleHeader header = {0};
	BundleError error;

	(void) node_current();
	if (since)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("bundles since a vector are not supported yet")));
	e->cxt = CurrentMemoryContext;
	bundle_settings_now(&settings);
	e->keys = bundle_keys_load(&settings, true);
	header.protocol = WIRE_PROTOCOL;
	header.source = node_id();
	header.source_name = pstrdup(node_name());
	header.created_us = (uint64_t) GetCurrentTimestamp();
	header.encoding = pstrdup(GetDatabaseEncodingName());
	header.since = pstrdup(since ? since : "");

	SPI_connect();
	check_may_read();
	read_identity(e, &header);
	open_cursor(e);
	SPI_finish();

	callback->func = free_writer;
	callback->arg = &e->writer;
	MemoryContextRegisterResetCallback(e->cxt, callback);
	if (!bundle_writer_begin(&e->writer, &header, e->keys, settings.level, NULL, &error))
		bundle_raise(&error, NULL);
	wire_writer_init(&e->block, 2 * BLOCK_BYTES);
	return e;
}

/* gather frames; false if there are no more */
static bool
gather(Exporter *e)
{
	Portal		portal = SPI_cursor_find(e->cursor);

	if (portal == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_CURSOR_STATE), errmsg("the cursor of the bundle was closed")));
	e->block.len = 0;
	SPI_connect();
	while (e->block.len < BLOCK_BYTES)
	{
		bool		isnull;
		bytea	   *frame;

		SPI_cursor_fetch(portal, true, 1);
		if (SPI_processed == 0)
			break;
		frame = DatumGetByteaPP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		bundle_reserve(&e->block, e->block.len + VARSIZE_ANY_EXHDR(frame));
		wire_put_bytes(&e->block, VARDATA_ANY(frame), VARSIZE_ANY_EXHDR(frame));
		SPI_freetuptable(SPI_tuptable);
	}
	if (e->block.len == 0)
		SPI_cursor_close(portal);
	SPI_finish();
	return e->block.len > 0;
}

bool
exporter_next(Exporter *e)
{
	BundleError error;
	bool		ok = true;

	CHECK_FOR_INTERRUPTS();
	if (e->step == EXPORT_BLOCKS && !gather(e))
		e->step = EXPORT_END;
	switch (e->step)
	{
		case EXPORT_HEADER:
			ok = bundle_write_header(&e->writer, &error);
			e->step = EXPORT_BLOCKS;
			break;
		case EXPORT_BLOCKS:
			ok = bundle_write_block(&e->writer, e->block.data, e->block.len, &error);
			break;
		case EXPORT_END:
			ok = bundle_write_end(&e->writer, "", &error);
			e->step = e->writer.header.signer == BUNDLE_UNSIGNED ? EXPORT_DONE : EXPORT_SIGNATURE;
			break;
		case EXPORT_SIGNATURE:
			ok = bundle_write_signature(&e->writer, &error);
			e->step = EXPORT_DONE;
			break;
		case EXPORT_DONE:
			return false;
	}
	if (!ok)
		bundle_raise(&error, NULL);
	return true;
}

const WireWriter *
exporter_part(Exporter *e)
{
	return &e->writer.part;
}

const BundleWriter *
exporter_writer(Exporter *e)
{
	return &e->writer;
}
