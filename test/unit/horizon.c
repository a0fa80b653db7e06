/*
 * horizon.c
 *		Pruning and the removal of tombstones, simulated: nodes with logs, links
 *		that forward them in order, horizons that each node works out from what it
 *		has heard, and states that somebody kept and merges again much later.
 *		Prints TAP; SEED in the environment repeats a run.
 *
 * What is sent is what stands in a node's log: states, what the node holds, what
 * it knows of others, its horizon.  A state is read under the horizon that stands
 * before it in the log; one that was kept, under the horizon of the moment if it
 * was pruned, and under none if it was not (as ferry.state() gives it).
 *
 * Each of the two rules that make it sound is broken once, and it must show.
 */
#include <stdio.h>
#include <stdlib.h>

#include "arena.h"
#include "tap.h"
#include "core/merge.h"

#define NCOLS 3
#define KEYS 3
#define MAX_NODES 5
#define MAX_KEPT 40
#define MAX_ROUNDS 40

static const uint16_t ids[NCOLS] = {2, 3, 4};

typedef enum Broken
{
	SOUND,
	MISSING_IS_ZERO,			/* what a version lacks it has not seen */
	NEWS_IS_NEVER_OLD			/* a state of a key of which there is nothing is taken */
} Broken;

typedef struct State
{
	bool		alive;
	Version		version;
	Dot			values[NCOLS];
} State;

typedef struct Entry
{
	enum {ROW, HOLDS, HORIZON} kind;
	int			key;
	int			node;			/* HOLDS: whose */
	State		state;
	NodeVector *vector;
} Entry;

typedef struct Node
{
	Hlc			clock;
	Hlc			own;			/* last own stamp */
	bool		has[KEYS];
	State		state[KEYS];
	NodeVector	known[MAX_NODES];	/* what everybody holds; its own is the truth */
	NodeVector	horizon;
	Entry	   *log;
	int			nlog;
	int			log_room;
	int			cursor[MAX_NODES];	/* how far it has read the others' */
	NodeVector	read_under[MAX_NODES];	/* the horizon of that stream */
} Node;

typedef struct Kept
{
	int			key;
	State		state;
	NodeVector *horizon;		/* NULL: none */
} Kept;

static Node nodes[MAX_NODES];
static int	nnodes;
static MergeMode mode;
static LifePolicy life;
static Broken broken;
static Kept kept[MAX_KEPT];
static int	nkept;

/* counted, so that it can be seen that something happened */
static long pruned = 0,
			removed = 0,
			old_news = 0,
			kept_merged = 0;

static NodeId
id_of(int n)
{
	return (NodeId) n + 1;
}

static NodeVector *
copy_vector(const NodeVector *v)
{
	NodeVector *copy = core_alloc(sizeof(NodeVector));

	vector_copy(copy, v);
	return copy;
}

static Entry *
append(int n)
{
	Node	   *node = &nodes[n];

	if (node->nlog == node->log_room)
	{
		int			room = node->log_room ? node->log_room * 2 : 256;

		node->log = core_realloc(node->log, sizeof(Entry) * node->log_room, sizeof(Entry) * room);
		node->log_room = room;
	}
	return &node->log[node->nlog++];
}

static void
log_row(int n, int key)
{
	Entry	   *e = append(n);

	e->kind = ROW;
	e->key = key;
	e->state = nodes[n].state[key];
	e->state.version.horizon = NULL;
	if (e->state.version.pruned)
		pruned++;
}

static void
log_holds(int n, int whose)
{
	Entry	   *e = append(n);

	e->kind = HOLDS;
	e->node = whose;
	e->vector = copy_vector(&nodes[n].known[whose]);
}

static void
raise_horizon(int n, const NodeVector *h)
{
	NodeVector	mine;
	Entry	   *e;

	vector_copy(&mine, h);
	vector_limit(&mine, &nodes[n].known[n]);
	if (!vector_merge(&nodes[n].horizon, &mine))
		return;
	e = append(n);
	e->kind = HORIZON;
	e->vector = copy_vector(&nodes[n].horizon);
}

