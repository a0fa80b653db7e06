/*
 * format.h
 *		What a bundle is made of: parts, and what the parts say.  Byte by byte in
 *		docs/bundle-format.md.
 *
 * Pure: needs core/ only, so that it is tested and fuzzed without a server.
 */
#ifndef FERRY_BUNDLE_FORMAT_H
#define FERRY_BUNDLE_FORMAT_H

#include "core/wire.h"

#define BUNDLE_VERSION 1

#define BUNDLE_HEAD_BYTES 36
#define BUNDLE_ID_BYTES 16
#define BUNDLE_DIGEST_BYTES 32	/* SHA-256 and SM3 alike */
#define BUNDLE_SALT_BYTES 32
#define BUNDLE_KEY_BYTES 32		/* what a key file holds */
#define BUNDLE_KEY_ID_BYTES 8
#define BUNDLE_CRC_BYTES 4

/* bounds on what hostile bytes may claim */
#define BUNDLE_MAX_BLOCK (512 * 1024 * 1024)	/* one row of the largest size that fits */
#define BUNDLE_MAX_META (1024 * 1024)	/* any other part */
#define BUNDLE_MAX_GROUPS 256
#define BUNDLE_MAX_VECTOR (64 * 1024)	/* bytes of its text */
#define BUNDLE_MAX_SIGNATURE 512
#define BUNDLE_MAX_TABLES 16384

typedef enum BundlePartType
{
	BUNDLE_HEADER = 'H',		/* who, for whom, how sealed: in clear */
	BUNDLE_BLOCK = 'B',			/* frames */
	BUNDLE_END = 'E',			/* totals, and the digest of all parts before */
	BUNDLE_SIGNATURE = 'S'		/* over the digest of all parts before: in clear */
} BundlePartType;

#define BUNDLE_COMPRESSED 0x01	/* a block's payload is one zstd frame */

typedef enum BundleCipher
{
	BUNDLE_PLAIN = 0,			/* CRC32C only */
	BUNDLE_AES_256_GCM = 1,
	BUNDLE_SM4_CTR_HMAC_SM3 = 2
} BundleCipher;

typedef enum BundleHash
{
	BUNDLE_SHA256 = 1,
	BUNDLE_SM3 = 2
} BundleHash;

typedef enum BundleSigner
{
	BUNDLE_UNSIGNED = 0,
	BUNDLE_ED25519 = 1,
	BUNDLE_SM2 = 2
} BundleSigner;

/* why a bundle is refused; the server makes SQLSTATEs of it */
typedef enum BundleFault
{
	BUNDLE_FINE = 0,
	BUNDLE_TRUNCATED,			/* more should follow */
	BUNDLE_DAMAGED,				/* not what was written, or no bundle at all */
	BUNDLE_FORGED,				/* the seal or the signature does not fit */
	BUNDLE_LOCKED,				/* we lack the key, or the trust, that it asks for */
	BUNDLE_UNSUPPORTED,			/* another version; a cipher that this machine lacks */
	BUNDLE_INTERNAL				/* it is our fault: a key that does not work */
} BundleFault;

typedef struct BundleError
{
	BundleFault fault;
	const char *text;			/* static */
} BundleError;

/* --- the head of every part --- */
typedef struct BundleHead
{
	uint8_t		type;
	uint8_t		flags;
	uint8_t		id[BUNDLE_ID_BYTES];
	uint32_t	number;			/* of the part: 0, 1, 2, ... */
	uint32_t	raw_bytes;		/* of the payload, before compression */
	uint32_t	stored_bytes;	/* of the payload, as it follows the head */
} BundleHead;

extern void bundle_put_head(uint8_t *out, const BundleHead *head);
extern bool bundle_get_head(const uint8_t *in, size_t n, BundleHead *head, BundleError *error);

/* --- what the header says --- */
typedef struct BundleHeader
{
	BundleCipher cipher;
	BundleHash	hash;
	BundleSigner signer;
	uint32_t	protocol;		/* of the frames: WIRE_PROTOCOL */
	uint16_t	ngroups;
	uint8_t    *groups;			/* ngroups * 16 bytes */
	NodeId		source;
	uint32_t	incarnation;
	char	   *source_name;
	uint64_t	created_us;		/* since 2000-01-01 */
	char	   *encoding;		/* of the database: text values are in it */
	char	   *since;			/* a vector as text; empty: from the beginning */
	uint8_t		salt[BUNDLE_SALT_BYTES];	/* these two only if there is a cipher */
	uint8_t		key_id[BUNDLE_KEY_ID_BYTES];
} BundleHeader;

extern void bundle_put_header(WireWriter *w, const BundleHeader *header);
extern bool bundle_get_header(const uint8_t *in, size_t n, BundleHeader *header, BundleError *error);

/* --- what the end says --- */
typedef struct BundleTotals
{
	uint64_t	blocks;
	uint64_t	tables;
	uint64_t	states;			/* alive and dead */
	uint64_t	dead;
	uint64_t	raw_bytes;		/* of all blocks, before compression */
	char	   *reach;			/* the vector that it brings the receiver to; empty: none */
	uint8_t		digest[BUNDLE_DIGEST_BYTES];
} BundleTotals;

extern void bundle_put_totals(WireWriter *w, const BundleTotals *totals);
extern bool bundle_get_totals(const uint8_t *in, size_t n, BundleTotals *totals, BundleError *error);

/* --- what is in a block --- */

/* what the frames of a bundle amount to */
typedef struct BundleCount
{
	NodeId		source;
	uint64_t	states;
	uint64_t	dead;
	NodeVector	holds;			/* what the source says that it holds */
	bool		has_horizon;
	NodeVector	horizon;		/* the last one */
	uint32_t	ntables;
	uint32_t	cap;
	uint32_t   *tables;			/* ids of relations that were described */
} BundleCount;

extern void bundle_count_begin(BundleCount *count, NodeId source);

/* add a frame; false: it is no run of well-formed messages that rely on nothing before it */
extern bool bundle_count_frame(BundleCount *count, const uint8_t *frame, size_t n, BundleError *error);

/* CRC-32C (Castagnoli, reflected, as in iSCSI); start with 0 */
extern uint32_t bundle_crc(uint32_t crc, const void *data, size_t n);

/* make w hold at least n bytes, without the doubling that would pass the server's limit of 1 GB */
static inline void
bundle_reserve(WireWriter *w, size_t n)
{
	if (w->cap < n)
	{
		w->data = core_realloc(w->data, w->cap, n + n / 8);
		w->cap = n + n / 8;
	}
}

static inline bool
bundle_fail(BundleError *error, BundleFault fault, const char *text)
{
	error->fault = fault;
	error->text = text;
	return false;
}

#endif							/* FERRY_BUNDLE_FORMAT_H */
