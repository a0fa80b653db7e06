/*
 * tap.h
 *		What every unit test prints: one line a check, the seed, the plan.
 */
#ifndef FERRY_TEST_TAP_H
#define FERRY_TEST_TAP_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int	tests = 0;
static int	failures = 0;

static inline void
ok(bool condition, const char *name)
{
	tests++;
	if (!condition)
		failures++;
	printf("%sok %d - %s\n", condition ? "" : "not ", tests, name);
}

/* SEED in the environment repeats a run; else another each time */
static inline unsigned
tap_seed(void)
{
	const char *given = getenv("SEED");
	unsigned	seed = given ? (unsigned) atoi(given) : (unsigned) time(NULL);

	printf("# SEED=%u\n", seed);
	return seed;
}

/* prints the plan; gives the exit code of the program */
static inline int
tap_done(void)
{
	printf("1..%d\n", tests);
	return failures != 0;
}

#endif
