/*-------------------------------------------------------------------------
 *
 * remote.c
 *		Questions to a peer, and its answers.
 *
 * A question is SQL that calls one of the functions in serve.c; the answer comes
 * through COPY in binary, since a walsender's simple queries would have it as
 * text of twice the length.  An answer is one value; what is longer than the
 * question can be answered with is refused before it is kept.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"

#include "compat.h"
#include "node/node.h"
#include "verify/remote.h"

/* of COPY in binary around one value: signature, flags, extension length, field count, length; trailer */
#define COPY_HEAD_BYTES 19
#define COPY_OVERHEAD_BYTES (COPY_HEAD_BYTES + 2 + 4 + 2)

void
remote_refuse(const Remote *r, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("peer \"%s\" gave an invalid answer to a verification", r->peer),
			 errdetail_internal("%s", why)));
}

void
remote_open(Remote *r, const char *dsn)
{
	PeerHello	hello;

	r->conn = connection_open(dsn);
	connection_hello(r->conn, &hello);
	if (hello.id != r->peer_id)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("peer \"%s\" is another node than before", r->peer)));
}

void
remote_close(Remote *r)
{
	if (r->conn)
		PQfinish(r->conn);
	r->conn = NULL;
}

void
remote_ask(Remote *r, const char *expression)
{
	char	   *sql = psprintf("COPY (SELECT %s) TO STDOUT (FORMAT binary)", expression);

	r->bytes += strlen(sql);
	if (!PQsendQuery(r->conn, sql))
		connection_lost(r->conn);
	pfree(sql);
}

/* all that COPY sends, up to the limit */
static void
collect(Remote *r, size_t max, StringInfo all)
{
	PGresult   *res = connection_result(r->conn);
	char	   *data;
	int			len;

	if (res == NULL)
		connection_lost(r->conn);
	if (PQresultStatus(res) != PGRES_COPY_OUT)
		connection_raise(r->conn, res, r->peer);
	PQclear(res);
	while ((len = PQgetCopyData(r->conn, &data, 1)) >= 0)
	{
		if (len == 0)
		{
			connection_wait(r->conn, -1);
			if (!PQconsumeInput(r->conn))
				connection_lost(r->conn);
			continue;
		}
		CHECK_FOR_INTERRUPTS();
		r->bytes += len;
		if (all->len + len > max + COPY_OVERHEAD_BYTES)
		{
			PQfreemem(data);
			remote_refuse(r, "The answer is too long.");
		}
		appendBinaryStringInfo(all, data, len);
		PQfreemem(data);
	}
	if (len == -2)
		connection_lost(r->conn);
	while ((res = connection_result(r->conn)) != NULL)
	{
		if (PQresultStatus(res) != PGRES_COMMAND_OK)
			connection_raise(r->conn, res, r->peer);
		PQclear(res);
	}
}

uint8_t *
remote_answer(Remote *r, size_t max, size_t *len)
{
	StringInfoData all;
	WireReader	reader;
	const uint8_t *head;
	uint32		size;

	initStringInfo(&all);
	collect(r, max, &all);
	wire_reader_init(&reader, all.data, all.len);
	head = wire_get_bytes(&reader, COPY_HEAD_BYTES);
	if (head == NULL || memcmp(head, "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", COPY_HEAD_BYTES) != 0)
		remote_refuse(r, "The copy header is malformed.");
	if (wire_get_u8(&reader) != 0 || wire_get_u8(&reader) != 1)
		remote_refuse(r, "The answer is not one value.");
	size = wire_get_u32(&reader);
	*len = size;
	if (size == PG_UINT32_MAX)
		return NULL;
	head = wire_get_bytes(&reader, size);
	if (head == NULL || wire_get_u8(&reader) != 0xff || wire_get_u8(&reader) != 0xff || reader.p != reader.end)
		remote_refuse(r, "The answer is not one value.");
	return unconstify(uint8_t *, head);
}

void
remote_call(Remote *r, const char *expression, size_t max, WireReader *reader)
{
	size_t		len;
	uint8_t    *bytes;

	remote_ask(r, expression);
	bytes = remote_answer(r, max, &len);
	if (bytes == NULL)
		remote_refuse(r, "The answer is null.");
	wire_reader_init(reader, bytes, len);
}

char *
remote_bytes_literal(const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	char	   *text = palloc(n * 2 + 8);
	char	   *q = text;

	*q++ = '\'';
	*q++ = '\\';
	*q++ = 'x';
	for (size_t i = 0; i < n; i++)
	{
		*q++ = "0123456789abcdef"[p[i] >> 4];
		*q++ = "0123456789abcdef"[p[i] & 15];
	}
	*q++ = '\'';
	*q = '\0';
	return text;
}

char *
remote_u32_literal(const uint32_t *values, size_t n)
{
	uint32		*swapped = palloc(sizeof(uint32) * Max(n, 1));

	for (size_t i = 0; i < n; i++)
		swapped[i] = pg_hton32(values[i]);
	return remote_bytes_literal(swapped, sizeof(uint32) * n);
}

char *
remote_u64_literal(const uint64 *values, size_t n)
{
	uint64		*swapped = palloc(sizeof(uint64) * Max(n, 1));

	for (size_t i = 0; i < n; i++)
		swapped[i] = pg_hton64(values[i]);
	return remote_bytes_literal(swapped, sizeof(uint64) * n);
}
