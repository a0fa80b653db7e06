/*
 * wire.c
 *		The messages that ferry's nodes send each other: write beside read.
 *
 * See wire.h for the messages.  Everything here works on memory that the caller
 * holds; a reader that meets bad bytes keeps its first error and gives zeroes
 * from then on, so that callers check once, at the end of a message.
 */
#include "core/wire.h"

/* --- writer --- */

void
wire_writer_init(WireWriter *w, size_t cap)
{
	w->len = 0;
	w->cap = cap > 0 ? cap : 64;
	w->data = core_alloc(w->cap);
}

void
wire_reserve(WireWriter *w, size_t bytes)
{
	size_t		cap = w->cap;

	if (w->len + bytes <= cap)
		return;
	while (cap < w->len + bytes)
		cap *= 2;
	w->data = core_realloc(w->data, w->cap, cap);
	w->cap = cap;
}

void
wire_put_u8(WireWriter *w, uint8_t v)
{
	wire_reserve(w, 1);
	w->data[w->len++] = v;
}

void
wire_put_u32(WireWriter *w, uint32_t v)
{
	wire_reserve(w, 4);
	for (int shift = 24; shift >= 0; shift -= 8)
		w->data[w->len++] = (uint8_t) (v >> shift);
}

void
wire_put_u64(WireWriter *w, uint64_t v)
{
	wire_reserve(w, 8);
	for (int shift = 56; shift >= 0; shift -= 8)
		w->data[w->len++] = (uint8_t) (v >> shift);
}

void
wire_put_varint(WireWriter *w, uint64_t v)
{
	wire_reserve(w, 10);
	while (v >= 0x80)
	{
		w->data[w->len++] = (uint8_t) (v | 0x80);
		v >>= 7;
	}
	w->data[w->len++] = (uint8_t) v;
}

void
wire_put_bytes(WireWriter *w, const void *p, size_t n)
{
	wire_reserve(w, n);
	if (n > 0)
		memcpy(w->data + w->len, p, n);
	w->len += n;
}

void
wire_put_string(WireWriter *w, const char *s)
{
	size_t		n = strlen(s);

	wire_put_varint(w, n);
	wire_put_bytes(w, s, n);
}

/* --- reader --- */

void
wire_reader_init(WireReader *r, const void *p, size_t n)
{
	r->p = p;
	r->end = r->p + n;
	r->error = NULL;
}

static void
fail(WireReader *r, const char *why)
{
	if (r->error == NULL)
		r->error = why;
}

const uint8_t *
wire_get_bytes(WireReader *r, size_t n)
{
	const uint8_t *p = r->p;

	if (r->error)
		return NULL;
	if (n > (size_t) (r->end - r->p))
	{
		fail(r, "message is truncated");
		return NULL;
	}
	r->p += n;
	return p;
}

uint8_t
wire_get_u8(WireReader *r)
{
	const uint8_t *p = wire_get_bytes(r, 1);

	return p ? *p : 0;
}

uint32_t
wire_get_u32(WireReader *r)
{
	const uint8_t *p = wire_get_bytes(r, 4);
	uint32_t	v = 0;

	for (int i = 0; p && i < 4; i++)
		v = v << 8 | p[i];
	return v;
}

uint64_t
wire_get_u64(WireReader *r)
{
	const uint8_t *p = wire_get_bytes(r, 8);
	uint64_t	v = 0;

	for (int i = 0; p && i < 8; i++)
		v = v << 8 | p[i];
	return v;
}

uint64_t
wire_get_varint(WireReader *r)
{
	uint64_t	v = 0;

	for (int shift = 0; shift < 64; shift += 7)
	{
		uint8_t		b = wire_get_u8(r);

		if (r->error)
			return 0;
		if (shift == 63 && b > 1)
			break;
		v |= (uint64_t) (b & 0x7f) << shift;
		if (!(b & 0x80))
			return v;
	}
	fail(r, "malformed number");
	return 0;
}

