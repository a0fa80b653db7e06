/*
 * link.h
 *		Links: the workers that pull from peers, and what they tell of
 *		themselves in shared memory.
 */
#ifndef FERRY_LINK_LINK_H
#define FERRY_LINK_LINK_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "core/version.h"
#include "datatype/timestamp.h"
#include "storage/dsm.h"
#include "storage/spin.h"

typedef enum LinkState
{
	LINK_STOPPED = 0,			/* no worker, none wanted */
	LINK_STARTING,
	LINK_CONNECTING,
	LINK_COPYING,				/* first copy or resync: states of whole tables */
	LINK_STREAMING,				/* live and caught up or catching up */
	LINK_WAITING,				/* lost the peer; next_retry says when */
	LINK_PAUSED,
	LINK_HELD					/* needs a person: last_error says why (clock skew, wrong peer) */
} LinkState;

#define LINK_ERROR_BYTES 512

/* most processes that copy for a link at a time: its worker and those that help it */
#define LINK_MAX_COPIERS 8

/* one of them; all fields are guarded by the link's mutex */
typedef struct LinkCopier
{
	pid_t		pid;			/* 0: free; the first entry is the link's worker */
	Oid			relid;			/* the table that it copies, which is nobody else's; or InvalidOid */
	TimestampTz since;
	uint64		rows;			/* of it, until now */
	uint64		bytes;
	uint64		rows_there;		/* about how many the peer has; 0: unknown */
	bool		hands_asked;	/* it has said whether others may help: */
	dsm_handle	hands;			/* where; see hands.c */
} LinkCopier;

/* one per peer and node; fields below the mutex are guarded by it */
typedef struct LinkShared
{
	Oid			dboid;			/* InvalidOid: free; changed under the lock of all links */
	char		peer[NAMEDATALEN];
	slock_t		mutex;
	NodeId		peer_id;
	LinkState	state;
	pid_t		pid;
	XLogRecPtr	received_lsn;	/* end of what has arrived */
	XLogRecPtr	applied_lsn;	/* end of the last remote transaction committed here */
	XLogRecPtr	flushed_lsn;	/* the same, durable here */
	XLogRecPtr	peer_lsn;		/* the peer's WAL end, as it last said */
	TimestampTz last_message;
	TimestampTz last_commit_time;	/* at the peer, of the last transaction applied */
	TimestampTz caught_up_at;	/* last moment when nothing was waiting */
	uint64		txns;			/* since the server started */
	uint64		rows;
	uint64		bytes;
	uint64		conflicts;
	uint64		quarantined;
	double		txns_per_s;		/* exponentially weighted, about 5 s */
	double		rows_per_s;
	int			failures;		/* in a row */
	TimestampTz next_retry;
	TimestampTz error_at;
	char		error[LINK_ERROR_BYTES];
	LinkCopier	copiers[LINK_MAX_COPIERS];
	bool		copy_carefully; /* how helpers are to copy */
	bool		copy_went_back;
	int			copy_formers;
	int			copy_sqlerrcode;	/* a helper ended with copy_error; 0: none did */
	char		copy_error[LINK_ERROR_BYTES];
	bool		careful;		/* next start retries row by row */
	bool		whole;			/* next start asks for whole transactions: see parts.c */
	TimestampTz dropping_until; /* drop_peer is at work: start no worker before */
	int64		clock_offset_us;	/* peer's clock minus ours */
	int64		clock_rtt_us;
	TimestampTz clock_at;
} LinkShared;

extern Size link_shmem_size(void);
extern void link_shmem_init(void);
extern const char *link_state_name(LinkState s);

/* this database's entries: iterate with an index from 0; NULL at the end */
extern LinkShared *link_shared_next(int *i);
extern LinkShared *link_shared_find(const char *peer);

/* find or make this database's entry; raises if there are too many */
extern LinkShared *link_shared_require(const char *peer);
extern void link_shared_release(LinkShared *link);

/* the processes that work for a link now, this one left out; pids has room for LINK_MAX_COPIERS + 1; returns how many */
extern int	link_shared_pids(LinkShared *link, pid_t *pids);

/* background workers (started by name) */
extern PGDLLEXPORT void ferry_launcher_main(Datum arg);
extern PGDLLEXPORT void ferry_supervisor_main(Datum arg);
extern PGDLLEXPORT void ferry_link_main(Datum arg);
extern PGDLLEXPORT void ferry_copy_main(Datum arg);
extern void link_register_launcher(void);	/* from _PG_init */

/* a peer has just connected to us: its link here may retry now */
extern void link_wake_peer(NodeId peer);

#endif							/* FERRY_LINK_LINK_H */
