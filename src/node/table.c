/*-------------------------------------------------------------------------
 *
 * table.c
 *		The tables under ferry, cached per backend.
 *
 * ferry.registered_table is a user catalog table, so that the output plugin may
 * read it under the historic snapshot of the change that it decodes.  Relations
 * without a column _ferry are told by their tuple descriptor alone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/relcache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "compat.h"
#include "node/table.h"

typedef struct CacheEntry
{
	Oid			relid;			/* hash key */
	bool		valid;
	FerryTable *table;			/* NULL: not under ferry */
	MemoryContext cxt;
} CacheEntry;

static HTAB *cache = NULL;

/* entries that were found lately, by relid; entries never go, so that they may be pointed to */
#define RECENT_ENTRIES 16
static CacheEntry *recent[RECENT_ENTRIES];
static Oid	cached_schema = InvalidOid;
static Oid	cached_type = InvalidOid;

/* --- names --- */

static void
forget_names(Datum arg, int cacheid, uint32 hashvalue)
{
	cached_schema = InvalidOid;
	cached_type = InvalidOid;
}

static void
invalidate(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS seq;
	CacheEntry *e;

	if (OidIsValid(relid))
	{
		/* a partition's entry is made from its root's catalogs too: let all go that are not alone */
		e = hash_search(cache, &relid, HASH_FIND, NULL);
		if (e)
			e->valid = false;
	}
	hash_seq_init(&seq, cache);
	while ((e = hash_seq_search(&seq)) != NULL)
		if (!OidIsValid(relid) || (e->table && e->table->rootid == relid))
			e->valid = false;
}

static void
make_cache(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(CacheEntry);
	ctl.hcxt = CacheMemoryContext;
	cache = hash_create("ferry tables", 128, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, forget_names, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, forget_names, (Datum) 0);
}

Oid
ferry_schema(void)
{
	if (cache == NULL)
		make_cache();
	if (!OidIsValid(cached_schema))
		cached_schema = get_namespace_oid("ferry", true);
	return cached_schema;
}

Oid
ferry_version_type(void)
{
	Oid			schema = ferry_schema();

	if (!OidIsValid(cached_type) && OidIsValid(schema))
		cached_type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
									  CStringGetDatum("version"), ObjectIdGetDatum(schema));
	return cached_type;
}

Oid
ferry_relation(const char *name)
{
	Oid			relid = get_relname_relid(name, ferry_schema());

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"ferry.%s\" does not exist", name),
				 errhint("The extension ferry is not installed here, or its version does not match the library.")));
	return relid;
}

/* --- ferry.registered_table --- */

typedef struct Registration
{
	Oid			relid;
	Oid			tombid;
	char		merge;
	char		on_delete;
	bool		is_new;
} Registration;