static void
compute_horizon(int n)
{
	NodeVector	h;

	vector_copy(&h, &nodes[n].known[n]);
	for (int i = 0; i < nnodes; i++)
		vector_limit(&h, &nodes[n].known[i]);
	raise_horizon(n, &h);
}

/* --- writes --- */

static Dot
stamp(int n)
{
	nodes[n].clock = hlc_next(nodes[n].clock, (Hlc) (1000 + rand() % 60));
	nodes[n].own = nodes[n].clock;
	return (Dot) {nodes[n].clock, id_of(n)};
}

static void
write_locally(int n, int key)
{
	Node	   *node = &nodes[n];
	State	   *s = &node->state[key];
	Dot			d = stamp(n);
	uint16_t	changed[NCOLS];
	int			nchanged = 0;
	Version		out;
	bool		birth = !node->has[key] || !s->alive;
	bool		kill = !birth && rand() % 3 == 0;

	for (int c = 0; c < NCOLS; c++)
	{
		if (birth || (!kill && rand() % 2))
		{
			changed[nchanged++] = ids[c];
			s->values[c] = d;
		}
	}
	if (!node->has[key])
		version_init(&out, d);
	else
	{
		version_write(&s->version, d, changed, nchanged, ids, NCOLS,
					  mode == MERGE_MODE_COLUMN, life == LIFE_UPDATE_WINS, !kill, &out);
		version_prune(&out, &node->horizon, NULL);
	}
	s->version = out;
	s->alive = !kill;
	node->has[key] = true;
	log_row(n, key);
}

static void
merge_state(int n, int key, const State *incoming, const NodeVector *horizon)
{
	Node	   *node = &nodes[n];
	State		l = node->state[key];
	State		r = *incoming;
	MergeRules	rules = {mode, life, ids, NCOLS, &node->horizon};
	MergeSide	local = {&l.version, l.alive};
	MergeSide	remote = {&r.version, r.alive};
	MergePlan	plan;

	r.version.horizon = broken == MISSING_IS_ZERO ? NULL : horizon;
	l.version.horizon = broken == MISSING_IS_ZERO ? NULL : &node->horizon;
	if (r.version.last.hlc > node->clock)
		node->clock = r.version.last.hlc;
	if (!node->has[key])
	{
		if (broken != NEWS_IS_NEVER_OLD && version_is_stable(&r.version, &node->horizon))
		{
			old_news++;
			return;
		}
		version_expand(&r.version, r.version.horizon, &node->horizon);
		node->state[key] = r;
		node->has[key] = true;
		log_row(n, key);
		return;
	}
	merge_plan(&rules, &local, &remote, &plan);
	if (plan.outcome == MERGE_IGNORED)
		return;
	for (int c = 0; c < NCOLS; c++)
		if (plan.outcome == MERGE_TAKEN || plan.take_remote[c])
			l.values[c] = r.values[c];
	l.alive = plan.alive;
	l.version = plan.version;
	node->state[key] = l;
	log_row(n, key);
}

static void
remove_tombstones(int n)
{
	Node	   *node = &nodes[n];

	for (int k = 0; k < KEYS; k++)
	{
		if (!node->has[k] || node->state[k].alive)
			continue;
		node->state[k].version.horizon = &node->horizon;
		if (!version_is_stable(&node->state[k].version, &node->horizon))
			continue;
		node->has[k] = false;
		removed++;
	}
}

/* --- links --- */

/* n reads on in the log of from; false if there is nothing more */
static bool
pull(int n, int from, int steps)
{
	Node	   *node = &nodes[n];
	NodeVector *under = &node->read_under[from];

	while (steps-- > 0)
	{
		const Entry *e;

		if (node->cursor[from] == nodes[from].nlog)
			return false;
		e = &nodes[from].log[node->cursor[from]++];
		if (e->kind == ROW)
			merge_state(n, e->key, &e->state, under);
		else if (e->kind == HORIZON)
		{
			vector_copy(under, e->vector);
			raise_horizon(n, e->vector);
		}
		else
		{
			/* what the sender holds has come through this stream */
			if (e->node == from && vector_merge(&node->known[n], e->vector))
				log_holds(n, n);
			if (e->node != n && vector_merge(&node->known[e->node], e->vector))
				log_holds(n, e->node);
		}
	}
	return true;
}

