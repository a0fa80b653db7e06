/*-------------------------------------------------------------------------
 *
 * export.c
 *		ferry.bundle() and ferry.export_bundle(): a bundle as rows for the client,
 *		or as a file of the server.
 *
 * Both are the same bytes: the file is what COPY (SELECT ferry.bundle()) TO ...
 * (FORMAT binary) writes.
 *
 * A file appears under its name complete or not at all: it is written beside, as
 * NAME.partial, made durable, and given its name if nothing has that name by
 * then.  A lock on the partial file keeps two exports apart; one that a crash
 * left behind is written anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "bundle/exporter.h"
#include "bundle/reader.h"

/* --- rows --- */

PG_FUNCTION_INFO_V1(ferry_bundle);

/* SQL: ferry.bundle(since text default null) returns setof bytea: one row a part */
Datum
ferry_bundle(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	MemoryContext oldcontext;
	bool		more;

	if (SRF_IS_FIRSTCALL())
	{
		call = SRF_FIRSTCALL_INIT();
		oldcontext = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		call->user_fctx = exporter_begin(PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0)));
		MemoryContextSwitchTo(oldcontext);
	}
	call = SRF_PERCALL_SETUP();
	more = exporter_next(call->user_fctx);
	if (more)
	{
		const WireWriter *part = exporter_part(call->user_fctx);
		bytea	   *result = palloc(VARHDRSZ + part->len);

		SET_VARSIZE(result, VARHDRSZ + part->len);
		memcpy(VARDATA(result), part->data, part->len);
		SRF_RETURN_NEXT(call, PointerGetDatum(result));
	}
	SRF_RETURN_DONE(call);
}

/* --- a file --- */

typedef struct OutFile
{
	const char *path;
	char	   *partial;
	int			fd;
	uint64		bytes;
} OutFile;

static void
check_new(const char *path)
{
	struct stat st;

	if (lstat(path, &st) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_FILE),
				 errmsg("file \"%s\" exists already", path),
				 errhint("A bundle is never written over another file: choose another name, or remove the file.")));
	if (errno != ENOENT)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not stat file \"%s\": %m", path)));
}

static void
open_partial(OutFile *f)
{
	struct stat mine;
	struct stat named;

	f->fd = OpenTransientFilePerm(f->partial, O_RDWR | O_CREAT | O_NOFOLLOW | PG_BINARY, S_IRUSR | S_IWUSR);
	if (f->fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not create file \"%s\": %m", f->partial)));
	if (flock(f->fd, LOCK_EX | LOCK_NB) != 0 || fstat(f->fd, &mine) != 0 ||
		lstat(f->partial, &named) != 0 || mine.st_ino != named.st_ino || !S_ISREG(mine.st_mode))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("file \"%s\" is being written by another session", f->partial)));
	if (ftruncate(f->fd, 0) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not truncate file \"%s\": %m", f->partial)));
}

static void
put(OutFile *f, const void *data, size_t n)
{
	const char *p = data;

	f->bytes += n;
	while (n > 0)
	{
		ssize_t		done;

		errno = 0;
		done = write(f->fd, p, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
		{
			if (errno == 0)
				errno = ENOSPC;
			ereport(ERROR,
					(errcode_for_file_access(), errmsg("could not write file \"%s\": %m", f->partial)));
		}
		p += done;
		n -= done;
	}
}

/* durable, then named: the name is taken first, so that no other file is replaced */
static void
give_name(OutFile *f)
{
	int			fd;

	if (pg_fsync(f->fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not fsync file \"%s\": %m", f->partial)));
	fd = OpenTransientFilePerm(f->path, O_WRONLY | O_CREAT | O_EXCL | PG_BINARY, S_IRUSR | S_IWUSR);
	if (fd < 0)
	{
		check_new(f->path);
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not create file \"%s\": %m", f->path)));
	}
	CloseTransientFile(fd);
	if (durable_rename(f->partial, f->path, LOG) != 0)
	{
		int			saved = errno;

		(void) unlink(f->path);
		errno = saved;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not rename file \"%s\" to \"%s\": %m", f->partial, f->path)));
	}
}

static void
write_file(OutFile *f, Exporter *e)
{
	uint8_t		head[BUNDLE_ROW_HEAD_BYTES];

	put(f, bundle_file_head, BUNDLE_FILE_HEAD_BYTES);
	while (exporter_next(e))
	{
		const WireWriter *part = exporter_part(e);

		bundle_put_row_head(head, part->len);
		put(f, head, sizeof(head));
		put(f, part->data, part->len);
	}
	put(f, bundle_file_tail, sizeof(bundle_file_tail));
	give_name(f);
}

/* bundle_id, since, reaches, tables, states, deleted, blocks, bytes, raw_bytes, cipher, signer */
static Datum
report(FunctionCallInfo fcinfo, const OutFile *f, const BundleWriter *w)
{
	static const char *const ciphers[] = {NULL, "aes-256-gcm", "sm4-ctr-hmac-sm3"};
	static const char *const signers[] = {NULL, "ed25519", "sm2"};
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));
	TupleDesc	desc;
	Datum		values[11];
	bool		nulls[11] = {0};
	int			i = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	memcpy(id->data, w->id, UUID_LEN);
	values[i++] = UUIDPGetDatum(id);
	nulls[i] = w->header.since[0] == '\0';
	values[i++] = CStringGetTextDatum(w->header.since);
	nulls[i] = w->totals.reach[0] == '\0';
	values[i++] = CStringGetTextDatum(w->totals.reach);
	values[i++] = Int64GetDatum(w->totals.tables);
	values[i++] = Int64GetDatum(w->totals.states);
	values[i++] = Int64GetDatum(w->totals.dead);
	values[i++] = Int64GetDatum(w->totals.blocks);
	values[i++] = Int64GetDatum(f->bytes);
	values[i++] = Int64GetDatum(w->totals.raw_bytes);
	nulls[i] = w->header.cipher == BUNDLE_PLAIN;
	values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(ciphers[w->header.cipher]);
	i++;
	nulls[i] = w->header.signer == BUNDLE_UNSIGNED;
	values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(signers[w->header.signer]);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

PG_FUNCTION_INFO_V1(ferry_export_bundle);

/* SQL: ferry.export_bundle(file text, since text default null, OUT ...) */
Datum
ferry_export_bundle(PG_FUNCTION_ARGS)
{
	OutFile		f = {0};
	Exporter   *e;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("file must not be null")));
	if (!has_privs_of_role(GetUserId(), ROLE_PG_WRITE_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to write a file of the server"),
				 errdetail("Only roles with privileges of pg_write_server_files may."),
				 errhint("ferry.bundle() gives the same bytes to the client.")));
	f.path = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!is_absolute_path(f.path))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("relative path not allowed for a file of the server: \"%s\"", f.path)));
	f.partial = psprintf("%s.partial", f.path);
	e = exporter_begin(PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)));
	check_new(f.path);
	open_partial(&f);
	PG_TRY();
	{
		write_file(&f, e);
	}
	PG_CATCH();
	{
		(void) unlink(f.partial);
		PG_RE_THROW();
	}
	PG_END_TRY();
	CloseTransientFile(f.fd);
	return report(fcinfo, &f, exporter_writer(e));
}
