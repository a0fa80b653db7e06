/*-------------------------------------------------------------------------
 *
 * small_file.c
 *		A few bytes that survive a crash: written whole or not at all.
 *
 * The bytes and their CRC-32C go to a file beside the one meant, which then takes
 * its name (durable_rename() syncs the file before and the folder after).  The
 * checksum is for disks that lie, not for torn writes: there are none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"

#include "node/small_file.h"

static pg_crc32c
checksum(const void *data, size_t n)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, n);
	FIN_CRC32C(crc);
	return crc;
}

void
small_file_make_folder(void)
{
	if (MakePGDirectory(SMALL_FILE_DIR) == 0)
		fsync_fname(".", true);
	else if (errno != EEXIST)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", SMALL_FILE_DIR)));
}

void
small_file_write(const char *path, const void *data, size_t n)
{
	char		temp[MAXPGPATH];
	char		image[SMALL_FILE_MAX_BYTES + sizeof(pg_crc32c)];
	pg_crc32c	crc = checksum(data, n);
	int			fd;

	Assert(n <= SMALL_FILE_MAX_BYTES);
	memcpy(image, data, n);
	memcpy(image + n, &crc, sizeof(crc));
	snprintf(temp, MAXPGPATH, "%s.tmp", path);

	small_file_make_folder();
	fd = OpenTransientFile(temp, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", temp)));
	errno = 0;
	if (write(fd, image, n + sizeof(crc)) != (ssize_t) (n + sizeof(crc)))
	{
		if (errno == 0)
			errno = ENOSPC;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", temp)));
	}
	if (CloseTransientFile(fd) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not close file \"%s\": %m", temp)));
	(void) durable_rename(temp, path, ERROR);
}

SmallFileRead
small_file_read(const char *path, void *data, size_t n)
{
	char		image[SMALL_FILE_MAX_BYTES + sizeof(pg_crc32c) + 1];
	pg_crc32c	crc;
	int			fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	ssize_t		got;

	Assert(n <= SMALL_FILE_MAX_BYTES);
	if (fd < 0 && errno == ENOENT)
		return SMALL_FILE_MISSING;
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	got = read(fd, image, sizeof(image));
	CloseTransientFile(fd);
	if (got != (ssize_t) (n + sizeof(crc)))
		return SMALL_FILE_DAMAGED;
	memcpy(&crc, image + n, sizeof(crc));
	if (crc != checksum(image, n))
		return SMALL_FILE_DAMAGED;
	memcpy(data, image, n);
	return SMALL_FILE_READ;
}
