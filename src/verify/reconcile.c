/*-------------------------------------------------------------------------
 *
 * reconcile.c
 *		One table of this node compared with one peer's, and both repaired.
 *
 *	0.	What nobody has touched since an earlier comparison is known (known.c).  If
 *		on both sides that is most of the table, only the sums of all are compared,
 *		and that is it if they are equal.
 *	1.	Both sides read the table at the same time, each into its tree.
 *	2.	From the root down, where fingerprints differ, the peer's children are
 *		fetched and compared with ours (core/fingerprint.c).
 *	3.	Of the leaves that differ both sides list the items, by reading the table
 *		again: hashes of keys with hashes of states.  As many leaves at once as
 *		fit the bound on items.
 *	4.	Of the keys that differ, each side's states are read; then each side
 *		waits until what the other has shown has arrived, and merges it (take.c).
 *		What that changes was a divergence.
 *
 * Nothing is locked meanwhile and nothing needs to stand still: snapshots on two
 * nodes never show the same moment, so that steps 1 to 3 only tell where it is
 * worth looking, and step 4 judges.  Every transaction is short but those of the
 * scans; an interruption at any point leaves what was merged until then, which
 * is right in itself.
 *
 * Bytes: about 20 per fingerprint, FP_FANOUT of them for each node that differs,
 * at depth d along d nodes per difference; about 11 per item of a leaf that
 * differs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "node/node.h"
#include "verify/known.h"
#include "verify/pace.h"
#include "verify/side.h"
#include "verify/reconcile.h"
#include "verify/settle.h"
#include "verify/shape.h"
#include "verify/undead.h"

#define ROWS_PER_BLOCK_GUESS 100
#define NODES_PER_QUESTION 4096
#define ANSWER_SMALL 1024
#define NODE_BYTES 26			/* the longest form of a fingerprint */
#define ITEM_BYTES 18

typedef struct Job
{
	MemoryContext cxt;
	Remote	   *remote;
	Comparison *c;
	VerifyShape shape;
	NodeVector	settled;
	NodeId		asker;			/* ourselves, if something may be known under our hash key */
	Side	   *side;
	uint32_t   *leaves;			/* that differ, sorted */
	FpNode	   *leaf_nodes;		/* the peer's, beside them */
	size_t		nleaves;
} Job;

/* --- transactions --- */

static void
begin(Job *j)
{
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(j->cxt);
}

static void
commit(Job *j)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(j->cxt);
}

/* --- 1. the scans --- */

static uint64
count_blocks(Oid relid)
{
	List	   *leaves = find_all_inheritors(relid, AccessShareLock, NULL);
	ListCell   *lc;
	uint64		blocks = 0;

	foreach(lc, leaves)
	{
		Relation	rel = table_open(lfirst_oid(lc), NoLock);

		if (rel->rd_rel->relkind == RELKIND_RELATION)
			blocks += RelationGetNumberOfBlocks(rel);
		table_close(rel, NoLock);
	}
	return blocks;
}

/* lock the table and learn what both have of it; false if one of them does not have it */
static bool
agree(Job *j)
{
	Comparison *c = j->c;
	FpKey		key;

	LockRelationOid(c->relid, AccessShareLock);
	c->is_here = table_lookup(c->relid) != NULL;
	if (!c->is_here)
		return false;
	j->asker = c->may_skip ? node_id() : NODE_ID_NONE;
	if (c->may_skip)
		known_key(&key);
	return shape_agree(j->remote, c->relid, c->deep, c->may_skip ? &key : NULL, &j->shape, &j->settled);
}

static void
read_root(Job *j, const uint8_t *answer, size_t len, FpNode *root)
{
	WireReader	r;

	wire_reader_init(&r, answer, len);
	fp_get_node(&r, root);
	if (r.error == NULL && !wire_at_end(&r))
		r.error = "bytes follow the fingerprint";
	if (r.error)
		remote_refuse(j->remote, r.error);
}

