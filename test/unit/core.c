/*
 * core.c
 *		Unit tests of versions, merge and wire format, and the laws of merge over
 *		random reachable states.  Prints TAP; SEED in the environment repeats a run.
 *
 * Reachable states come from a simulation: a few nodes with clocks of their own
 * write, delete and exchange the states of one key at random.  Values are the
 * dots that wrote them, so that a merged row can be compared with what its
 * version claims.
 */
#include <stdio.h>
#include <stdlib.h>

#include "arena.h"
#include "tap.h"
#include "core/merge.h"
#include "core/narrow.h"
#include "core/range.h"
#include "core/wire.h"
#include "core/zip.h"

/* --- states with values --- */

#define NCOLS 4
static const uint16_t ids[NCOLS] = {2, 3, 5, 9};

typedef struct State
{
	bool		alive;
	Version		version;
	Dot			values[NCOLS];
} State;

static State
merge_states(MergeMode mode, LifePolicy life, const State *l, const State *r, MergeOutcome *outcome)
{
	State		out = *l;
	MergePlan	plan;

	MergeRules	rules = {mode, life, ids, NCOLS, NULL};
	MergeSide	local = {&l->version, l->alive};
	MergeSide	remote = {&r->version, r->alive};

	merge_plan(&rules, &local, &remote, &plan);
	*outcome = plan.outcome;
	if (plan.outcome == MERGE_IGNORED)
		return out;
	if (plan.outcome == MERGE_TAKEN)
		return *r;
	out.alive = plan.alive;
	out.version = plan.version;
	for (int c = 0; c < NCOLS; c++)
		if (plan.take_remote[c])
			out.values[c] = r->values[c];
	return out;
}

static bool
same_version(const Version *a, const Version *b)
{
	uint8_t    *ba = core_alloc(version_encoded_bytes(a));
	uint8_t    *bb = core_alloc(version_encoded_bytes(b));
	size_t		na = version_encode(a, ba);
	size_t		nb = version_encode(b, bb);

	return na == nb && memcmp(ba, bb, na) == 0;
}

static bool
same_state(const State *a, const State *b)
{
	if (a->alive != b->alive || !same_version(&a->version, &b->version))
		return false;
	for (int c = 0; c < NCOLS; c++)
		if (!dot_equal(a->values[c], b->values[c]))
			return false;
	return true;
}

/* --- the simulation --- */

#define NNODES 4

typedef struct Node
{
	Hlc			clock;
	bool		has;
	State		state;
} Node;

static Dot
stamp(Node *nodes, int n)
{
	Hlc			wall = (Hlc) (1000 + rand() % 60);

	nodes[n].clock = hlc_next(nodes[n].clock, wall);
	return (Dot) {nodes[n].clock, (NodeId) n + 1};
}

static void
write_locally(MergeMode mode, LifePolicy life, Node *nodes, int n)
{
	State	   *s = &nodes[n].state;
	Dot			d = stamp(nodes, n);
	uint16_t	changed[NCOLS];
	int			nchanged = 0;
	Version		out;
	bool		birth = !nodes[n].has || !s->alive;
	bool		kill = !birth && rand() % 4 == 0;

	if (!nodes[n].has)
	{
		version_init(&s->version, d);
		s->alive = true;
		nodes[n].has = true;
		for (int c = 0; c < NCOLS; c++)
			s->values[c] = d;
		return;
	}
	for (int c = 0; c < NCOLS; c++)
	{
		if (birth || (!kill && rand() % 2))
		{
			changed[nchanged++] = ids[c];
			s->values[c] = d;
		}
	}
	version_write(&s->version, d, changed, nchanged, ids, NCOLS,
				  mode == MERGE_MODE_COLUMN, life == LIFE_UPDATE_WINS, !kill, &out);
	s->version = out;
	s->alive = !kill;
}

static void
carry(MergeMode mode, LifePolicy life, Node *nodes, int to, const State *s)
{
	MergeOutcome outcome;

	if (s->version.last.hlc > nodes[to].clock)
		nodes[to].clock = s->version.last.hlc;
	if (!nodes[to].has)
		nodes[to].state = *s;
	else
		nodes[to].state = merge_states(mode, life, &nodes[to].state, s, &outcome);
	nodes[to].has = true;
}

