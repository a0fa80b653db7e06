/*
 * strategies.c
 *		Columns that merge by a strategy: the laws of merge over random reachable
 *		states, and a model as oracle.  Prints TAP; SEED repeats a run.
 *
 * A simulation as in core.c: nodes with clocks of their own write, delete and
 * exchange the states of one key, late, twice and out of order.  A number may be
 * a register, counter, maximum, minimum or merged by a function (here: bitwise
 * or), an array a register or a set, an object a register or a map.  In half of
 * the runs every node changes its strategies at random and on its own, so that
 * all transitions meet all others: merging must converge all the same.  In the
 * other half they stand, and the model says what must come out:
 *
 *	counter		the sum of all that was added
 *	max, min	the extreme of all that was written; the function likewise
 *	set			an element is in if some addition of it was seen by no removal
 *	map			each key as its last writer left it
 */
#include <stdio.h>
#include <stdlib.h>

#include "arena.h"
#include "row.h"
#include "tap.h"

enum {NNODES = 4};
static const uint16_t *const ids = row_ids;

/* --- merge --- */

static State
merge_states(LifePolicy life, const State *l, const State *r, MergeOutcome *outcome)
{
	State		out = *l;
	MergePlan	plan;
	MergeRules	rules = {MERGE_MODE_COLUMN, life, ids, NCOLS, NULL};
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
	{
		if (plan.joined[c])
			row_join(&out.version, c, l, r, &out.values[c]);
		else if (plan.take_remote[c])
			out.values[c] = r->values[c];
	}
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
	bool		same = a->alive == b->alive && same_version(&a->version, &b->version) &&
		a->values[NUM].num == b->values[NUM].num && a->values[PLAIN].num == b->values[PLAIN].num;

	for (int e = 0; e < NELEMS; e++)
		same &= a->values[SET].in[e] == b->values[SET].in[e] && a->values[MAP].val[e] == b->values[MAP].val[e];
	return same;
}

/* --- the model --- */

typedef struct Op
{
	Dot			dot;
	Version		seen;			/* what its writer had seen */
	bool		has_seen;
	int			elem;
	bool		adds;			/* else removes */
	uint64_t	val;
} Op;

enum {MAX_OPS = 4000};
static Op	set_ops[MAX_OPS];
static Op	map_ops[MAX_OPS];
static int	nset_ops,
			nmap_ops;
static int64_t num_model;
static bool num_written;

static void
note_num(ColumnKind kind, int64_t was, int64_t wanted)
{
	if (kind == KIND_COUNTER)
		num_model += wanted - was;
	else
		num_model = num_written ? row_apply_function(kind, num_model, wanted) : wanted;
	num_written = true;
}

static void
note_op(Op *ops, int *n, Dot dot, const Version *seen, int elem, bool adds, uint64_t val)
{
	if (*n < MAX_OPS)
	{
		Op		   *op = &ops[(*n)++];

		memset(op, 0, sizeof(*op));
		op->dot = dot;
		if (seen)
			op->seen = *seen;
		op->has_seen = seen != NULL;
		op->elem = elem;
		op->adds = adds;
		op->val = val;
	}
}

static bool
model_holds(const State *s, ColumnKind num_kind)
{
	bool		right = s->values[NUM].num == num_model || num_kind == KIND_LWW;

	for (int e = 0; e < NELEMS; e++)
	{
		bool		in = false;
		const Op   *last = NULL;

		for (int i = 0; i < nset_ops; i++)
		{
			bool		removed = false;

			if (!set_ops[i].adds || set_ops[i].elem != e)
				continue;
			for (int j = 0; j < nset_ops; j++)
				removed |= !set_ops[j].adds && set_ops[j].elem == e && set_ops[j].has_seen &&
					version_covers(&set_ops[j].seen, set_ops[i].dot);
			in |= !removed;
		}
		right &= s->values[SET].in[e] == in;
		for (int i = 0; i < nmap_ops; i++)
			if (map_ops[i].elem == e && (!last || dot_compare(map_ops[i].dot, last->dot) > 0))
				last = &map_ops[i];
		right &= s->values[MAP].val[e] == (last ? last->val : 0);
	}
	return right;
}

/* --- the simulation --- */

typedef struct Node
{
	Hlc			clock;
	bool		has;
	State		state;
	ColumnKind	kinds[NCOLS];
} Node;

