/*
 * strategy.h
 *		What the strategies of ferry.set_merge do with values: one file a kind
 *		(strategy_counter.c, ...), on the lattice of core/parts.c.
 */
#ifndef FERRY_STATE_STRATEGY_H
#define FERRY_STATE_STRATEGY_H

#include "core/rename.h"
#include "state/local_write.h"
#include "state/state.h"

/* a column to be written or merged */
typedef struct StrategyColumn
{
	uint16		id;
	ColumnKind	kind;
	Form_pg_attribute attr;
	Oid			base;			/* attr's type, or what the domain stands on */
	const char *function;		/* KIND_FUNCTION */
} StrategyColumn;

/* one state's value of it */
typedef struct StrategySide
{
	const Version *version;
	Datum		value;
	bool		isnull;
} StrategySide;

/*
 * The value that a local write at a dot makes of a column, and its parts.  The
 * column's dot in after is the write's already.  old is NULL where there is
 * nothing to build on.  value and isnull come as written and leave as they are to
 * be stored.  Who finds that the value replaces the column as a whole leaves
 * after alone: a register.
 */
typedef struct StrategyWrite
{
	const StrategySide *old;
	bool		birth;			/* the row is born, perhaps again: old is of a dead one then */
	PartsSince	since;
	Dot			dot;
	Version    *after;
	Datum		value;
	bool		isnull;
} StrategyWrite;

/* the join of two states of one generation; the column's dot in out is the later one already */
typedef struct StrategyJoin
{
	const StrategySide *local;
	const StrategySide *remote;
	PartsSince	since;
	Version    *out;
	Datum		value;
	bool		isnull;
} StrategyJoin;

extern void counter_write(const StrategyColumn *col, StrategyWrite *w);
extern void counter_join(const StrategyColumn *col, StrategyJoin *j);
extern void extreme_write(const StrategyColumn *col, StrategyWrite *w);
extern void extreme_join(const StrategyColumn *col, StrategyJoin *j);
extern void set_write(const StrategyColumn *col, StrategyWrite *w);
extern void set_join(const StrategyColumn *col, StrategyJoin *j);
extern void map_write(const StrategyColumn *col, StrategyWrite *w);
extern void map_join(const StrategyColumn *col, StrategyJoin *j);
extern void function_write(const StrategyColumn *col, StrategyWrite *w);
extern void function_join(const StrategyColumn *col, StrategyJoin *j);

/* for row states in jsonb (state/json.c): a counter's contributions, all of them, as numbers in text */
extern char *counter_share_text(const StrategyColumn *col, const Part *share);
extern Part counter_share_from_text(const StrategyColumn *col, NodeId node, const char *text);

/*
 * out is side's version renamed (core/rename.h): divide the contribution of r->from.
 * What stays with it is kept, as bytes of a share; all of it if kept is NULL.
 */
extern void counter_hand_over(const StrategyColumn *col, const StrategySide *side, const VersionRename *r,
							  const Part *kept, Version *out);
extern bool counter_is_countable(const StrategyColumn *col, Datum value, bool isnull);	/* not NaN or infinite */
extern int	counter_open(const StrategyColumn *col, const StrategySide *side, Part **shares);

/* does an array stand as sets are stored: each element once, in order, as many as there are parts? */
extern bool set_is_stored_form(const StrategyColumn *col, const StrategySide *side);

/* a map's keys as items, sorted, with their dots */
extern int	map_open(const StrategyColumn *col, const StrategySide *side, PartItem **items);

/* --- the two ways in --- */

/* a column's description; kind as the state or the table says */
extern StrategyColumn strategy_column(const FerryTable *table, TupleDesc desc, uint16 id, ColumnKind kind);

/* raise unless the kind fits the column's type here */
extern void strategy_check_type(const StrategyColumn *col);

/*
 * A local write of the column: found as for state_local_write, *value and
 * *isnull as written.  Returns whether they were changed.
 */
extern bool strategy_write(const FerryTable *table, TupleDesc desc, const ColumnStrategy *strategy,
						   const FoundRow *found, Dot d, Version *after, Datum *value, bool *isnull);

/* a joined column of a merge plan: its value into out, its parts into out's version */
extern void strategy_join(const FerryTable *table, TupleDesc desc, uint16 id,
						  const RowState *local, const RowState *remote, RowState *out);

#endif							/* FERRY_STATE_STRATEGY_H */