/* run one schedule; pool gets states met on the way; returns whether all converged */
static bool
simulate(MergeMode mode, LifePolicy life, State *pool, int npool)
{
	Node		nodes[NNODES];
	int			filled = 0;
	int			steps = 5 + rand() % 40;

	memset(nodes, 0, sizeof(nodes));
	while (filled < npool || steps-- > 0)
	{
		int			n = rand() % NNODES;

		if (rand() % 2)
			write_locally(mode, life, nodes, n);
		else if (filled > 0 && rand() % 3 == 0)
			carry(mode, life, nodes, n, &pool[rand() % filled]);	/* late, twice, out of order */
		else
		{
			int			from = rand() % NNODES;

			if (nodes[from].has)
				carry(mode, life, nodes, n, &nodes[from].state);
		}
		if (nodes[n].has && filled < npool)
			pool[filled++] = nodes[n].state;
	}
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < NNODES; i++)
			for (int j = 0; j < NNODES; j++)
				if (nodes[j].has)
					carry(mode, life, nodes, i, &nodes[j].state);
	for (int i = 1; i < NNODES; i++)
		if (!same_state(&nodes[0].state, &nodes[i].state))
			return false;
	return true;
}

/* the values are the dots that wrote them: does the version say the same? */
static bool
version_tells_values(MergeMode mode, const State *s)
{
	if (mode != MERGE_MODE_COLUMN)
		return true;
	for (int c = 0; c < NCOLS; c++)
		if (!dot_equal(version_column_dot(&s->version, ids[c]), s->values[c]))
			return false;
	return true;
}

static bool
survives_codec(const Version *v)
{
	size_t		n = version_encoded_bytes(v);
	uint8_t    *bytes = core_alloc(n);
	Version		back;
	const char *error;

	return version_encode(v, bytes) == n && version_decode(bytes, n, &back, &error) &&
		same_version(v, &back) && version_compare(v, &back) == VERSION_EQUAL;
}

static void
test_laws(MergeMode mode, LifePolicy life, int triples)
{
	enum {POOL = 20};
	State		pool[POOL];
	bool		converged = true,
				commutes = true,
				associates = true,
				idempotent = true,
				truthful = true,
				codec = true;
	char		name[200];
	int			done = 0;

	while (done < triples)
	{
		arena_reset();
		converged &= simulate(mode, life, pool, POOL);
		for (int i = 0; i < 100; i++, done++)
		{
			const State *a = &pool[rand() % POOL];
			const State *b = &pool[rand() % POOL];
			const State *c = &pool[rand() % POOL];
			MergeOutcome o;
			State		ab = merge_states(mode, life, a, b, &o);
			State		ba = merge_states(mode, life, b, a, &o);
			State		bc = merge_states(mode, life, b, c, &o);
			State		ab_c = merge_states(mode, life, &ab, c, &o);
			State		a_bc = merge_states(mode, life, a, &bc, &o);
			State		again = merge_states(mode, life, &ab, b, &o);

			commutes &= same_state(&ab, &ba);
			associates &= same_state(&ab_c, &a_bc);
			idempotent &= o == MERGE_IGNORED && same_state(&again, &ab);
			truthful &= version_tells_values(mode, &ab_c);
			codec &= survives_codec(&ab_c.version);
		}
	}
#define LAW(condition, law) \
	snprintf(name, sizeof(name), "%s, %s: %s (%d triples)", \
			 mode == MERGE_MODE_COLUMN ? "column mode" : "row mode", \
			 life == LIFE_LAST_WINS ? "last_wins" : "update_wins", law, done); \
	ok(condition, name)
	LAW(converged, "every schedule converges");
	LAW(commutes, "merge commutes");
	LAW(associates, "merge associates");
	LAW(idempotent, "merge is idempotent");
	LAW(truthful, "column dots tell who wrote the values");
	LAW(codec, "versions survive their bytes");
	arena_reset();
}

/* --- narrow states --- */

/* no value, and no dot: it was left out */
static const Dot left_out = {0, NODE_ID_NONE};

/*
 * Merge r, of which some values were left out, into l as a receiver does: each is
 * what l has under the same dot, or the receiver asks (false).
 */
