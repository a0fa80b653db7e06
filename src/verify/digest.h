/*
 * digest.h
 *		A row state as two hashes: where it stands (its key) and what it is.
 */
#ifndef FERRY_VERIFY_DIGEST_H
#define FERRY_VERIFY_DIGEST_H

#include "postgres.h"

#include "core/fingerprint.h"
#include "state/state.h"
#include "utils/rel.h"

/*
 * What both sides of a comparison have agreed upon.  columns (sorted by bytes)
 * are the names of the table's columns, outside the key, that both have;
 * with_value says of which the values count too.
 */
typedef struct VerifyShape
{
	FpKey		key;
	int			ncolumns;
	char	  **columns;
	bool	   *with_value;
} VerifyShape;

/* one that nobody can foresee */
extern void digest_random_key(FpKey *key);

typedef struct VerifyDigest VerifyDigest;

/*
 * For states of a table, or of one of its partitions, in that relation's layout.
 * Lives in cxt and keeps no pointer into table or rel; shape must stay.
 */
extern VerifyDigest *digest_create(const VerifyShape *shape, const FerryTable *table, Relation rel,
								   MemoryContext cxt);

typedef struct Digest
{
	uint64		key;
	FpHash		item;
	FpHash		version;		/* only of digest_state(): the item but for the values */
} Digest;

static inline bool
digest_same_item(const Digest *a, const Digest *b)
{
	return a->item.lo == b->item.lo && a->item.hi == b->item.hi;
}

/* made by the same writes, whatever was pruned? */
static inline bool
digest_same_version(const Digest *a, const Digest *b)
{
	return a->version.lo == b->version.lo && a->version.hi == b->version.hi;
}

/* does a state carry all that its digest takes in?  One of a peer may not; to be asked before digest_state() */
extern bool digest_has_values(const VerifyDigest *d, const RowState *state);

/* these three leak into the current, short-lived context only where values are toasted or of odd types */
extern void digest_row(VerifyDigest *d, const Datum *values, const bool *nulls, Digest *out);
extern void digest_tombstone(VerifyDigest *d, const Datum *tomb_values, Digest *out);
extern void digest_state(VerifyDigest *d, const RowState *state, Digest *out);

/* a range tombstone: named by its dot, among the keys but never one of them */
extern void digest_range(const FpKey *key, const Version *range, Digest *out);

/* what all digests of rows depend on but the rows, a file of the relation included, and the hash key */
extern void digest_definition(const VerifyDigest *d, uint32 file, FpHash *out);

/* the key of the state last digested, in key order */
extern const Datum *digest_key_values(VerifyDigest *d);

/* a key as bytes, for this node only, and back: a state with nothing but the key */
extern void digest_key_write(VerifyDigest *d, const Datum *key_values, WireWriter *w);
extern RowState *digest_key_read(const FerryTable *table, Relation rel, WireReader *r);

#endif							/* FERRY_VERIFY_DIGEST_H */
