/*-------------------------------------------------------------------------
 *
 * clock.c
 *		The hybrid logical clock: stamps that never repeat.
 *
 * A stamp is max(wall clock, last + 1), taken from one atomic in shared memory.
 * Shared memory does not outlive a crash and wall clocks are set back; so a
 * high-water mark is kept on disk, always ahead of what is in use: no stamp
 * beyond it is given out before a later mark is durable.  After a start the
 * clock goes on above the mark.  The supervisor moves the mark while there is
 * much room, so that writers practically never wait for its fsync.
 *
 * The file is pg_ferry/<database oid>.hlc: magic, mark, CRC.  It is replaced as a
 * whole.  A damaged file is an error, not a zero: a clock that restarts at the
 * wall clock could stamp twice.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "common/file_perm.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "node/node.h"
#include "node/private.h"
#include "node/watermark.h"

#define CLOCK_DIR "pg_ferry"
#define CLOCK_MAGIC 0x46594c43	/* "FYLC" */

/*
 * How far ahead the mark is set, and when it is moved.  Every crash takes the
 * clock ahead by up to the first of them, which must stay far below
 * ferry.max_clock_skew, or peers would hold their links after a few crashes.
 */
#define MARK_AHEAD_US INT64CONST(4000000)
#define MARK_LOW_US INT64CONST(2000000)

typedef struct ClockFile
{
	uint32		magic;
	uint32		reserved;
	uint64		high_water;
	uint64		folder;			/* the inode of CLOCK_DIR: a copy of the files has another */
	pg_crc32c	crc;
} ClockFile;

/* the first stamp that this transaction took */
static Hlc	first_stamp = 0;
static LocalTransactionId first_stamp_lxid = InvalidLocalTransactionId;

static void
clock_path(char *path, Oid dboid, const char *suffix)
{
	snprintf(path, MAXPGPATH, CLOCK_DIR "/%u.hlc%s", dboid, suffix);
}

static pg_crc32c
clock_crc(const ClockFile *f)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, f, offsetof(ClockFile, crc));
	FIN_CRC32C(crc);
	return crc;
}

/* which folder this is: copies of a data directory differ in it; 0 if there is none */
static uint64
clock_folder(void)
{
	struct stat st;

	return stat(CLOCK_DIR, &st) == 0 ? (uint64) st.st_ino : 0;
}

/* make a mark durable; raises if it cannot */
static void
write_mark(Oid dboid, Hlc mark)
{
	char		path[MAXPGPATH];
	char		temp[MAXPGPATH];
	ClockFile	f = {0};
	int			fd;

	clock_path(path, dboid, "");
	clock_path(temp, dboid, ".tmp");
	f.magic = CLOCK_MAGIC;
	f.high_water = mark;

	if (MakePGDirectory(CLOCK_DIR) < 0 && errno != EEXIST)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", CLOCK_DIR)));
	f.folder = clock_folder();
	f.crc = clock_crc(&f);
	fd = OpenTransientFile(temp, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", temp)));
	errno = 0;
	if (write(fd, &f, sizeof(f)) != sizeof(f))
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

bool
node_clock_load(NodeShared *node, Oid dboid)
{
	bool		is_here = true;
	char		path[MAXPGPATH];
	ClockFile	f;
	Hlc			mark = 0;
	int			fd;

	clock_path(path, dboid, "");
	fd = OpenTransientFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0 && errno != ENOENT)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	if (fd >= 0)
	{
		int			n = read(fd, &f, sizeof(f));

		CloseTransientFile(fd);
		if (n != sizeof(f) || f.magic != CLOCK_MAGIC || f.crc != clock_crc(&f))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("clock file \"%s\" is damaged", path),
					 errhint("If it is removed, the clock restarts at the wall clock: make sure that this is later than every stamp that this node has given.")));
		mark = f.high_water;
		is_here = f.folder == clock_folder();
	}
	node->loaded_mark = mark;
	node->first_possible = Max(mark + 1, hlc_from_us(GetCurrentTimestamp()));
	pg_atomic_write_u64(&node->clock, node->first_possible - 1);
	pg_atomic_write_u64(&node->high_water, mark);
	pg_atomic_write_u64(&node->last_stamp, mark);
	return is_here;
}

void
node_clock_confirm(void)
{
	NodeShared *node = node_current();

	LWLockAcquire(node_array->lock, LW_EXCLUSIVE);
	write_mark(node->dboid, pg_atomic_read_u64(&node->high_water));
	LWLockRelease(node_array->lock);
}

/* the mark must reach needed: write it further ahead, once for all who wait */
static void
move_mark(NodeShared *node, Hlc needed)
{
	LWLockAcquire(node_array->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u64(&node->high_water) < needed)
	{
		Hlc			mark = needed + hlc_from_us(MARK_AHEAD_US);

		write_mark(node->dboid, mark);
		pg_atomic_write_u64(&node->high_water, mark);
	}
	LWLockRelease(node_array->lock);
}

Dot
node_stamp(void)
{
	NodeShared *node = node_current();
	Hlc			now = hlc_from_us(GetCurrentTimestamp());
	uint64		last = pg_atomic_read_u64(&node->clock);
	Dot			dot;

	if (unlikely(pg_atomic_read_u32(&node->doubt) != NODE_IS_SURE))
		incarnation_wait(node);
	if (first_stamp_lxid != COMPAT_MY_LXID)
	{
		/* that there will be a stamp must be known before it is taken */
		watermark_enter(node, hlc_next(last, now));
		last = pg_atomic_read_u64(&node->clock);
	}
	do
	{
		dot.hlc = hlc_next(last, now);
		if (unlikely(dot.hlc > pg_atomic_read_u64(&node->high_water)))
			move_mark(node, dot.hlc);
	} while (!pg_atomic_compare_exchange_u64(&node->clock, &last, dot.hlc));
	dot.node = node->id;
	watermark_note(dot.hlc);

	if (first_stamp_lxid != COMPAT_MY_LXID)
	{
		first_stamp_lxid = COMPAT_MY_LXID;
		first_stamp = dot.hlc;
	}
	return dot;
}

Hlc
node_transaction_first_stamp(void)
{
	return first_stamp_lxid == COMPAT_MY_LXID ? first_stamp : 0;
}

void
node_clock_raise(Hlc hlc)
{
	NodeShared *node = node_current();
	uint64		last = pg_atomic_read_u64(&node->clock);

	while (last < hlc)
	{
		if (hlc > pg_atomic_read_u64(&node->high_water))
			move_mark(node, hlc);
		if (pg_atomic_compare_exchange_u64(&node->clock, &last, hlc))
			break;
	}
}

bool
node_clock_too_far(Hlc hlc)
{
	static TimestampTz seen = 0;	/* the clock has shown this: what is earlier is not ahead */

	if (hlc_to_us(hlc) <= seen)
		return false;
	seen = GetCurrentTimestamp();
	return hlc_to_us(hlc) > seen + (int64) ferry_max_clock_skew_ms * 1000;
}

void
node_clock_keep_ahead(void)
{
	static Hlc	looked_at = 0;
	NodeShared *node = node_current();
	Hlc			last = pg_atomic_read_u64(&node->clock);
	Hlc			wanted = Max(last, hlc_from_us(GetCurrentTimestamp())) + hlc_from_us(MARK_LOW_US);

	/* nobody writes: the first who does will pay for one fsync, not we for one every second */
	if (last == looked_at)
		return;
	looked_at = last;
	if (pg_atomic_read_u64(&node->high_water) < wanted)
		move_mark(node, wanted);
}