static void
write_column(const State *old, Node *node, int c, Dot d, Version *after, Value wanted)
{
	const Version *before = old ? &old->version : NULL;
	Value		none = {0};
	const Value *was = old ? &old->values[c] : &none;
	bool		birth = !old || !old->alive;

	for (int e = 0; e < NELEMS; e++)
	{
		if (c == SET && (was->in[e] != wanted.in[e] || (birth && wanted.in[e])))
			note_op(set_ops, &nset_ops, d, before, e, wanted.in[e], 0);
		if (c == MAP && (was->val[e] != wanted.val[e] || (birth && wanted.val[e])))
			note_op(map_ops, &nmap_ops, d, before, e, true, wanted.val[e]);
	}
	if (c == NUM)
		note_num(node->kinds[c], was->num, wanted.num);

	row_write_column(old, node->kinds[c], c, d, after, wanted, &node->state.values[c]);
}

static void
write_locally(LifePolicy life, Node *nodes, int n)
{
	State		old = nodes[n].state;
	State	   *s = &nodes[n].state;
	bool		had = nodes[n].has;
	bool		birth = !had || !old.alive;
	bool		kill = !birth && rand() % 4 == 0;
	uint16_t	changed[NCOLS];
	int			nchanged = 0;
	Value		wanted[NCOLS];
	bool		writes[NCOLS];
	Version		after;
	Dot			d;

	nodes[n].clock = hlc_next(nodes[n].clock, (Hlc) (1000 + rand() % 60));
	d = (Dot) {nodes[n].clock, (NodeId) n + 1};
	for (int c = 0; c < NCOLS; c++)
	{
		Value		none = {0};

		wanted[c] = row_random_value(c, had ? &old.values[c] : &none);
		writes[c] = birth || (!kill && rand() % 2);
		if (writes[c])
			changed[nchanged++] = ids[c];
	}
	if (had)
		version_write(&old.version, d, changed, nchanged, ids, NCOLS, true, life == LIFE_UPDATE_WINS, !kill, &after);
	else
		version_init(&after, d);
	for (int c = 0; c < NCOLS; c++)
		if (writes[c])
			write_column(had ? &old : NULL, &nodes[n], c, d, &after, wanted[c]);
	s->version = after;
	s->alive = !kill;
	nodes[n].has = true;
}

static void
carry(LifePolicy life, Node *nodes, int to, const State *s)
{
	MergeOutcome outcome;

	if (s->version.last.hlc > nodes[to].clock)
		nodes[to].clock = s->version.last.hlc;
	nodes[to].state = nodes[to].has ? merge_states(life, &nodes[to].state, s, &outcome) : *s;
	nodes[to].has = true;
}

/* one schedule; fills the pool with states met on the way */
static bool
simulate(LifePolicy life, bool changing, State *pool, int npool, bool *as_model)
{
	Node		nodes[NNODES];
	ColumnKind	kinds[NCOLS];
	int			filled = 0;
	int			steps = 5 + rand() % 40;

	memset(nodes, 0, sizeof(nodes));
	nset_ops = nmap_ops = 0;
	num_model = 0;
	num_written = false;
	row_random_kinds(kinds);
	if (!changing)
	{
		kinds[SET] = KIND_SET;
		kinds[MAP] = KIND_MAP;
	}
	for (int n = 0; n < NNODES; n++)
		memcpy(nodes[n].kinds, kinds, sizeof(kinds));
	while (filled < npool || steps-- > 0)
	{
		int			n = rand() % NNODES;
		int			from = rand() % NNODES;

		if (changing && rand() % 6 == 0)
			row_random_kinds(nodes[n].kinds);
		if (rand() % 2)
			write_locally(life, nodes, n);
		else if (filled > 0 && rand() % 3 == 0)
			carry(life, nodes, n, &pool[rand() % filled]);
		else if (nodes[from].has)
			carry(life, nodes, n, &nodes[from].state);
		if (nodes[n].has && filled < npool)
			pool[filled++] = nodes[n].state;
	}
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < NNODES; i++)
			for (int j = 0; j < NNODES; j++)
				if (nodes[j].has)
					carry(life, nodes, i, &nodes[j].state);
	if (!changing)
		*as_model &= model_holds(&nodes[0].state, kinds[NUM]);
	for (int i = 1; i < NNODES; i++)
		if (!same_state(&nodes[0].state, &nodes[i].state))
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
test_laws(LifePolicy life, bool changing, int triples)
{
	enum {POOL = 20};
	State		pool[POOL];
	bool		converged = true,
				commutes = true,
				associates = true,
				idempotent = true,
				as_model = true,
				codec = true;
	char		name[200];
	int			done = 0;

	while (done < triples)
	{
		arena_reset();
		converged &= simulate(life, changing, pool, POOL, &as_model);
		for (int i = 0; i < 100; i++, done++)
		{
			const State *a = &pool[rand() % POOL];
			const State *b = &pool[rand() % POOL];
			const State *c = &pool[rand() % POOL];
			MergeOutcome o;
			State		ab = merge_states(life, a, b, &o);
			State		ba = merge_states(life, b, a, &o);
			State		bc = merge_states(life, b, c, &o);
			State		ab_c = merge_states(life, &ab, c, &o);
			State		a_bc = merge_states(life, a, &bc, &o);
			State		again = merge_states(life, &ab, b, &o);

			commutes &= same_state(&ab, &ba);
			associates &= same_state(&ab_c, &a_bc);
			idempotent &= o == MERGE_IGNORED && same_state(&again, &ab);
			codec &= survives_codec(&ab_c.version);
		}
	}
#define LAW(condition, law) \
	do { \
		snprintf(name, sizeof(name), "%s, %s: %s (%d triples)", \
				 changing ? "changing strategies" : "strategies", \
				 life == LIFE_LAST_WINS ? "last_wins" : "update_wins", law, done); \
		ok(condition, name); \
	} while (0)
	LAW(converged, "every schedule converges");
	LAW(commutes, "merge commutes");
	LAW(associates, "merge associates");
	LAW(idempotent, "merge is idempotent");
	LAW(codec, "versions survive their bytes");
	if (!changing)
		LAW(as_model, "counters, extremes, sets and maps are what the model says");
	arena_reset();
}

