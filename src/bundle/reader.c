/*
 * reader.c
 *		Reading a bundle, part by part: writer.c's mirror.
 *
 * What arrives is hostile.  The order of checks: the head's form; that it is the
 * part that is due; the seal; only then is anything uncompressed, and only what
 * came out in the length that the head states is looked into.  Memory grows by
 * what has arrived, not by what a length claims, but for one: a block that was
 * compressed is given the room that its head states, at most max_block.
 */
#include <zstd.h>

#include "bundle/reader.h"

/* the signature, flags 0, no extension: what COPY ... (FORMAT binary) writes */
const uint8_t bundle_file_head[BUNDLE_FILE_HEAD_BYTES] = {
	'P', 'G', 'C', 'O', 'P', 'Y', '\n', 0xff, '\r', '\n', 0, 0, 0, 0, 0, 0, 0, 0, 0
};
const uint8_t bundle_file_tail[2] = {0xff, 0xff};

#define READ_AT_ONCE (256 * 1024)

bool
bundle_reader_begin(BundleReader *r, const BundleKeys *keys, BundleError *error)
{
	memset(r, 0, sizeof(*r));
	r->keys = keys;
	r->max_block = BUNDLE_MAX_BLOCK;
	r->zstd = ZSTD_createDCtx();
	if (r->zstd == NULL)
		return bundle_fail(error, BUNDLE_INTERNAL, "out of memory");
	wire_writer_init(&r->plain, 4096);
	wire_writer_init(&r->raw, 4096);
	bundle_count_begin(&r->count, NODE_ID_NONE);
	return true;
}

void
bundle_reader_free(BundleReader *r)
{
	ZSTD_freeDCtx(r->zstd);
	r->zstd = NULL;
	bundle_digest_free(&r->digest);
	bundle_seal_free(&r->seal);
}

/* --- parts --- */

static const uint8_t *
find_secret(const BundleReader *r)
{
	for (int i = 0; i < r->keys->nsecret; i++)
	{
		uint8_t		id[BUNDLE_KEY_ID_BYTES];

		bundle_secret_id(r->keys->secret[i], id);
		if (memcmp(id, r->header.key_id, BUNDLE_KEY_ID_BYTES) == 0)
			return r->keys->secret[i];
	}
	return NULL;
}

/* may a bundle that is sealed like this be opened here? */
static bool
check_policy(BundleReader *r, const uint8_t **secret, BundleError *error)
{
	const BundleHeader *h = &r->header;

	*secret = NULL;
	if (h->protocol != WIRE_PROTOCOL)
		return bundle_fail(error, BUNDLE_UNSUPPORTED, "the bundle's messages are of another version than this ferry reads");
	if (h->cipher != BUNDLE_PLAIN)
	{
		*secret = find_secret(r);
		if (*secret == NULL)
			return bundle_fail(error, BUNDLE_LOCKED, r->keys->nsecret == 0 ?
							   "the bundle is encrypted, and no key is set here" :
							   "the bundle is encrypted with a key that is not in the key file here");
	}
	else if (r->keys->nsecret > 0)
		return bundle_fail(error, BUNDLE_LOCKED, "the bundle is not encrypted, and a key is set here");
	if (h->signer == BUNDLE_UNSIGNED && r->keys->verify)
		return bundle_fail(error, BUNDLE_LOCKED, "the bundle is not signed, and only signed ones are taken here");
	return true;
}

static bool
read_header(BundleReader *r, BundleError *error)
{
	const uint8_t *secret;

	if (!bundle_get_header(r->payload, r->payload_bytes, &r->header, error))
		return false;
	r->count.source = r->header.source;
	return check_policy(r, &secret, error) &&
		bundle_digest_begin(&r->digest, r->header.hash, error) &&
		bundle_seal_begin(&r->seal, &r->header, r->payload, r->payload_bytes, secret, error);
}

