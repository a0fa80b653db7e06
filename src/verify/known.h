/*
 * known.h
 *		Parts of a table that are as they were when their fingerprint was taken.
 */
#ifndef FERRY_VERIFY_KNOWN_H
#define FERRY_VERIFY_KNOWN_H

#include "postgres.h"

#include "access/visibilitymapdefs.h"
#include "access/xlogdefs.h"
#include "storage/block.h"
#include "storage/bufpage.h"
#include "utils/rel.h"

#include "verify/digest.h"

/* a part is what one page of the visibility map speaks of: 255 MB */
#define KNOWN_PART_BLOCKS \
	((BlockNumber) (BLCKSZ - MAXALIGN(SizeOfPageHeaderData)) * (BITS_PER_BYTE / BITS_PER_HEAPBLOCK))

typedef struct KnownPart
{
	bool		is_known;		/* sum is right for whoever reads now */
	XLogRecPtr	map_lsn;		/* of the map's page as the scan began; invalid: not all was visible to all */
	FpNode		sum;			/* as known, or to be filled by a scan */
} KnownPart;

typedef struct Known
{
	NodeId		asker;
	FpHash		definition;
	BlockNumber nblocks;
	BlockNumber known_blocks;
	uint32		nparts;
	KnownPart  *parts;
	bytea	   *record;			/* as it was found; NULL: none */
} Known;

/*
 * What is known of a relation under the hash key of one asker.  d makes its
 * digests.  Call it under the snapshot of the scan to come, with the relation
 * locked.  Returns NULL if of such a relation nothing can be known.  Lives in
 * the current context; raises what reading ferry.verify_known raises.
 */
extern Known *known_open(Relation rel, NodeId asker, const VerifyDigest *d);

/* the part in which a block lies; NULL if it has grown since */
static inline KnownPart *
known_part(Known *k, BlockNumber block)
{
	uint32		part = block / KNOWN_PART_BLOCKS;

	return part < k->nparts ? &k->parts[part] : NULL;
}

/*
 * The hash key under which this node asks, for as long as a day, written to
 * ferry.verify_key by the current transaction if it is new.
 */
extern void known_key(FpKey *key);

/* nothing is known: all is to be read */
extern void known_forget(Known *k);

/*
 * All parts' sums are filled: those that nobody has touched meanwhile are known
 * from now on.
 */
extern void known_record(Known *k, Relation rel);

#endif							/* FERRY_VERIFY_KNOWN_H */
