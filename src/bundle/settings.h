/*
 * settings.h
 *		What this server was told about bundles: settings, and the keys in the
 *		files that they name.
 */
#ifndef FERRY_BUNDLE_SETTINGS_H
#define FERRY_BUNDLE_SETTINGS_H

#include "postgres.h"

#include "compat.h"
#include "bundle/seal.h"

/* flat, so that a background worker can be given it */
typedef struct BundleSettings
{
	int			cipher;			/* BundleCipher */
	int			level;			/* of zstd */
	char		key_file[MAXPGPATH];
	char		signing_key_file[MAXPGPATH];
	char		trusted_keys_dir[MAXPGPATH];
} BundleSettings;

/* called from ferry.c */
extern void bundle_define_settings(void);

/* as they are now, in this session */
extern void bundle_settings_now(BundleSettings *s);

/*
 * Read the keys, for writing (the signing key is read, the trusted ones are not) or
 * for reading.  In the current memory context, with which OpenSSL's part of them
 * goes as well.  Raises class 58 or ERRCODE_CONFIG_FILE_ERROR with the name of a
 * file that cannot be read, is open to others, or holds no key; never its content.
 */
extern BundleKeys *bundle_keys_load(const BundleSettings *s, bool for_writing);

/* raise what the pure part of this room found; context is a detail or NULL */
pg_noreturn extern void bundle_raise(const BundleError *error, const char *detail);

#endif							/* FERRY_BUNDLE_SETTINGS_H */