static bool
read_block(BundleReader *r, BundleError *error)
{
	const BundleHead *head = &r->head;

	if (head->flags & BUNDLE_COMPRESSED)
	{
		size_t		n;

		bundle_reserve(&r->raw, head->raw_bytes);
		n = ZSTD_decompressDCtx(r->zstd, r->raw.data, head->raw_bytes, r->payload, r->payload_bytes);
		if (ZSTD_isError(n) || n != head->raw_bytes)
			return bundle_fail(error, BUNDLE_DAMAGED, "a block does not uncompress");
		r->payload = r->raw.data;
		r->payload_bytes = n;
	}
	r->raw_bytes += r->payload_bytes;
	return bundle_count_frame(&r->count, r->payload, r->payload_bytes, error);
}

static bool
read_end(BundleReader *r, BundleError *error)
{
	uint8_t		digest[BUNDLE_DIGEST_BYTES];
	BundleTotals *t = &r->totals;

	if (!bundle_get_totals(r->payload, r->payload_bytes, t, error))
		return false;
	bundle_digest_now(&r->digest, digest);
	if (memcmp(digest, t->digest, BUNDLE_DIGEST_BYTES) != 0)
		return bundle_fail(error, BUNDLE_DAMAGED, "the checksum over the whole bundle does not fit");
	if (t->blocks != r->number - 1 || t->raw_bytes != r->raw_bytes || t->states != r->count.states ||
		t->dead != r->count.dead || t->tables != r->count.ntables)
		return bundle_fail(error, BUNDLE_DAMAGED, "the bundle holds another number of states than it says");
	r->ended = r->header.signer == BUNDLE_UNSIGNED;
	return true;
}

static bool
read_signature(BundleReader *r, BundleError *error)
{
	uint8_t		digest[BUNDLE_DIGEST_BYTES];

	if (r->payload_bytes <= BUNDLE_KEY_ID_BYTES || r->payload_bytes > BUNDLE_KEY_ID_BYTES + BUNDLE_MAX_SIGNATURE)
		return bundle_fail(error, BUNDLE_DAMAGED, "the bundle's signature is malformed");
	for (int i = 0; i < r->keys->ntrusted; i++)
	{
		const BundleTrusted *t = &r->keys->trusted[i];

		if (memcmp(t->id, r->payload, BUNDLE_KEY_ID_BYTES) != 0)
			continue;
		bundle_digest_now(&r->digest, digest);
		if (!bundle_verify(t->key, r->header.signer, digest, r->payload + BUNDLE_KEY_ID_BYTES,
						   r->payload_bytes - BUNDLE_KEY_ID_BYTES, error))
			return false;
		r->signed_by = t;
		break;
	}
	if (r->keys->verify && r->signed_by == NULL)
		return bundle_fail(error, BUNDLE_LOCKED, "the bundle is signed by a key that is not trusted here");
	r->ended = true;
	return true;
}

/* which type of part may come now */
static bool
is_due(const BundleReader *r, uint8_t type)
{
	if (r->number == 0)
		return type == BUNDLE_HEADER;
	if (r->head.type == BUNDLE_END)
		return type == BUNDLE_SIGNATURE;
	return type == BUNDLE_BLOCK || type == BUNDLE_END;
}

bool
bundle_read_part(BundleReader *r, const uint8_t *part, size_t n, BundleError *error)
{
	BundleHead	head;
	int			tag_bytes;
	bool		ok = false;

	if (!bundle_get_head(part, n, &head, error))
		return false;
	if (r->ended)
		return bundle_fail(error, BUNDLE_DAMAGED, "something follows the bundle's end");
	if (r->number > 0 && memcmp(head.id, r->head.id, BUNDLE_ID_BYTES) != 0)
		return bundle_fail(error, BUNDLE_DAMAGED, "a part belongs to another bundle");
	if (head.number != r->number || !is_due(r, head.type))
		return bundle_fail(error, BUNDLE_DAMAGED, "a part is missing or out of order");
	if (head.raw_bytes > r->max_block)
		return bundle_fail(error, BUNDLE_DAMAGED, "a block is too large");
	tag_bytes = bundle_tag_bytes(&r->seal, head.type);
	if (n != BUNDLE_HEAD_BYTES + (size_t) head.stored_bytes + tag_bytes)
		return bundle_fail(error, BUNDLE_DAMAGED, "a part has another length than its head says");

	bundle_reserve(&r->plain, head.stored_bytes + BUNDLE_MAX_TAG);
	if (!bundle_seal_open(&r->seal, head.type, head.number, part, part + BUNDLE_HEAD_BYTES, head.stored_bytes,
						  part + BUNDLE_HEAD_BYTES + head.stored_bytes, r->plain.data, error))
		return false;
	r->head = head;
	r->payload = r->plain.data;
	r->payload_bytes = head.stored_bytes;
	switch ((BundlePartType) head.type)
	{
		case BUNDLE_HEADER:
			ok = read_header(r, error);
			break;
		case BUNDLE_BLOCK:
			ok = read_block(r, error);
			break;
		case BUNDLE_END:
			ok = read_end(r, error);
			break;
		case BUNDLE_SIGNATURE:
			ok = read_signature(r, error);
			break;
	}
	if (ok)
		bundle_digest_add(&r->digest, part, n);
	r->number++;
	return ok;
}