/* are both equal by what is known, and the little that is read for it? */
static bool
compare_roots(Job *j)
{
	Comparison *c = j->c;
	Side	   *side = side_create(j->cxt, c->relid, &j->shape, &j->settled, 1, c->paced, j->asker);
	FpNode		ours;
	FpNode		theirs;
	uint8_t    *answer;
	size_t		len;

	if (!side_is_mostly_known(side))
		return false;
	c->scanned_at = GetCurrentTimestamp();
	remote_ask(j->remote, psprintf("ferry._verify_root(%s,%s,%u)", shape_arguments(c->relid, &j->shape, &j->settled),
								   c->paced ? "true" : "false", j->asker));
	PQflush(j->remote->conn);
	side_root(side, &ours);
	c->rows = side->rows;
	c->rows_known = side->rows_known;
	side_free(side);
	answer = remote_answer(j->remote, ANSWER_SMALL, &len);
	if (answer == NULL)
		return false;
	read_root(j, answer, len, &theirs);
	c->ranges++;
	return fp_equal(&ours, &theirs);
}

static void
scan_both(Job *j, FpNode *their_root)
{
	Comparison *c = j->c;
	uint8_t    *answer;
	size_t		len;
	uint64		blocks = count_blocks(c->relid);
	int			depth = fp_depth_for(blocks * ROWS_PER_BLOCK_GUESS);	/* about how many rows */

	j->side = side_create(j->cxt, c->relid, &j->shape, &j->settled, depth, c->paced, j->asker);
	c->scanned_at = GetCurrentTimestamp();
	remote_ask(j->remote, psprintf("ferry._verify_scan(%s,%d,%s,%u)", shape_arguments(c->relid, &j->shape, &j->settled),
								   depth, c->paced ? "true" : "false", j->asker));
	PQflush(j->remote->conn);
	pace_expect(blocks);
	side_scan(j->side);
	pace_expect(0);
	c->rows = j->side->rows;
	c->rows_known = 0;
	answer = remote_answer(j->remote, ANSWER_SMALL, &len);
	if (answer == NULL)
		remote_refuse(j->remote, "The answer is null.");
	read_root(j, answer, len, their_root);
}

/* --- 2. down the trees --- */

/*
 * From nodes of one level that differ to those of the next.  The peer's nodes
 * are checked against what it said of their parents, so that a level never has
 * more of them than the peer vouched for above.
 */
static size_t
descend(Job *j, int level, const uint32_t *nodes, const FpNode *theirs, size_t n,
		uint32_t *next, FpNode *next_theirs)
{
	size_t		nnext = 0;

	for (size_t at = 0; at < n; at += NODES_PER_QUESTION)
	{
		size_t		some = Min(n - at, NODES_PER_QUESTION);
		FpNode	   *children = palloc(sizeof(FpNode) * some * FP_FANOUT);
		WireReader	r;

		CHECK_FOR_INTERRUPTS();
		remote_call(j->remote, psprintf("ferry._verify_children(%d,%s)", level, remote_u32_literal(nodes + at, some)),
					some * FP_FANOUT * NODE_BYTES, &r);
		fp_get_children(&r, theirs + at, some, children);
		if (r.error)
			remote_refuse(j->remote, r.error);
		for (size_t i = 0; i < some * FP_FANOUT; i++)
		{
			uint32		index = nodes[at + i / FP_FANOUT] * FP_FANOUT + i % FP_FANOUT;

			j->c->ranges++;
			if (fp_equal(&children[i], fp_tree_node(&j->side->tree, level + 1, index)))
				continue;
			next[nnext] = index;
			next_theirs[nnext++] = children[i];
		}
		pfree(children);
	}
	return nnext;
}

