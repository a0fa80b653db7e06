/*-------------------------------------------------------------------------
 *
 * sent_relation.c
 *		What a stream knows of the relations that it meets: whether they are
 *		ours, how their rows are encoded, and whether the receiver knows that.
 *
 * Made under the historic snapshot of the change that is decoded, dropped by
 * relcache invalidation, which decoding replays where it happened.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "send/sent_relation.h"

static HTAB *relations = NULL;
static MemoryContext stream_cxt = NULL;

static void
invalidate(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS seq;
	SentRelation *r;

	if (relations == NULL)
		return;
	hash_seq_init(&seq, relations);
	while ((r = hash_seq_search(&seq)) != NULL)
		if (!OidIsValid(relid) || r->relid == relid || r->rootid == relid)
			r->valid = false;
}

/* the decoding context goes, by its end or by an error, and the relations with it */
static void
forget(void *arg)
{
	relations = NULL;
}

void
sent_relations_start(MemoryContext cxt)
{
	static bool watching = false;
	MemoryContextCallback *callback = MemoryContextAllocZero(cxt, sizeof(MemoryContextCallback));
	HASHCTL		ctl = {0};

	if (!watching)
	{
		CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
		watching = true;
	}
	callback->func = forget;
	MemoryContextRegisterResetCallback(cxt, callback);
	stream_cxt = cxt;
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(SentRelation);
	ctl.hcxt = cxt;
	relations = hash_create("ferry sent relations", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
describe(SentRelation *r, const FerryTable *table, Relation rel, SentKind kind)
{
	r->kind = kind;
	r->rootid = table->rootid;
	r->version_attno = kind == SENT_ROWS ? table->version_attno : table->nkeys + 1;
	r->encoder = relation_encoder_create(table, rel, r->cxt);
}

static void
build(SentRelation *r, Relation rel)
{
	const FerryTable *table;

	if (RelationGetNamespace(rel) == ferry_schema())
	{
		Oid			owner;
		Relation	owner_rel;

		if (strcmp(RelationGetRelationName(rel), "registered_table") == 0)
		{
			r->kind = SENT_REGISTRY;
			return;
		}
		if (strcmp(RelationGetRelationName(rel), "range_tombstone") == 0)
		{
			r->kind = SENT_RANGES;
			return;
		}
		if (strcmp(RelationGetRelationName(rel), "holding") == 0)
		{
			r->kind = SENT_HOLDING;
			return;
		}
		if (strcmp(RelationGetRelationName(rel), "horizon") == 0)
		{
			r->kind = SENT_HORIZON;
			return;
		}
		if (strcmp(RelationGetRelationName(rel), "member") == 0)
		{
			r->kind = SENT_MEMBER;
			return;
		}
		if (strcmp(RelationGetRelationName(rel), "column_merge") == 0)
		{
			r->kind = SENT_STRATEGIES;
			return;
		}
		if (strncmp(RelationGetRelationName(rel), "tombstone_", 10) != 0 ||
			!OidIsValid(owner = table_of_tombstones(RelationGetRelid(rel))))
			return;
		owner_rel = RelationIdGetRelation(owner);
		if (!RelationIsValid(owner_rel))
			return;
		table = table_lookup(owner);
		if (table)
			describe(r, table, owner_rel, SENT_TOMBSTONES);
		RelationClose(owner_rel);
		return;
	}
	table = table_lookup(RelationGetRelid(rel));
	if (table)
		describe(r, table, rel, SENT_ROWS);
}

SentRelation *
sent_relation(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	bool		found;
	SentRelation *r = hash_search(relations, &relid, HASH_ENTER, &found);
	MemoryContext oldcontext;

	if (found && r->valid)
		return r;
	if (found && r->cxt)
		MemoryContextDelete(r->cxt);
	memset(r, 0, sizeof(*r));
	r->relid = relid;
	r->kind = SENT_NOTHING;
	r->cxt = AllocSetContextCreate(stream_cxt, "ferry sent relation", ALLOCSET_SMALL_SIZES);

	/* set first: an invalidation during the build leaves it false */
	r->valid = true;
	oldcontext = MemoryContextSwitchTo(r->cxt);
	build(r, rel);
	MemoryContextSwitchTo(oldcontext);
	return r;
}