/* find by relid or by tombid (the other InvalidOid) */
static bool
find_registration(Oid relid, Oid tombid, Registration *out)
{
	Relation	rel = table_open(ferry_relation("registered_table"), AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	bool		found = false;

	while (!found && (tuple = systable_getnext(scan)) != NULL)
	{
		bool		isnull;

		out->relid = DatumGetObjectId(heap_getattr(tuple, 1, desc, &isnull));
		out->tombid = DatumGetObjectId(heap_getattr(tuple, 2, desc, &isnull));
		out->merge = DatumGetChar(heap_getattr(tuple, 3, desc, &isnull));
		out->on_delete = DatumGetChar(heap_getattr(tuple, 4, desc, &isnull));
		out->is_new = DatumGetBool(heap_getattr(tuple, get_attnum(RelationGetRelid(rel), "is_new"), desc, &isnull));
		found = OidIsValid(relid) ? out->relid == relid : out->tombid == tombid;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

Oid
table_of_tombstones(Oid tombid)
{
	Registration reg;

	return find_registration(InvalidOid, tombid, &reg) ? reg.relid : InvalidOid;
}

/* --- building an entry --- */

static AttrNumber
version_attno(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = desc->natts - 1; i >= 0; i--)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (!attr->attisdropped && attr->atttypid == ferry_version_type() &&
			strcmp(NameStr(attr->attname), FERRY_VERSION_COLUMN) == 0)
			return attr->attnum;
	}
	return InvalidAttrNumber;
}

static bool
is_key(const FerryTable *t, AttrNumber attno)
{
	for (int k = 0; k < t->nkeys; k++)
		if (t->key_attnos[k] == attno)
			return true;
	return false;
}

static int
compare_ids(const void *a, const void *b, void *arg)
{
	const FerryTable *t = arg;

	return (int) t->column_ids[*(const AttrNumber *) a - 1] -
		(int) t->column_ids[*(const AttrNumber *) b - 1];
}

static void
fill_key(FerryTable *t, Relation rel, Relation root)
{
	Oid			root_key = RelationGetPrimaryKeyIndex(root COMPAT_PK_ARG);
	Relation	index;

	if (!OidIsValid(root_key))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is under ferry but has no primary key",
						RelationGetRelationName(root)),
				 errhint("Give it its primary key back, or call ferry.drop_table.")));
	index = RelationIdGetRelation(root_key);
	t->nkeys = index->rd_index->indnkeyatts;
	t->key_attnos = palloc(sizeof(AttrNumber) * t->nkeys);
	for (int k = 0; k < t->nkeys; k++)
	{
		AttrNumber	attno = index->rd_index->indkey.values[k];

		if (rel != root)
			attno = get_attnum(t->relid, NameStr(TupleDescAttr(RelationGetDescr(root), attno - 1)->attname));
		t->key_attnos[k] = attno;
	}
	RelationClose(index);
}

static void
fill_columns(FerryTable *t, Relation rel, Relation root)
{
	TupleDesc	desc = RelationGetDescr(rel);

	t->natts = desc->natts;
	t->nids = RelationGetDescr(root)->natts;
	t->column_ids = palloc0(sizeof(uint16) * t->natts);
	t->id_attnos = palloc0(sizeof(AttrNumber) * t->nids);
	t->plain_attnos = palloc(sizeof(AttrNumber) * t->natts);
	t->plain_ids = palloc(sizeof(uint16) * t->natts);
	for (int i = 0; i < t->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);
		AttrNumber	id;

		if (attr->attisdropped || attr->attgenerated || attr->attnum == t->version_attno)
			continue;
		id = rel == root ? attr->attnum : get_attnum(t->rootid, NameStr(attr->attname));
		if (id <= 0)
			continue;
		t->column_ids[i] = id;
		t->id_attnos[id - 1] = attr->attnum;
		if (!is_key(t, attr->attnum))
			t->plain_attnos[t->nplain++] = attr->attnum;
	}
	qsort_arg(t->plain_attnos, t->nplain, sizeof(AttrNumber), compare_ids, t);
	for (int c = 0; c < t->nplain; c++)
		t->plain_ids[c] = t->column_ids[t->plain_attnos[c] - 1];
}

/* --- strategies --- */

static const struct
{
	char		letter;
	const char *name;
}			kinds[] = {
	[KIND_LWW] = {'l', "lww"},
	[KIND_COUNTER] = {'c', "counter"},
	[KIND_MAX] = {'x', "max"},
	[KIND_MIN] = {'n', "min"},
	[KIND_SET] = {'s', "set"},
	[KIND_MAP] = {'m', "map"},
	[KIND_FUNCTION] = {'f', NULL},
};

const char *
strategy_kind_name(ColumnKind kind)
{
	return kinds[kind].name;
}

char
strategy_kind_letter(ColumnKind kind)
{
	return kinds[kind].letter;
}

bool
strategy_kind_from_letter(char letter, ColumnKind *kind)
{
	for (int k = 0; k < lengthof(kinds); k++)
	{
		if (kinds[k].letter != letter)
			continue;
		*kind = (ColumnKind) k;
		return true;
	}
	return false;
}

