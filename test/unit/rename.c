/*
 * rename.c
 *		What a node wrote under its former id, not knowing that it was set back, and
 *		was renamed later, merges as if it had been written under the new id at once.
 *		Prints TAP; SEED in the environment repeats a run.
 *
 * One row, twice: once the second line of writes has its own id from the first write
 * on, once it begins under the former one and is renamed at some moment.  A peer has the
 * first line's lost writes, and wrote on top of them.
 */
#include <stdio.h>
#include <stdlib.h>

#include "arena.h"
#include "tap.h"
#include "core/merge.h"
#include "core/rename.h"

#define NCOLS 4
#define RUNS 200000
static const uint16_t ids[NCOLS] = {2, 3, 5, 9};

enum {FORMER = 7, LATER = 3, PEER = 5};

typedef struct State
{
	bool		alive;
	Version		version;
} State;

static bool column_mode;
static bool update_wins;

static int
pick(int n)
{
	return rand() % n;
}

/* the same choice for both rows, so it is made once */
typedef struct Write
{
	bool		alive;
	int			n;
	uint16_t	cols[NCOLS];
} Write;

static Write
random_write(void)
{
	Write		w = {.alive = pick(4) > 0};

	for (int c = 0; c < NCOLS; c++)
		if (w.alive && pick(2))
			w.cols[w.n++] = ids[c];
	return w;
}

static State
write_row(const State *s, const Write *w, Dot d)
{
	State		out = {.alive = w->alive};
	bool		birth = w->alive && !s->alive;

	version_write(&s->version, d, birth ? ids : w->cols, birth ? NCOLS : w->n, ids, NCOLS, column_mode, update_wins,
				  w->alive, &out.version);
	return out;
}

static bool
same_dot(Dot a, Dot b, bool by_stamp)
{
	return by_stamp ? a.hlc == b.hlc : dot_equal(a, b);
}

/* of a merge: who lives, and which write each part is of; by_stamp: whatever that one's node is called */
static bool
same_outcome(const State *a, const State *b, const State *peer, bool by_stamp)
{
	MergeRules	rules = {column_mode ? MERGE_MODE_COLUMN : MERGE_MODE_ROW, update_wins ? LIFE_UPDATE_WINS : LIFE_LAST_WINS, ids, NCOLS, NULL};
	MergeSide	sides[3] = {{&a->version, a->alive}, {&b->version, b->alive}, {&peer->version, peer->alive}};
	MergePlan	plans[2];

	for (int i = 0; i < 2; i++)
	{
		MergePlan	there;

		merge_plan(&rules, &sides[i], &sides[2], &plans[i]);
		merge_plan(&rules, &sides[2], &sides[i], &there);
		if (there.alive != plans[i].alive || !dot_equal(there.version.last, plans[i].version.last))
			return false;
	}
	if (plans[0].alive != plans[1].alive || !same_dot(plans[0].version.last, plans[1].version.last, by_stamp) ||
		(!by_stamp && version_entry(&plans[0].version, LATER) != version_entry(&plans[1].version, LATER)) ||
		version_entry(&plans[0].version, PEER) != version_entry(&plans[1].version, PEER))
		return false;
	for (int c = 0; column_mode && c < NCOLS; c++)
		if (!same_dot(version_column_dot(&plans[0].version, ids[c]), version_column_dot(&plans[1].version, ids[c]), by_stamp))
			return false;
	return true;
}

static bool
same_bytes(const Version *a, const Version *b)
{
	size_t		na = version_encoded_bytes(a);
	uint8_t    *x = core_alloc(na);
	uint8_t    *y = core_alloc(na);
	Version		again;
	const char *error;

	if (version_encoded_bytes(b) != na)
		return false;
	version_encode(a, x);
	version_encode(b, y);
	return memcmp(x, y, na) == 0 && version_decode(x, na, &again, &error);
}

static bool
run(bool as_they_are)
{
	Hlc			clock = 100;
	State		base;
	State		apart;
	State		mixed;
	State		peer;
	State		renamed;
	Version		twice;
	VersionRename r = {.from = FORMER, .to = LATER};
	int			moment;
	int			n;

	column_mode = pick(3) > 0;
	update_wins = pick(2);
	base.alive = true;
	version_init(&base.version, (Dot) {++clock, pick(2) ? FORMER : PEER});
	for (n = pick(4); n > 0; n--)
	{
		Write		w = random_write();

		base = write_row(&base, &w, (Dot) {++clock, pick(2) ? FORMER : PEER});
	}
	r.held = clock;

	/* what is lost */
	peer = base;
	for (n = pick(4); n > 0; n--)
	{
		Write		w = random_write();

		peer = write_row(&peer, &w, (Dot) {++clock, pick(3) ? FORMER : PEER});
	}
	r.since = clock + 10;
	clock += 20;

	/* the second line */
	apart = mixed = base;
	n = 1 + pick(5);
	moment = pick(n + 1);
	for (int i = 0; i < n; i++)
	{
		Write		w = random_write();

		clock += 1 + pick(3);
		apart = write_row(&apart, &w, (Dot) {clock, LATER});
		mixed = write_row(&mixed, &w, (Dot) {clock, i <= moment ? FORMER : LATER});
	}
	renamed = mixed;
	if (as_they_are)
		return same_outcome(&apart, &mixed, &peer, true);
	version_rename(&r, &mixed.version, &renamed.version);
	if (version_must_rename(&r, &renamed.version))
		return false;
	version_rename(&r, &renamed.version, &twice);
	return same_bytes(&renamed.version, &twice) && same_outcome(&apart, &renamed, &peer, false);
}

int
main(void)
{
	int			bad = 0;
	int			broken = 0;

	srand(tap_seed());
	for (int i = 0; i < RUNS; i++)
	{
		bad += !run(false);
		arena_reset();
	}
	ok(bad == 0, "renamed writes merge as if they had been another's from the first on");
	for (int i = 0; i < RUNS; i++)
	{
		broken += !run(true);
		arena_reset();
	}
	ok(broken > RUNS / 100, "and do not if they are left as they are");
	printf("# of %d, %d lose something then\n", RUNS, broken);
	return tap_done();
}
