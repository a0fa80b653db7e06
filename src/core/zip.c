/*
 * zip.c
 *		The frames of one stream, compressed one by one with what went before as
 *		context.
 *
 * A stream is one endless zstd frame, flushed after each of ours:
 *
 *		'Z' | varint raw bytes | zstd blocks, to the end of the message
 *
 * So that a small transaction, which by itself has nothing to gain, is written in
 * terms of those before it: same table, same shape, stamps of almost the same
 * time.  The window is small: it is the latest rows that resemble.
 *
 * A reader takes no more memory than the window that we use ourselves and one
 * frame of ZIP_MAX_FRAME, whatever a message says, and a message must hold
 * exactly what it says.
 */
#include "core/zip.h"

#include <zstd.h>

/* level 1 costs a few microseconds for a small transaction; what the others gain on it is little */
#define ZIP_LEVEL 1
#define ZIP_WINDOW_LOG 18		/* 256 kB */

bool
zip_writer_init(ZipWriter *z)
{
	z->zstd = ZSTD_createCCtx();
	return z->zstd != NULL &&
		!ZSTD_isError(ZSTD_CCtx_setParameter(z->zstd, ZSTD_c_compressionLevel, ZIP_LEVEL)) &&
		!ZSTD_isError(ZSTD_CCtx_setParameter(z->zstd, ZSTD_c_windowLog, ZIP_WINDOW_LOG)) &&
		!ZSTD_isError(ZSTD_CCtx_setParameter(z->zstd, ZSTD_c_contentSizeFlag, 0));
}

void
zip_writer_free(ZipWriter *z)
{
	ZSTD_freeCCtx(z->zstd);
	z->zstd = NULL;
}

bool
zip_put(ZipWriter *z, WireWriter *out, const uint8_t *frame, size_t n)
{
	ZSTD_inBuffer input = {frame, n, 0};
	size_t		left;

	wire_put_u8(out, WIRE_ZIPPED);
	wire_put_varint(out, n);
	wire_reserve(out, ZSTD_compressBound(n));
	do
	{
		ZSTD_outBuffer output;

		wire_reserve(out, 64);
		output.dst = out->data + out->len;
		output.size = out->cap - out->len;
		output.pos = 0;
		left = ZSTD_compressStream2(z->zstd, &output, &input, ZSTD_e_flush);
		if (ZSTD_isError(left))
			return false;
		out->len += output.pos;
	} while (left > 0);
	return true;
}

bool
zip_reader_init(ZipReader *z)
{
	memset(z, 0, sizeof(*z));
	z->zstd = ZSTD_createDCtx();
	return z->zstd != NULL &&
		!ZSTD_isError(ZSTD_DCtx_setParameter(z->zstd, ZSTD_d_windowLogMax, ZIP_WINDOW_LOG));
}

void
zip_reader_free(ZipReader *z)
{
	ZSTD_freeDCtx(z->zstd);
	z->zstd = NULL;
}

/* room for a frame: doubled, so that many sizes are few allocations */
static void
reserve(ZipReader *z, size_t bytes)
{
	size_t		cap = z->cap > 0 ? z->cap : 4096;

	if (bytes <= z->cap)
		return;
	while (cap < bytes)
		cap *= 2;
	z->frame = z->frame ? core_realloc(z->frame, z->cap, cap) : core_alloc(cap);
	z->cap = cap;
}

bool
zip_get(ZipReader *z, const uint8_t *data, size_t n, const char **error)
{
	WireReader	head;
	uint64_t	raw;
	ZSTD_inBuffer input;
	ZSTD_outBuffer output;

	wire_reader_init(&head, data, n);
	if (wire_get_u8(&head) != WIRE_ZIPPED)
		head.error = "message is not compressed";
	raw = wire_get_varint(&head);
	if (head.error == NULL && (raw == 0 || raw > ZIP_MAX_FRAME))
		head.error = "compressed frame has an impossible size";
	if (head.error)
	{
		*error = head.error;
		return false;
	}
	reserve(z, raw);
	input.src = head.p;
	input.size = head.end - head.p;
	input.pos = 0;
	output.dst = z->frame;
	output.size = raw;
	output.pos = 0;
	while (input.pos < input.size)
	{
		size_t		in = input.pos;
		size_t		out = output.pos;
		size_t		hint = ZSTD_decompressStream(z->zstd, &output, &input);

		/* 0: the zstd frame ends, which a writer's never does */
		if (ZSTD_isError(hint) || hint == 0 || (input.pos == in && output.pos == out))
		{
			*error = "compressed frame is damaged";
			return false;
		}
	}

	/* all is here that the message claims, and nothing is left inside */
	if (output.pos != raw)
	{
		*error = "compressed frame has another size than it says";
		return false;
	}
	z->len = raw;
	return true;
}
