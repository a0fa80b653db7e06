/*
 * seal.c
 *		Ciphers, digests and signatures of bundles, by OpenSSL.
 *
 * Keys.  A bundle has keys of its own: HKDF of the secret key with 32 random
 * bytes as salt, and with the digest of the bundle's whole header in its info.
 * So no key is used for two bundles, and whoever changes a byte of the header,
 * which travels in clear, has a bundle that cannot be opened.
 *
 * Nonces.  Within a bundle a nonce is the part's number, and no two parts have
 * one number: never reused, nothing to remember, nothing to draw.
 *
 * What is authenticated beside the payload is the part's head: bundle, number,
 * type (of which one says that it is the end) and lengths.  Parts therefore
 * cannot change places, go missing, or come from another bundle.
 *
 * AES-256-GCM (NIST SP 800-38D) where nothing else is asked for.  OpenSSL 3.0 has
 * no SM4-GCM: SM4-CTR (GB/T 32907) is composed with HMAC-SM3 (GB/T 32905),
 * encrypt-then-MAC, over head and ciphertext; the head has a fixed length and
 * holds that of the ciphertext, so the composition is unambiguous.
 *
 * Parts that travel in clear, and all where there is no cipher, have a CRC-32C
 * instead of a tag: against damage, not against people.
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/x509.h>

#include "bundle/seal.h"

#define GCM_TAG_BYTES 16
#define MAC_TAG_BYTES 32

/* what a signature is over, before the digest: so that it can mean nothing else */
static const char signed_prefix[] = "ferry bundle signature 1";
static const char sm2_id[] = "1234567812345678";	/* the default of GM/T 0009 */

bool
bundle_random(void *out, size_t n)
{
	return RAND_bytes(out, (int) n) == 1;
}

void
bundle_keys_free(BundleKeys *keys)
{
	OPENSSL_cleanse(keys->secret, sizeof(keys->secret));
	EVP_PKEY_free(keys->signing);
	keys->signing = NULL;
	for (int i = 0; i < keys->ntrusted; i++)
		EVP_PKEY_free(keys->trusted[i].key);
	keys->ntrusted = keys->nsecret = 0;
}

void
bundle_secret_id(const uint8_t *secret, uint8_t *id)
{
	static const char text[] = "ferry bundle key id";
	uint8_t		mac[32];
	unsigned	n = 0;

	memset(mac, 0, sizeof(mac));
	(void) HMAC(EVP_sha256(), secret, BUNDLE_KEY_BYTES, (const unsigned char *) text, sizeof(text) - 1, mac, &n);
	memcpy(id, mac, BUNDLE_KEY_ID_BYTES);
}

bool
bundle_public_id(EVP_PKEY *key, uint8_t *id)
{
	unsigned char *der = NULL;
	int			n = i2d_PUBKEY(key, &der);
	uint8_t		digest[32];
	bool		ok = n > 0 && EVP_Digest(der, (size_t) n, digest, NULL, EVP_sha256(), NULL) == 1;

	OPENSSL_free(der);
	if (ok)
		memcpy(id, digest, BUNDLE_KEY_ID_BYTES);
	return ok;
}

bool
bundle_signer_of(EVP_PKEY *key, BundleSigner *signer)
{
	if (EVP_PKEY_is_a(key, "ED25519"))
		*signer = BUNDLE_ED25519;
	else if (EVP_PKEY_is_a(key, "SM2"))
		*signer = BUNDLE_SM2;
	else
		return false;
	return true;
}

/* --- digests --- */

bool
bundle_digest_begin(BundleDigest *d, BundleHash hash, BundleError *error)
{
	d->ctx = EVP_MD_CTX_new();
	if (d->ctx == NULL ||
		EVP_DigestInit_ex(d->ctx, hash == BUNDLE_SM3 ? EVP_sm3() : EVP_sha256(), NULL) != 1)
		return bundle_fail(error, BUNDLE_UNSUPPORTED, "OpenSSL on this machine lacks the bundle's hash function");
	return true;
}

void
bundle_digest_add(BundleDigest *d, const void *data, size_t n)
{
	EVP_DigestUpdate(d->ctx, data, n);
}

void
bundle_digest_now(const BundleDigest *d, uint8_t *out)
{
	EVP_MD_CTX *copy = EVP_MD_CTX_new();

	memset(out, 0, BUNDLE_DIGEST_BYTES);
	if (copy != NULL && EVP_MD_CTX_copy_ex(copy, d->ctx) == 1)
		EVP_DigestFinal_ex(copy, out, NULL);
	EVP_MD_CTX_free(copy);
}

void
bundle_digest_free(BundleDigest *d)
{
	EVP_MD_CTX_free(d->ctx);
	d->ctx = NULL;
}

/* --- seals --- */

static bool
derive(const uint8_t *secret, const uint8_t *salt, const char *digest_name,
	   const uint8_t *info, size_t info_n, uint8_t *out, size_t n)
{
	EVP_KDF    *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	OSSL_PARAM	params[5];
	bool		ok;

	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *) digest_name, 0);
	params[1] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *) secret, BUNDLE_KEY_BYTES);
	params[2] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *) salt, BUNDLE_SALT_BYTES);
	params[3] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *) info, info_n);
	params[4] = OSSL_PARAM_construct_end();
	ok = ctx != NULL && EVP_KDF_derive(ctx, out, n, params) == 1;
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return ok;
}

