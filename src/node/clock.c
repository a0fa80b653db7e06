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
 * The file is pg_ferry/<database oid>.hlc (node/small_file.c).  A damaged file is
 * an error, not a zero: a clock that restarts at the wall clock could stamp twice.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "node/node.h"
#include "node/private.h"
#include "node/small_file.h"
#include "node/watermark.h"

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
	uint64		folder;			/* the inode of the folder: a copy of the files has another */
} ClockFile;

/* the first stamp that this transaction took */
static Hlc	first_stamp = 0;
static LocalTransactionId first_stamp_lxid = InvalidLocalTransactionId;

static void
clock_path(char *path, Oid dboid)
{
	snprintf(path, MAXPGPATH, SMALL_FILE_DIR "/%u.hlc", dboid);
}

/* which folder this is, made if it is not there yet: copies of a data directory differ in it */
static uint64
clock_folder(void)
{
	struct stat st;

	small_file_make_folder();
	if (stat(SMALL_FILE_DIR, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat directory \"%s\": %m", SMALL_FILE_DIR)));
	return (uint64) st.st_ino;
}

/* make a mark durable; raises if it cannot */
static void
write_mark(Oid dboid, Hlc mark)
{
	char		path[MAXPGPATH];
	ClockFile	f = {0};

	clock_path(path, dboid);
	f.magic = CLOCK_MAGIC;
	f.high_water = mark;
	f.folder = clock_folder();
	small_file_write(path, &f, sizeof(f));
}

bool
node_clock_load(NodeShared *node, Oid dboid)
{
	bool		is_here = true;
	char		path[MAXPGPATH];
	ClockFile	f;
	Hlc			mark = 0;
	SmallFileRead got;

	clock_path(path, dboid);
	got = small_file_read(path, &f, sizeof(f));
	if (got == SMALL_FILE_DAMAGED || (got == SMALL_FILE_READ && f.magic != CLOCK_MAGIC))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("clock file \"%s\" is damaged", path),
				 errhint("If it is removed, the clock restarts at the wall clock: make sure that this is later than every stamp that this node has given.")));
	if (got == SMALL_FILE_READ)
	{
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