/* --- single facts --- */

static void
test_parts(void)
{
	Version		v;
	Version		w;
	ColumnParts cp = {3, KIND_COUNTER, {0, 0}, 0, NULL};
	Dot			d = {300, 9};
	PartsSince	since;
	Part		share = {.node = 7, .len = 1, .bytes = (const uint8_t *) "\2"};

	version_init(&v, (Dot) {100, 7});
	version_put_parts(&v, &cp);
	ok(version_encoded_bytes(&v) == 16, "a counter with one writer takes 4 bytes more");
	ok(version_has_contribution(&v, 7) && !version_has_contribution(&v, 8), "the writer's contribution is implied");
	version_write(&v, (Dot) {200, 8}, ids, 2, ids, NCOLS, true, false, true, &w);
	ok(version_column_parts(&w, 3) == NULL, "a plain write makes a register of a column");
	version_write(&v, (Dot) {200, 8}, ids, 1, ids, NCOLS, true, false, true, &w);
	ok(version_same_parts(&v, &w, 3), "a write leaves the parts of other columns alone");
	cp.nparts = 1;
	cp.parts = &share;
	version_put_parts(&w, &cp);
	ok(version_has_contribution(&w, 7), "a contribution that is listed is known");
	{
		uint16_t	map[4] = {0, 0, 0, 12};

		version_map_columns(&w, map, 4);
		ok(version_column_parts(&w, 12) != NULL && w.nparts == 1, "parts follow their column to its id elsewhere");
	}
	ok(parts_ground(NULL, 3, KIND_COUNTER, &d, &since) == GROUND_NOTHING && since.hlc == 0,
	   "a birth is of generation zero: concurrent ones are joined");
	ok(parts_ground(&v, 3, KIND_COUNTER, &d, &since) == GROUND_SAME && since.hlc == 0, "a counter goes on as it is");
	ok(parts_ground(&v, 3, KIND_MAX, &d, &since) == GROUND_OTHER && since.hlc == d.hlc && since.node == d.node,
	   "another kind begins anew");
	ok(parts_ground(&v, 5, KIND_COUNTER, &d, &since) == GROUND_REGISTER && since.hlc == 100 && since.node == 7,
	   "a register is the ground of what is built on it");
	arena_reset();
}

int
main(void)
{
	unsigned	seed = tap_seed();
	const LifePolicy lives[] = {LIFE_LAST_WINS, LIFE_UPDATE_WINS};

	srand(seed);
	test_parts();
	for (int l = 0; l < 2; l++)
		for (int changing = 0; changing < 2; changing++)
			test_laws(lives[l], changing, 30000);
	return tap_done();
}
