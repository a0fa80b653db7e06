/*-------------------------------------------------------------------------
 *
 * strategy_counter.c
 *		Counters: node -> what it has contributed; the value is the sum.
 *
 * A local write adds (new - old) to this node's share.  Shares are kept as
 * bytes: of integer columns a zigzag varint of up to 128 bits (a share may leave
 * the column's range while the sum stays within), of numeric ones the shortest
 * decimal text.  The share of the node that wrote the column last is not kept:
 * it is what the others leave of the value.
 *
 * How many digits a numeric shows after the point is a register of its own, the
 * greatest scale that was written, so that 1.5 and 1.50 come out alike on all
 * nodes.  NULL counts as nothing, until something is added.
 *
 * A sum that leaves the column's range is an error: the state waits in
 * quarantine, and merges when later writes have brought the sum back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "compat.h"
#include "state/strategy.h"

#ifndef HAVE_INT128
#error "ferry needs a compiler with 128-bit integers"
#endif

/* 128 bits, 7 a byte */
#define VARINT_MAX_BYTES 19

typedef struct Amount
{
	int128		integer;
	Numeric		numeric;		/* of numeric columns, else NULL */
} Amount;

pg_noreturn static void
report_malformed(const StrategyColumn *col)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("contribution to counter column \"%s\" is malformed", NameStr(col->attr->attname)),
			 errdetail("It may come from a column of another type.")));
}

static void
report_range(const StrategyColumn *col)
{
	ereport(ERROR,
			(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
			 errmsg("sum of counter column \"%s\" is out of range for type %s",
					NameStr(col->attr->attname), format_type_be(col->attr->atttypid)),
			 errdetail("Concurrent additions stay within the range one by one, but not together."),
			 errhint("Change the column to a wider type, or lower the counter; then call ferry.retry_quarantine().")));
}

static bool
is_numeric(const StrategyColumn *col)
{
	return col->base == NUMERICOID;
}

/* --- arithmetic --- */

static Amount
zero(const StrategyColumn *col)
{
	Amount		a = {0, NULL};

	if (is_numeric(col))
		a.numeric = int64_to_numeric(0);
	return a;
}

static Amount
amount_of(const StrategyColumn *col, Datum value, bool isnull)
{
	Amount		a = zero(col);

	if (isnull)
		return a;
	switch (col->base)
	{
		case INT2OID:
			a.integer = DatumGetInt16(value);
			break;
		case INT4OID:
			a.integer = DatumGetInt32(value);
			break;
		case INT8OID:
			a.integer = DatumGetInt64(value);
			break;
		default:
			a.numeric = DatumGetNumeric(value);
			break;
	}
	return a;
}

/* a + b, or a - b */
static Amount
add(const StrategyColumn *col, Amount a, Amount b, bool subtract)
{
	bool		overflow = false;

	if (is_numeric(col))
		a.numeric = subtract ? numeric_sub_opt_error(a.numeric, b.numeric, &overflow) :
			numeric_add_opt_error(a.numeric, b.numeric, &overflow);
	else
		overflow = subtract ? __builtin_sub_overflow(a.integer, b.integer, &a.integer) :
			__builtin_add_overflow(a.integer, b.integer, &a.integer);
	if (overflow)
		report_range(col);
	return a;
}

static bool
is_countable(const StrategyColumn *col, Datum value)
{
	return !is_numeric(col) ||
		(!numeric_is_nan(DatumGetNumeric(value)) && !numeric_is_inf(DatumGetNumeric(value)));
}

bool
counter_is_countable(const StrategyColumn *col, Datum value, bool isnull)
{
	return isnull || is_countable(col, value);
}

/* digits after the point that a value shows */
static int
scale_of(const StrategyColumn *col, Datum value, bool isnull)
{
	return !isnull && is_numeric(col) ? DatumGetInt32(DirectFunctionCall1(numeric_scale, value)) : 0;
}

/* the sum as a value of the column */
static Datum
value_of(const StrategyColumn *col, Amount a, int scale)
{
	Datum		value;

	switch (col->base)
	{
		case INT2OID:
			if (a.integer < PG_INT16_MIN || a.integer > PG_INT16_MAX)
				report_range(col);
			return Int16GetDatum((int16) a.integer);
		case INT4OID:
			if (a.integer < PG_INT32_MIN || a.integer > PG_INT32_MAX)
				report_range(col);
			return Int32GetDatum((int32) a.integer);
		case INT8OID:
			if (a.integer < PG_INT64_MIN || a.integer > PG_INT64_MAX)
				report_range(col);
			return Int64GetDatum((int64) a.integer);
		default:
			value = DirectFunctionCall2(numeric_round, NumericGetDatum(a.numeric), Int32GetDatum(scale));
			if (col->attr->atttypmod >= 0)
				value = DirectFunctionCall2(numeric, value, Int32GetDatum(col->attr->atttypmod));
			return value;
	}
}