static bool
linked(int n, int from, bool chain)
{
	return n != from && (!chain || abs(n - from) == 1);
}

static void
tell(int n)
{
	if (vector_raise(&nodes[n].known[n], id_of(n), nodes[n].own))
		log_holds(n, n);
}

static void
keep(int n)
{
	int			key = rand() % KEYS;
	Kept	   *k = &kept[nkept < MAX_KEPT ? nkept++ : rand() % MAX_KEPT];

	if (!nodes[n].has[key])
	{
		if (k == &kept[nkept - 1])
			nkept--;
		return;
	}
	k->key = key;
	k->state = nodes[n].state[key];
	k->horizon = k->state.version.pruned ? copy_vector(&nodes[n].horizon) : NULL;
}

/* --- a run --- */

static bool
same(const Node *a, const Node *b, int k)
{
	bool		alive_a = a->has[k] && a->state[k].alive;
	bool		alive_b = b->has[k] && b->state[k].alive;
	const Version *va = &a->state[k].version;
	const Version *vb = &b->state[k].version;

	if (!alive_a || !alive_b)
		return alive_a == alive_b;
	if (!dot_equal(va->last, vb->last))
		return false;
	for (int c = 0; c < NCOLS; c++)
	{
		if (!dot_equal(a->state[k].values[c], b->state[k].values[c]))
			return false;
		if (mode == MERGE_MODE_COLUMN &&
			!dot_equal(version_column_dot(va, ids[c]), version_column_dot(vb, ids[c])))
			return false;
	}
	return true;
}

static bool
survives_codec(const Version *v)
{
	size_t		n = version_encoded_bytes(v);
	uint8_t    *bytes = core_alloc(n);
	uint8_t    *again;
	Version		back;
	const char *error;

	if (version_encode(v, bytes) != n || !version_decode(bytes, n, &back, &error))
		return false;
	again = core_alloc(version_encoded_bytes(&back));
	return back.pruned == v->pruned && version_encode(&back, again) == n && memcmp(bytes, again, n) == 0;
}

static bool
simulate(bool *codec)
{
	bool		chain = rand() % 2;
	int			steps = 50 + rand() % 250;
	int			away = rand() % 3 == 0 ? rand() % MAX_NODES : -1;
	bool		more = true;

	nnodes = 2 + rand() % (MAX_NODES - 1);
	memset(nodes, 0, sizeof(nodes));
	nkept = 0;
	for (int i = 0; i < nnodes; i++)
		nodes[i].log = core_alloc(0);
	while (steps-- > 0)
	{
		int			n = rand() % nnodes;
		int			what = rand() % 20;

		if (steps == 30)
			away = -1;
		if (what < 4)
			write_locally(n, rand() % KEYS);
		else if (what < 13)
		{
			int			from = rand() % nnodes;

			if (linked(n, from, chain) && n != away && from != away)
				(void) pull(n, from, 1 + rand() % 20);
		}
		else if (what < 15)
			tell(n);
		else if (what < 16)
			compute_horizon(n);
		else if (what < 17)
			remove_tombstones(n);
		else if (what < 18)
			keep(n);
		else if (nkept > 0)
		{
			Kept	   *k = &kept[rand() % nkept];

			kept_merged++;
			merge_state(n, k->key, &k->state, k->horizon);
		}
	}

	/* all of it arrives, and nothing of what was kept makes a difference any more */
	for (int round = 0; more || round < 4; round++)
	{
		if (round == MAX_ROUNDS)
			return false;		/* a tombstone that is removed here and brought back from there, for ever */
		more = false;
		for (int i = 0; i < nnodes; i++)
		{
			if (round < 4)
				tell(i);
			compute_horizon(i);
			remove_tombstones(i);
			for (int j = 0; j < nnodes; j++)
				if (linked(i, j, chain))
				{
					int			before = nodes[i].cursor[j];

					(void) pull(i, j, 1000000);
					more |= nodes[i].cursor[j] != before;
				}
		}
		if (round == 3)
			for (int k = 0; k < nkept; k++)
				merge_state(rand() % nnodes, kept[k].key, &kept[k].state, kept[k].horizon);
	}
	for (int k = 0; k < KEYS; k++)
	{
		for (int i = 0; i < nnodes; i++)
		{
			if (nodes[i].has[k])
				*codec &= survives_codec(&nodes[i].state[k].version);
			if (!same(&nodes[0], &nodes[i], k))
				return false;
		}
	}
	return true;
}

