/*
 * state.h
 *		A row state in the server: alive or dead, a version, and the values by
 *		attribute number of the local table.
 */
#ifndef FERRY_STATE_STATE_H
#define FERRY_STATE_STATE_H

#include "postgres.h"

#include "core/merge.h"
#include "core/wire.h"
#include "executor/tuptable.h"
#include "node/table.h"
#include "utils/jsonb.h"

typedef enum ValueKind
{
	VALUE_ABSENT = 0,			/* the state does not carry this column */
	VALUE_HERE,					/* values[]/nulls[] hold it */
	VALUE_UNCHANGED				/* not sent: the receiver has it, or asks (core/narrow.c) */
} ValueKind;

typedef struct RowState
{
	bool		alive;
	bool		is_current;		/* read at another node just now: what is gone here is not why it is there */
	const NodeVector *held_there;	/* is_current: what that node held before the state was read; NULL: all that matters */
	Version		version;		/* column ids are local */
	int			natts;
	Datum	   *values;			/* [attno - 1]; key columns always VALUE_HERE */
	bool	   *nulls;
	uint8	   *kinds;			/* ValueKind */
} RowState;

/* how two states of a table merge, on metadata alone (core/merge.c); allocates in the current context */
extern void state_merge_plan(const FerryTable *table, const RowState *local, const RowState *remote,
							 MergePlan *plan);

/* the key's values, in key order */
static inline void
state_key_values(const FerryTable *table, const RowState *s, Datum *values)
{
	for (int k = 0; k < table->nkeys; k++)
		values[k] = s->values[table->key_attnos[k] - 1];
}

/* allocate an all-absent state for a table, in the current context */
extern RowState *state_create(const FerryTable *table);

/* encode a version into a ferry.version datum (palloc'd) and back (arrays palloc'd) */
extern Datum state_version_datum(const Version *v);
extern void state_version_read(Datum d, Version *v);	/* raises ERRCODE_DATA_CORRUPTED */

/* of a live row, its version still to be set; by-reference values are not copied */
extern RowState *state_from_values(const FerryTable *table, const Datum *values, const bool *nulls);

/* the state of a live row; values point into the slot, which must stay */
extern RowState *state_from_slot(const FerryTable *table, TupleTableSlot *slot);

/* jsonb for conflicts and ferry.state; see state/json.c */
extern Datum state_key_to_jsonb(const FerryTable *table, Relation rel, const RowState *s);
extern Datum state_row_to_jsonb(const FerryTable *table, Relation rel, const RowState *s);
extern Datum state_image_to_jsonb(const FerryTable *table, Relation rel, const RowState *s); /* key and row */
extern Datum state_to_jsonb(const FerryTable *table, Relation rel, const RowState *s);

/* a jsonb string that points to s */
extern JsonbValue state_json_string(const char *s);

/* parse and check a state in jsonb; raises ERRCODE_INVALID_PARAMETER_VALUE and the like */
extern RowState *state_from_jsonb(const FerryTable *table, Relation rel, Datum jsonb);

/* the state of a whole table: what TRUNCATE left (state/range_tombstone.c); is a jsonb one, read it, write it */
extern bool state_is_range(Datum jsonb);
extern void range_from_jsonb(Datum jsonb, Version *out);
extern Datum range_to_jsonb(const Version *range);

/*
 * {"truncates": [...]}: what a state's members are joined with, ordered by their
 * dots; and those of a state, as Version *
 */
extern Datum ranges_to_jsonb(const Version *ranges, int n);
extern List *state_ranges_from_jsonb(Datum jsonb);

/* only the key: {"id": 1} */
extern RowState *state_key_from_jsonb(const FerryTable *table, Relation rel, Datum jsonb);

#endif							/* FERRY_STATE_STATE_H */
