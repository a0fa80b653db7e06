/*
 * row.c
 *		Rows for simulations of the core: see row.h.
 */
#include <stdlib.h>

#include "row.h"

const uint16_t row_ids[NCOLS] = {2, 3, 5, 9};

static const uint8_t names[NELEMS] = {0, 1, 2, 3, 4};

int64_t
row_apply_function(ColumnKind kind, int64_t a, int64_t b)
{
	if (kind == KIND_FUNCTION)
		return a | b;
	return (kind == KIND_MAX) == (a > b) ? a : b;
}

/* --- opening and closing --- */

static int64_t
amount(const Part *p)
{
	int64_t		v = 0;

	if (p->len > 0)
		memcpy(&v, p->bytes, sizeof(v));
	return v;
}

static uint32_t
put_amount(int64_t v, const uint8_t **bytes)
{
	uint8_t    *b = core_alloc(sizeof(v));

	memcpy(b, &v, sizeof(v));
	*bytes = b;
	return v != 0 ? sizeof(v) : 0;
}

/* every node's share, that of the column's writer included */
static int
open_shares(const Version *v, uint16_t id, int64_t value, Part *out)
{
	const ColumnParts *cp = version_column_parts(v, id);
	const uint8_t *bytes;
	uint32_t	len;

	for (uint32_t i = 0; cp && i < cp->nparts; i++)
		value -= amount(&cp->parts[i]);
	len = put_amount(value, &bytes);
	return shares_put(cp ? cp->parts : NULL, cp ? cp->nparts : 0, version_column_dot(v, id).node, bytes, len, out);
}

static int64_t
close_shares(Version *v, uint16_t id, PartsSince since, const Part *shares, int n)
{
	ColumnParts cp = {id, KIND_COUNTER, since, 0, core_alloc(sizeof(Part) * (n + 1))};
	int64_t		sum = 0;

	for (int i = 0; i < n; i++)
	{
		sum += amount(&shares[i]);
		if (shares[i].node != version_column_dot(v, id).node)
			cp.parts[cp.nparts++] = shares[i];
	}
	version_put_parts(v, &cp);
	return sum;
}

static int
open_items(ColumnKind kind, const Version *v, uint16_t id, const Value *value, PartItem *out)
{
	const ColumnParts *cp = v ? version_column_parts(v, id) : NULL;
	Dot			own = v ? version_column_dot(v, id) : (Dot) {0, 0};
	uint32_t	at = 0;
	int			n = 0;

	for (int e = 0; e < NELEMS; e++)
	{
		PartItem	   *item = &out[n];
		bool		here = kind == KIND_SET ? value->in[e] : value->val[e] != 0;
		const Part *removed = NULL;

		for (uint32_t p = 0; cp && p < cp->nparts; p++)
			if (cp->parts[p].removed && cp->parts[p].bytes[0] == e)
				removed = &cp->parts[p];
		if (!here && !removed)
			continue;
		memset(item, 0, sizeof(*item));
		item->key = &names[e];
		item->key_len = 1;
		item->removed = !here;
		item->value = (const uint8_t *) &value->val[e];
		item->value_len = sizeof(value->val[e]);
		if (removed)
		{
			item->dots = removed->dots;
			item->ndots = removed->ndots;
		}
		else if (cp)
		{
			item->dots = cp->parts[at].dots;
			item->ndots = cp->parts[at++].ndots;
		}
		else
		{
			item->dots = core_alloc(sizeof(Dot));
			item->dots[0] = own;
			item->ndots = 1;
		}
		n++;
	}
	return n;
}

static void
close_items(ColumnKind kind, Version *v, uint16_t id, PartsSince since, const PartItem *items, int n, Value *value)
{
	ColumnParts cp = {id, kind, since, 0, core_alloc(sizeof(Part) * (n + 1))};
	Value		out = {0};

	for (int pass = 0; pass < 2; pass++)
		for (int i = 0; i < n; i++)
		{
			Part	   *part = &cp.parts[cp.nparts];

			if (items[i].removed != (pass == 1))
				continue;
			memset(part, 0, sizeof(*part));
			part->dots = items[i].dots;
			part->ndots = items[i].ndots;
			part->removed = items[i].removed;
			if (part->removed)
			{
				part->bytes = items[i].key;
				part->len = items[i].key_len;
			}
			else if (kind == KIND_SET)
				out.in[items[i].key[0]] = true;
			else
				memcpy(&out.val[items[i].key[0]], items[i].value, sizeof(uint64_t));
			cp.nparts++;
		}
	version_put_parts(v, &cp);
	*value = out;
}

/* --- merge --- */

