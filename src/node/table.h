/*
 * table.h
 *		The tables under ferry, as every hot path wants to know them: one cache
 *		entry per relation, dropped by relcache invalidation.
 */
#ifndef FERRY_NODE_TABLE_H
#define FERRY_NODE_TABLE_H

#include "postgres.h"

#include "access/attnum.h"
#include "utils/rel.h"

#include "core/merge.h"

#define FERRY_VERSION_COLUMN "_ferry"

/* how a column merges, by ferry.set_merge; the dot says which of two settings is later */
typedef struct ColumnStrategy
{
	uint16		id;				/* column id */
	ColumnKind	kind;			/* KIND_LWW where it was set back */
	Dot			dot;
	const char *function;		/* the last that was set, as regprocedure reads it; NULL: none ever */
	Dot			function_dot;
} ColumnStrategy;

/* what becomes of a row whose parent is gone, by ferry.set_orphans; the numbers are sent */
typedef enum OrphanPolicy
{
	ORPHANS_KEEP = 0,
	ORPHANS_REVIVE_PARENT = 1,
	ORPHANS_REMOVE_CHILD = 2
} OrphanPolicy;

/* it had no tombstone when so many keys had died on this server, and this process had written so many */
typedef struct TombstonesClear
{
	bool		known;
	uint64		deaths;
	uint64		written_here;
} TombstonesClear;

/*
 * A registered table, or a partition of one.
 *
 * "attno" is an attribute number in this relation, "column id" the attribute
 * number of the same-named column in the registered (root) table; they differ
 * only in partitions with another physical order.
 */
typedef struct FerryTable
{
	Oid			relid;			/* this relation */
	Oid			rootid;			/* the registered table; equals relid unless a partition */
	Oid			tombid;			/* its tombstone table, ferry.tombstone_N */
	Oid			tomb_index;		/* unique index over the tombstones' keys */
	MergeMode	mode;
	LifePolicy	life;
	AttrNumber	version_attno;
	int			natts;			/* of this relation, dropped ones included */
	int			nkeys;
	AttrNumber *key_attnos;		/* of this relation, in key order */
	int			nplain;			/* live columns that are neither key, version nor generated */
	AttrNumber *plain_attnos;	/* sorted by column id */
	uint16	   *plain_ids;		/* column ids, sorted */
	uint16	   *column_ids;		/* [attno - 1] -> column id; 0: dropped, version or generated */
	AttrNumber *id_attnos;		/* [column id - 1] -> attno; 0: none */
	int			nids;			/* length of id_attnos */
	bool		is_partitioned;
	int			nstrategies;
	ColumnStrategy *strategies; /* sorted by column id */
	bool		has_strategies; /* one that is not KIND_LWW */
	OrphanPolicy orphans;
	Dot			orphans_dot;	/* of the setting; {0, 0}: never set */
	bool		is_new;			/* not copied from every peer yet */
	TombstonesClear *clear;	/* kept by state/births.c */
} FerryTable;

/*
 * Does a dead row keep its last values?  Under last_wins in row mode the death is
 * the last word on all of them.  Wherever a row may live again by an older write,
 * who is dead here must be able to say the same values as who was dead elsewhere.
 */
static inline bool
table_keeps_image(const FerryTable *table)
{
	return table->mode != MERGE_MODE_ROW || table->life == LIFE_UPDATE_WINS;
}

/*
 * The entry of a relation, or NULL if it is not under ferry.  Valid until the
 * next invalidation is accepted: callers hold a lock on the relation and do
 * not keep the pointer across statements.  Works under a historic snapshot
 * (ferry.registered_table is a user catalog table).
 */
extern FerryTable *table_lookup(Oid relid);

/* the same; raises ERRCODE_UNDEFINED_OBJECT if it is not under ferry */
extern FerryTable *table_lookup_required(Oid relid);

/* the registered table to which a tombstone table belongs, or InvalidOid */
extern Oid	table_of_tombstones(Oid tombid);

/* what was set for a column; NULL if nothing ever was */
extern const ColumnStrategy *table_strategy(const FerryTable *table, uint16 id);

/* the name of a kind in SQL, NULL for KIND_FUNCTION; and its letter in ferry.column_merge and on the wire */
extern const char *strategy_kind_name(ColumnKind kind);
extern char strategy_kind_letter(ColumnKind kind);
extern bool strategy_kind_from_letter(char letter, ColumnKind *kind);

/* the letter of a policy in ferry.column_merge, where attnum 0 is the table itself */
extern char orphan_policy_letter(OrphanPolicy policy);
extern bool orphan_policy_from_letter(char letter, OrphanPolicy *policy);

/* ferry.version and the schema's relations, by name, cached per backend */
extern Oid	ferry_version_type(void);
extern Oid	ferry_schema(void);
extern Oid	ferry_relation(const char *name);	/* in schema ferry; cached */

#endif							/* FERRY_NODE_TABLE_H */
