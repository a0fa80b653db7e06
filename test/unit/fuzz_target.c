/*
 * fuzz_target.c
 *		What hostile bytes may do to the core: nothing but be refused.
 *
 * The first byte says how the rest is read: as a frame of messages, as two
 * versions that are merged in every mode, or as a peer's answers to a comparison.  What is accepted must keep the laws:
 * it is written again as it was read, and merging is commutative, idempotent
 * and loses nothing that either side has seen.
 *
 * The entry point is libFuzzer's, so that clang's fuzzer may drive it too
 * (clang -fsanitize=fuzzer,address ... fuzz_target.c arena.c ../../src/core/x.c).
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "core/fingerprint.h"
#include "core/merge.h"
#include "core/port.h"
#include "core/wire.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_COLUMNS 64

#define require(x) \
	do { \
		if (!(x)) \
			abort(); \
	} while (0)

static void
read_frame(const uint8_t *data, size_t size)
{
	WireReader	r;
	WireTxn		txn;
	WireRelation rel;
	WireRow		row;
	WireValue	values[MAX_COLUMNS];
	Version		v;
	const char *error;
	char	   *s;
	size_t		sum = 0;

	wire_reader_init(&r, data, size);
	while (!wire_at_end(&r))
	{
		switch (wire_get_u8(&r))
		{
			case WIRE_BEGIN:
				wire_get_begin(&r, &txn);
				break;
			case WIRE_COMMIT:
				wire_get_commit(&r, &txn);
				break;
			case WIRE_RELATION:
				wire_get_relation(&r, &rel);
				for (int c = 0; r.error == NULL && c < rel.ncols; c++)
					sum += strlen(rel.cols[c].name) + strlen(rel.cols[c].type_schema) + strlen(rel.cols[c].type_name);
				break;
			case WIRE_ALIVE:
			case WIRE_DEAD:
				wire_get_row(&r, &row, values, MAX_COLUMNS);
				if (r.error)
					break;
				(void) version_decode(row.version, row.version_len, &v, &error);
				for (int c = 0; c < row.ncols; c++)
					for (uint32_t i = 0; values[c].data && i < values[c].len; i++)
						sum += values[c].data[i];
				break;
			case WIRE_TABLE_ADDED:
				s = wire_get_string(&r, WIRE_MAX_NAME);
				sum += s ? strlen(s) : 0;
				break;
			case WIRE_STRATEGY:
				{
					WireStrategy strategy;

					wire_get_strategy(&r, &strategy);
					sum += r.error ? 0 : strlen(strategy.function);
					break;
				}
			default:
				r.error = "unknown message";
		}
		require(r.p <= r.end);
	}
	(void) sum;
}

static bool
same(const Version *a, const Version *b)
{
	size_t		na = version_encoded_bytes(a);
	size_t		nb = version_encoded_bytes(b);
	uint8_t    *ea = core_alloc(na);
	uint8_t    *eb = core_alloc(nb);

	require(version_encode(a, ea) == na && version_encode(b, eb) == nb);
	return na == nb && memcmp(ea, eb, na) == 0;
}

static void
merge_two(const uint8_t *data, size_t size)
{
	static const uint16_t ids[] = {1, 2, 3, 4, 5, 6, 7};
	Version		a,
				b;
	const char *error;
	size_t		na;

	if (size < 2)
		return;
	na = (size_t) data[0] % size;
	data++, size--;
	if (na > size)
		return;
	if (!version_decode(data, na, &a, &error) || !version_decode(data + na, size - na, &b, &error))
		return;
	require(same(&a, &a));
	{
		/* canonical: what was accepted is what we would have written */
		uint8_t    *again = core_alloc(version_encoded_bytes(&a));

		require(version_encode(&a, again) == na && memcmp(again, data, na) == 0);
	}
	for (int mode = 0; mode < 4; mode++)
	{
		MergeRules	rules = {mode & 1 ? MERGE_MODE_COLUMN : MERGE_MODE_ROW,
		mode & 2 ? LIFE_LAST_WINS : LIFE_UPDATE_WINS, ids, 7, NULL};
		MergeSide	side_a = {&a, true};
		MergeSide	side_b = {&b, true};
		MergePlan	ab,
					ba,
					aa;

		merge_plan(&rules, &side_a, &side_b, &ab);
		merge_plan(&rules, &side_b, &side_a, &ba);
		merge_plan(&rules, &side_a, &side_a, &aa);
		require(aa.outcome == MERGE_IGNORED);
		require(version_compare(&ab.version, &ba.version) == VERSION_EQUAL);
		require(version_compare(&a, &ab.version) == VERSION_EQUAL || version_compare(&a, &ab.version) == VERSION_BEFORE);
		require(version_compare(&b, &ab.version) == VERSION_EQUAL || version_compare(&b, &ab.version) == VERSION_BEFORE);
		require(version_max_hlc(&ab.version) >= version_max_hlc(&a) || ab.outcome != MERGE_MERGED);
	}
}

/* a peer's answers: whatever is taken is within what was asked for */
static void
read_answers(const uint8_t *data, size_t size)
{
	static const uint32_t leaves[] = {0, 1, 7, 255};
	WireReader	r;
	FpNode		parents[2];
	FpNode		children[2 * FP_FANOUT];
	FpItem		items[32];
	size_t		n;

	wire_reader_init(&r, data, size);
	fp_get_node(&r, &parents[0]);
	fp_get_node(&r, &parents[1]);
	fp_get_children(&r, parents, 2, children);
	for (int i = 0; r.error == NULL && i < 2; i++)
	{
		uint64_t	count = 0;

		for (int c = 0; c < FP_FANOUT; c++)
			count += children[i * FP_FANOUT + c].count;
		require(count == parents[i].count);
	}
	wire_reader_init(&r, data, size);
	n = fp_get_items(&r, 2, leaves, 4, items, 32);
	require(n <= 32 && (r.error == NULL || n == 0));
	for (size_t i = 0; i < n; i++)
	{
		uint32_t	leaf = fp_leaf(2, items[i].key);

		require(leaf == 0 || leaf == 1 || leaf == 7 || leaf == 255);
		require(i == 0 || items[i - 1].key <= items[i].key);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 0 && data[0] % 4 == 2)
		read_answers(data + 1, size - 1);
	else if (size > 0 && data[0] % 2 == 0)
		read_frame(data + 1, size - 1);
	else if (size > 0)
		merge_two(data + 1, size - 1);
	arena_reset();
	return 0;
}