void
row_join(Version *out, int c, const State *l, const State *r, Value *value)
{
	const ColumnParts *cp = version_column_parts(&l->version, row_ids[c]);

	if (cp->kind == KIND_COUNTER)
	{
		Part		sl[ROW_MAX_WRITERS + 1];
		Part		sr[ROW_MAX_WRITERS + 1];
		Part		s[2 * ROW_MAX_WRITERS + 2];
		int			nl = open_shares(&l->version, row_ids[c], l->values[c].num, sl);
		int			nr = open_shares(&r->version, row_ids[c], r->values[c].num, sr);
		int			n = shares_merge(sl, nl, &l->version, sr, nr, &r->version, s);

		value->num = close_shares(out, row_ids[c], cp->since, s, n);
	}
	else if (cp->kind == KIND_SET || cp->kind == KIND_MAP)
	{
		PartItem		il[NELEMS];
		PartItem		ir[NELEMS];
		PartItem		i[2 * NELEMS];
		int			nl = open_items(cp->kind, &l->version, row_ids[c], &l->values[c], il);
		int			nr = open_items(cp->kind, &r->version, row_ids[c], &r->values[c], ir);
		int			n = items_merge(cp->kind, il, nl, &l->version, ir, nr, &r->version, i);

		close_items(cp->kind, out, row_ids[c], cp->since, i, n, value);
	}
	else
	{
		value->num = row_apply_function(cp->kind, l->values[c].num, r->values[c].num);
		version_put_parts(out, cp);
	}
}

/* --- local writes --- */

void
row_write_column(const State *old, ColumnKind kind, int c, Dot d, Version *after, Value wanted, Value *out)
{
	const Version *before = old ? &old->version : NULL;
	Value		none = {0};
	const Value *was = old ? &old->values[c] : &none;
	PartsSince	since;
	Ground		ground;
	bool		birth = !old || !old->alive;

	*out = wanted;
	if (kind == KIND_LWW)
		return;
	ground = parts_ground(before, row_ids[c], kind, &d, &since);
	if (kind == KIND_COUNTER)
	{
		Part		s[ROW_MAX_WRITERS + 1];
		Part		t[ROW_MAX_WRITERS + 2];
		const uint8_t *bytes;
		int			n = 0;
		int64_t		mine = wanted.num;

		if (ground == GROUND_SAME || ground == GROUND_REGISTER)
		{
			n = open_shares(before, row_ids[c], was->num, s);
			mine -= was->num;
			for (int i = 0; i < n; i++)
				if (s[i].node == d.node)
					mine += amount(&s[i]);
		}
		{
			uint32_t	len = put_amount(mine, &bytes);

			n = shares_put(s, n, d.node, bytes, len, t);
		}
		out->num = close_shares(after, row_ids[c], since, t, n);
	}
	else if (kind == KIND_SET || kind == KIND_MAP)
	{
		PartItem		i[2 * NELEMS];
		PartItem		fresh[NELEMS];
		PartItem		t[3 * NELEMS];
		int			n = ground == GROUND_SAME || ground == GROUND_REGISTER ?
			open_items(kind, before, row_ids[c], was, i) : 0;
		int			m = open_items(kind, NULL, row_ids[c], &wanted, fresh);

		n = items_write(kind, i, n, fresh, m, birth, &d, t);
		close_items(kind, after, row_ids[c], since, t, n, out);
	}
	else
	{
		ColumnParts cp = {row_ids[c], kind, since, 0, NULL};

		if (ground == GROUND_SAME || ground == GROUND_REGISTER)
			out->num = row_apply_function(kind, was->num, wanted.num);
		version_put_parts(after, &cp);
	}
}

/* --- random --- */

static const ColumnKind num_kinds[] = {KIND_COUNTER, KIND_MAX, KIND_MIN, KIND_FUNCTION, KIND_LWW};

void
row_random_kinds(ColumnKind *kinds)
{
	kinds[NUM] = num_kinds[rand() % 5];
	kinds[SET] = rand() % 3 ? KIND_SET : KIND_LWW;
	kinds[MAP] = rand() % 3 ? KIND_MAP : KIND_LWW;
	kinds[PLAIN] = KIND_LWW;
}

Value
row_random_value(int c, const Value *old)
{
	Value		v = *old;

	if (c == NUM)
		v.num = rand() % 3 ? old->num + rand() % 7 - 3 : rand() % 64;
	for (int e = 0; e < NELEMS; e++)
	{
		if (c == SET && rand() % 3 == 0)
			v.in[e] = !v.in[e];
		if (c == MAP && rand() % 3 == 0)
			v.val[e] = rand() % 3 ? (uint64_t) (1 + rand() % 1000000) : 0;
	}
	return v;
}