static void
find_leaves(Job *j, const FpNode *their_root)
{
	uint32_t   *nodes = palloc0(sizeof(uint32_t));
	FpNode	   *theirs = palloc(sizeof(FpNode));
	size_t		n;

	j->c->ranges++;
	*theirs = *their_root;
	n = fp_equal(their_root, fp_tree_node(&j->side->tree, 0, 0)) ? 0 : 1;
	for (int level = 0; level < j->side->tree.depth && n > 0; level++)
	{
		uint32_t   *next = palloc_extended(sizeof(uint32_t) * n * FP_FANOUT, MCXT_ALLOC_HUGE);
		FpNode	   *next_theirs = palloc_extended(sizeof(FpNode) * n * FP_FANOUT, MCXT_ALLOC_HUGE);

		n = descend(j, level, nodes, theirs, n, next, next_theirs);
		pfree(nodes);
		pfree(theirs);
		nodes = next;
		theirs = next_theirs;
	}
	j->leaves = nodes;
	j->leaf_nodes = theirs;
	j->nleaves = n;
}

/* --- 3. items --- */

/* how many of the leaves from at on fit the bound, at least one */
static size_t
some_leaves(Job *j, size_t at)
{
	uint64		items = 0;
	size_t		n = 0;

	while (at + n < j->nleaves)
	{
		uint64		theirs = j->leaf_nodes[at + n].count;
		uint64		ours = fp_tree_node(&j->side->tree, j->side->tree.depth, j->leaves[at + n])->count;

		if (theirs > VERIFY_MAX_ITEMS || ours > VERIFY_MAX_ITEMS)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("too many rows of table \"%s\" in one range of a verification",
							get_rel_name(j->c->relid))));
		/* half of the bound: a table may grow before it is read again */
		items += Max(ours, theirs);
		if (n > 0 && items > VERIFY_MAX_ITEMS / 2)
			break;
		n++;
	}
	return n;
}

static size_t
differing_keys(Job *j, const uint32_t *leaves, size_t n, uint64 **keys)
{
	WireReader	r;
	uint8_t    *answer;
	size_t		len;
	FpItem	   *theirs;
	size_t		ntheirs;
	size_t		nkeys;

	begin(j);
	remote_ask(j->remote, psprintf("ferry._verify_items(%s,%d)", remote_u32_literal(leaves, n), VERIFY_MAX_ITEMS));
	PQflush(j->remote->conn);
	side_list(j->side, leaves, n, VERIFY_MAX_ITEMS);
	commit(j);
	answer = remote_answer(j->remote, (size_t) VERIFY_MAX_ITEMS * ITEM_BYTES + ANSWER_SMALL, &len);
	if (answer == NULL)
		remote_refuse(j->remote, "The answer is null.");
	theirs = palloc(sizeof(FpItem) * VERIFY_MAX_ITEMS);
	wire_reader_init(&r, answer, len);
	ntheirs = fp_get_items(&r, j->side->tree.depth, leaves, n, theirs, VERIFY_MAX_ITEMS);
	if (r.error)
		remote_refuse(j->remote, r.error);
	*keys = palloc(sizeof(uint64) * (ntheirs + j->side->nitems + 1));
	nkeys = fp_items_differ(j->side->items, j->side->nitems, theirs, ntheirs, *keys);
	return nkeys;
}

/* --- 4. states --- */

static void
take_here(Job *j, const uint8_t *frame, size_t len, const uint64 *keys, size_t nkeys)
{
	Take		t = {0};

	t.peer = j->remote->peer;
	t.peer_id = j->remote->peer_id;
	t.relid = j->c->relid;
	t.shape = &j->shape;
	t.repair = j->c->repair;
	t.asked = keys;
	t.nasked = nkeys;
	t.on_mismatch = settle_mismatch;
	t.patience_ms = j->remote->patience_here;
	t.counts = j->c->here;
	begin(j);
	undead_bury(j->side, t.peer, t.repair, &t.counts);
	take_frame(&t, frame, len);
	commit(j);
	j->c->here = t.counts;
	j->remote->patience_here = t.patience_ms;
}

