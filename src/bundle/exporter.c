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

#include "bundle/access.h"
#include "bundle/exporter.h"
#include "node/holding.h"
#include "node/node.h"

#define BLOCK_BYTES (256 * 1024)	/* before compression; one frame more at most */

typedef enum ExportStep
{
	EXPORT_HEADER,
	EXPORT_BLOCKS,
	EXPORT_NEWS,
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

/* the states themselves, as a cursor */
static void
open_cursor(Exporter *e, const char *since)
{
	Oid			types[1] = {TEXTOID};
	Datum		args[1] = {since[0] ? CStringGetTextDatum(since) : (Datum) 0};
	Portal		portal = SPI_cursor_open_with_args(NULL, "SELECT ferry._delta_frames(NULL, $1)", 1, types, args,
												   since[0] ? " " : "n", true, 0);

	e->cursor = MemoryContextStrdup(e->cxt, portal->name);
}

/* canonical; NULL and the empty vector are the empty text */
static char *
since_text(const char *since)
{
	char	   *text = palloc0(VECTOR_TEXT_BYTES);
	NodeVector	v;

	if (since)
	{
		holding_parse(since, &v, NULL);
		vector_format(&v, text);
	}
	return text;
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
	BundleUser	saved;

	(void) node_current();
	e->cxt = CurrentMemoryContext;
	bundle_check_access(ACL_SELECT);
	bundle_settings_now(&settings);
	e->keys = bundle_keys_load(&settings, true);
	header.protocol = WIRE_PROTOCOL;
	header.source = node_id();
	header.source_name = pstrdup(node_name());
	header.created_us = (uint64_t) GetCurrentTimestamp();
	header.encoding = pstrdup(GetDatabaseEncodingName());
	header.since = since_text(since);

	bundle_enter(&saved);
	read_identity(e, &header);
	open_cursor(e, header.since);
	bundle_leave(&saved);

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
		/* the horizon comes once in a stream; a block that relies on no other begins with it again */
		if (e->block.len == 0 && e->writer.count.has_horizon)
			wire_put_horizon(&e->block, &e->writer.count.horizon);
		bundle_reserve(&e->block, e->block.len + VARSIZE_ANY_EXHDR(frame));
		wire_put_bytes(&e->block, VARDATA_ANY(frame), VARSIZE_ANY_EXHDR(frame));
		SPI_freetuptable(SPI_tuptable);
	}
	if (e->block.len == 0)
		SPI_cursor_close(portal);
	SPI_finish();
	return e->block.len > 0;
}

/*
 * Who there is, and who is known to hold what: the last block.  It has no rows,
 * by which the importer knows that it is to be read each time.
 */
static void
gather_news(Exporter *e)
{
	BundleUser	saved;

	e->block.len = 0;
	bundle_enter(&saved);
	SPI_execute("SELECT m.node_id, m.name::pg_catalog.text, coalesce(m.dsn, ''), m.is_dropped, coalesce(h.vector, '') "
				"FROM ferry.member m LEFT JOIN ferry.holding h ON h.node_id = m.node_id ORDER BY m.node_id", true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		WireMember	m;
		NodeVector	v;
		bool		isnull;

		m.id = (NodeId) DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		m.name = SPI_getvalue(tuple, desc, 2);
		m.dsn = SPI_getvalue(tuple, desc, 3);
		m.is_dropped = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));
		wire_put_member(&e->block, &m);
		holding_parse(SPI_getvalue(tuple, desc, 5), &v, NULL);
		if (v.n > 0 && m.id != e->writer.header.source)
			wire_put_holds(&e->block, m.id, &v);
	}
	bundle_leave(&saved);
	if (e->writer.count.holds.n > 0)
		wire_put_holds(&e->block, e->writer.header.source, &e->writer.count.holds);
}

bool
exporter_next(Exporter *e)
{
	BundleError error;
	bool		ok = true;

	CHECK_FOR_INTERRUPTS();
	if (e->step == EXPORT_BLOCKS && !gather(e))
		e->step = EXPORT_NEWS;
	switch (e->step)
	{
		case EXPORT_HEADER:
			ok = bundle_write_header(&e->writer, &error);
			e->step = EXPORT_BLOCKS;
			break;
		case EXPORT_BLOCKS:
			ok = bundle_write_block(&e->writer, e->block.data, e->block.len, &error);
			break;
		case EXPORT_NEWS:
			gather_news(e);
			ok = bundle_write_block(&e->writer, e->block.data, e->block.len, &error);
			e->step = EXPORT_END;
			break;
		case EXPORT_END:
			ok = bundle_write_end(&e->writer, &error);
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
