/*-------------------------------------------------------------------------
 *
 * runs.c
 *		The starts of this server that a node remembers, by which it finds out
 *		that its disk was set back.
 *
 * A virtual machine that goes back to a snapshot has the same system identifier,
 * timeline and folder as before, and nothing on its disk says that there was more.
 * Its peers can tell, if they can tell the two pasts apart.  So each run of the
 * server gets a random number, which is on record here, and with the peers, before
 * anything that was written in it is:
 *
 *		 on disk	A  B  C		  a peer was told, when it connected last:
 *
 *					A  B  C		  (we have gone on): fine, unless the peer has
 *								  seen more of C's log than we have
 *					A  B		  as we were before this start: fine, unless it has
 *								  seen more of B's log than there was when C began
 *					A  B  D		  D is nothing that we know of: we were set back, to
 *								  some time in B, and C is the first run since
 *
 * That is exact, whatever the clocks do: a log that the same run wrote is one log.  It
 * needs a peer that was linked with us itself.  Of what others hold of our writes, a
 * peer knows stamps; and stamps that no run can have given lie between a clock's mark, as
 * it was found at a start, and the time of that start.
 *
 * What a run has written is told by its stamps, all of which are later than that.
 * "held" is what this node had promised of its own writes: with the writes
 * before a promise in the log before it, that was true on whatever disk it stands.
 *
 * The log of a run begins at the last checkpoint when its first stamp is given: the one
 * that ends a recovery, or that of the shutdown.  Senders outlive the latter and may have
 * told of the record itself.
 *
 * The list is pg_ferry/<database oid>.runs.  If it is lost or damaged, it begins anew; a
 * node whose list does not reach back far enough takes what peers say for true.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecord.h"
#include "catalog/pg_control.h"
#include "fmgr.h"
#include "utils/builtins.h"

#include "node/private.h"
#include "node/runs.h"
#include "node/small_file.h"

/* the record of a checkpoint, and the head of the page if it begins one */
#define CHECKPOINT_RECORD_BYTES \
	(MAXALIGN(SizeOfXLogRecord + SizeOfXLogRecordDataHeaderShort + sizeof(CheckPoint)) + SizeOfXLogLongPHD)

static void
runs_path(char *path, Oid dboid)
{
	snprintf(path, MAXPGPATH, SMALL_FILE_DIR "/%u.runs", dboid);
}

static bool
read_list(Oid dboid, RunList *out)
{
	char		path[MAXPGPATH];

	runs_path(path, dboid);
	if (small_file_read(path, out, sizeof(*out)) == SMALL_FILE_READ && out->n > 0 && out->n <= RUNS_MAX)
		return true;
	memset(out, 0, sizeof(*out));
	return false;
}

static void
write_list(Oid dboid, const RunList *list)
{
	char		path[MAXPGPATH];

	runs_path(path, dboid);
	small_file_write(path, list, sizeof(*list));
}

void
runs_begin(NodeShared *node, Oid dboid, Hlc held)
{
	RunList		list;
	Run		   *run;

	(void) read_list(dboid, &list);
	if (list.n > 0 && list.run[list.n - 1].instance == node_array->instance)
		return;
	if (list.n == RUNS_MAX)
		memmove(&list.run[0], &list.run[1], sizeof(Run) * --list.n);
	run = &list.run[list.n++];
	memset(run, 0, sizeof(*run));
	run->instance = node_array->instance;
	run->mark = node->loaded_mark;
	run->first = node->first_possible;
	run->held = held;
	run->start = GetRedoRecPtr() + CHECKPOINT_RECORD_BYTES;
	write_list(dboid, &list);
}

bool
runs_read(const NodeShared *node, RunList *out)
{
	bool		found;

	LWLockAcquire(node_array->lock, LW_SHARED);
	found = read_list(node->dboid, out);
	LWLockRelease(node_array->lock);
	return found;
}

bool
runs_met(NodeShared *node)
{
	RunList		list;

	if (pg_atomic_read_u32(&node->met) != 0)
		return false;
	LWLockAcquire(node_array->lock, LW_EXCLUSIVE);
	if (read_list(node->dboid, &list) && !list.run[list.n - 1].met)
	{
		list.run[list.n - 1].met = true;
		write_list(node->dboid, &list);
	}
	LWLockRelease(node_array->lock);
	return pg_atomic_exchange_u32(&node->met, 1) == 0;
}

void
runs_format(const RunList *list, char *out)
{
	out[0] = '\0';
	for (uint32 i = 0; i < list->n; i++)
		out += sprintf(out, "%s" UINT64_FORMAT, i > 0 ? "," : "", list->run[i].instance);
}

/* the numbers that a peer was told; how many */
static int
parse(const char *told, uint64 *out)
{
	int			n = 0;

	while (told && *told && n < RUNS_MAX)
	{
		char	   *end;

		out[n++] = strtou64(told, &end, 10);
		if (end == told || (*end != '\0' && *end != ','))
			ereport(ERROR,
					(errcode(ERRCODE_PROTOCOL_VIOLATION),
					 errmsg("invalid list of runs: \"%s\"", told)));
		told = *end == ',' ? end + 1 : end;
	}
	return n;
}

static bool
is_among(const uint64 *numbers, int n, uint64 number)
{
	for (int i = 0; i < n; i++)
		if (numbers[i] == number)
			return true;
	return false;
}

/* by stamps: the first run before which one was given that none can have given */
static int
judge_stamp(const RunList *list, Hlc hlc)
{
	for (uint32 i = 0; i < list->n; i++)
		if (hlc > list->run[i].mark && hlc + 1 < list->run[i].first)
			return i;
	return -1;
}

/* by the log */
static int
judge_log(const RunList *list, XLogRecPtr lsn, const char *told)
{
	uint64		numbers[RUNS_MAX];
	int			n = parse(told, numbers);
	int			common = list->n - 1;

	while (n > 0 && common >= 0 && !is_among(numbers, n, list->run[common].instance))
		common--;
	if (n == 0 || common < 0)
		return lsn > GetXLogInsertRecPtr() ? (int) list->n : -1;
	if (numbers[n - 1] != list->run[common].instance)
		return common + 1;
	if (common + 1 < (int) list->n)
		return lsn > list->run[common + 1].start ? common + 1 : -1;
	return lsn > GetXLogInsertRecPtr() ? (int) list->n : -1;
}

int
runs_judge(const RunList *list, XLogRecPtr lsn, Hlc hlc, const char *told)
{
	int			by_log = judge_log(list, lsn, told);
	int			by_stamp = judge_stamp(list, hlc);

	if (by_log < 0 || by_stamp < 0)
		return Max(by_log, by_stamp);
	return Min(by_log, by_stamp);
}

PG_FUNCTION_INFO_V1(ferry_runs);

/* SQL: ferry._runs() returns text: for peers to remember */
Datum
ferry_runs(PG_FUNCTION_ARGS)
{
	RunList		list;
	char		text[RUNS_TEXT_BYTES];

	(void) runs_read(node_current(), &list);
	runs_format(&list, text);
	PG_RETURN_TEXT_P(cstring_to_text(text));
}