char *
wire_get_string(WireReader *r, size_t max_bytes)
{
	uint64_t	n = wire_get_varint(r);
	const uint8_t *p;
	char	   *s;

	if (!r->error && n > max_bytes)
		fail(r, "string is too long");
	p = wire_get_bytes(r, r->error ? 0 : n);
	if (!r->error && n > 0 && memchr(p, '\0', n))
		fail(r, "string holds a zero byte");
	if (r->error)
		n = 0;
	s = core_alloc(n + 1);
	if (n > 0)
		memcpy(s, p, n);
	s[n] = '\0';
	return s;
}

/* --- begin, commit --- */

void
wire_put_begin(WireWriter *w, const WireTxn *t)
{
	wire_put_u8(w, WIRE_BEGIN);
	wire_put_u64(w, t->commit_lsn);
	wire_put_u64(w, (uint64_t) t->commit_us);
	wire_put_varint(w, t->xid);
}

void
wire_get_begin(WireReader *r, WireTxn *t)
{
	uint64_t	xid;

	memset(t, 0, sizeof(*t));
	t->commit_lsn = wire_get_u64(r);
	t->commit_us = (int64_t) wire_get_u64(r);
	xid = wire_get_varint(r);
	if (xid > UINT32_MAX)
		fail(r, "transaction id is too large");
	t->xid = (uint32_t) xid;
}

void
wire_put_commit(WireWriter *w, const WireTxn *t)
{
	wire_put_u8(w, WIRE_COMMIT);
	wire_put_u64(w, t->commit_lsn);
	wire_put_u64(w, t->end_lsn);
	wire_put_u64(w, (uint64_t) t->commit_us);
}

void
wire_get_commit(WireReader *r, WireTxn *t)
{
	memset(t, 0, sizeof(*t));
	t->commit_lsn = wire_get_u64(r);
	t->end_lsn = wire_get_u64(r);
	t->commit_us = (int64_t) wire_get_u64(r);
	if (!r->error && t->end_lsn == 0)
		fail(r, "commit without a position");
}

/* --- relation --- */

void
wire_put_relation(WireWriter *w, const WireRelation *rel)
{
	wire_put_u8(w, WIRE_RELATION);
	wire_put_varint(w, rel->id);
	wire_put_string(w, rel->schema);
	wire_put_string(w, rel->name);
	wire_put_varint(w, rel->ncols);
	for (int c = 0; c < rel->ncols; c++)
	{
		const WireColumn *col = &rel->cols[c];

		wire_put_varint(w, col->id);
		wire_put_u8(w, col->flags);
		wire_put_string(w, col->name);
		wire_put_string(w, col->type_schema);
		wire_put_string(w, col->type_name);
	}
}

void
wire_get_relation(WireReader *r, WireRelation *rel)
{
	uint64_t	id = wire_get_varint(r);
	uint64_t	ncols;

	memset(rel, 0, sizeof(*rel));
	if (id > UINT32_MAX)
		fail(r, "relation id is too large");
	rel->id = (uint32_t) id;
	rel->schema = wire_get_string(r, WIRE_MAX_NAME);
	rel->name = wire_get_string(r, WIRE_MAX_NAME);
	ncols = wire_get_varint(r);
	if (ncols == 0 || ncols > WIRE_MAX_COLUMNS)
		fail(r, "relation has an impossible number of columns");
	if (r->error)
		return;
	rel->cols = core_alloc(sizeof(WireColumn) * ncols);
	for (uint64_t c = 0; c < ncols; c++)
	{
		WireColumn *col = &rel->cols[c];
		uint64_t	col_id = wire_get_varint(r);

		if (col_id == 0 || col_id > WIRE_MAX_COLUMNS)
			fail(r, "column id is out of range");
		col->id = (uint16_t) col_id;
		col->flags = wire_get_u8(r);
		col->name = wire_get_string(r, WIRE_MAX_NAME);
		col->type_schema = wire_get_string(r, WIRE_MAX_NAME);
		col->type_name = wire_get_string(r, WIRE_MAX_NAME);
		if (r->error)
			return;
		rel->ncols++;
	}
}