bool
bundle_seal_begin(BundleSeal *s, const BundleHeader *header, const uint8_t *header_bytes, size_t header_n,
				  const uint8_t *secret, BundleError *error)
{
	static const char text[] = "ferry bundle 1";
	bool		sm = header->cipher == BUNDLE_SM4_CTR_HMAC_SM3;
	uint8_t		info[sizeof(text) - 1 + 32];
	uint8_t		keys[64];

	memset(s, 0, sizeof(*s));
	s->cipher = header->cipher;
	s->tag_bytes = BUNDLE_CRC_BYTES;
	if (s->cipher == BUNDLE_PLAIN)
		return true;
	s->tag_bytes = sm ? MAC_TAG_BYTES : GCM_TAG_BYTES;
	memcpy(info, text, sizeof(text) - 1);
	if (EVP_Digest(header_bytes, header_n, info + sizeof(text) - 1, NULL, sm ? EVP_sm3() : EVP_sha256(), NULL) != 1 ||
		!derive(secret, header->salt, sm ? "SM3" : "SHA256", info, sizeof(info), keys, sizeof(keys)))
		return bundle_fail(error, BUNDLE_UNSUPPORTED, "OpenSSL on this machine lacks the bundle's key derivation");
	memcpy(s->key, keys, 32);
	memcpy(s->mac_key, keys + 32, 32);
	OPENSSL_cleanse(keys, sizeof(keys));
	s->ctx = EVP_CIPHER_CTX_new();
	if (s->ctx == NULL ||
		EVP_CipherInit_ex(s->ctx, sm ? EVP_sm4_ctr() : EVP_aes_256_gcm(), NULL, NULL, NULL, 1) != 1)
		return bundle_fail(error, BUNDLE_UNSUPPORTED, "OpenSSL on this machine lacks the bundle's cipher");
	return true;
}

void
bundle_seal_free(BundleSeal *s)
{
	EVP_CIPHER_CTX_free(s->ctx);
	OPENSSL_cleanse(s, sizeof(*s));
}

static bool
has_cipher(const BundleSeal *s, uint8_t type)
{
	return s->cipher != BUNDLE_PLAIN && (type == BUNDLE_BLOCK || type == BUNDLE_END);
}

int
bundle_tag_bytes(const BundleSeal *s, uint8_t type)
{
	return has_cipher(s, type) ? s->tag_bytes : BUNDLE_CRC_BYTES;
}

static void
crc_tag(const uint8_t *head, const uint8_t *data, size_t n, uint8_t *tag)
{
	uint32_t	crc = bundle_crc(bundle_crc(0, head, BUNDLE_HEAD_BYTES), data, n);

	for (int i = 0; i < 4; i++)
		tag[i] = (uint8_t) (crc >> (24 - 8 * i));
}

/* the part's number, big-endian: at the end of a GCM nonce, in the upper half of a CTR block */
static void
make_nonce(const BundleSeal *s, uint32_t number, uint8_t *nonce)
{
	int			at = s->cipher == BUNDLE_AES_256_GCM ? 8 : 4;

	memset(nonce, 0, 16);
	for (int i = 0; i < 4; i++)
		nonce[at + i] = (uint8_t) (number >> (24 - 8 * i));
}

static bool
sm3_mac(const BundleSeal *s, const uint8_t *head, const uint8_t *data, size_t n, uint8_t *tag)
{
	EVP_MAC    *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;
	OSSL_PARAM	params[2];
	size_t		got = 0;
	bool		ok;

	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, "SM3", 0);
	params[1] = OSSL_PARAM_construct_end();
	ok = ctx != NULL && EVP_MAC_init(ctx, s->mac_key, sizeof(s->mac_key), params) == 1 &&
		EVP_MAC_update(ctx, head, BUNDLE_HEAD_BYTES) == 1 &&
		EVP_MAC_update(ctx, data, n) == 1 &&
		EVP_MAC_final(ctx, tag, &got, MAC_TAG_BYTES) == 1 && got == MAC_TAG_BYTES;
	EVP_MAC_CTX_free(ctx);
	EVP_MAC_free(mac);
	return ok;
}

/* data goes through in one piece: parts are smaller than INT_MAX */
static bool
run_cipher(BundleSeal *s, uint32_t number, const uint8_t *head, const uint8_t *in, size_t n, uint8_t *out, int encipher)
{
	uint8_t		nonce[16];
	int			done;

	make_nonce(s, number, nonce);
	if (EVP_CipherInit_ex(s->ctx, NULL, NULL, s->key, nonce, encipher) != 1)
		return false;
	if (s->cipher == BUNDLE_AES_256_GCM &&
		EVP_CipherUpdate(s->ctx, NULL, &done, head, BUNDLE_HEAD_BYTES) != 1)
		return false;
	return EVP_CipherUpdate(s->ctx, out, &done, in, (int) n) == 1 && done == (int) n;
}