static const char policy_letters[] = {
	[ORPHANS_KEEP] = 'K',
	[ORPHANS_REVIVE_PARENT] = 'V',
	[ORPHANS_REMOVE_CHILD] = 'R',
};

char
orphan_policy_letter(OrphanPolicy policy)
{
	return policy_letters[policy];
}

bool
orphan_policy_from_letter(char letter, OrphanPolicy *policy)
{
	for (int p = 0; p < lengthof(policy_letters); p++)
	{
		if (policy_letters[p] != letter)
			continue;
		*policy = (OrphanPolicy) p;
		return true;
	}
	return false;
}

const ColumnStrategy *
table_strategy(const FerryTable *table, uint16 id)
{
	for (int s = 0; s < table->nstrategies && table->strategies[s].id <= id; s++)
		if (table->strategies[s].id == id)
			return &table->strategies[s];
	return NULL;
}

static int
compare_strategies(const void *a, const void *b)
{
	return (int) ((const ColumnStrategy *) a)->id - (int) ((const ColumnStrategy *) b)->id;
}

static Dot
get_dot(Datum version)
{
	return version_get_last((const uint8_t *) VARDATA_ANY(PG_DETOAST_DATUM_PACKED(version)));
}

/* ferry.column_merge: relid, attnum, kind, version, function, function_version; columns that are gone are left out */
static void
fill_strategies(FerryTable *t)
{
	Relation	rel = table_open(ferry_relation("column_merge"), AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;

	t->strategies = palloc(sizeof(ColumnStrategy) * t->nids);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		bool		isnull;
		ColumnStrategy s;
		Datum		d;

		if (DatumGetObjectId(heap_getattr(tuple, 1, desc, &isnull)) != t->rootid)
			continue;
		s.id = (uint16) DatumGetInt16(heap_getattr(tuple, 2, desc, &isnull));
		if (s.id == 0 && orphan_policy_from_letter(DatumGetChar(heap_getattr(tuple, 3, desc, &isnull)), &t->orphans))
			t->orphans_dot = get_dot(heap_getattr(tuple, 4, desc, &isnull));
		if (s.id == 0 || s.id > t->nids || t->id_attnos[s.id - 1] == 0 || t->nstrategies >= t->nids ||
			!strategy_kind_from_letter(DatumGetChar(heap_getattr(tuple, 3, desc, &isnull)), &s.kind))
			continue;
		s.dot = get_dot(heap_getattr(tuple, 4, desc, &isnull));
		d = heap_getattr(tuple, 5, desc, &isnull);
		s.function = isnull ? NULL : TextDatumGetCString(d);
		d = heap_getattr(tuple, 6, desc, &isnull);
		s.function_dot = isnull ? (Dot) {0, 0} : get_dot(d);
		t->strategies[t->nstrategies++] = s;
		t->has_strategies |= (s.kind != KIND_LWW);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	qsort(t->strategies, t->nstrategies, sizeof(ColumnStrategy), compare_strategies);
}

static FerryTable *
build(Relation rel)
{
	Registration reg;
	FerryTable *t;
	Relation	root = rel;
	Relation	tomb;
	AttrNumber	version = version_attno(rel);
	Oid			rootid = RelationGetRelid(rel);

	if (version == InvalidAttrNumber)
		return NULL;
	if (rel->rd_rel->relispartition)
		rootid = llast_oid(get_partition_ancestors(rootid));
	if (!find_registration(rootid, InvalidOid, &reg))
		return NULL;

	t = palloc0(sizeof(FerryTable));
	t->relid = RelationGetRelid(rel);
	t->rootid = rootid;
	t->tombid = reg.tombid;
	t->mode = (MergeMode) reg.merge;
	t->life = (LifePolicy) reg.on_delete;
	t->is_new = reg.is_new;
	t->clear = palloc0(sizeof(TombstonesClear));
	t->version_attno = version;
	t->is_partitioned = rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
	if (rootid != t->relid)
		root = RelationIdGetRelation(rootid);
	fill_key(t, rel, root);
	fill_columns(t, rel, root);
	if (root != rel)
		RelationClose(root);
	fill_strategies(t);

	tomb = RelationIdGetRelation(t->tombid);
	if (!RelationIsValid(tomb))
		elog(ERROR, "tombstone table %u of table \"%s\" does not exist", t->tombid,
			 RelationGetRelationName(rel));
	t->tomb_index = RelationGetPrimaryKeyIndex(tomb COMPAT_PK_ARG);
	if (!OidIsValid(t->tomb_index))
	{
		List	   *indexes = RelationGetIndexList(tomb);

		if (list_length(indexes) != 1)
			elog(ERROR, "tombstone table \"%s\" has lost its index", RelationGetRelationName(tomb));
		t->tomb_index = linitial_oid(indexes);
	}
	RelationClose(tomb);
	return t;
}

FerryTable *
table_lookup(Oid relid)
{
	CacheEntry *e;
	bool		found;
	Relation	rel;
	MemoryContext cxt;
	MemoryContext oldcontext;
	FerryTable *t;

	e = recent[relid % RECENT_ENTRIES];
	if (likely(e && e->relid == relid && e->valid))
		return e->table;
	if (cache == NULL)
		make_cache();
	e = hash_search(cache, &relid, HASH_FIND, NULL);
	if (e && e->valid)
	{
		recent[relid % RECENT_ENTRIES] = e;
		return e->table;
	}
	if (!OidIsValid(ferry_version_type()))
		return NULL;

	rel = RelationIdGetRelation(relid);
	if (!RelationIsValid(rel))
		return NULL;
	cxt = AllocSetContextCreate(CurrentMemoryContext, "ferry table", ALLOCSET_SMALL_SIZES);
	oldcontext = MemoryContextSwitchTo(cxt);
	t = build(rel);
	MemoryContextSwitchTo(oldcontext);
	RelationClose(rel);

	e = hash_search(cache, &relid, HASH_ENTER, &found);
	if (found && e->cxt)
		MemoryContextDelete(e->cxt);
	MemoryContextSetParent(cxt, CacheMemoryContext);
	e->cxt = cxt;
	e->table = t;
	e->valid = true;
	return t;
}

FerryTable *
table_lookup_required(Oid relid)
{
	FerryTable *t = table_lookup(relid);

	if (t == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" is not under ferry", get_rel_name(relid)),
				 errhint("Call ferry.add_table first.")));
	return t;
}

