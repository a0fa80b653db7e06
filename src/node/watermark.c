/*-------------------------------------------------------------------------
 *
 * watermark.c
 *		Up to which stamp everything that this node wrote is decided.
 *
 * Stamps are taken at write, commits come later and in another order.  Whoever
 * says "you have all of mine up to w" must know that no transaction with a stamp
 * up to w is still open.  So each backend has a slot in shared memory with a
 * lower bound of the first stamp of its transaction:
 *
 *	writer	publishes the bound, then (after a barrier) takes the stamp from the
 *			clock; at the end, when the transaction is no longer among those in
 *			progress, raises the node's last_stamp to its latest, then (after a
 *			barrier) clears the slot.
 *	reader	reads last_stamp, then (after a barrier) the slots: w is the lesser
 *			of last_stamp and what lies below the lowest bound.
 *
 * The reader looks at the slots of those that have ever taken a stamp, which a backend
 * says, once, before its first bound.
 *
 * A reader that misses a bound has read last_stamp before the bound was
 * published, hence before the stamp was taken: the clock has passed last_stamp,
 * so that the stamp is greater.  A reader that finds a slot cleared comes after
 * the end of its transaction.  w is therefore right, and never falls.
 *
 * For the log it suffices that the commit record is in it, which is so a little
 * earlier: once the commit log says "committed".  The sender uses this, since it
 * decodes a commit before the committing backend has got as far as its slot.
 *
 * Writes that merging makes in a transaction with a peer's origin are not in all of
 * our streams until they have been written once more (apply/own_write.c), so that
 * nobody may be told that he has them: a bound of their stamps holds the watermark
 * back as well.
 *
 * Prepared transactions keep their stamps while their backend goes on, and
 * outlive a crash, which shared memory does not: PREPARE first writes
 * pg_ferry/<database>.<xid>.prepared, with the bound, durably.  It counts while
 * the transaction is in progress and is removed by whoever finds that it is not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/fd.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "storage/spin.h"

#include "node/private.h"
#include "node/small_file.h"
#include "node/watermark.h"

#define PREPARED_MAGIC 0x46595054	/* "FYPT" */

/* a backend between the end of its transaction and its slot needs no more spins than this */
#define ENDING_SPINS 2000

/* each in a cache line of its own, since backends write theirs in every transaction */
typedef struct InFlight
{
	pg_atomic_uint64 lower;		/* 0: no stamp taken */
	Oid			dboid;
	char		apart[PG_CACHE_LINE_SIZE - sizeof(pg_atomic_uint64) - sizeof(Oid)];
} InFlight;

typedef struct Prepared
{
	Oid			dboid;
	TransactionId xid;
	Hlc			lower;
} Prepared;

typedef struct WatermarkShared
{
	LWLock	   *lock;			/* guards prepared[] */
	pg_atomic_uint32 nprepared;
	Prepared   *prepared;
	pg_atomic_uint64 *used;		/* a bit for each slot that was ever used */
	InFlight	slots[FLEXIBLE_ARRAY_MEMBER];
} WatermarkShared;

typedef struct PreparedFile
{
	uint32		magic;
	TransactionId xid;
	uint64		lower;
} PreparedFile;

static WatermarkShared *shared = NULL;

/* this backend's transaction: whose stamps it takes, and the latest; NULL: none yet */
static NodeShared *entered = NULL;
static Hlc	latest;
static Hlc	entered_lower;

/* --- shared memory --- */

static int
max_prepared(void)
{
	/* those that are, and one that every backend is about to add */
	return max_prepared_xacts + MaxBackends;
}

static Size
slots_size(void)
{
	return MAXALIGN(add_size(offsetof(WatermarkShared, slots), mul_size(MaxBackends, sizeof(InFlight))));
}

#define USED_WORDS ((MaxBackends + 63) / 64)

Size
watermark_shmem_size(void)
{
	return add_size(add_size(slots_size(), mul_size(USED_WORDS, sizeof(pg_atomic_uint64))),
					mul_size(max_prepared(), sizeof(Prepared)));
}

