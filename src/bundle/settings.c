/*-------------------------------------------------------------------------
 *
 * settings.c
 *		What this server was told about bundles: settings, and the keys in the
 *		files that they name.
 *
 * Keys never pass through SQL, the log or pg_stat_statements: a setting names a
 * file, and only superusers may set or see it.  A file that others than its owner
 * may read (a secret) or write (anything) is refused, as the server refuses its
 * own TLS key.
 *
 * A secret key file holds one or more lines of 64 hexadecimal digits; blank lines
 * and those that begin with # are skipped.  The first key seals what is written
 * here; each opens what comes, so that keys can be changed in turn.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include <openssl/pem.h>

#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "bundle/settings.h"

#define MAX_KEY_FILE_BYTES (64 * 1024)

static int	bundle_cipher = BUNDLE_AES_256_GCM;
static int	bundle_level = 3;
static char *bundle_key_file = NULL;
static char *bundle_signing_key_file = NULL;
static char *bundle_trusted_keys_dir = NULL;

static const struct config_enum_entry ciphers[] = {
	{"aes-256-gcm", BUNDLE_AES_256_GCM, false},
	{"sm4-ctr-hmac-sm3", BUNDLE_SM4_CTR_HMAC_SM3, false},
	{NULL, 0, false}
};

void
bundle_define_settings(void)
{
	DefineCustomStringVariable("ferry.bundle_key_file",
							   "File with the secret keys of bundles.",
							   "If set, bundles are encrypted, and only encrypted ones are imported.",
							   &bundle_key_file, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("ferry.bundle_signing_key_file",
							   "File with the private key, in PEM, that signs bundles (Ed25519 or SM2).",
							   NULL,
							   &bundle_signing_key_file, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("ferry.bundle_trusted_keys_dir",
							   "Directory of public keys, in files *.pem, whose bundles are taken.",
							   "If set, bundles that none of them signed are refused.",
							   &bundle_trusted_keys_dir, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomEnumVariable("ferry.bundle_cipher",
							 "How bundles are encrypted if there is a key.",
							 NULL,
							 &bundle_cipher, BUNDLE_AES_256_GCM, ciphers,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("ferry.bundle_compression_level",
							"Level of zstd at which bundles are compressed; 0 for none.",
							NULL,
							&bundle_level, 3, 0, 19,
							PGC_USERSET, 0, NULL, NULL, NULL);
}

void
bundle_settings_now(BundleSettings *s)
{
	memset(s, 0, sizeof(*s));
	s->cipher = bundle_cipher;
	s->level = bundle_level;
	strlcpy(s->key_file, bundle_key_file, MAXPGPATH);
	strlcpy(s->signing_key_file, bundle_signing_key_file, MAXPGPATH);
	strlcpy(s->trusted_keys_dir, bundle_trusted_keys_dir, MAXPGPATH);
}

/* --- files --- */

/* others may do to it: nothing (a secret), or read it; a key of root's may be read by its group */
static void
check_permissions(const char *path, const struct stat *st, bool secret)
{
	mode_t		forbidden = S_IWGRP | S_IWOTH;

	if (secret)
		forbidden |= st->st_uid == 0 ? S_IXGRP | S_IRWXO : S_IRWXG | S_IRWXO;
	if (st->st_uid != 0 && st->st_uid != geteuid())
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("\"%s\" must be owned by the server's user or root", path)));
	if (st->st_mode & forbidden)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("\"%s\" is open to others", path),
				 secret ? errhint("Its permissions should be u=rw (0600), or u=rw,g=r (0640) if root owns it.") :
				 errhint("Others may not write it.")));
}

/* a whole small file, NUL-terminated, in the current context */
static char *
read_key_file(const char *path, bool secret, size_t *n)
{
	FILE	   *file = AllocateFile(path, PG_BINARY_R);
	struct stat st;
	char	   *text;

	if (file == NULL)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not open file \"%s\": %m", path)));
	if (fstat(fileno(file), &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not stat file \"%s\": %m", path)));
	if (!S_ISREG(st.st_mode) || st.st_size > MAX_KEY_FILE_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR), errmsg("\"%s\" is no key file", path)));
	check_permissions(path, &st, secret);
	text = palloc(MAX_KEY_FILE_BYTES + 1);
	*n = fread(text, 1, MAX_KEY_FILE_BYTES, file);
	text[*n] = '\0';
	if (ferror(file))
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not read file \"%s\": %m", path)));
	FreeFile(file);
	return text;
}

static void
forget(char *text)
{
	OPENSSL_cleanse(text, MAX_KEY_FILE_BYTES + 1);
	pfree(text);
}