PG_FUNCTION_INFO_V1(ferry_table_changed);

/* SQL: ferry._table_changed(rel regclass): everybody's entry of it is made anew */
Datum
ferry_table_changed(PG_FUNCTION_ARGS)
{
	CacheInvalidateRelcacheByRelid(PG_GETARG_OID(0));
	PG_RETURN_VOID();
}

/*
 * Do all nodes order values of a type alike?  Enums are in the order in which their
 * labels were made, ranges by a collation of their own.
 */
static bool
order_is_portable(Oid typid)
{
	Oid			part;

	typid = getBaseType(typid);
	if (OidIsValid(part = get_element_type(typid)))
		return order_is_portable(part);
	switch (get_typtype(typid))
	{
		case TYPTYPE_BASE:
			return true;
		case TYPTYPE_MULTIRANGE:
			return order_is_portable(get_multirange_range(typid));
		case TYPTYPE_RANGE:
			part = get_range_subtype(typid);
			return order_is_portable(part) && !OidIsValid(get_typcollation(part));
		default:
			return false;
	}
}

PG_FUNCTION_INFO_V1(ferry_is_ordered);

/* SQL: ferry._is_ordered(oid) returns boolean: do values of the type compare, the same on every node? */
Datum
ferry_is_ordered(PG_FUNCTION_ARGS)
{
	Oid			typid = getBaseType(PG_GETARG_OID(0));

	PG_RETURN_BOOL(order_is_portable(typid) &&
				   OidIsValid(lookup_type_cache(typid, TYPECACHE_CMP_PROC)->cmp_proc));
}
