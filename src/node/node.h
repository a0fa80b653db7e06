/*
 * node.h
 *		Who we are: this database's node id and its hybrid logical clock.
 *
 * One entry per node in shared memory, found by database OID.  The clock is a
 * single atomic; its high-water mark is kept on disk ahead of use, in
 * pg_ferry/<database oid>.hlc under the data directory.
 */
#ifndef FERRY_NODE_NODE_H
#define FERRY_NODE_NODE_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/lwlock.h"

#include "core/version.h"

/* are we who ferry.local_node says? */
typedef enum NodeDoubt
{
	NODE_IS_SURE,
	NODE_IS_DOUBTFUL,			/* restored, promoted, copied or rolled back: the supervisor is to find out */
	NODE_IS_COPY				/* of a node that lives: writes are refused */
} NodeDoubt;

/* What every writer writes lies by itself: what all read is in a cache line that stays with them. */
typedef struct NodeShared
{
	pg_atomic_uint64 clock;		/* last stamp given or seen */
	pg_atomic_uint64 last_stamp;	/* latest own stamp of a transaction that has ended */
	char		apart[PG_CACHE_LINE_SIZE - 2 * sizeof(pg_atomic_uint64)];

	Oid			dboid;			/* InvalidOid: free entry */
	NodeId		id;
	NodeId		settled_id;		/* of which doubt speaks: another id was given by ferry.become_node */
	pg_atomic_uint64 unpublished;	/* no later than any own stamp that is to be written once more; 0: there is none */
	pg_atomic_uint64 high_water;	/* on disk; no stamp beyond it may be used */
	pg_atomic_uint32 config_generation; /* bumped when peers or tables change */
	pg_atomic_uint64 verify_due;	/* TimestampTz of the next run of the verifier; 0: never */
	struct Latch *supervisor_latch; /* NULL if none runs */
	pg_atomic_uint32 looks_soon;	/* the supervisor need not be woken for what can wait a moment */
	pg_atomic_uint32 doubt;		/* NodeDoubt */
	pg_atomic_uint32 went_back; /* a peer holds writes of ours that we lost: the promise on record is not true */
	pg_atomic_uint32 back_since;	/* went_back: the run since which, by its number in node/runs.h */
	pg_atomic_uint32 met;		/* a peer has been met in this run */
	Hlc			loaded_mark;	/* the mark that was found at the start */
	Hlc			first_possible; /* no stamp between these two was ever given */
	char		end[PG_CACHE_LINE_SIZE];
} NodeShared;

/* settings (defined in ferry.c) */
extern int	ferry_max_slot_wal_mb;
extern int	ferry_max_nodes;
extern int	ferry_max_links;
extern int	ferry_max_clock_skew_ms;
extern int	ferry_retry_initial_ms;
extern int	ferry_retry_max_ms;
extern int	ferry_batch_ms;
extern int	ferry_copy_workers;
extern int	ferry_housekeeping_ms;
extern int	ferry_prune_after_s;
extern int	ferry_compression;	/* Compression */

/* how peers send us their streams */
typedef enum Compression
{
	COMPRESSION_OFF,
	COMPRESSION_ZSTD
} Compression;

/* shared memory: called from ferry.c's hooks */
extern Size node_shmem_size(void);
extern void node_shmem_init(void);
extern bool node_is_preloaded(void);

/*
 * This database's entry, read from ferry.local_node and registered in shared
 * memory at first use.  node_current_or_null returns NULL when the database is
 * no node (or ferry is not preloaded); node_current raises
 * ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE with a hint.
 */
extern NodeShared *node_current(void);
extern NodeShared *node_current_or_null(void);
extern NodeShared *node_attached(void); /* the same without reading anything: NULL if nobody has attached it yet */
extern bool node_refresh(void);	/* read again; false, and forgotten, if it is none any more */
extern NodeId node_id(void);
extern const char *node_name(void); /* in a backend-long context */

/*
 * The ids of the group that this node belongs to, as the text of a uuid[]; and
 * from now on it is the same as the group that is known by those ids elsewhere.
 * Both need a transaction.
 */
extern char *node_groups(void);
extern void node_join_groups(const char *groups);

/* a fresh dot of this node, greater than every stamp seen so far */
extern Dot	node_stamp(void);

/* the first stamp of this transaction, 0 if none was taken yet */
extern Hlc	node_transaction_first_stamp(void);

/*
 * Raise the clock to a stamp from elsewhere.  node_clock_too_far says whether
 * the stamp is more than ferry.max_clock_skew ahead of this machine's clock:
 * such a stamp must be refused before it is merged.
 */
extern void node_clock_raise(Hlc hlc);
extern bool node_clock_too_far(Hlc hlc);

/* after commit: tell the supervisor that peers or tables changed */
extern void node_config_changed(void);

/* now: something of this database's is due */
extern void node_wake_supervisor(void);

/* after commit: tell the launcher that this database became a node or is none any more */
extern void node_list_changed(void);

/*
 * The same for what may wait as long as the supervisor has said that it does: it says
 * so when it goes to sleep for a moment, and takes it back before it looks.
 */
extern void node_wake_supervisor_later(void);
extern void node_supervisor_looks_soon(bool soon);

/* in supervisor and launcher: who it is, and (NULL) that it is gone */
extern void node_set_supervisor(struct Latch *latch);
extern void node_set_launcher(struct Latch *latch);

/* an id for a new node or incarnation */
extern NodeId node_random_id(void);

/* it is certain now who we are: take ferry.local_node and ferry.holding as they stand */
extern void incarnation_settled(void);

/*
 * Before anything is taken from another node, or given to one, by whatever way: raise
 * while own writes wait to become those of the present incarnation (apply/rename.h).  In a
 * transaction.
 */
extern void incarnation_require_renamed(void);

/* this database's database, and with it the clock's folder, is the right one from now on */
extern void node_clock_confirm(void);

/* supervisor duty, every few seconds: keep the high-water mark ahead */
extern void node_clock_keep_ahead(void);

/* forget a node's shared entry and file (DROP EXTENSION, drop database) */
extern void node_forget(Oid dboid);

/* names of cluster-wide objects; buffers of NAMEDATALEN */
extern void node_slot_name(char *buf, NodeId sender, NodeId receiver);
extern void node_origin_name(char *buf, NodeId here, NodeId peer);

#endif							/* FERRY_NODE_NODE_H */
