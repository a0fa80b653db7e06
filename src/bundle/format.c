/*
 * format.c
 *		What a bundle's parts say: write beside read.
 *
 * A part is
 *
 *		+------+---------------------------+-------------------+
 *		| head | payload (stored_bytes)    | seal              |
 *		| 36   | raw, compressed, enciphered | CRC 4, tag 16/32 |
 *		+------+---------------------------+-------------------+
 *
 * Nothing here knows of ciphers (seal.c) or of the order of parts (reader.c,
 * writer.c).  What is read is hostile: every length is checked, every number has
 * a bound, unknown values are refused, and nothing may be left over.
 */
#include "bundle/format.h"

static const uint8_t magic[4] = {0x8f, 'F', 'R', 'Y'};

/* --- CRC-32C, eight bytes at a time --- */

static uint32_t crc_table[8][256];

static void
crc_make_table(void)
{
	for (uint32_t i = 0; i < 256; i++)
	{
		uint32_t	c = i;

		for (int k = 0; k < 8; k++)
			c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
		crc_table[0][i] = c;
	}
	for (int t = 1; t < 8; t++)
		for (uint32_t i = 0; i < 256; i++)
			crc_table[t][i] = crc_table[t - 1][i] >> 8 ^ crc_table[0][crc_table[t - 1][i] & 0xff];
}

