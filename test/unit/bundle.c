/*
 * bundle.c
 *		Unit tests of the bundle's format: what is written is read back, what was
 *		changed anywhere is refused, and the test vectors of docs/bundle-format.md
 *		hold.  Prints TAP.
 *
 *		bundle [DIRECTORY]			the vectors are in it (default: vectors)
 *		bundle --write DIRECTORY	make them anew
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <openssl/pem.h>

#include "arena.h"
#include "tap.h"
#include "bundle/reader.h"
#include "bundle/writer.h"

static const char *dir = "vectors";

/* --- keys --- */

static EVP_PKEY *ed_key,
		   *sm2_key,
		   *other_key;

static EVP_PKEY *
private_key(const char *name)
{
	char		path[1000];
	FILE	   *f;
	EVP_PKEY   *key;

	snprintf(path, sizeof(path), "%s/%s.pem", dir, name);
	f = fopen(path, "r");
	if (f == NULL)
	{
		printf("Bail out! no file %s\n", path);
		exit(1);
	}
	key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
	fclose(f);
	return key;
}

static void
trust(BundleKeys *keys, EVP_PKEY *key, char *name)
{
	BundleTrusted *t = &keys->trusted[keys->ntrusted++];

	EVP_PKEY_up_ref(key);
	t->key = key;
	t->name = name;
	bundle_public_id(key, t->id);
	keys->verify = true;
}

/* the key of the vectors: 00 01 02 ... 1f */
static void
give_secret(BundleKeys *keys, BundleCipher cipher)
{
	for (int i = 0; i < BUNDLE_KEY_BYTES; i++)
		keys->secret[0][i] = (uint8_t) i;
	keys->nsecret = 1;
	keys->cipher = cipher;
}

/* --- a small bundle --- */