/* --- secret keys --- */

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool
parse_secret(const char *line, size_t n, uint8_t *key)
{
	if (n != 2 * BUNDLE_KEY_BYTES)
		return false;
	for (int i = 0; i < BUNDLE_KEY_BYTES; i++)
	{
		int			hi = hex_digit(line[2 * i]);
		int			lo = hex_digit(line[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return false;
		key[i] = (uint8_t) (hi << 4 | lo);
	}
	return true;
}

static void
load_secrets(BundleKeys *keys, const char *path)
{
	size_t		n;
	char	   *text = read_key_file(path, true, &n);
	bool		ok = true;

	for (char *line = text; ok && *line;)
	{
		size_t		len = strcspn(line, "\n");
		size_t		used = len;

		while (used > 0 && strchr(" \t\r", line[used - 1]))
			used--;
		if (used > 0 && line[0] != '#')
			ok = keys->nsecret < BUNDLE_MAX_KEYS && parse_secret(line, used, keys->secret[keys->nsecret++]);
		line += len + (line[len] == '\n');
	}
	forget(text);
	if (!ok || keys->nsecret == 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("\"%s\" does not hold the keys of bundles", path),
				 errhint("Each line (%d at most) is a key of 64 hexadecimal digits; make one by: openssl rand -hex 32",
						 BUNDLE_MAX_KEYS)));
}

/* --- signing and trusted keys --- */

/* never ask the terminal for a passphrase */
static int
no_passphrase(char *buf, int size, int rwflag, void *userdata)
{
	return 0;
}

static EVP_PKEY *
load_pem(const char *path, bool secret)
{
	size_t		n;
	char	   *text = read_key_file(path, secret, &n);
	BIO		   *bio = BIO_new_mem_buf(text, (int) n);
	EVP_PKEY   *key = NULL;
	BundleSigner signer;

	if (bio)
		key = secret ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) :
			PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL);
	BIO_free(bio);
	forget(text);
	if (key == NULL || !bundle_signer_of(key, &signer))
	{
		EVP_PKEY_free(key);
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("\"%s\" holds no %s key for bundles", path, secret ? "private" : "public"),
				 errhint("It must be an Ed25519 or SM2 key in PEM, without a passphrase.")));
	}
	return key;
}

static void
load_trusted(BundleKeys *keys, const char *path)
{
	DIR		   *dir = AllocateDir(path);
	struct dirent *de;
	struct stat st;

	keys->verify = true;
	if (stat(path, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not stat directory \"%s\": %m", path)));
	check_permissions(path, &st, false);
	while ((de = ReadDir(dir, path)) != NULL)
	{
		BundleTrusted *t = &keys->trusted[keys->ntrusted];
		size_t		n = strlen(de->d_name);

		if (n <= 4 || strcmp(de->d_name + n - 4, ".pem") != 0)
			continue;
		if (keys->ntrusted == BUNDLE_MAX_TRUSTED)
			ereport(ERROR,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("more than %d keys in directory \"%s\"", BUNDLE_MAX_TRUSTED, path)));
		t->key = load_pem(psprintf("%s/%s", path, de->d_name), false);
		keys->ntrusted++;
		t->name = pnstrdup(de->d_name, n - 4);
		if (!bundle_public_id(t->key, t->id))
			elog(ERROR, "could not encode a public key");
	}
	FreeDir(dir);
}

static void
free_keys(void *arg)
{
	bundle_keys_free((BundleKeys *) arg);
}

BundleKeys *
bundle_keys_load(const BundleSettings *s, bool for_writing)
{
	BundleKeys *keys = palloc0(sizeof(BundleKeys));
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));

	callback->func = free_keys;
	callback->arg = keys;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	keys->cipher = (BundleCipher) s->cipher;
	if (s->key_file[0])
		load_secrets(keys, s->key_file);
	if (for_writing && s->signing_key_file[0])
		keys->signing = load_pem(s->signing_key_file, true);
	if (!for_writing && s->trusted_keys_dir[0])
		load_trusted(keys, s->trusted_keys_dir);
	return keys;
}

/* --- errors --- */

void
bundle_raise(const BundleError *error, const char *detail)
{
	int			code = ERRCODE_INTERNAL_ERROR;

	switch (error->fault)
	{
		case BUNDLE_TRUNCATED:
		case BUNDLE_DAMAGED:
			code = ERRCODE_DATA_CORRUPTED;
			break;
		case BUNDLE_FORGED:
		case BUNDLE_LOCKED:
			code = ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION;
			break;
		case BUNDLE_UNSUPPORTED:
			code = ERRCODE_FEATURE_NOT_SUPPORTED;
			break;
		case BUNDLE_FINE:
		case BUNDLE_INTERNAL:
			break;
	}
	ereport(ERROR,
			(errcode(code),
			 errmsg("%s", error->text),
			 detail ? errdetail_internal("%s", detail) : 0));
}
