/*
 * small_file.h
 *		A few bytes that survive a crash: written whole or not at all.
 */
#ifndef FERRY_NODE_SMALL_FILE_H
#define FERRY_NODE_SMALL_FILE_H

/* in the data directory; all of ferry's small files are here */
#define SMALL_FILE_DIR "pg_ferry"

#define SMALL_FILE_MAX_BYTES 2048

typedef enum SmallFileRead
{
	SMALL_FILE_READ,
	SMALL_FILE_MISSING,
	SMALL_FILE_DAMAGED,			/* another length or another checksum */
} SmallFileRead;

/* Make the folder, durably, if it is missing.  Raises what the file system says. */
extern void small_file_make_folder(void);

/*
 * Replace the file with n bytes (at most SMALL_FILE_MAX_BYTES) and their checksum,
 * durably: after a crash it is the old one or the new one.  The folder is made if
 * it is missing.  Raises what the file system says.
 */
extern void small_file_write(const char *path, const void *data, size_t n);

/*
 * Read n bytes that small_file_write() wrote.  Raises only if a file is there that
 * cannot be opened; data means nothing unless the answer is SMALL_FILE_READ.
 */
extern SmallFileRead small_file_read(const char *path, void *data, size_t n);

#endif							/* FERRY_NODE_SMALL_FILE_H */