static int
diverged(int runs, bool *codec)
{
	int			n = 0;

	for (int i = 0; i < runs; i++)
	{
		arena_reset();
		n += !simulate(codec);
	}
	arena_reset();
	return n;
}

/* ten nodes have each written a column of their own, days apart */
static void
test_size(void)
{
	enum {WRITERS = 10};
	uint16_t	all[WRITERS];
	Version		v;
	NodeVector	h;
	size_t		before;
	size_t		after;
	char		name[200];

	vector_clear(&h);
	version_init(&v, (Dot) {hlc_from_us(INT64_C(850000000000000)), UINT32_C(3900000000)});
	ok(version_encoded_bytes(&v) == 12, "a version with one writer is 12 bytes, 13 with its header");
	for (int i = 0; i < WRITERS; i++)
		all[i] = (uint16_t) (i + 2);
	for (int i = 0; i < WRITERS; i++)
	{
		Dot			d = {hlc_from_us(INT64_C(850000000000000) + INT64_C(86400000000) * (i + 1)), UINT32_C(3900000000) + i};
		Version		out;

		version_write(&v, d, &all[i], 1, all, WRITERS, true, false, true, &out);
		(void) vector_raise(&h, d.node, d.hlc);
		v = out;
	}
	before = version_encoded_bytes(&v);
	version_prune(&v, &h, NULL);
	after = version_encoded_bytes(&v);
	snprintf(name, sizeof(name), "ten writers take %zu bytes after pruning, %zu before", after, before);
	ok(after < 200 && after < before && survives_codec(&v), name);
	arena_reset();
}

int
main(void)
{
	unsigned	seed = tap_seed();
	int			runs = getenv("RUNS") ? atoi(getenv("RUNS")) : 1500;
	const MergeMode modes[] = {MERGE_MODE_COLUMN, MERGE_MODE_ROW};
	const LifePolicy lives[] = {LIFE_LAST_WINS, LIFE_UPDATE_WINS};
	bool		codec = true;
	int			zero = 0,
				never = 0,
				extra;
	char		name[200];

	srand(seed);
	test_size();
	for (int m = 0; m < 2; m++)
		for (int l = 0; l < 2; l++)
		{
			int			n;

			mode = modes[m];
			life = lives[l];
			broken = SOUND;
			n = diverged(runs, &codec);
			snprintf(name, sizeof(name), "%s, %s: %d of %d schedules diverge with pruning and removal",
					 m == 0 ? "column mode" : "row mode", l == 0 ? "last_wins" : "update_wins", n, runs);
			ok(n == 0, name);
			broken = MISSING_IS_ZERO;
			zero += diverged(runs / 2, &codec);
			broken = NEWS_IS_NEVER_OLD;
			never += diverged(runs / 2, &codec);
		}
	/* rare: go on until it has been seen */
	broken = MISSING_IS_ZERO;
	for (extra = 0; zero == 0 && extra < 40000; extra += 100)
		zero += diverged(100, &codec);
	ok(codec, "pruned versions survive their bytes");
	printf("# %ld pruned states sent, %ld tombstones removed, %ld old news, %ld kept states merged\n",
		   pruned, removed, old_news, kept_merged);
	ok(pruned > 0 && removed > 0 && old_news > 0 && kept_merged > 0, "all of that has happened");
	snprintf(name, sizeof(name), "a missing entry that counts as zero shows (%d of %d)", zero, 4 * (runs / 2) + extra);
	ok(zero > 0, name);
	snprintf(name, sizeof(name), "old news that is taken for news shows (%d of %d)", never, 4 * (runs / 2));
	ok(never > 0, name);
	return tap_done();
}