static uint8_t id[BUNDLE_ID_BYTES] = {0xf0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static size_t
make_frame(WireWriter *w, int rows)
{
	WireColumn	cols[2] = {{1, WIRE_COLUMN_KEY, "id", "pg_catalog", "int4"}, {2, 0, "a", "pg_catalog", "text"}};
	WireRelation rel = {77, "public", "t", 2, cols};
	uint8_t		version[VERSION_SIMPLE_BYTES];

	wire_writer_init(w, 64);
	wire_put_relation(w, &rel);
	for (int i = 0; i < rows; i++)
	{
		uint8_t		key[4] = {(uint8_t) i, 0, 0, 0};

		version_put_dot(version, (Dot) {UINT64_C(3476789828956336128) + i, 4711});
		wire_put_row_head(w, i % 3 != 2, 77, version, sizeof(version), 2);
		wire_put_value(w, WIRE_RAW, key, 4);
		if (i % 3 == 2)
			wire_put_value(w, WIRE_ABSENT, NULL, 0);
		else
			wire_put_value(w, WIRE_BINARY, "hello, hello, hello", 19);
	}
	return w->len;
}

/* what the source holds, and a node that it knows */
static void
put_holds(WireWriter *w)
{
	NodeVector	v = {1, {{UINT64_C(3476789828956336130), 4711}}};
	WireMember	m = {4712, false, "south", ""};

	wire_put_holds(w, 4711, &v);
	wire_put_member(w, &m);
}

typedef struct Piece
{
	uint8_t    *data;
	size_t		n;
} Piece;

#define MAX_PARTS 8

/* write one of two blocks; returns how many parts it has, 0 if it went wrong */
static int
write_bundle(const BundleKeys *keys, int level, bool fixed, Piece *parts)
{
	uint8_t		groups[16] = {0xaa, 0xbb};
	BundleHeader header = {.protocol = WIRE_PROTOCOL, .ngroups = 1, .groups = groups, .source = 4711, .incarnation = 1,
		.source_name = "north", .created_us = UINT64_C(848000000000000), .encoding = "UTF8", .since = ""};
	BundleWriter w;
	BundleError error;
	WireWriter	frame;
	int			n = 0;
	bool		good = bundle_writer_begin(&w, &header, keys, level, fixed ? id : NULL, &error);

#define KEEP() \
	(parts[n].data = core_alloc(w.part.len), parts[n].n = w.part.len, memcpy(parts[n].data, w.part.data, w.part.len), n++, true)
	good = good && bundle_write_header(&w, &error) && KEEP();
	make_frame(&frame, 3);
	good = good && bundle_write_block(&w, frame.data, frame.len, &error) && KEEP();
	make_frame(&frame, 2);
	put_holds(&frame);
	good = good && bundle_write_block(&w, frame.data, frame.len, &error) && KEEP();
	good = good && bundle_write_end(&w, &error) && KEEP();
	if (good && w.header.signer != BUNDLE_UNSIGNED)
		good = bundle_write_signature(&w, &error) && KEEP();
	bundle_writer_free(&w);
	return good ? n : 0;
}

/* read parts; the fault, BUNDLE_FINE if all went well */
static BundleFault
read_parts(const BundleKeys *keys, const Piece *parts, int n, BundleReader *out)
{
	BundleReader r;
	BundleError error = {BUNDLE_FINE, NULL};
	bool		good = bundle_reader_begin(&r, keys, &error);

	for (int i = 0; good && i < n; i++)
	{
		uint8_t    *copy = core_alloc(parts[i].n);	/* exact size, so that an overrun is seen */

		memcpy(copy, parts[i].data, parts[i].n);
		good = bundle_read_part(&r, copy, parts[i].n, &error);
	}
	good = good && bundle_reader_finish(&r, &error);
	if (out)
		*out = r;
	bundle_reader_free(&r);
	return good ? BUNDLE_FINE : error.fault;
}

/* --- files --- */

static void
to_file(WireWriter *w, const Piece *parts, int n)
{
	uint8_t		head[BUNDLE_ROW_HEAD_BYTES];

	wire_writer_init(w, 1024);
	wire_put_bytes(w, bundle_file_head, BUNDLE_FILE_HEAD_BYTES);
	for (int i = 0; i < n; i++)
	{
		bundle_put_row_head(head, (uint32_t) parts[i].n);
		wire_put_bytes(w, head, sizeof(head));
		wire_put_bytes(w, parts[i].data, parts[i].n);
	}
	wire_put_bytes(w, bundle_file_tail, sizeof(bundle_file_tail));
}

typedef struct Memory
{
	const uint8_t *p;
	size_t		left;
} Memory;

/* in small pieces, as a pipe might give it */
static long
read_memory(void *arg, uint8_t *buf, size_t n)
{
	Memory	   *m = arg;

	n = n < m->left ? n : m->left;
	n = n < 97 ? n : 97;
	if (n > 0)
		memcpy(buf, m->p, n);
	m->p += n;
	m->left -= n;
	return (long) n;
}

static BundleFault
read_file(const BundleKeys *keys, const uint8_t *data, size_t n, BundleReader *out)
{
	Memory		memory = {data, n};
	BundleFile	f;
	BundleReader r;
	BundleError error = {BUNDLE_FINE, NULL};
	bool		more = true;
	bool		good = bundle_reader_begin(&r, keys, &error);

	bundle_file_begin(&f, read_memory, &memory);
	while (good && more)
	{
		good = bundle_file_next(&f, &more, &error);
		if (good)
			good = more ? bundle_read_part(&r, f.part.data, f.part.len, &error) : bundle_reader_finish(&r, &error);
	}
	if (out)
		*out = r;
	bundle_reader_free(&r);
	return good ? BUNDLE_FINE : error.fault;
}

/* --- tests --- */

static const struct
{
	const char *name;
	BundleCipher cipher;
	EVP_PKEY  **signing;
	int			level;
}			kinds[] = {
	{"plain", BUNDLE_PLAIN, NULL, 0},
	{"zstd", BUNDLE_PLAIN, NULL, 3},
	{"ed25519", BUNDLE_PLAIN, &ed_key, 0},
	{"sm2", BUNDLE_PLAIN, &sm2_key, 0},
	{"aes", BUNDLE_AES_256_GCM, NULL, 0},
	{"sm4", BUNDLE_SM4_CTR_HMAC_SM3, NULL, 0},
	{"aes-ed25519-zstd", BUNDLE_AES_256_GCM, &ed_key, 3},
	{"sm4-sm2-zstd", BUNDLE_SM4_CTR_HMAC_SM3, &sm2_key, 3},
};
#define NKINDS ((int) (sizeof(kinds) / sizeof(kinds[0])))

static void
keys_of(int kind, BundleKeys *writing, BundleKeys *reading)
{
	memset(writing, 0, sizeof(*writing));
	memset(reading, 0, sizeof(*reading));
	if (kinds[kind].cipher != BUNDLE_PLAIN)
	{
		give_secret(writing, kinds[kind].cipher);
		give_secret(reading, kinds[kind].cipher);
	}
	if (kinds[kind].signing)
	{
		writing->signing = *kinds[kind].signing;
		trust(reading, other_key, "other");
		trust(reading, *kinds[kind].signing, "signer");
	}
}

static void
test_kind(int kind)
{
	BundleKeys	writing,
				reading,
				none = {0};
	Piece		parts[MAX_PARTS],
				foreign[MAX_PARTS];
	BundleReader r;
	WireWriter	file;
	char		name[200];
	int			n;
	bool		sealed = kinds[kind].cipher != BUNDLE_PLAIN;
	bool		refused = true,
				truncated = true,
				ordered = true;

	keys_of(kind, &writing, &reading);
#define TEST(condition, what) \
	(snprintf(name, sizeof(name), "%s: %s", kinds[kind].name, what), ok(condition, name))
	n = write_bundle(&writing, kinds[kind].level, false, parts);
	TEST(n == (kinds[kind].signing ? 5 : 4), "a bundle is written");
	TEST(read_parts(&reading, parts, n, &r) == BUNDLE_FINE, "and read");
	TEST(r.totals.states == 5 && r.totals.dead == 1 && r.totals.blocks == 2 && r.totals.tables == 1 &&
		 strcmp(r.header.source_name, "north") == 0 && strcmp(r.totals.reach, "4711:3476789828956336130") == 0,
		 "with what was written");
	if (kinds[kind].signing)
		TEST(r.signed_by && strcmp(r.signed_by->name, "signer") == 0, "the signer is known");
	to_file(&file, parts, n);
	TEST(read_file(&reading, file.data, file.len, NULL) == BUNDLE_FINE, "as a file");

	for (size_t len = 0; len < file.len; len++)
	{
		uint8_t    *copy = core_alloc(len);

		memcpy(copy, file.data, len);
		truncated &= read_file(&reading, copy, len, NULL) != BUNDLE_FINE;
	}
	TEST(truncated, "cut short anywhere it is refused");
	for (size_t bit = 0; bit < file.len * 8; bit++)
	{
		file.data[bit / 8] ^= 1 << bit % 8;
		refused &= read_file(&reading, file.data, file.len, NULL) != BUNDLE_FINE;
		file.data[bit / 8] ^= 1 << bit % 8;
	}
	TEST(refused, "with any one bit changed it is refused");

	/* parts that are missing, twice, exchanged, or of another bundle */
	write_bundle(&writing, kinds[kind].level, false, foreign);
	for (int i = 0; i < n; i++)
	{
		Piece		other[MAX_PARTS + 1];
		int			m = 0;

		for (int j = 0; j < n; j++)
			if (j != i)
				other[m++] = parts[j];
		ordered &= read_parts(&reading, other, m, NULL) != BUNDLE_FINE;
		m = 0;
		for (int j = 0; j < n; j++)
		{
			other[m++] = parts[j];
			if (j == i)
				other[m++] = parts[j];
		}
		ordered &= read_parts(&reading, other, m, NULL) != BUNDLE_FINE;
		memcpy(other, parts, sizeof(Piece) * n);
		other[i] = foreign[i];
		ordered &= read_parts(&reading, other, n, NULL) != BUNDLE_FINE;
		if (i > 0)
		{
			memcpy(other, parts, sizeof(Piece) * n);
			other[i] = parts[i - 1], other[i - 1] = parts[i];
			ordered &= read_parts(&reading, other, n, NULL) != BUNDLE_FINE;
		}
	}
	TEST(ordered, "parts that are missing, twice, exchanged or another bundle's are refused");
	parts[0].data[4] = BUNDLE_VERSION + 1;
	TEST(read_parts(&reading, parts, n, NULL) == BUNDLE_UNSUPPORTED, "a future version is refused as such");
	parts[0].data[4] = BUNDLE_VERSION;

	if (sealed)
	{
		BundleKeys	wrong = reading;

		TEST(read_parts(&none, parts, n, NULL) == BUNDLE_LOCKED, "without the key it is refused");
		wrong.secret[0][31] ^= 1;
		TEST(read_parts(&wrong, parts, n, NULL) == BUNDLE_LOCKED, "with another key too");
		wrong.secret[0][31] ^= 1;
		wrong.secret[1][0] = 1;
		memcpy(wrong.secret[2], wrong.secret[0], BUNDLE_KEY_BYTES);
		memset(wrong.secret[0], 7, BUNDLE_KEY_BYTES);
		wrong.nsecret = 3;
		TEST(read_parts(&wrong, parts, n, NULL) == BUNDLE_FINE, "the key may stand behind newer ones");
		TEST(parts[1].n > 100 && memmem(parts[1].data, parts[1].n, "hello", 5) == NULL, "nothing is to be read in it");
	}
	else
	{
		BundleKeys	with_key = reading;

		give_secret(&with_key, BUNDLE_AES_256_GCM);
		TEST(read_parts(&with_key, parts, n, NULL) == BUNDLE_LOCKED, "where a key is set only encrypted bundles are taken");
	}
	if (kinds[kind].signing)
	{
		BundleKeys	distrust = reading;

		distrust.ntrusted = 1;
		TEST(read_parts(&distrust, parts, n, NULL) == BUNDLE_LOCKED, "a signer who is not trusted is refused");
		distrust.ntrusted = 0, distrust.verify = false;
		TEST(read_parts(&distrust, parts, n, NULL) == BUNDLE_FINE, "where nobody verifies, signatures do no harm");
		TEST(read_parts(&reading, parts, n - 1, NULL) == BUNDLE_TRUNCATED, "a signature that is missing is missed");
	}
	else
	{
		BundleKeys	verifying = reading;

		verifying.verify = true;
		TEST(read_parts(&verifying, parts, n, NULL) == BUNDLE_LOCKED, "where signatures are verified an unsigned one is refused");
	}
	writing.signing = NULL;
	bundle_keys_free(&reading);
	arena_reset();
}

/* a bundle without a cipher whose sums all fit, but whose block lies */
static void
test_lies(void)
{
	BundleKeys	none = {0};
	Piece		parts[MAX_PARTS];
	WireWriter	frame;
	BundleCount count;
	BundleError error;

	bundle_count_begin(&count, 4711);
	make_frame(&frame, 2);
	ok(bundle_count_frame(&count, frame.data, frame.len, &error) && count.states == 2, "a frame is counted");
	ok(!bundle_count_frame(&count, frame.data, frame.len - 1, &error), "a frame that is cut short is refused");
	ok(!bundle_count_frame(&count, frame.data + 40, frame.len - 40, &error), "a row without a description is refused");
	ok(!bundle_count_frame(&count, (const uint8_t *) "?", 1, &error) && error.fault == BUNDLE_UNSUPPORTED,
	   "an unknown message is refused as one of the future");
	ok(write_bundle(&none, 3, false, parts) == 4, "a bundle to lie with");
	parts[1].data[31] ^= 1;		/* raw_bytes of the head, which the checksum covers */
	{
		uint32_t	crc = bundle_crc(0, parts[1].data, parts[1].n - 4);

		for (int i = 0; i < 4; i++)
			parts[1].data[parts[1].n - 4 + i] = (uint8_t) (crc >> (24 - 8 * i));
	}
	ok(read_parts(&none, parts, 4, NULL) == BUNDLE_DAMAGED, "a block that uncompresses to another length is refused");
	ok(bundle_crc(0, "123456789", 9) == 0xe3069283u, "the checksum is CRC-32C");
	arena_reset();
}

/* --- vectors --- */

static void
test_vectors(bool write)
{
	for (int k = 0; k < NKINDS; k++)
	{
		BundleKeys	writing,
					reading;
		Piece		parts[MAX_PARTS];
		WireWriter	file;
		char		path[1000],
					name[200];
		static uint8_t data[65536];
		size_t		n;
		FILE	   *f;
		BundleReader r;

		keys_of(k, &writing, &reading);
		to_file(&file, parts, write_bundle(&writing, kinds[k].level, true, parts));
		snprintf(path, sizeof(path), "%s/%s.bundle", dir, kinds[k].name);
		if (write)
		{
			f = fopen(path, "wb");
			fwrite(file.data, 1, file.len, f);
			fclose(f);
		}
		f = fopen(path, "rb");
		n = f ? fread(data, 1, sizeof(data), f) : 0;
		if (f)
			fclose(f);
		snprintf(name, sizeof(name), "test vector %s is read", kinds[k].name);
		ok(read_file(&reading, data, n, &r) == BUNDLE_FINE && r.totals.states == 5, name);

		/* SM2 draws a number for each signature, and zstd may compress better one day */
		if (kinds[k].level == 0 && kinds[k].signing != &sm2_key)
		{
			snprintf(name, sizeof(name), "test vector %s is written byte by byte", kinds[k].name);
			ok(n == file.len && memcmp(data, file.data, n) == 0, name);
		}
		writing.signing = NULL;
		bundle_keys_free(&reading);
		arena_reset();
	}
}

int
main(int argc, char **argv)
{
	bool		write = argc > 1 && strcmp(argv[1], "--write") == 0;

	if (argc > 1 + write)
		dir = argv[1 + write];
	ed_key = private_key("ed25519");
	sm2_key = private_key("sm2");
	other_key = private_key("other");
	if (!write)
	{
		for (int k = 0; k < NKINDS; k++)
			test_kind(k);
		test_lies();
	}
	test_vectors(write);
	EVP_PKEY_free(ed_key);
	EVP_PKEY_free(sm2_key);
	EVP_PKEY_free(other_key);
	return tap_done();
}