static bool
merge_narrow(LifePolicy life, const State *l, const State *r, State *out)
{
	MergePlan	plan;
	MergeRules	rules = {MERGE_MODE_COLUMN, life, ids, NCOLS, NULL};
	MergeSide	local = {&l->version, l->alive};
	MergeSide	remote = {&r->version, r->alive};

	merge_plan(&rules, &local, &remote, &plan);
	*out = *l;
	if (plan.outcome == MERGE_IGNORED)
		return true;
	out->alive = plan.alive;
	out->version = plan.version;
	for (int c = 0; c < NCOLS; c++)
	{
		bool		from_remote = plan.outcome == MERGE_TAKEN || plan.take_remote[c];

		if (!dot_equal(r->values[c], left_out))
		{
			if (from_remote)
				out->values[c] = r->values[c];
			continue;
		}
		if (narrow_lacks(&plan, c, ids[c], &l->version, &r->version))
			return false;
		if (plan.outcome == MERGE_MERGED && plan.contested[c])
			out->alive = !out->alive;	/* it would be a conflict of unknown values: fail */
	}
	return true;
}

static void
test_narrow(LifePolicy life, int pairs)
{
	enum {POOL = 20};
	State		pool[POOL];
	int			omitted = 0;
	int			asked = 0;
	int			missed = 0;
	int			done = 0;
	bool		same = true;
	bool		newest = true;

	while (done < pairs)
	{
		arena_reset();
		(void) simulate(MERGE_MODE_COLUMN, life, pool, POOL);
		for (int i = 0; i < 100; i++, done++)
		{
			const State *l = &pool[rand() % POOL];
			const State *r = &pool[rand() % POOL];
			NarrowStream stream = {(NodeId) (1 + rand() % NNODES), (NodeId) (1 + rand() % NNODES), rand() % 2};
			State		narrow = *r;
			State		whole;
			State		out;
			MergeOutcome o;
			int			n = 0;

			for (int c = 0; c < NCOLS; c++)
				if (narrow_may_omit(&stream, &r->version, ids[c]))
				{
					newest &= !dot_equal(r->values[c], r->version.last);
					narrow.values[c] = left_out;
					n++;
				}
			whole = merge_states(MERGE_MODE_COLUMN, life, l, r, &o);
			if (n == 0)
				continue;
			omitted++;
			if (!merge_narrow(life, l, &narrow, &out))
				asked++;
			else if (!same_state(&out, &whole))
				same = false;
			else if (o != MERGE_IGNORED)
				missed++;
		}
	}
	ok(same, "a narrow state merges to what the whole one does, or is asked for");
	ok(newest, "what the last write wrote is not left out");
	ok(omitted > pairs / 10 && asked > pairs / 100 && missed > pairs / 100, "and both happens");
	arena_reset();
}

/* --- single facts --- */

static void
test_version(void)
{
	Version		v,
				w;
	uint8_t		bytes[12];
	const char *error;
	uint16_t	changed[1] = {3};

	ok(hlc_next(10, 5) == 11 && hlc_next(10, 20) == 20, "a stamp is max(clock, last + 1)");
	ok(hlc_to_us(hlc_from_us(1234567)) == 1234567, "stamps hold microseconds");
	version_init(&v, (Dot) {100, 7});
	ok(version_encoded_bytes(&v) == 12, "a version with one writer is 12 bytes");
	version_encode(&v, bytes);
	ok(!version_decode(bytes, 11, &w, &error), "a truncated version is refused");
	memset(bytes, 0, sizeof(bytes));
	ok(!version_decode(bytes, 12, &w, &error), "a dot without a stamp is refused");
	version_write(&v, (Dot) {200, 8}, changed, 1, ids, NCOLS, true, false, true, &w);
	ok(version_column_dot(&w, 3).hlc == 200 && version_column_dot(&w, 5).hlc == 100,
	   "a write stamps the columns that it changed and no other");
	ok(version_compare(&v, &w) == VERSION_BEFORE && version_compare(&w, &v) == VERSION_AFTER,
	   "a write comes after what it has seen");
	version_write(&v, (Dot) {150, 9}, changed, 1, ids, NCOLS, true, false, true, &v);
	ok(version_compare(&v, &w) == VERSION_CONCURRENT, "writes that did not see each other are concurrent");
	arena_reset();
}