/* --- what nodes hold --- */

static NodeId
get_node_id(WireReader *r)
{
	uint64_t	id = wire_get_varint(r);

	if (!r->error && (id == 0 || id > UINT32_MAX))
		fail(r, "invalid node id");
	return r->error ? NODE_ID_NONE : (NodeId) id;
}

void
wire_put_vector(WireWriter *w, const NodeVector *v)
{
	wire_put_varint(w, v->n);
	for (uint32_t i = 0; i < v->n; i++)
	{
		wire_put_varint(w, v->entries[i].node);
		wire_put_u64(w, v->entries[i].hlc);
	}
}

void
wire_get_vector(WireReader *r, NodeVector *v)
{
	uint64_t	n = wire_get_varint(r);

	vector_clear(v);
	if (!r->error && n > VECTOR_MAX)
		fail(r, "vector has too many entries");
	for (uint64_t i = 0; i < n && !r->error; i++)
	{
		Dot			d;

		d.node = get_node_id(r);
		d.hlc = wire_get_u64(r);
		if (!r->error && (d.hlc == 0 || (v->n > 0 && v->entries[v->n - 1].node >= d.node)))
			fail(r, "vector is not in order");
		if (!r->error)
			v->entries[v->n++] = d;
	}
	if (r->error)
		vector_clear(v);
}

void
wire_put_holds(WireWriter *w, NodeId node, const NodeVector *v)
{
	wire_put_u8(w, WIRE_HOLDS);
	wire_put_varint(w, node);
	wire_put_vector(w, v);
}

NodeId
wire_get_holds(WireReader *r, NodeVector *v)
{
	NodeId		node = get_node_id(r);

	wire_get_vector(r, v);
	return r->error ? NODE_ID_NONE : node;
}

void
wire_put_horizon(WireWriter *w, const NodeVector *v)
{
	wire_put_u8(w, WIRE_HORIZON);
	wire_put_vector(w, v);
}

void
wire_put_member(WireWriter *w, const WireMember *m)
{
	wire_put_u8(w, WIRE_MEMBER);
	wire_put_varint(w, m->id);
	wire_put_u8(w, m->is_dropped);
	wire_put_string(w, m->name);
	wire_put_string(w, m->dsn);
}

void
wire_get_member(WireReader *r, WireMember *m)
{
	uint8_t		dropped;

	memset(m, 0, sizeof(*m));
	m->id = get_node_id(r);
	dropped = wire_get_u8(r);
	if (dropped > 1)
		fail(r, "invalid member");
	m->is_dropped = dropped == 1;
	m->name = wire_get_string(r, WIRE_MAX_NAME);
	m->dsn = wire_get_string(r, WIRE_MAX_DSN);
}

/* --- strategy --- */

void
wire_put_strategy(WireWriter *w, const WireStrategy *s)
{
	wire_put_u8(w, WIRE_STRATEGY);
	wire_put_varint(w, s->relation);
	wire_put_varint(w, s->column);
	wire_put_u8(w, s->kind);
	wire_put_string(w, s->function ? s->function : "");
	wire_put_u64(w, s->dot.hlc);
	wire_put_u32(w, s->dot.node);
}

