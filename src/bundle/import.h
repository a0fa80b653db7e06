/*
 * import.h
 *		What the session that asks for an import and the worker that does it tell
 *		each other, in a segment of shared memory.
 */
#ifndef FERRY_BUNDLE_IMPORT_H
#define FERRY_BUNDLE_IMPORT_H

#include "postgres.h"

#include "utils/uuid.h"

#include "bundle/settings.h"

#define IMPORT_TEXT_BYTES 1024

typedef struct ImportJob
{
	/* the order */
	Oid			database;
	char		path[MAXPGPATH];	/* empty: from ferry.bundle_part */
	char		courier[NAMEDATALEN];	/* who brought the parts there */
	bool		adopt_group;
	BundleSettings settings;

	/* the bundle: from the intake, as ordered; from a file, as found */
	pg_uuid_t	id;

	/* the answer */
	bool		finished;
	int			sqlerrcode;		/* 0: all went well */
	char		message[IMPORT_TEXT_BYTES];
	char		detail[IMPORT_TEXT_BYTES];
	char		hint[IMPORT_TEXT_BYTES];
} ImportJob;

/* import_worker.c: entry point of the background worker */
extern PGDLLEXPORT void ferry_import_main(Datum arg);

#endif							/* FERRY_BUNDLE_IMPORT_H */