/* --- bytes of a share --- */

static uint32
put_integer(int128 v, uint8 *out)
{
	uint128		bits = ((uint128) v << 1) ^ (uint128) (v >> 127);
	uint32		n = 0;

	if (v == 0)
		return 0;
	for (; bits >= 0x80; bits >>= 7)
		out[n++] = (uint8) (bits | 0x80);
	out[n++] = (uint8) bits;
	return n;
}

static Part
share_of(const StrategyColumn *col, NodeId node, Amount a)
{
	Part		share = {.node = node};

	if (is_numeric(col))
	{
		char	   *text = numeric_normalize(a.numeric);

		share.bytes = (const uint8_t *) text;
		share.len = strcmp(text, "0") == 0 ? 0 : strlen(text);
	}
	else
	{
		uint8	   *bytes = palloc(VARINT_MAX_BYTES);

		share.bytes = bytes;
		share.len = put_integer(a.integer, bytes);
	}
	return share;
}

static Amount
amount_of_share(const StrategyColumn *col, const Part *share)
{
	Amount		a = zero(col);

	if (is_numeric(col))
	{
		char	   *text = pnstrdup((const char *) share->bytes, share->len);

		if (strspn(text, "-0123456789.") != share->len)
			report_malformed(col);
		a.numeric = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text),
														ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
		if (strcmp(numeric_normalize(a.numeric), text) != 0)
			report_malformed(col);
	}
	else
	{
		uint128		bits = 0;
		uint8		again[VARINT_MAX_BYTES];

		if (share->len > VARINT_MAX_BYTES)
			report_malformed(col);
		for (uint32 i = 0; i < share->len; i++)
			bits |= (uint128) (share->bytes[i] & 0x7f) << (7 * i);
		a.integer = (int128) (bits >> 1) ^ -(int128) (bits & 1);
		if (put_integer(a.integer, again) != share->len || memcmp(again, share->bytes, share->len) != 0)
			report_malformed(col);
	}
	return a;
}

/* --- opening and closing --- */

/* every node's share that is not zero, sorted by node; room for one more */
int
counter_open(const StrategyColumn *col, const StrategySide *side, Part **shares)
{
	const ColumnParts *parts = version_column_parts(side->version, col->id);
	int			n = parts ? parts->nparts : 0;
	Amount		rest;
	Part		own;

	if (!side->isnull && !is_countable(col, side->value))
		report_malformed(col);
	rest = amount_of(col, side->value, side->isnull);
	for (int i = 0; i < n; i++)
		rest = add(col, rest, amount_of_share(col, &parts->parts[i]), true);
	own = share_of(col, version_column_dot(side->version, col->id).node, rest);
	*shares = palloc(sizeof(Part) * (n + 2));
	return shares_put(parts ? parts->parts : NULL, n, own.node, own.bytes, own.len, *shares);
}

/* shares into version; returns their sum */
static Amount
close_shares(const StrategyColumn *col, Version *version, PartsSince since, const Part *shares, int n)
{
	ColumnParts parts = {.col = col->id, .kind = KIND_COUNTER, .since = since};
	Amount		sum = zero(col);

	parts.parts = palloc(sizeof(Part) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		sum = add(col, sum, amount_of_share(col, &shares[i]), false);
		if (shares[i].node != version_column_dot(version, col->id).node)
			parts.parts[parts.nparts++] = shares[i];
	}
	version_put_parts(version, &parts);
	return sum;
}