void
wire_get_strategy(WireReader *r, WireStrategy *s)
{
	uint64_t	relation = wire_get_varint(r);
	uint64_t	column = wire_get_varint(r);

	memset(s, 0, sizeof(*s));
	if (relation > UINT32_MAX)
		fail(r, "relation id is too large");
	if (column > WIRE_MAX_COLUMNS)
		fail(r, "column id is out of range");
	s->relation = (uint32_t) relation;
	s->column = (uint16_t) column;
	s->kind = wire_get_u8(r);
	s->function = wire_get_string(r, WIRE_MAX_FUNCTION);
	s->dot.hlc = wire_get_u64(r);
	s->dot.node = wire_get_u32(r);
	if (s->column == 0 ? s->kind > WIRE_LAST_ORPHANS || s->function[0] != '\0' :
		s->kind > KIND_LAST || (s->kind == KIND_FUNCTION) != (s->function[0] != '\0'))
		fail(r, "strategy is unknown");
	if (s->dot.hlc == 0 || s->dot.node == 0)
		fail(r, "strategy without a dot");
}

/* --- rows --- */

void
wire_put_row_head(WireWriter *w, bool alive, uint32_t relation,
				  const void *version, size_t version_len, int ncols)
{
	wire_put_u8(w, alive ? WIRE_ALIVE : WIRE_DEAD);
	wire_put_varint(w, relation);
	wire_put_varint(w, version_len);
	wire_put_bytes(w, version, version_len);
	wire_put_varint(w, ncols);
}

void
wire_put_value(WireWriter *w, WireKind kind, const void *data, size_t len)
{
	if (kind < WIRE_BINARY)
	{
		wire_put_varint(w, kind);
		return;
	}
	wire_put_varint(w, 3 + (uint64_t) len * 3 + (kind - WIRE_BINARY));
	wire_put_bytes(w, data, len);
}

void
wire_get_value(WireReader *r, WireValue *v)
{
	uint64_t	head = wire_get_varint(r);

	v->len = 0;
	v->data = NULL;
	v->kind = WIRE_NULL;
	if (r->error)
		return;
	if (head < 3)
	{
		v->kind = (WireKind) head;
		return;
	}
	head -= 3;
	if (head / 3 > (uint64_t) (r->end - r->p))
	{
		fail(r, "value is truncated");
		return;
	}
	v->kind = (WireKind) (WIRE_BINARY + head % 3);
	v->len = (uint32_t) (head / 3);
	v->data = wire_get_bytes(r, v->len);
}

void
wire_get_row(WireReader *r, WireRow *row, WireValue *values, int max_cols)
{
	uint64_t	relation = wire_get_varint(r);
	uint64_t	version_len = wire_get_varint(r);
	uint64_t	ncols;

	memset(row, 0, sizeof(*row));
	if (relation > UINT32_MAX)
		fail(r, "relation id is too large");
	if (version_len > UINT32_MAX)
		fail(r, "version is too long");
	row->relation = (uint32_t) relation;
	row->version = wire_get_bytes(r, r->error ? 0 : version_len);
	row->version_len = r->error ? 0 : (uint32_t) version_len;
	ncols = wire_get_varint(r);
	if (ncols > (uint64_t) max_cols)
		fail(r, "row has too many columns");
	if (r->error)
		return;
	for (uint64_t c = 0; c < ncols && !r->error; c++)
		wire_get_value(r, &values[c]);
	row->ncols = r->error ? 0 : (uint16_t) ncols;
	row->values = values;
}

/* --- range tombstones --- */

void
wire_put_range(WireWriter *w, uint32_t relation, const void *version, size_t version_len)
{
	wire_put_u8(w, WIRE_RANGE);
	wire_put_varint(w, relation);
	wire_put_varint(w, version_len);
	wire_put_bytes(w, version, version_len);
}

void
wire_get_range(WireReader *r, WireRange *range)
{
	uint64_t	relation = wire_get_varint(r);
	uint64_t	len = wire_get_varint(r);

	memset(range, 0, sizeof(*range));
	if (relation > UINT32_MAX)
		fail(r, "relation id is too large");
	if (len > UINT32_MAX)
		fail(r, "version is too long");
	range->relation = (uint32_t) relation;
	range->version = wire_get_bytes(r, r->error ? 0 : len);
	range->version_len = r->error ? 0 : (uint32_t) len;
}
