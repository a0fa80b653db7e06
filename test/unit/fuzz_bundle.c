/*
 * fuzz_bundle.c
 *		What hostile bytes may do to the reader of bundles: nothing but be refused.
 *
 * The first byte says how the rest is read: as a file, with no key or with keys
 * and signatures asked for; as a file whose checksums, numbers and digests are
 * mended first, so that mutations get behind them; or as what single parts say.
 * What is accepted must be what its totals claim, and say the same when it is
 * written again.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "bundle/reader.h"
#include "bundle/writer.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern void fuzz_seeds(void (*seed) (uint8_t kind, const void *data, size_t size));

#define require(x) \
	do { \
		if (!(x)) \
			abort(); \
	} while (0)

#define MAX_BLOCK (1024 * 1024) /* so that a lie costs no 512 MB */

enum
{
	AS_FILE,
	WITH_KEY,
	WITH_SM4_KEY,
	VERIFIED,
	MENDED,
	AS_HEADER,
	AS_TOTALS,
	AS_FRAME,
	NKINDS
};

typedef struct Memory
{
	const uint8_t *p;
	size_t		left;
} Memory;

static long
read_memory(void *arg, uint8_t *buf, size_t n)
{
	Memory	   *m = arg;

	n = n < m->left ? n : m->left;
	if (n > 0)
		memcpy(buf, m->p, n);
	m->p += n;
	m->left -= n;
	return (long) n;
}

static void
read_bundle(const uint8_t *data, size_t size, const BundleKeys *keys)
{
	Memory		memory = {data, size};
	BundleFile	f;
	BundleReader r;
	BundleError error = {BUNDLE_FINE, NULL};
	bool		more = true;
	bool		good;
	uint64_t	bytes = 0;

	require(bundle_reader_begin(&r, keys, &error));
	r.max_block = MAX_BLOCK;
	bundle_file_begin(&f, read_memory, &memory);
	while ((good = bundle_file_next(&f, &more, &error)) && more)
	{
		good = bundle_read_part(&r, f.part.data, f.part.len, &error);
		if (!good)
			break;
		if (r.head.type == BUNDLE_BLOCK)
			bytes += r.payload_bytes;
	}
	if (good)
		good = bundle_reader_finish(&r, &error);
	if (good)
	{
		require(r.totals.raw_bytes == bytes && r.totals.states == r.count.states && r.totals.dead <= r.totals.states);
		require(!keys->verify || r.signed_by != NULL);
		require(keys->nsecret == 0 || r.header.cipher != BUNDLE_PLAIN);
	}
	else
		require(error.fault != BUNDLE_FINE && error.text != NULL);
	bundle_reader_free(&r);
}

/* make checksums, numbers, ids, lengths and digests fit */
static void
mend(uint8_t *data, size_t size)
{
	size_t		at = BUNDLE_FILE_HEAD_BYTES;
	uint32_t	number = 0;
	BundleDigest digest;
	BundleError error;

	if (size < at)
		return;
	memcpy(data, bundle_file_head, BUNDLE_FILE_HEAD_BYTES);
	require(bundle_digest_begin(&digest, BUNDLE_SHA256, &error));
	while (at + BUNDLE_ROW_HEAD_BYTES + BUNDLE_HEAD_BYTES + BUNDLE_CRC_BYTES <= size)
	{
		uint8_t    *part = data + at + BUNDLE_ROW_HEAD_BYTES;
		size_t		n = (size_t) part[34] << 8 | part[35];	/* stored_bytes, as the mutation left it */
		BundleHead	head = {.type = part[5], .flags = part[6], .number = number++};
		uint32_t	crc;

		if (n > size - (at + BUNDLE_ROW_HEAD_BYTES + BUNDLE_HEAD_BYTES + BUNDLE_CRC_BYTES))
			n = size - (at + BUNDLE_ROW_HEAD_BYTES + BUNDLE_HEAD_BYTES + BUNDLE_CRC_BYTES);
		head.stored_bytes = (uint32_t) n;
		head.raw_bytes = head.flags & BUNDLE_COMPRESSED ? (uint32_t) part[30] << 8 | part[31] : head.stored_bytes;
		bundle_put_head(part, &head);
		if (head.type == BUNDLE_END && n > BUNDLE_DIGEST_BYTES)
			bundle_digest_now(&digest, part + BUNDLE_HEAD_BYTES + n - BUNDLE_DIGEST_BYTES);
		crc = bundle_crc(0, part, BUNDLE_HEAD_BYTES + n);
		for (int i = 0; i < 4; i++)
			part[BUNDLE_HEAD_BYTES + n + i] = (uint8_t) (crc >> (24 - 8 * i));
		n += BUNDLE_HEAD_BYTES + BUNDLE_CRC_BYTES;
		bundle_digest_add(&digest, part, n);
		bundle_put_row_head(data + at, (uint32_t) n);
		at += BUNDLE_ROW_HEAD_BYTES + n;
	}
	bundle_digest_free(&digest);
}

static void
read_header(const uint8_t *data, size_t size)
{
	BundleHeader h,
				again;
	BundleError error;
	WireWriter	w;

	if (!bundle_get_header(data, size, &h, &error))
		return;
	wire_writer_init(&w, 64);
	bundle_put_header(&w, &h);
	require(bundle_get_header(w.data, w.len, &again, &error));
	require(again.source == h.source && again.ngroups == h.ngroups && strcmp(again.since, h.since) == 0 &&
			memcmp(again.groups, h.groups, (size_t) h.ngroups * 16) == 0 && again.cipher == h.cipher);
}

