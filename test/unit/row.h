/*
 * row.h
 *		Rows for simulations of the core: one column of numbers, one of sets, one of
 *		maps, one plain register.
 *
 * Opening and closing of values is the server's (src/state/strategy_*.c); here
 * it is done for numbers and bytes.
 */
#ifndef FERRY_TEST_ROW_H
#define FERRY_TEST_ROW_H

#include "core/merge.h"

enum {NUM = 0, SET = 1, MAP = 2, PLAIN = 3, NCOLS = 4};
enum {NELEMS = 5, ROW_MAX_WRITERS = 8};
extern const uint16_t row_ids[NCOLS];

/* elements and keys are numbers below NELEMS; 0 of val: no such key */
typedef struct Value
{
	int64_t		num;
	bool		in[NELEMS];
	uint64_t	val[NELEMS];
} Value;

typedef struct State
{
	bool		alive;
	Version		version;
	Value		values[NCOLS];
} State;

extern int64_t row_apply_function(ColumnKind kind, int64_t a, int64_t b);

/* a column that both have built on: its value, and its parts into out */
extern void row_join(Version *out, int c, const State *l, const State *r, Value *value);

/* a local write at d of a column, under a strategy; old NULL: none; parts into after */
extern void row_write_column(const State *old, ColumnKind kind, int c, Dot d, Version *after,
							 Value wanted, Value *out);

/* random: which strategies columns have, a new value */
extern void row_random_kinds(ColumnKind *kinds);
extern Value row_random_value(int c, const Value *old);

#endif							/* FERRY_TEST_ROW_H */