bool
bundle_seal_close(BundleSeal *s, uint8_t type, uint32_t number, const uint8_t *head,
				  uint8_t *data, size_t n, uint8_t *tag, BundleError *error)
{
	int			done;
	bool		ok;

	if (!has_cipher(s, type))
	{
		crc_tag(head, data, n, tag);
		return true;
	}
	ok = run_cipher(s, number, head, data, n, data, 1);
	if (s->cipher == BUNDLE_AES_256_GCM)
		ok = ok && EVP_CipherFinal_ex(s->ctx, data + n, &done) == 1 &&
			EVP_CIPHER_CTX_ctrl(s->ctx, EVP_CTRL_AEAD_GET_TAG, GCM_TAG_BYTES, tag) == 1;
	else
		ok = ok && sm3_mac(s, head, data, n, tag);
	return ok || bundle_fail(error, BUNDLE_INTERNAL, "OpenSSL could not encipher a block");
}

bool
bundle_seal_open(BundleSeal *s, uint8_t type, uint32_t number, const uint8_t *head,
				 const uint8_t *data, size_t n, const uint8_t *tag, uint8_t *out, BundleError *error)
{
	uint8_t		expected[BUNDLE_MAX_TAG];
	int			done;
	bool		ok;

	if (!has_cipher(s, type))
	{
		crc_tag(head, data, n, expected);
		if (memcmp(expected, tag, BUNDLE_CRC_BYTES) != 0)
			return bundle_fail(error, BUNDLE_DAMAGED, "a checksum does not fit");
		if (out != data && n > 0)
			memcpy(out, data, n);
		return true;
	}
	if (s->cipher == BUNDLE_AES_256_GCM)
		ok = run_cipher(s, number, head, data, n, out, 0) &&
			EVP_CIPHER_CTX_ctrl(s->ctx, EVP_CTRL_AEAD_SET_TAG, GCM_TAG_BYTES, (void *) tag) == 1 &&
			EVP_CipherFinal_ex(s->ctx, out + n, &done) == 1;
	else
		ok = sm3_mac(s, head, data, n, expected) && CRYPTO_memcmp(expected, tag, MAC_TAG_BYTES) == 0 &&
			run_cipher(s, number, head, data, n, out, 0);
	return ok || bundle_fail(error, BUNDLE_FORGED, "a block's seal does not fit: the bundle was changed, or the key is another");
}

/* --- signatures --- */

/* Ed25519 hashes by itself; SM2 is told its hash and its signer's id */
static EVP_MD_CTX *
signature_context(EVP_PKEY *key, BundleSigner signer, bool sign)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pctx = NULL;
	const EVP_MD *md = signer == BUNDLE_SM2 ? EVP_sm3() : NULL;

	if (ctx != NULL &&
		(sign ? EVP_DigestSignInit(ctx, &pctx, md, NULL, key) : EVP_DigestVerifyInit(ctx, &pctx, md, NULL, key)) == 1 &&
		(signer != BUNDLE_SM2 || EVP_PKEY_CTX_set1_id(pctx, sm2_id, sizeof(sm2_id) - 1) > 0))
		return ctx;
	EVP_MD_CTX_free(ctx);
	return NULL;
}

static void
what_is_signed(const uint8_t *digest, uint8_t *out)
{
	memcpy(out, signed_prefix, sizeof(signed_prefix) - 1);
	memcpy(out + sizeof(signed_prefix) - 1, digest, BUNDLE_DIGEST_BYTES);
}

bool
bundle_sign(EVP_PKEY *key, BundleSigner signer, const uint8_t *digest, uint8_t *signature, size_t *n, BundleError *error)
{
	uint8_t		text[sizeof(signed_prefix) - 1 + BUNDLE_DIGEST_BYTES];
	EVP_MD_CTX *ctx = signature_context(key, signer, true);
	bool		ok;

	what_is_signed(digest, text);
	ok = ctx != NULL && EVP_DigestSign(ctx, signature, n, text, sizeof(text)) == 1;
	EVP_MD_CTX_free(ctx);
	return ok || bundle_fail(error, BUNDLE_INTERNAL, "OpenSSL could not sign the bundle");
}

bool
bundle_verify(EVP_PKEY *key, BundleSigner signer, const uint8_t *digest, const uint8_t *signature, size_t n,
			  BundleError *error)
{
	uint8_t		text[sizeof(signed_prefix) - 1 + BUNDLE_DIGEST_BYTES];
	BundleSigner kind;
	EVP_MD_CTX *ctx;
	bool		ok;

	what_is_signed(digest, text);
	if (!bundle_signer_of(key, &kind) || kind != signer)
		return bundle_fail(error, BUNDLE_FORGED, "the signature is of another kind than the key");
	ctx = signature_context(key, signer, false);
	ok = ctx != NULL && EVP_DigestVerify(ctx, signature, n, text, sizeof(text)) == 1;
	EVP_MD_CTX_free(ctx);
	return ok || bundle_fail(error, BUNDLE_FORGED, "the signature does not fit the bundle");
}
