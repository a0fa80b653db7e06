/*
 * side.h
 *		What this node holds of one table, to be compared: its tree of
 *		fingerprints, the items of some leaves, the states of some keys.
 *
 * Both sides of a comparison have one: ours in the verifier, the peer's in the
 * session that serves us (serve.c).
 */
#ifndef FERRY_VERIFY_SIDE_H
#define FERRY_VERIFY_SIDE_H

#include "postgres.h"

#include "utils/hsearch.h"
#include "verify/digest.h"

/*
 * Bounds on memory.  The tree takes 27 MB at most, the items of one round and
 * their keys about 100 bytes each, the states of one batch are limited by
 * bytes where they are made.
 */
#define VERIFY_MAX_ITEMS 262144
#define VERIFY_MAX_KEYS 1024	/* states asked for at once */
#define VERIFY_STATES_BYTES (1024 * 1024)	/* a frame of states is closed when it is that long */

/* a key as it was listed: how to find its state again */
typedef struct KeyEntry
{
	uint64		hash;			/* hash key */
	bool		is_range;		/* then bytes is the version of a range tombstone */
	uint32		len;
	uint8	   *bytes;
} KeyEntry;

typedef struct Side
{
	MemoryContext cxt;
	Oid			relid;
	VerifyShape shape;
	NodeVector	settled;		/* tombstones at or below this are left out */
	bool		paced;			/* sleep by ferry.verify_cost_limit */
	NodeId		asker;			/* whose hash key is used again: parts that nobody has touched are known (known.c) */
	FpTree		tree;
	uint64		rows;			/* that the last scan saw */
	uint64		rows_known;		/* of those, not read */

	/* of the last side_list() */
	MemoryContext items_cxt;
	FpItem	   *items;
	size_t		nitems;
	HTAB	   *keys;			/* of KeyEntry */
	List	   *undead;			/* of KeyEntry: rows that side_states() met though a range here covers them */
} Side;

/*
 * In a context of its own below parent; the table is looked up and locked by each
 * of the calls below.  settled is what both sides know that every member holds:
 * who has removed a tombstone below it, and who has not yet, do not differ.  asker
 * is NODE_ID_NONE if the hash key is a fresh one, so that nothing is worth remembering.
 */
extern Side *side_create(MemoryContext parent, Oid relid, const VerifyShape *shape, const NodeVector *settled,
						 int depth, bool paced, NodeId asker);
extern void side_free(Side *h);

/* read the table once: fills the tree */
extern void side_scan(Side *h);

/*
 * The sum of the tree without the tree, and without reading what is known: which
 * is worth its while if that is most of the table.
 */
extern bool side_is_mostly_known(Side *h);
extern void side_root(Side *h, FpNode *root);

/*
 * Read it again for the items of these leaves (sorted), and keep their keys.
 * Raises ERRCODE_T_R_SERIALIZATION_FAILURE if there are more than max.
 */
extern void side_list(Side *h, const uint32_t *leaves, size_t nleaves, size_t max);

/*
 * What this node holds, then the states, as of now, of keys that the last
 * side_list() saw, as a frame; others are left out.  Returns how many keys it came to before the frame was
 * full, at least one.
 */
extern size_t side_states(Side *h, const uint64 *keys, size_t nkeys, WireWriter *frame);

#endif							/* FERRY_VERIFY_SIDE_H */