void
watermark_shmem_init(void)
{
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("ferry watermark", watermark_shmem_size(), &found);
	if (!found)
	{
		memset(shared, 0, watermark_shmem_size());
		shared->lock = &(GetNamedLWLockTranche("ferry")[3].lock);
		shared->used = (pg_atomic_uint64 *) ((char *) shared + slots_size());
		shared->prepared = (Prepared *) (shared->used + USED_WORDS);
		for (int w = 0; w < USED_WORDS; w++)
			pg_atomic_init_u64(&shared->used[w], 0);
		pg_atomic_init_u32(&shared->nprepared, 0);
		for (int i = 0; i < MaxBackends; i++)
			pg_atomic_init_u64(&shared->slots[i].lower, 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* --- the writer's side --- */

static InFlight *
my_slot(void)
{
	static InFlight *slot = NULL;	/* a process keeps its PGPROC */

	if (slot == NULL)
	{
		int			i = MyProc - ProcGlobal->allProcs;

		Assert(i >= 0 && i < MaxBackends);
		pg_atomic_fetch_or_u64(&shared->used[i / 64], UINT64CONST(1) << (i % 64));
		slot = &shared->slots[i];
	}
	return slot;
}

void
watermark_enter(NodeShared *node, Hlc lower)
{
	InFlight   *slot = my_slot();

	slot->dboid = node->dboid;
	pg_write_barrier();
	pg_atomic_write_u64(&slot->lower, lower);
	pg_memory_barrier();
	entered = node;
	entered_lower = lower;
}

void
watermark_note(Hlc stamp)
{
	latest = stamp;
}

static void
leave(void)
{
	uint64		last = pg_atomic_read_u64(&entered->last_stamp);

	while (last < latest && !pg_atomic_compare_exchange_u64(&entered->last_stamp, &last, latest))
		;
	pg_memory_barrier();
	pg_atomic_write_u64(&my_slot()->lower, 0);
	entered = NULL;
}

void
watermark_withhold(void)
{
	NodeShared *node = node_current();
	Hlc			first = node_transaction_first_stamp();
	uint64		bound = pg_atomic_read_u64(&node->unpublished);

	Assert(first != 0);
	while ((bound == 0 || bound > first) &&
		   !pg_atomic_compare_exchange_u64(&node->unpublished, &bound, first))
		;
}

void
watermark_published(NodeShared *node)
{
	pg_atomic_write_u64(&node->unpublished, 0);
}

/* --- prepared transactions --- */

static void
prepared_path(char *path, Oid dboid, TransactionId xid)
{
	snprintf(path, MAXPGPATH, SMALL_FILE_DIR "/%u.%u.prepared", dboid, xid);
}

/* forget those that have ended; lock held exclusively */
static void
drop_ended(void)
{
	uint32		n = pg_atomic_read_u32(&shared->nprepared);
	uint32		kept = 0;

	for (uint32 i = 0; i < n; i++)
	{
		char		path[MAXPGPATH];

		if (TransactionIdIsInProgress(shared->prepared[i].xid))
		{
			shared->prepared[kept++] = shared->prepared[i];
			continue;
		}
		prepared_path(path, shared->prepared[i].dboid, shared->prepared[i].xid);
		if (unlink(path) != 0 && errno != ENOENT)
			ereport(WARNING,
					(errcode_for_file_access(),
					 errmsg("could not remove file \"%s\": %m", path)));
	}
	pg_atomic_write_u32(&shared->nprepared, kept);
}

static void
add_prepared(Oid dboid, TransactionId xid, Hlc lower)
{
	uint32		n;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	drop_ended();
	n = pg_atomic_read_u32(&shared->nprepared);
	if (n >= (uint32) max_prepared())
		elog(ERROR, "out of room for prepared transactions");
	shared->prepared[n].dboid = dboid;
	shared->prepared[n].xid = xid;
	shared->prepared[n].lower = lower;
	pg_write_barrier();
	pg_atomic_write_u32(&shared->nprepared, n + 1);
	LWLockRelease(shared->lock);
}

/* before PREPARE TRANSACTION */
static void
prepare(void)
{
	char		path[MAXPGPATH];
	PreparedFile f = {0};

	f.magic = PREPARED_MAGIC;
	f.xid = GetTopTransactionId();
	f.lower = entered_lower;
	prepared_path(path, entered->dboid, f.xid);
	small_file_write(path, &f, sizeof(f));
	add_prepared(entered->dboid, f.xid, f.lower);
}

/* a damaged file says nothing of its transaction but that there was one: it holds back everything */
static Hlc
read_bound(const char *path, TransactionId xid)
{
	PreparedFile f;

	if (small_file_read(path, &f, sizeof(f)) == SMALL_FILE_READ && f.magic == PREPARED_MAGIC && f.xid == xid)
		return f.lower;
	ereport(WARNING,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("file \"%s\" is damaged", path),
			 errdetail("Until its prepared transaction has ended, this node promises nothing of its own writes to others.")));
	return 1;
}

void
watermark_load(Oid dboid)
{
	DIR		   *dir;
	struct dirent *entry;

	if (access(SMALL_FILE_DIR, F_OK) != 0)
		return;
	dir = AllocateDir(SMALL_FILE_DIR);
	while ((entry = ReadDir(dir, SMALL_FILE_DIR)) != NULL)
	{
		char		path[MAXPGPATH];
		unsigned	db;
		unsigned	xid;
		int			end = 0;
		bool		known = false;

		if (sscanf(entry->d_name, "%u.%u.prepared%n", &db, &xid, &end) != 2 || end == 0 ||
			entry->d_name[end] != '\0' || db != dboid)
			continue;
		LWLockAcquire(shared->lock, LW_SHARED);
		for (uint32 i = 0; i < pg_atomic_read_u32(&shared->nprepared); i++)
			known |= shared->prepared[i].dboid == dboid && shared->prepared[i].xid == xid;
		LWLockRelease(shared->lock);
		if (known)
			continue;
		prepared_path(path, dboid, xid);
		if (TransactionIdIsInProgress(xid))
			add_prepared(dboid, xid, read_bound(path, xid));
		else
			(void) unlink(path);
	}
	FreeDir(dir);
}

static void
at_end_of_transaction(XactEvent event, void *arg)
{
	if (entered == NULL)
		return;
	if (event == XACT_EVENT_PRE_PREPARE)
		prepare();
	else if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		leave();
}

void
watermark_install(void)
{
	RegisterXactCallback(at_end_of_transaction, NULL);
}

/* --- the reader's side --- */

/*
 * Is the commit of the slot's transaction in the log?  While it has no
 * transaction id it has either written nothing yet or is about to clear its slot,
 * which is worth a moment.
 */
static bool
is_committed(int i)
{
	volatile PGPROC *proc = &ProcGlobal->allProcs[i];

	for (int spins = 0; spins < ENDING_SPINS; spins++)
	{
		TransactionId xid = proc->xid;

		if (pg_atomic_read_u64(&shared->slots[i].lower) == 0)
			return true;
		if (TransactionIdIsValid(xid))
			return TransactionIdDidCommit(xid);
		SPIN_DELAY();
	}
	return false;
}

static Hlc
read_watermark(NodeShared *node, Hlc at_least, bool logged)
{
	Hlc			w = Max(pg_atomic_read_u64(&node->last_stamp), at_least);
	Hlc			unpublished;

	pg_memory_barrier();
	for (int word = 0; word < USED_WORDS; word++)
	{
		uint64		bits = pg_atomic_read_u64(&shared->used[word]);

		for (; bits != 0; bits &= bits - 1)
		{
			int			i = word * 64 + pg_rightmost_one_pos64(bits);
			Hlc			lower = pg_atomic_read_u64(&shared->slots[i].lower);

			if (lower == 0 || lower > w)
				continue;
			pg_read_barrier();
			if (shared->slots[i].dboid != node->dboid || (logged && is_committed(i)))
				continue;
			w = lower - 1;
		}
	}
	pg_memory_barrier();

	/* after the slots: whoever withholds does so before his slot is cleared */
	unpublished = pg_atomic_read_u64(&node->unpublished);
	if (unpublished != 0 && unpublished <= w)
		w = unpublished - 1;
	if (pg_atomic_read_u32(&shared->nprepared) > 0)
	{
		LWLockAcquire(shared->lock, LW_EXCLUSIVE);
		drop_ended();
		for (uint32 i = 0; i < pg_atomic_read_u32(&shared->nprepared); i++)
		{
			const Prepared *p = &shared->prepared[i];

			if (p->dboid == node->dboid && p->lower <= w)
				w = p->lower - 1;
		}
		LWLockRelease(shared->lock);
	}
	return w;
}

Hlc
watermark_visible(NodeShared *node)
{
	return read_watermark(node, 0, false);
}

Hlc
watermark_logged(NodeShared *node, Hlc at_least)
{
	return read_watermark(node, at_least, true);
}

bool
watermark_is_over(NodeShared *node, Hlc hlc)
{
	bool		over = true;

	pg_memory_barrier();
	for (int i = 0; i < MaxBackends && over; i++)
	{
		Hlc			lower = pg_atomic_read_u64(&shared->slots[i].lower);

		over = lower == 0 || lower > hlc || shared->slots[i].dboid != node->dboid;
	}
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	drop_ended();
	for (uint32 i = 0; i < pg_atomic_read_u32(&shared->nprepared); i++)
		over &= shared->prepared[i].dboid != node->dboid || shared->prepared[i].lower > hlc;
	LWLockRelease(shared->lock);
	return over;
}
