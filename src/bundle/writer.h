/*
 * writer.h
 *		Writing a bundle, part by part.
 *
 *		bundle_write_header, bundle_write_block ..., bundle_write_end, and
 *		bundle_write_signature if the header says that it is signed.
 *
 * Each leaves one part in w->part.  Pure: core/, libcrypto, libzstd.
 */
#ifndef FERRY_BUNDLE_WRITER_H
#define FERRY_BUNDLE_WRITER_H

#include "bundle/seal.h"

struct ZSTD_CCtx_s;

typedef struct BundleWriter
{
	BundleHeader header;
	const BundleKeys *keys;
	int			level;			/* of zstd; 0: no compression */
	uint8_t		id[BUNDLE_ID_BYTES];
	uint32_t	number;			/* of the next part */
	BundleTotals totals;		/* so far */
	BundleCount count;
	BundleSeal	seal;
	BundleDigest digest;
	struct ZSTD_CCtx_s *zstd;
	WireWriter	part;			/* the last one */
	WireWriter	meta;			/* scratch: what the header or the end says */
} BundleWriter;

/*
 * header: groups, source, since and so on; what concerns seals is filled in from
 * keys.  id and salt are drawn, unless fixed_id (test vectors) is given, which
 * then is both.  All else is allocated in the current memory context.
 */
extern bool bundle_writer_begin(BundleWriter *w, const BundleHeader *header, const BundleKeys *keys,
								int level, const uint8_t *fixed_id, BundleError *error);
extern void bundle_writer_free(BundleWriter *w);	/* OpenSSL's and zstd's memory; may be called twice */

extern bool bundle_write_header(BundleWriter *w, BundleError *error);
extern bool bundle_write_block(BundleWriter *w, const uint8_t *frame, size_t n, BundleError *error);
extern bool bundle_write_end(BundleWriter *w, BundleError *error);
extern bool bundle_write_signature(BundleWriter *w, BundleError *error);

#endif							/* FERRY_BUNDLE_WRITER_H */
