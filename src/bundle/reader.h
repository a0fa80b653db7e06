/*
 * reader.h
 *		Reading a bundle, part by part, and the file that holds the parts.
 *
 * Pure: core/, libcrypto, libzstd.
 */
#ifndef FERRY_BUNDLE_READER_H
#define FERRY_BUNDLE_READER_H

#include "bundle/seal.h"

struct ZSTD_DCtx_s;

typedef struct BundleReader
{
	const BundleKeys *keys;
	size_t		max_block;		/* of a block, before compression; BUNDLE_MAX_BLOCK unless a test wants less */
	uint32_t	number;			/* of the part that is due */
	bool		ended;			/* nothing may follow */
	BundleHead	head;			/* of the last part */
	const uint8_t *payload;		/* of the last part: a block's frame; until the next part */
	size_t		payload_bytes;
	BundleHeader header;		/* once the first part was read */
	BundleTotals totals;		/* once the end was read */
	BundleCount count;			/* of what was read */
	uint64_t	raw_bytes;
	const BundleTrusted *signed_by; /* once the signature was read, if we know the key */
	BundleSeal	seal;
	BundleDigest digest;
	struct ZSTD_DCtx_s *zstd;
	WireWriter	plain;			/* deciphered */
	WireWriter	raw;			/* and uncompressed */
} BundleReader;

/* keys are kept; memory comes from the current context, at the parts too */
extern bool bundle_reader_begin(BundleReader *r, const BundleKeys *keys, BundleError *error);
extern void bundle_reader_free(BundleReader *r);	/* OpenSSL's and zstd's memory; may be called twice */

/*
 * The next part.  Checks that it is the one that is due, unchanged, and, if it is
 * a block, a frame.  At the end, that nothing is missing.  After an error the
 * reader is of no more use.
 */
extern bool bundle_read_part(BundleReader *r, const uint8_t *part, size_t n, BundleError *error);

/* no more parts: was that all? */
extern bool bundle_reader_finish(BundleReader *r, BundleError *error);

/* --- the file: parts as rows of one bytea in COPY's binary format --- */
#define BUNDLE_FILE_HEAD_BYTES 19

extern const uint8_t bundle_file_head[BUNDLE_FILE_HEAD_BYTES];
extern const uint8_t bundle_file_tail[2];

/* read up to n bytes; 0 at the end, negative on error */
typedef long (*BundleRead) (void *arg, uint8_t *buf, size_t n);

typedef struct BundleFile
{
	BundleRead	read;
	void	   *arg;
	bool		begun;
	WireWriter	part;
} BundleFile;

extern void bundle_file_begin(BundleFile *f, BundleRead read, void *arg);

/* the next part in f->part; *more is false if there is none */
extern bool bundle_file_next(BundleFile *f, bool *more, BundleError *error);

/* what stands before a part in the file */
#define BUNDLE_ROW_HEAD_BYTES 6
extern void bundle_put_row_head(uint8_t *out, uint32_t part_bytes);

#endif							/* FERRY_BUNDLE_READER_H */