static void
take_there(Job *j, const WireWriter *frame, size_t nkeys)
{
	WireReader	r;
	uint64		counts[4];

	remote_call(j->remote,
				psprintf("ferry._verify_take(%s,%u,%s,%s,%d)", quote_literal_cstr(node_name()), node_id(),
						 remote_bytes_literal(frame->data, frame->len), j->c->repair ? "true" : "false",
						 j->remote->patience_there),
				ANSWER_SMALL, &r);
	for (int i = 0; i < lengthof(counts); i++)
	{
		counts[i] = wire_get_varint(&r);
		if (counts[i] > nkeys)
			remote_refuse(j->remote, "It counted more rows than it was sent.");
	}
	if (r.error)
		remote_refuse(j->remote, r.error);
	j->c->there.differing += counts[0];
	j->c->there.repaired += counts[1];
	j->c->there.mismatched += counts[2];
	j->c->there.undecided += counts[3];
	if (counts[3] > 0)
		j->remote->patience_there = 0;
}

/* a batch from the front of keys; returns how many were dealt with */
static size_t
compare_states(Job *j, const uint64 *keys, size_t nkeys)
{
	WireReader	r;
	WireWriter	frame;
	uint64		done;
	size_t		ours;

	remote_call(j->remote, psprintf("ferry._verify_states(%s)", remote_u64_literal(keys, nkeys)),
				MaxAllocSize / 2, &r);
	done = wire_get_varint(&r);
	if (r.error || done == 0 || done > nkeys)
		remote_refuse(j->remote, r.error ? r.error : "It came to an impossible number of keys.");

	begin(j);
	wire_writer_init(&frame, 8192);
	ours = side_states(j->side, keys, done, &frame);
	commit(j);
	/* all that were named: ranges come before rows */
	take_here(j, r.p, r.end - r.p, keys, nkeys);
	take_there(j, &frame, ours);
	return ours;
}

/* the leaves from at on, as many as fit; returns how many */
static size_t
compare_leaves(Job *j, size_t at)
{
	size_t		n = some_leaves(j, at);
	MemoryContext job_cxt = j->cxt;
	MemoryContext round_cxt = AllocSetContextCreate(job_cxt, "ferry reconcile round", ALLOCSET_DEFAULT_SIZES);
	MemoryContext batch_cxt = AllocSetContextCreate(round_cxt, "ferry reconcile batch", ALLOCSET_DEFAULT_SIZES);
	uint64	   *keys;
	size_t		nkeys;

	/* j->cxt is where every transaction comes back to */
	j->cxt = round_cxt;
	MemoryContextSwitchTo(round_cxt);
	nkeys = differing_keys(j, j->leaves + at, n, &keys);
	j->cxt = batch_cxt;
	for (size_t k = 0; k < nkeys;)
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(batch_cxt);
		k += compare_states(j, keys + k, Min(nkeys - k, VERIFY_MAX_KEYS));
		MemoryContextReset(batch_cxt);
	}
	j->cxt = job_cxt;
	MemoryContextSwitchTo(job_cxt);
	MemoryContextDelete(round_cxt);
	return n;
}

void
reconcile_table(Remote *remote, Comparison *c)
{
	Job			j = {0};
	FpNode		their_root;
	bool		is_there;
	bool		is_equal;
	MemoryContext oldcontext = CurrentMemoryContext;

	j.cxt = AllocSetContextCreate(oldcontext, "ferry reconcile", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(j.cxt);
	j.remote = remote;
	j.c = c;
	begin(&j);
	is_there = agree(&j);
	is_equal = is_there && j.asker != NODE_ID_NONE && compare_roots(&j);
	if (is_there && !is_equal)
		scan_both(&j, &their_root);
	commit(&j);
	c->compared = is_there;
	if (is_there && !is_equal)
		find_leaves(&j, &their_root);
	for (size_t at = 0; at < j.nleaves;)
	{
		at += compare_leaves(&j, at);
	}
	MemoryContextSwitchTo(oldcontext);
	MemoryContextDelete(j.cxt);
}