void
counter_write(const StrategyColumn *col, StrategyWrite *w)
{
	Part	   *shares = NULL;
	Part	   *after;
	Part		mine;
	Amount		amount;
	int			n = 0;
	int			scale;

	if (w->isnull ? w->old && !w->old->isnull : !is_countable(col, w->value))
		return;
	if (w->old && !w->old->isnull && !is_countable(col, w->old->value))
		return;					/* from NaN: nothing to add to */
	amount = amount_of(col, w->value, w->isnull);
	scale = scale_of(col, w->value, w->isnull);
	if (w->old)
	{
		n = counter_open(col, w->old, &shares);
		amount = add(col, amount, amount_of(col, w->old->value, w->old->isnull), true);
		for (int i = 0; i < n; i++)
			if (shares[i].node == w->dot.node)
				amount = add(col, amount, amount_of_share(col, &shares[i]), false);
		if (is_numeric(col))
			scale = Max(scale, scale_of(col, w->old->value, w->old->isnull));
	}
	mine = share_of(col, w->dot.node, amount);
	after = palloc(sizeof(Part) * (n + 1));
	n = shares_put(shares, n, mine.node, mine.bytes, mine.len, after);
	amount = close_shares(col, w->after, w->since, after, n);
	if (!w->isnull && is_numeric(col) && scale_of(col, w->value, false) != scale)
		w->value = value_of(col, amount, scale);
}

void
counter_join(const StrategyColumn *col, StrategyJoin *j)
{
	Part	   *l;
	Part	   *r;
	int			nl = counter_open(col, j->local, &l);
	int			nr = counter_open(col, j->remote, &r);
	Part	   *merged = palloc(sizeof(Part) * (nl + nr + 1));
	int			n = shares_merge(l, nl, j->local->version, r, nr, j->remote->version, merged);
	Amount		sum = close_shares(col, j->out, j->since, merged, n);

	j->isnull = j->local->isnull && j->remote->isnull;
	if (!j->isnull)
		j->value = value_of(col, sum, Max(scale_of(col, j->local->value, j->local->isnull),
										  scale_of(col, j->remote->value, j->remote->isnull)));
}

void
counter_hand_over(const StrategyColumn *col, const StrategySide *side, const VersionRename *r,
				  const Part *kept, Version *out)
{
	const ColumnParts *parts = version_column_parts(out, col->id);
	PartsSince	since = parts->since;
	Part	   *shares;
	Part	   *rest;
	Part	   *divided;
	Part		of_from;
	Part		of_to;
	Amount		given = zero(col);
	Amount		stays = zero(col);
	Amount		grows = zero(col);
	int			n = counter_open(col, side, &shares);

	for (int i = 0; i < n; i++)
	{
		if (shares[i].node == r->from)
			given = amount_of_share(col, &shares[i]);
		else if (shares[i].node == r->to)
			grows = amount_of_share(col, &shares[i]);
	}
	if (kept == NULL)
		stays = given;
	else if (kept->len > 0)
		stays = amount_of_share(col, kept);
	given = add(col, given, stays, true);
	of_from = share_of(col, r->from, stays);
	of_to = share_of(col, r->to, add(col, grows, given, false));
	rest = palloc(sizeof(Part) * (n + 1));
	n = shares_put(shares, n, of_from.node, of_from.bytes, of_from.len, rest);
	divided = palloc(sizeof(Part) * (n + 1));
	n = shares_put(rest, n, of_to.node, of_to.bytes, of_to.len, divided);
	(void) close_shares(col, out, since, divided, n);
}

/* --- text, for row states in jsonb --- */

char *
counter_share_text(const StrategyColumn *col, const Part *share)
{
	Amount		a = amount_of_share(col, share);
	uint128		digits;
	char	   *text;
	char	   *p;

	if (is_numeric(col))
		return numeric_normalize(a.numeric);
	text = palloc(42);
	p = text + 41;
	*p = '\0';
	digits = a.integer < 0 ? -(uint128) a.integer : (uint128) a.integer;
	do
	{
		*--p = '0' + (int) (digits % 10);
		digits /= 10;
	} while (digits > 0);
	if (a.integer < 0)
		*--p = '-';
	return p;
}

Part
counter_share_from_text(const StrategyColumn *col, NodeId node, const char *text)
{
	Amount		a = zero(col);
	const char *p = text;

	if (strlen(text) > PART_MAX_BYTES || strspn(text, "-0123456789.") != strlen(text))
		report_malformed(col);
	if (is_numeric(col))
		a.numeric = DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(text),
														ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	else
	{
		bool		negative = *p == '-';

		p += negative;
		if (*p == '\0')
			report_malformed(col);
		for (; *p; p++)
			if (*p < '0' || *p > '9' ||
				__builtin_mul_overflow(a.integer, 10, &a.integer) ||
				__builtin_add_overflow(a.integer, *p - '0', &a.integer))
				report_malformed(col);
		if (negative)
			a.integer = -a.integer;
	}
	return share_of(col, node, a);
}
