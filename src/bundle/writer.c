/*
 * writer.c
 *		Writing a bundle, part by part: reader.c's mirror.
 */
#include <zstd.h>

#include "bundle/writer.h"

bool
bundle_writer_begin(BundleWriter *w, const BundleHeader *header, const BundleKeys *keys,
					int level, const uint8_t *fixed_id, BundleError *error)
{
	BundleHeader *h = &w->header;

	memset(w, 0, sizeof(*w));
	*h = *header;
	h->cipher = keys->nsecret > 0 ? keys->cipher : BUNDLE_PLAIN;
	h->signer = BUNDLE_UNSIGNED;
	if (keys->signing && !bundle_signer_of(keys->signing, &h->signer))
		return bundle_fail(error, BUNDLE_INTERNAL, "the signing key is neither Ed25519 nor SM2");
	h->hash = h->cipher == BUNDLE_SM4_CTR_HMAC_SM3 || h->signer == BUNDLE_SM2 ? BUNDLE_SM3 : BUNDLE_SHA256;
	if (fixed_id)
	{
		memcpy(w->id, fixed_id, BUNDLE_ID_BYTES);
		memset(h->salt, 0, BUNDLE_SALT_BYTES);
		memcpy(h->salt, fixed_id, BUNDLE_ID_BYTES);
	}
	else if (!bundle_random(w->id, BUNDLE_ID_BYTES) || !bundle_random(h->salt, BUNDLE_SALT_BYTES))
		return bundle_fail(error, BUNDLE_INTERNAL, "OpenSSL gave no random numbers");
	if (h->cipher != BUNDLE_PLAIN)
		bundle_secret_id(keys->secret[0], h->key_id);
	w->keys = keys;
	w->level = level;
	w->zstd = ZSTD_createCCtx();
	if (w->zstd == NULL)
		return bundle_fail(error, BUNDLE_INTERNAL, "out of memory");
	wire_writer_init(&w->part, 4096);
	wire_writer_init(&w->meta, 512);
	bundle_count_begin(&w->count, h->source);
	bundle_put_header(&w->meta, h);
	return bundle_digest_begin(&w->digest, h->hash, error) &&
		bundle_seal_begin(&w->seal, h, w->meta.data, w->meta.len,
						  h->cipher != BUNDLE_PLAIN ? keys->secret[0] : NULL, error);
}

void
bundle_writer_free(BundleWriter *w)
{
	ZSTD_freeCCtx(w->zstd);
	w->zstd = NULL;
	bundle_digest_free(&w->digest);
	bundle_seal_free(&w->seal);
}

/* room for a head, n bytes of payload and a seal */
static void
open_part(BundleWriter *w, size_t n)
{
	w->part.len = 0;
	bundle_reserve(&w->part, BUNDLE_HEAD_BYTES + n + BUNDLE_MAX_TAG);
}

/* the payload stands in w->part behind the head's place: head and seal around it */
static bool
close_part(BundleWriter *w, BundlePartType type, uint8_t flags, size_t raw, size_t stored, BundleError *error)
{
	BundleHead	head = {.type = type, .flags = flags, .number = w->number,
	.raw_bytes = (uint32_t) raw, .stored_bytes = (uint32_t) stored};
	uint8_t    *p = w->part.data;

	if (w->number == UINT32_MAX)
		return bundle_fail(error, BUNDLE_INTERNAL, "the bundle has too many parts");
	memcpy(head.id, w->id, BUNDLE_ID_BYTES);
	bundle_put_head(p, &head);
	if (!bundle_seal_close(&w->seal, type, head.number, p, p + BUNDLE_HEAD_BYTES, stored,
						   p + BUNDLE_HEAD_BYTES + stored, error))
		return false;
	w->part.len = BUNDLE_HEAD_BYTES + stored + bundle_tag_bytes(&w->seal, type);
	w->number++;
	bundle_digest_add(&w->digest, w->part.data, w->part.len);
	return true;
}

/* a part whose payload is small and in w->meta */
static bool
write_meta(BundleWriter *w, BundlePartType type, BundleError *error)
{
	if (w->meta.len > BUNDLE_MAX_META)
		return bundle_fail(error, BUNDLE_INTERNAL, "the bundle's header is too long");
	open_part(w, w->meta.len);
	memcpy(w->part.data + BUNDLE_HEAD_BYTES, w->meta.data, w->meta.len);
	return close_part(w, type, 0, w->meta.len, w->meta.len, error);
}

bool
bundle_write_header(BundleWriter *w, BundleError *error)
{
	w->meta.len = 0;
	bundle_put_header(&w->meta, &w->header);
	return write_meta(w, BUNDLE_HEADER, error);
}

bool
bundle_write_block(BundleWriter *w, const uint8_t *frame, size_t n, BundleError *error)
{
	size_t		stored = n;
	uint8_t		flags = 0;

	if (n > BUNDLE_MAX_BLOCK)
		return bundle_fail(error, BUNDLE_UNSUPPORTED, "a row is too large for a bundle");
	if (!bundle_count_frame(&w->count, frame, n, error))
	{
		error->fault = BUNDLE_INTERNAL;
		return false;
	}
	open_part(w, ZSTD_compressBound(n));
	if (w->level != 0)
	{
		size_t		done = ZSTD_compressCCtx(w->zstd, w->part.data + BUNDLE_HEAD_BYTES, ZSTD_compressBound(n),
											 frame, n, w->level);

		if (!ZSTD_isError(done) && done < n)
		{
			stored = done;
			flags = BUNDLE_COMPRESSED;
		}
	}
	if (flags == 0 && n > 0)
		memcpy(w->part.data + BUNDLE_HEAD_BYTES, frame, n);
	w->totals.blocks++;
	w->totals.raw_bytes += n;
	return close_part(w, BUNDLE_BLOCK, flags, n, stored, error);
}

bool
bundle_write_end(BundleWriter *w, BundleError *error)
{
	w->totals.reach = core_alloc(VECTOR_TEXT_BYTES);
	vector_format(&w->count.holds, w->totals.reach);
	w->totals.tables = w->count.ntables;
	w->totals.states = w->count.states;
	w->totals.dead = w->count.dead;
	bundle_digest_now(&w->digest, w->totals.digest);
	w->meta.len = 0;
	bundle_put_totals(&w->meta, &w->totals);
	return write_meta(w, BUNDLE_END, error);
}

bool
bundle_write_signature(BundleWriter *w, BundleError *error)
{
	uint8_t		id[BUNDLE_KEY_ID_BYTES];
	uint8_t		digest[BUNDLE_DIGEST_BYTES];
	uint8_t		signature[BUNDLE_MAX_SIGNATURE];
	size_t		n = sizeof(signature);

	bundle_digest_now(&w->digest, digest);
	if (!bundle_public_id(w->keys->signing, id))
		return bundle_fail(error, BUNDLE_INTERNAL, "OpenSSL could not encode the public key");
	if (!bundle_sign(w->keys->signing, w->header.signer, digest, signature, &n, error))
		return false;
	w->meta.len = 0;
	wire_put_bytes(&w->meta, id, BUNDLE_KEY_ID_BYTES);
	wire_put_bytes(&w->meta, signature, n);
	return write_meta(w, BUNDLE_SIGNATURE, error);
}