uint32_t
bundle_crc(uint32_t crc, const void *data, size_t n)
{
	const uint8_t *p = data;

	if (crc_table[0][1] == 0)
		crc_make_table();
	crc = ~crc;
	for (; n >= 8; n -= 8, p += 8)
	{
		crc ^= (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
		crc = crc_table[7][crc & 0xff] ^ crc_table[6][crc >> 8 & 0xff] ^
			crc_table[5][crc >> 16 & 0xff] ^ crc_table[4][crc >> 24] ^
			crc_table[3][p[4]] ^ crc_table[2][p[5]] ^ crc_table[1][p[6]] ^ crc_table[0][p[7]];
	}
	for (; n > 0; n--, p++)
		crc = crc >> 8 ^ crc_table[0][(crc ^ *p) & 0xff];
	return ~crc;
}

/* --- head --- */

static void
put_u32(uint8_t *out, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		out[i] = (uint8_t) (v >> (24 - 8 * i));
}

void
bundle_put_head(uint8_t *out, const BundleHead *head)
{
	memcpy(out, magic, 4);
	out[4] = BUNDLE_VERSION;
	out[5] = head->type;
	out[6] = head->flags;
	out[7] = 0;
	memcpy(out + 8, head->id, BUNDLE_ID_BYTES);
	put_u32(out + 24, head->number);
	put_u32(out + 28, head->raw_bytes);
	put_u32(out + 32, head->stored_bytes);
}

bool
bundle_get_head(const uint8_t *in, size_t n, BundleHead *head, BundleError *error)
{
	WireReader	r;
	size_t		limit;

	memset(head, 0, sizeof(*head));
	if (n < BUNDLE_HEAD_BYTES)
		return bundle_fail(error, BUNDLE_DAMAGED, "a part is shorter than its head");
	if (memcmp(in, magic, 4) != 0)
		return bundle_fail(error, BUNDLE_DAMAGED, "this is not a part of a bundle");
	if (in[4] != BUNDLE_VERSION)
		return bundle_fail(error, BUNDLE_UNSUPPORTED, "the bundle has another format version than this ferry reads");
	head->type = in[5];
	head->flags = in[6];
	memcpy(head->id, in + 8, BUNDLE_ID_BYTES);
	wire_reader_init(&r, in + 24, 12);
	head->number = wire_get_u32(&r);
	head->raw_bytes = wire_get_u32(&r);
	head->stored_bytes = wire_get_u32(&r);
	if (head->type != BUNDLE_HEADER && head->type != BUNDLE_BLOCK &&
		head->type != BUNDLE_END && head->type != BUNDLE_SIGNATURE)
		return bundle_fail(error, BUNDLE_DAMAGED, "a part has an unknown type");
	if (in[7] != 0 || (head->flags & ~BUNDLE_COMPRESSED) != 0 ||
		(head->flags != 0 && head->type != BUNDLE_BLOCK))
		return bundle_fail(error, BUNDLE_DAMAGED, "a part has unknown flags");
	limit = head->type == BUNDLE_BLOCK ? BUNDLE_MAX_BLOCK : BUNDLE_MAX_META;
	if (head->raw_bytes > limit || head->stored_bytes > head->raw_bytes)
		return bundle_fail(error, BUNDLE_DAMAGED, "a part claims an impossible length");
	if (head->flags == 0 && head->stored_bytes != head->raw_bytes)
		return bundle_fail(error, BUNDLE_DAMAGED, "a part claims two lengths");
	if (head->stored_bytes > n - BUNDLE_HEAD_BYTES)
		return bundle_fail(error, BUNDLE_DAMAGED, "a part is shorter than its head says");
	return true;
}

/* --- header --- */

void
bundle_put_header(WireWriter *w, const BundleHeader *h)
{
	wire_put_u8(w, h->cipher);
	wire_put_u8(w, h->hash);
	wire_put_u8(w, h->signer);
	wire_put_varint(w, h->protocol);
	wire_put_varint(w, h->ngroups);
	wire_put_bytes(w, h->groups, (size_t) h->ngroups * 16);
	wire_put_u32(w, h->source);
	wire_put_u32(w, h->incarnation);
	wire_put_string(w, h->source_name);
	wire_put_u64(w, h->created_us);
	wire_put_string(w, h->encoding);
	wire_put_string(w, h->since);
	if (h->cipher != BUNDLE_PLAIN)
	{
		wire_put_bytes(w, h->salt, BUNDLE_SALT_BYTES);
		wire_put_bytes(w, h->key_id, BUNDLE_KEY_ID_BYTES);
	}
}

/* bytes that may not be left over: what is unknown is refused */
static bool
finish(const WireReader *r, const char *damage, BundleError *error)
{
	if (r->error != NULL || r->p != r->end)
		return bundle_fail(error, BUNDLE_DAMAGED, damage);
	return true;
}

bool
bundle_get_header(const uint8_t *in, size_t n, BundleHeader *h, BundleError *error)
{
	static const char *damage = "the bundle's header is malformed";
	WireReader	r;
	uint64_t	ngroups;
	const uint8_t *p;

	memset(h, 0, sizeof(*h));
	wire_reader_init(&r, in, n);
	h->cipher = wire_get_u8(&r);
	h->hash = wire_get_u8(&r);
	h->signer = wire_get_u8(&r);
	if (r.error == NULL && (h->cipher > BUNDLE_SM4_CTR_HMAC_SM3 || h->signer > BUNDLE_SM2 ||
							h->hash < BUNDLE_SHA256 || h->hash > BUNDLE_SM3))
		return bundle_fail(error, BUNDLE_UNSUPPORTED, "the bundle is sealed in a way that this ferry does not know");
	h->protocol = (uint32_t) wire_get_varint(&r);
	ngroups = wire_get_varint(&r);
	if (r.error != NULL || ngroups == 0 || ngroups > BUNDLE_MAX_GROUPS)
		return bundle_fail(error, BUNDLE_DAMAGED, damage);
	p = wire_get_bytes(&r, ngroups * 16);
	if (p == NULL)
		return bundle_fail(error, BUNDLE_DAMAGED, damage);
	h->ngroups = (uint16_t) ngroups;
	h->groups = core_alloc(ngroups * 16);
	memcpy(h->groups, p, ngroups * 16);
	h->source = wire_get_u32(&r);
	h->incarnation = wire_get_u32(&r);
	h->source_name = wire_get_string(&r, 63);
	h->created_us = wire_get_u64(&r);
	h->encoding = wire_get_string(&r, 63);
	h->since = wire_get_string(&r, BUNDLE_MAX_VECTOR);
	if (h->cipher != BUNDLE_PLAIN)
	{
		if ((p = wire_get_bytes(&r, BUNDLE_SALT_BYTES)) != NULL)
			memcpy(h->salt, p, BUNDLE_SALT_BYTES);
		if ((p = wire_get_bytes(&r, BUNDLE_KEY_ID_BYTES)) != NULL)
			memcpy(h->key_id, p, BUNDLE_KEY_ID_BYTES);
	}
	if (r.error == NULL && (h->source == NODE_ID_NONE || h->source_name[0] == '\0'))
		return bundle_fail(error, BUNDLE_DAMAGED, "the bundle does not name its source");
	return finish(&r, damage, error);
}

/* --- end --- */

void
bundle_put_totals(WireWriter *w, const BundleTotals *t)
{
	wire_put_varint(w, t->blocks);
	wire_put_varint(w, t->tables);
	wire_put_varint(w, t->states);
	wire_put_varint(w, t->dead);
	wire_put_varint(w, t->raw_bytes);
	wire_put_string(w, t->reach);
	wire_put_bytes(w, t->digest, BUNDLE_DIGEST_BYTES);
}

bool
bundle_get_totals(const uint8_t *in, size_t n, BundleTotals *t, BundleError *error)
{
	WireReader	r;
	const uint8_t *p;

	memset(t, 0, sizeof(*t));
	wire_reader_init(&r, in, n);
	t->blocks = wire_get_varint(&r);
	t->tables = wire_get_varint(&r);
	t->states = wire_get_varint(&r);
	t->dead = wire_get_varint(&r);
	t->raw_bytes = wire_get_varint(&r);
	t->reach = wire_get_string(&r, BUNDLE_MAX_VECTOR);
	if ((p = wire_get_bytes(&r, BUNDLE_DIGEST_BYTES)) != NULL)
		memcpy(t->digest, p, BUNDLE_DIGEST_BYTES);
	return finish(&r, "the bundle's end is malformed", error);
}

/* --- frames --- */

static bool
is_described(const BundleCount *count, uint32_t id)
{
	for (uint32_t i = count->ntables; i-- > 0;)
		if (count->tables[i] == id)
			return true;
	return false;
}

void
bundle_count_begin(BundleCount *count, NodeId source)
{
	memset(count, 0, sizeof(*count));
	count->source = source;
	count->cap = 16;
	count->tables = core_alloc(count->cap * sizeof(uint32_t));
}

static bool
note_table(BundleCount *count, uint32_t id, BundleError *error)
{
	if (is_described(count, id))
		return true;
	if (count->ntables == BUNDLE_MAX_TABLES)
		return bundle_fail(error, BUNDLE_DAMAGED, "the bundle has too many tables");
	if (count->ntables == count->cap)
	{
		count->tables = core_realloc(count->tables, count->cap * sizeof(uint32_t), 2 * count->cap * sizeof(uint32_t));
		count->cap *= 2;
	}
	count->tables[count->ntables++] = id;
	return true;
}

bool
bundle_count_frame(BundleCount *count, const uint8_t *frame, size_t n, BundleError *error)
{
	static WireValue values[WIRE_MAX_COLUMNS];
	BundleCount here;			/* a frame relies on no other */
	WireReader	r;
	WireRelation rel;
	WireRow		row;
	WireMember	member;
	WireStrategy strategy;
	WireRange	range;
	NodeVector	vector;
	NodeId		node;
	uint32_t	last = 0;

	bundle_count_begin(&here, count->source);
	wire_reader_init(&r, frame, n);
	while (!wire_at_end(&r))
	{
		uint8_t		type = wire_get_u8(&r);

		switch (type)
		{
			case WIRE_RELATION:
				wire_get_relation(&r, &rel);
				if (r.error)
					break;
				if (!note_table(&here, rel.id, error) || !note_table(count, rel.id, error))
					return false;
				last = rel.id;
				break;
			case WIRE_ALIVE:
			case WIRE_DEAD:
				wire_get_row(&r, &row, values, WIRE_MAX_COLUMNS);
				if (r.error)
					break;
				if ((row.relation != last || here.ntables == 0) && !is_described(&here, row.relation))
					return bundle_fail(error, BUNDLE_DAMAGED, "a block holds a row of a relation that it does not describe");
				last = row.relation;
				count->states++;
				if (type == WIRE_DEAD)
					count->dead++;
				break;
			case WIRE_STRATEGY:
				wire_get_strategy(&r, &strategy);
				if (r.error == NULL && !is_described(&here, strategy.relation))
					return bundle_fail(error, BUNDLE_DAMAGED, "a block tells how a relation merges that it does not describe");
				break;
			case WIRE_RANGE:
				wire_get_range(&r, &range);
				if (r.error == NULL && !is_described(&here, range.relation))
					return bundle_fail(error, BUNDLE_DAMAGED, "a block truncates a relation that it does not describe");
				break;
			case WIRE_HOLDS:
				node = wire_get_holds(&r, &vector);
				if (r.error == NULL && node == count->source)
					(void) vector_merge(&count->holds, &vector);
				break;
			case WIRE_HORIZON:
				wire_get_vector(&r, &vector);
				if (r.error == NULL)
				{
					vector_copy(&count->horizon, &vector);
					count->has_horizon = true;
				}
				break;
			case WIRE_MEMBER:
				wire_get_member(&r, &member);
				break;
			default:
				return bundle_fail(error, BUNDLE_UNSUPPORTED, "a block holds a message that this ferry does not know");
		}
	}
	if (r.error)
		return bundle_fail(error, BUNDLE_DAMAGED, "a block holds a malformed message");
	return true;
}
