/*
 * apply.h
 *		Merging states into tables: what the link worker, the delta and
 *		ferry.merge() call.
 */
#ifndef FERRY_APPLY_APPLY_H
#define FERRY_APPLY_APPLY_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "apply/stream_news.h"
#include "datatype/timestamp.h"
#include "state/state.h"

typedef enum ApplyResult
{
	APPLY_IGNORED,				/* we knew it already */
	APPLY_APPLIED,				/* taken whole */
	APPLY_MERGED,				/* concurrent, different columns */
	APPLY_CONFLICT				/* concurrent, resolved by rule, on record */
} ApplyResult;

/*
 * Merge one state in the current transaction.  rel is the registered (root)
 * table, opened with RowExclusiveLock.  peer names where it came from in
 * ferry.conflicts (NULL: a user's ferry.merge).  Raises on what cannot be
 * merged.  Runs as the table's owner; fires no origin triggers.
 */
extern ApplyResult apply_state(Relation rel, FerryTable *table, RowState *remote, const char *peer);

/*
 * States show and change whole rows, whatever the policies of the table say:
 * raises unless the current user has these privileges and no row-level security
 * applies to him.
 */
extern void apply_check_access(Relation rel, AclMode needed);

/* open a registered (root) table by its OID and check that; raises */
extern Relation apply_open_registered(Oid relid, AclMode needed, FerryTable **table);

/* --- a stream of frames from one peer --- */
typedef struct ApplyStream ApplyStream;

typedef struct ApplyProgress
{
	bool		in_remote_txn;	/* one has begun and is not over: do not commit now */
	bool		in_parts;		/* one has begun that comes in parts, others between them */
	uint64		part_rows;		/* rows of such transactions */
	bool		has_work;		/* a local transaction is open and has something to commit */
	XLogRecPtr	end_lsn;		/* end of the last complete remote transaction in it */
	TimestampTz commit_time;	/* of that transaction */
	uint64		txns;			/* totals since apply_stream_create */
	uint64		rows;
	uint64		quarantined;
	uint64		conflicts;
	uint64		results[APPLY_CONFLICT + 1];	/* of rows, by ApplyResult */
	List	   *tables_added;	/* a 'T' was seen: schema, name, ... (char *): copies are due; the worker resets it */
	StreamNews *news;			/* for the link to take */
} ApplyProgress;

/*
 * careful: what raises is rolled back by itself, in a subtransaction, and a row that
 * raises goes to quarantine.  The worker turns it on after an error in normal mode
 * and restarts from the last commit.
 */
extern ApplyStream *apply_stream_create(const char *peer, NodeId peer_id, bool careful);
extern void apply_stream_free(ApplyStream *s);	/* after its last commit */
extern ApplyProgress *apply_stream_progress(ApplyStream *s);

/*
 * What comes is what the peer holds at this moment, for rows that were lost here:
 * see RowState for held_there, which must stay.
 */
extern void apply_stream_expect_current(ApplyStream *s, const NodeVector *held_there);

/* merge a frame; opens a transaction if none is open; raises on bad bytes and, unless careful, on bad rows */
extern void apply_stream_frame(ApplyStream *s, const void *data, size_t len);

/*
 * Commit what was merged so far.  With an origin LSN (end_lsn of progress) the
 * replication origin's progress rides on the commit record: the session's
 * origin must be set up.  Returns the local commit's end LSN (or
 * InvalidXLogRecPtr if nothing was written).
 */
extern XLogRecPtr apply_stream_commit(ApplyStream *s);

/* is the error that is being handled one that goes away by itself (deadlock, shutdown, out of memory)? */
extern bool apply_error_is_transient(int sqlerrcode);

#endif							/* FERRY_APPLY_APPLY_H */