static void
test_hostile_versions(int rounds)
{
	int			accepted = 0;
	bool		canonical = true;

	for (int i = 0; i < rounds; i++)
	{
		uint8_t		bytes[64];
		size_t		n = rand() % sizeof(bytes);
		uint8_t    *copy;
		Version		v;
		const char *error = NULL;

		for (size_t b = 0; b < n; b++)
			bytes[b] = rand() % 3 ? rand() % 8 : rand();
		copy = core_alloc(n);	/* exact size, so that an overrun is seen */
		memcpy(copy, bytes, n);
		if (version_decode(copy, n, &v, &error))
		{
			uint8_t    *again = core_alloc(version_encoded_bytes(&v));

			accepted++;
			canonical &= version_encode(&v, again) == n && memcmp(again, bytes, n) == 0;
		}
		else
			canonical &= error != NULL;
		arena_reset();
	}
	ok(canonical, "random bytes are refused, or are what encoding gives back");
	ok(accepted > 0, "some random bytes were versions, so that this said something");
}

static void
test_wire(void)
{
	WireWriter	w;
	WireReader	r;
	WireColumn	cols[2] = {{1, WIRE_COLUMN_KEY, "id", "pg_catalog", "int4"}, {2, 0, "a", "pg_catalog", "text"}};
	WireRelation rel = {77, "public", "t", 2, cols};
	WireRelation rel2;
	WireStrategy strategy = {77, 2, KIND_FUNCTION, "f", {700, 9}};
	WireStrategy strategy2;
	WireRow		row;
	WireValue	values[8];
	bool		truncated = true;

	wire_writer_init(&w, 8);
	wire_put_relation(&w, &rel);
	wire_put_row_head(&w, true, 77, "0123456789ab", 12, 2);
	wire_put_value(&w, WIRE_RAW, "\1\0\0\0", 4);
	wire_put_value(&w, WIRE_NULL, NULL, 0);

	wire_reader_init(&r, w.data, w.len);
	ok(wire_get_u8(&r) == WIRE_RELATION, "a relation message begins with its type");
	wire_get_relation(&r, &rel2);
	ok(rel2.id == 77 && rel2.ncols == 2 && strcmp(rel2.cols[1].name, "a") == 0, "a relation comes back");
	ok(wire_get_u8(&r) == WIRE_ALIVE, "a row message follows");
	wire_get_row(&r, &row, values, 8);
	ok(!r.error && row.ncols == 2 && values[0].kind == WIRE_RAW && values[0].len == 4 &&
	   values[1].kind == WIRE_NULL && wire_at_end(&r), "a row comes back");

	for (size_t n = 0; n < w.len; n++)
	{
		uint8_t    *copy = core_alloc(n);

		memcpy(copy, w.data, n);
		wire_reader_init(&r, copy, n);
		if (wire_get_u8(&r) == WIRE_RELATION)
		{
			wire_get_relation(&r, &rel2);
			if (wire_get_u8(&r) == WIRE_ALIVE)
				wire_get_row(&r, &row, values, 8);
		}
		truncated &= r.error != NULL;
	}
	ok(truncated, "messages that are cut short anywhere are refused");
	wire_reader_init(&r, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
	(void) wire_get_varint(&r);
	ok(r.error != NULL, "a number that does not fit is refused");

	wire_writer_init(&w, 8);
	wire_put_strategy(&w, &strategy);
	wire_reader_init(&r, w.data + 1, w.len - 1);
	wire_get_strategy(&r, &strategy2);
	ok(!r.error && wire_at_end(&r) && strategy2.relation == 77 && strategy2.column == 2 &&
	   strategy2.kind == KIND_FUNCTION && strcmp(strategy2.function, "f") == 0 &&
	   dot_equal(strategy2.dot, strategy.dot), "a strategy comes back");
	strategy.kind = KIND_COUNTER;
	wire_put_strategy(&w, &strategy);
	wire_get_strategy((wire_reader_init(&r, w.data + w.len / 2 + 1, w.len / 2 - 1), &r), &strategy2);
	ok(r.error != NULL, "a counter with a function is refused");
	arena_reset();
}
/* the short way from bytes to bytes is taken where it can be, and comes to the same as the long one */
static void
test_rewrite(int rounds)
{
	bool		same = true;
	int			taken = 0;

	for (int i = 0; i < rounds; i++)
	{
		uint16_t	all[400];
		uint16_t	changed[400];
		int			nall = 0;
		int			end = rand() % 4 ? 8 : 400;
		bool		track = rand() % 8 != 0;
		uint8_t    *in = core_alloc(VERSION_SIMPLE_BYTES);
		size_t		n = VERSION_SIMPLE_BYTES;
		Dot			d = {1 + rand() % 1000, 7};

		for (int id = 1; id < end; id++)
			if (rand() % 4)
				all[nall++] = id;
		version_put_dot(in, d);
		for (int write = 0; write < 6; write++)
		{
			int			nchanged = 0;
			int			density = 1 + rand() % 4;
			Version		before;
			Version		after;
			const char *error;
			uint8_t    *out;
			uint8_t    *expected;
			size_t		n_out;
			size_t		n_expected;

			if (write == 0 || rand() % 2)
				for (int a = 0; a < nall; a++)
					if (rand() % density == 0)
						changed[nchanged++] = all[a];
			d.hlc += 1 + rand() % 100000;
			d.node = rand() % 12 ? 7 : 9;
			if (!version_decode(in, n, &before, &error))
				abort();
			version_write(&before, d, changed, nchanged, all, nall, track, false, true, &after);
			expected = core_alloc(version_encoded_bytes(&after));
			n_expected = version_encode(&after, expected);
			out = core_alloc(VERSION_REWRITE_ROOM(n, nall));
			n_out = version_rewrite(in, n, d, changed, nchanged, all, nall, track, out);
			if (n_out > 0)
			{
				taken++;
				same &= n_out == n_expected && memcmp(out, expected, n_expected) == 0;
			}
			else
				same &= before.nvv > 1 || before.ncols > 0 || d.node != before.last.node;
			in = expected;
			n = n_expected;
		}
		arena_reset();
	}
	ok(same, "a version rewritten is the version decoded, written and encoded");
	ok(taken > rounds, "and mostly it is rewritten");
}

/* whatever stands there, nothing is read or written beyond */
static void
test_rewrite_hostile(int rounds)
{
	bool		sound = true;

	for (int i = 0; i < rounds; i++)
	{
		size_t		n = rand() % 40;
		uint8_t    *in = core_alloc(n);
		uint8_t    *out = core_alloc(VERSION_REWRITE_ROOM(n, NCOLS));
		size_t		n_out;

		for (size_t b = 0; b < n; b++)
			in[b] = b >= 8 && rand() % 3 ? rand() % 8 : rand();
		if (n > VERSION_SIMPLE_BYTES)
			in[VERSION_SIMPLE_BYTES] = 2;
		in[0] = 0;
		n_out = n < VERSION_SIMPLE_BYTES ? 0 :
			version_rewrite(in, n, (Dot) {UINT64_MAX, version_get_last(in).node}, ids, rand() % NCOLS, ids, NCOLS, true, out);
		sound &= n_out <= VERSION_REWRITE_ROOM(n, NCOLS);
		arena_reset();
	}
	ok(sound, "random bytes are not rewritten beyond their room");
}

/* --- compression --- */

static void
test_zip(int rounds)
{
	ZipWriter	w;
	ZipReader	r;
	bool		same = true;
	size_t		raw = 0;
	size_t		sent = 0;
	WireWriter	big;
	WireWriter	out;
	const char *error;

	ok(zip_writer_init(&w) && zip_reader_init(&r), "compression can be set up");
	for (int i = 0; i < rounds; i++)
	{
		size_t		n = i % 100 == 0 ? 1 + rand() % 300000 : 150 + rand() % 30;
		uint8_t    *frame = malloc(n);

		/* frames that resemble each other, as transactions do */
		for (size_t b = 0; b < n; b++)
			frame[b] = b % 20 == 0 ? (uint8_t) rand() : (uint8_t) (b * 7 % 200);
		wire_writer_init(&out, 64);
		same &= zip_put(&w, &out, frame, n) && zip_is_zipped(out.data, out.len);
		same &= zip_get(&r, out.data, out.len, &error) && r.len == n && memcmp(r.frame, frame, n) == 0;
		raw += n;
		sent += out.len;
		free(frame);
	}
	ok(same, "what was compressed is what comes out, message by message");
	ok(sent < raw / 4, "small frames gain from those before them");
	wire_writer_init(&big, ZIP_MAX_FRAME);
	memset(big.data, 1, ZIP_MAX_FRAME);
	wire_writer_init(&out, 64);
	ok(zip_put(&w, &out, big.data, ZIP_MAX_FRAME) && zip_get(&r, out.data, out.len, &error) && r.len == ZIP_MAX_FRAME,
	   "a frame may be as large as they may be");
	wire_writer_init(&out, 64);
	(void) zip_put(&w, &out, big.data, 1000);
	out.data[1]++;
	ok(!zip_get(&r, out.data, out.len, &error), "a frame of another size than it says is refused");
	zip_reader_free(&r);
	zip_writer_free(&w);
	zip_writer_free(&w);
	arena_reset();
}

/* whatever is said of the size, no more is taken than may be; random bytes are refused */
static void
test_zip_hostile(int rounds)
{
	bool		sound = true;
	WireWriter	out;
	ZipReader	r;
	ZipWriter	w;
	const char *error;

	for (int i = 0; i < rounds; i++)
	{
		uint8_t		frame[2000];
		size_t		n = 1 + rand() % sizeof(frame);
		bool		got;

		sound &= zip_writer_init(&w) && zip_reader_init(&r);
		for (size_t b = 0; b < n; b++)
			frame[b] = rand() % 4 ? (uint8_t) b : (uint8_t) rand();
		wire_writer_init(&out, 64);
		sound &= zip_put(&w, &out, frame, n);
		for (int flips = rand() % 4; flips >= 0; flips--)
			out.data[rand() % out.len] ^= 1 << rand() % 8;
		out.len -= rand() % 3 ? 0 : rand() % out.len;
		error = NULL;
		got = zip_get(&r, out.data, out.len, &error);
		sound &= got ? r.len <= ZIP_MAX_FRAME : error != NULL;
		zip_reader_free(&r);
		zip_writer_free(&w);
		arena_reset();
	}
	ok(sound, "damaged compressed frames are refused or bounded");
	wire_writer_init(&out, 64);
	wire_put_u8(&out, WIRE_ZIPPED);
	wire_put_varint(&out, ZIP_MAX_FRAME + 1);
	sound = zip_reader_init(&r);
	ok(sound && !zip_get(&r, out.data, out.len, &error) && r.cap == 0, "too large a size is refused before anything is allocated");
	zip_reader_free(&r);
	arena_reset();
}

/*
 * A row that died beside a TRUNCATE is written again by who meets it, later than a
 * birth elsewhere that is later than the death: the birth stands.
 */
static void
test_outlived(void)
{
	const uint16_t all[] = {2, 3};
	const NodeId truncating = 1,
				killer = 2,
				maker = 3;

	for (int m = 0; m < 2; m++)
		for (int order = 0; order < 2; order++)
		{
			MergeRules	rules = {m == 0 ? MERGE_MODE_COLUMN : MERGE_MODE_ROW, LIFE_LAST_WINS, all, 2, NULL};
			Version		row;
			Version		dead;
			Version		range;
			Version		successor;
			Version		birth;
			MergeSide	sides[2] = {{&successor, false}, {&birth, true}};
			MergePlan	plan;

			version_init(&row, (Dot) {100, truncating});
			version_write(&row, (Dot) {200, killer}, NULL, 0, all, 2, m == 0, false, false, &dead);
			version_init(&range, (Dot) {150, truncating});
			version_init(&birth, (Dot) {300, maker});
			ok(range_was_outlived(&range, &dead), "a death beside a TRUNCATE outlives it");
			range_succeed(&dead, &range, (Dot) {400, killer}, all, 2, m == 0, false, false, &successor);
			merge_plan(&rules, &sides[order], &sides[1 - order], &plan);
			ok(plan.outcome == MERGE_MERGED && plan.alive && dot_equal(version_life_dot(&plan.version), birth.last) &&
			   plan.version.last.hlc == 400, "its successor does not win against a later birth");
		}
	arena_reset();
}

int
main(void)
{
	unsigned	seed = tap_seed();
	const MergeMode modes[] = {MERGE_MODE_COLUMN, MERGE_MODE_ROW};
	const LifePolicy lives[] = {LIFE_LAST_WINS, LIFE_UPDATE_WINS};

	srand(seed);
	test_narrow(LIFE_LAST_WINS, 40000);
	test_narrow(LIFE_UPDATE_WINS, 40000);
	test_version();
	test_outlived();
	test_wire();
	test_hostile_versions(200000);
	test_rewrite(20000);
	test_rewrite_hostile(200000);
	test_zip(3000);
	test_zip_hostile(3000);
	for (int m = 0; m < 2; m++)
		for (int l = 0; l < 2; l++)
			test_laws(modes[m], lives[l], 40000);
	return tap_done();
}