bool
bundle_reader_finish(BundleReader *r, BundleError *error)
{
	return r->ended || bundle_fail(error, BUNDLE_TRUNCATED, "the bundle is truncated: its end is missing");
}

/* --- the file --- */

void
bundle_file_begin(BundleFile *f, BundleRead read, void *arg)
{
	memset(f, 0, sizeof(*f));
	f->read = read;
	f->arg = arg;
	wire_writer_init(&f->part, 4096);
}

void
bundle_put_row_head(uint8_t *out, uint32_t part_bytes)
{
	out[0] = 0;
	out[1] = 1;
	for (int i = 0; i < 4; i++)
		out[2 + i] = (uint8_t) (part_bytes >> (24 - 8 * i));
}

/* all of n bytes, in f->part */
static bool
read_bytes(BundleFile *f, size_t n, BundleError *error)
{
	f->part.len = 0;
	while (f->part.len < n)
	{
		size_t		want;
		long		got;

		if (f->part.len == f->part.cap)
			bundle_reserve(&f->part, f->part.cap * 2 < n ? f->part.cap * 2 : n);
		want = (n < f->part.cap ? n : f->part.cap) - f->part.len;
		want = want < READ_AT_ONCE ? want : READ_AT_ONCE;
		got = f->read(f->arg, f->part.data + f->part.len, want);
		if (got < 0)
			return bundle_fail(error, BUNDLE_INTERNAL, "the bundle could not be read");
		if (got == 0)
			return bundle_fail(error, BUNDLE_TRUNCATED, "the bundle is truncated");
		f->part.len += (size_t) got;
	}
	return true;
}

bool
bundle_file_next(BundleFile *f, bool *more, BundleError *error)
{
	WireReader	r;
	uint32_t	n;
	uint8_t		byte;

	*more = false;
	if (!f->begun)
	{
		if (!read_bytes(f, BUNDLE_FILE_HEAD_BYTES, error))
			return false;
		if (memcmp(f->part.data, bundle_file_head, BUNDLE_FILE_HEAD_BYTES) != 0)
			return bundle_fail(error, BUNDLE_DAMAGED, "this is not a bundle");
		f->begun = true;
	}
	if (!read_bytes(f, 2, error))
		return false;
	if (memcmp(f->part.data, bundle_file_tail, 2) == 0)
	{
		if (f->read(f->arg, &byte, 1) != 0)
			return bundle_fail(error, BUNDLE_DAMAGED, "something follows the bundle's end");
		return true;
	}
	if (f->part.data[0] != 0 || f->part.data[1] != 1)
		return bundle_fail(error, BUNDLE_DAMAGED, "this is not a bundle: its rows do not have one column");
	if (!read_bytes(f, 4, error))
		return false;
	wire_reader_init(&r, f->part.data, 4);
	n = wire_get_u32(&r);
	if (n > (uint32_t) BUNDLE_MAX_BLOCK + BUNDLE_HEAD_BYTES + BUNDLE_MAX_TAG)
		return bundle_fail(error, BUNDLE_DAMAGED, "a part claims an impossible length");
	*more = true;
	return read_bytes(f, n, error);
}
