/*
 * seal.h
 *		Ciphers, digests and signatures of bundles, by OpenSSL.
 *
 * Pure: core/ and libcrypto.  Every function that can refuse returns false and
 * fills *error; nothing raises.
 */
#ifndef FERRY_BUNDLE_SEAL_H
#define FERRY_BUNDLE_SEAL_H

#include <openssl/evp.h>

#include "bundle/format.h"

#define BUNDLE_MAX_TAG 32
#define BUNDLE_MAX_KEYS 16		/* secret keys in one file, public keys in one directory x 16 */
#define BUNDLE_MAX_TRUSTED 256

/* a public key that we trust */
typedef struct BundleTrusted
{
	EVP_PKEY   *key;
	char	   *name;			/* of its file */
	uint8_t		id[BUNDLE_KEY_ID_BYTES];
} BundleTrusted;

/*
 * What this node was given to seal and to open bundles.  The first secret key
 * seals; each may open.
 */
typedef struct BundleKeys
{
	BundleCipher cipher;		/* for what we write */
	int			nsecret;
	uint8_t		secret[BUNDLE_MAX_KEYS][BUNDLE_KEY_BYTES];
	EVP_PKEY   *signing;		/* NULL: what we write is not signed */
	bool		verify;			/* what is not signed by a trusted key is refused */
	int			ntrusted;
	BundleTrusted trusted[BUNDLE_MAX_TRUSTED];
} BundleKeys;

extern void bundle_keys_free(BundleKeys *keys); /* OpenSSL's part of it; wipes the secrets */

extern bool bundle_random(void *out, size_t n);

/* names of secret and public keys, that tell nothing else */
extern void bundle_secret_id(const uint8_t *secret, uint8_t *id);
extern bool bundle_public_id(EVP_PKEY *key, uint8_t *id);

/* which of ours a signing key is; false if it is of no kind that we use */
extern bool bundle_signer_of(EVP_PKEY *key, BundleSigner *signer);

/* --- digests --- */
typedef struct BundleDigest
{
	EVP_MD_CTX *ctx;
} BundleDigest;

extern bool bundle_digest_begin(BundleDigest *d, BundleHash hash, BundleError *error);
extern void bundle_digest_add(BundleDigest *d, const void *data, size_t n);
extern void bundle_digest_now(const BundleDigest *d, uint8_t *out); /* of what was added so far; more may follow */
extern void bundle_digest_free(BundleDigest *d);

/* --- seals --- */
typedef struct BundleSeal
{
	BundleCipher cipher;
	int			tag_bytes;
	uint8_t		key[32];		/* AES 32, SM4 16 */
	uint8_t		mac_key[32];	/* SM4 only */
	EVP_CIPHER_CTX *ctx;
} BundleSeal;

/*
 * The keys of one bundle, from a secret key, the salt and the whole header:
 * another header makes other keys.  secret is NULL if there is no cipher.
 */
extern bool bundle_seal_begin(BundleSeal *s, const BundleHeader *header,
							  const uint8_t *header_bytes, size_t header_n,
							  const uint8_t *secret, BundleError *error);
extern void bundle_seal_free(BundleSeal *s);

/* bytes of the seal behind a part's payload: headers and signatures only have a CRC */
extern int	bundle_tag_bytes(const BundleSeal *s, uint8_t type);

/* encipher data in place; head is the part's encoded head, number its part number */
extern bool bundle_seal_close(BundleSeal *s, uint8_t type, uint32_t number, const uint8_t *head,
							  uint8_t *data, size_t n, uint8_t *tag, BundleError *error);

/* decipher into out (n bytes; may be data itself if there is no cipher); nothing in out is to be used if it fails */
extern bool bundle_seal_open(BundleSeal *s, uint8_t type, uint32_t number, const uint8_t *head,
							 const uint8_t *data, size_t n, const uint8_t *tag, uint8_t *out, BundleError *error);

/* --- signatures, over a digest --- */
extern bool bundle_sign(EVP_PKEY *key, BundleSigner signer, const uint8_t *digest,
						uint8_t *signature, size_t *n, BundleError *error);
extern bool bundle_verify(EVP_PKEY *key, BundleSigner signer, const uint8_t *digest,
						  const uint8_t *signature, size_t n, BundleError *error);

#endif							/* FERRY_BUNDLE_SEAL_H */