static void
read_totals(const uint8_t *data, size_t size)
{
	BundleTotals t,
				again;
	BundleError error;
	WireWriter	w;

	if (!bundle_get_totals(data, size, &t, &error))
		return;
	wire_writer_init(&w, 64);
	bundle_put_totals(&w, &t);
	require(bundle_get_totals(w.data, w.len, &again, &error));
	require(again.states == t.states && strcmp(again.reach, t.reach) == 0);
}

static void
give_secret(BundleKeys *keys, BundleCipher cipher)
{
	for (int i = 0; i < BUNDLE_KEY_BYTES; i++)
		keys->secret[0][i] = (uint8_t) i;
	keys->nsecret = 1;
	keys->cipher = cipher;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static BundleKeys keys;
	uint8_t    *copy;

	if (size == 0)
		return 0;
	copy = core_alloc(size);
	memcpy(copy, data + 1, size - 1);
	memset(&keys, 0, sizeof(keys));
	switch (data[0] % NKINDS)
	{
		case WITH_KEY:
			give_secret(&keys, BUNDLE_AES_256_GCM);
			read_bundle(copy, size - 1, &keys);
			break;
		case WITH_SM4_KEY:
			give_secret(&keys, BUNDLE_SM4_CTR_HMAC_SM3);
			read_bundle(copy, size - 1, &keys);
			break;
		case VERIFIED:
			keys.verify = true;
			read_bundle(copy, size - 1, &keys);
			break;
		case MENDED:
			mend(copy, size - 1);
			read_bundle(copy, size - 1, &keys);
			break;
		case AS_HEADER:
			read_header(copy, size - 1);
			break;
		case AS_TOTALS:
			read_totals(copy, size - 1);
			break;
		case AS_FRAME:
			{
				BundleCount count;
				BundleError error;

				bundle_count_begin(&count, 5);
				(void) bundle_count_frame(&count, copy, size - 1, &error);
				break;
			}
		default:
			read_bundle(copy, size - 1, &keys);
	}
	arena_reset();
	return 0;
}

/* --- seeds --- */

static void
make_frame(WireWriter *w)
{
	WireColumn	cols[1] = {{1, WIRE_COLUMN_KEY, "id", "pg_catalog", "int4"}};
	WireRelation rel = {7, "public", "t", 1, cols};
	uint8_t		version[VERSION_SIMPLE_BYTES];

	NodeVector	v = {2, {{6, 5}, {700, 9}}};
	WireMember	m = {9, true, "n9", "host=x"};

	version_put_dot(version, (Dot) {700, 9});
	wire_writer_init(w, 64);
	wire_put_horizon(w, &v);
	wire_put_member(w, &m);
	wire_put_holds(w, 5, &v);
	wire_put_relation(w, &rel);
	for (int i = 0; i < 8; i++)
	{
		wire_put_row_head(w, i % 4 != 0, 7, version, sizeof(version), 1);
		wire_put_value(w, WIRE_RAW, "\1\2\3\4", 4);
	}
}

static void
put_part(WireWriter *file, const BundleWriter *w)
{
	uint8_t		head[BUNDLE_ROW_HEAD_BYTES];

	bundle_put_row_head(head, (uint32_t) w->part.len);
	wire_put_bytes(file, head, sizeof(head));
	wire_put_bytes(file, w->part.data, w->part.len);
}

static void
seed_bundle(void (*seed) (uint8_t kind, const void *data, size_t size), uint8_t kind, BundleKeys *keys, int level)
{
	uint8_t		groups[16] = {1};
	uint8_t		id[BUNDLE_ID_BYTES] = {9};
	BundleHeader header = {.protocol = WIRE_PROTOCOL, .ngroups = 1, .groups = groups, .source = 5, .incarnation = 1,
	.source_name = "n", .encoding = "UTF8", .since = "1:2"};
	WireWriter	frame,
				file;
	BundleWriter w;
	BundleError error;

	/* seed() resets the arena: what follows it is made anew */
	require(bundle_writer_begin(&w, &header, keys, level, id, &error));
	seed(AS_HEADER, w.meta.data, w.meta.len);
	bundle_writer_free(&w);
	make_frame(&frame);
	seed(AS_FRAME, frame.data, frame.len);

	make_frame(&frame);
	wire_writer_init(&file, 1024);
	wire_put_bytes(&file, bundle_file_head, BUNDLE_FILE_HEAD_BYTES);
	require(bundle_writer_begin(&w, &header, keys, level, id, &error));
	require(bundle_write_header(&w, &error));
	put_part(&file, &w);
	for (int i = 0; i < 2; i++)
	{
		require(bundle_write_block(&w, frame.data, frame.len, &error));
		put_part(&file, &w);
	}
	require(bundle_write_end(&w, &error));
	put_part(&file, &w);
	bundle_writer_free(&w);
	wire_put_bytes(&file, bundle_file_tail, sizeof(bundle_file_tail));
	seed(kind, file.data, file.len);
}

void
fuzz_seeds(void (*seed) (uint8_t kind, const void *data, size_t size))
{
	static BundleKeys keys;

	memset(&keys, 0, sizeof(keys));
	seed_bundle(seed, AS_FILE, &keys, 0);
	seed_bundle(seed, AS_FILE, &keys, 3);
	seed_bundle(seed, MENDED, &keys, 0);
	seed_bundle(seed, MENDED, &keys, 3);
	seed_bundle(seed, VERIFIED, &keys, 0);
	give_secret(&keys, BUNDLE_AES_256_GCM);
	seed_bundle(seed, WITH_KEY, &keys, 0);
	give_secret(&keys, BUNDLE_SM4_CTR_HMAC_SM3);
	seed_bundle(seed, WITH_SM4_KEY, &keys, 3);
	seed(AS_TOTALS, "\2\1\4\0\50\3" "5:6" "0123456789abcdef0123456789abcdef", 41);
}
