/*
 * zip.h
 *		The frames of one stream, compressed one by one with what went before as
 *		context.
 */
#ifndef FERRY_CORE_ZIP_H
#define FERRY_CORE_ZIP_H

#include "core/wire.h"

/*
 * Larger frames go as they are.  What a receiver holds is one frame of at most
 * this size and a window; who sends more is refused.
 */
#define ZIP_MAX_FRAME (1024 * 1024)

typedef struct ZipWriter
{
	struct ZSTD_CCtx_s *zstd;	/* not in a memory context: zip_writer_free */
} ZipWriter;

typedef struct ZipReader
{
	struct ZSTD_DCtx_s *zstd;	/* not in a memory context: zip_reader_free */
	uint8_t    *frame;			/* what zip_get has read; allocated at the first */
	size_t		len;
	size_t		cap;
} ZipReader;

/* false: out of memory */
extern bool zip_writer_init(ZipWriter *z);
extern void zip_writer_free(ZipWriter *z);	/* may be called twice */
extern bool zip_reader_init(ZipReader *z);
extern void zip_reader_free(ZipReader *z);	/* may be called twice */

/*
 * A frame (n of 1 .. ZIP_MAX_FRAME) as a 'Z' message, appended to out.  The
 * messages of a writer must all be read, in order.  False, with the writer and
 * out to be thrown away, if the library fails.
 */
extern bool zip_put(ZipWriter *z, WireWriter *out, const uint8_t *frame, size_t n);

/*
 * The frame of a 'Z' message, which takes all of data[0..n), into z->frame,
 * good until the next call.  False with a static text in *error, if it is none;
 * then the reader is of no more use.
 */
extern bool zip_get(ZipReader *z, const uint8_t *data, size_t n, const char **error);

static inline bool
zip_is_zipped(const uint8_t *data, size_t n)
{
	return n > 0 && data[0] == WIRE_ZIPPED;
}

#endif							/* FERRY_CORE_ZIP_H */
