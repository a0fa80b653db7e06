/*
 * fuzz.c
 *		A small coverage-guided fuzzer for fuzz_target.c and fuzz_bundle.c, since
 *		gcc has none.
 *
 * The core is compiled with -fsanitize-coverage=trace-pc: every edge calls us.
 * An input that reaches an edge that no other has reached is kept and mutated
 * further.  The sanitizers and the target's own checks abort on an error; the
 * input that did it is then written to fuzz-crash.
 *
 *		fuzz [SECONDS] [SEED]
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "arena.h"
#include "core/wire.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* a target may bring valid inputs of its own */
extern void fuzz_seeds(void (*seed) (uint8_t kind, const void *data, size_t size)) __attribute__((weak));

extern void __sanitizer_cov_trace_pc(void);
extern void __asan_set_death_callback(void (*callback) (void));

#define MAX_INPUT 2048
#define MAX_CORPUS 4096

static uint8_t edges[1 << 16];
static int	new_edges;
static int	all_edges;

void
__sanitizer_cov_trace_pc(void)
{
	uintptr_t	pc = (uintptr_t) __builtin_return_address(0);
	uint8_t    *edge = &edges[(pc ^ (pc >> 16)) & 0xffff];

	if (!*edge)
	{
		*edge = 1;
		new_edges++;
	}
}

typedef struct Input
{
	uint8_t		data[MAX_INPUT];
	size_t		size;
} Input;

static Input *corpus[MAX_CORPUS];
static int	ncorpus;
static Input current;

static uint64_t state;

static uint32_t
any(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return below ? (uint32_t) (state >> 20) % below : 0;
}

static void
save_crash(void)
{
	FILE	   *f = fopen("fuzz-crash", "wb");

	if (f)
	{
		fwrite(current.data, 1, current.size, f);
		fclose(f);
	}
}

static void
on_abort(int signo)
{
	save_crash();
	signal(signo, SIG_DFL);
	raise(signo);
}

static void
try(void)
{
	new_edges = 0;
	LLVMFuzzerTestOneInput(current.data, current.size);
	all_edges += new_edges;
	if (new_edges && ncorpus < MAX_CORPUS)
	{
		corpus[ncorpus] = malloc(sizeof(Input));
		*corpus[ncorpus++] = current;
	}
}

static void
seed(uint8_t kind, const void *data, size_t size)
{
	current.data[0] = kind;
	memcpy(current.data + 1, data, size);
	current.size = size + 1;
	try();
}

/* valid messages to begin with */
static void
make_corpus(void)
{
	WireWriter	w;
	WireTxn		txn = {1, 2, 3, 4};
	WireColumn	cols[2] = {{1, WIRE_COLUMN_KEY, "id", "pg_catalog", "int4"}, {2, 0, "a", "public", "t"}};
	WireRelation rel = {7, "public", "t", 2, cols};
	WireStrategy strategy = {7, 2, KIND_FUNCTION, "public.f(integer,integer)", {700, 9}};
	Dot			vv[2] = {{500, 3}, {700, 9}};
	ColumnDot	dots[1] = {{2, {500, 3}}};
	Dot			live[1] = {{700, 9}};
	Version		v = {.last = {700, 9}};
	uint8_t		bytes[256];
	uint8_t		two[512];
	size_t		n;

	v.vv = vv, v.nvv = 2, v.cols = dots, v.ncols = 1, v.live = live, v.nlive = 1;
	n = version_encode(&v, bytes);
	wire_writer_init(&w, 64);
	wire_put_begin(&w, &txn);
	wire_put_relation(&w, &rel);
	wire_put_strategy(&w, &strategy);
	wire_put_row_head(&w, true, 7, bytes, n, 2);
	wire_put_value(&w, WIRE_RAW, "\1\2\3\4", 4);
	wire_put_value(&w, WIRE_TEXT, "hello", 5);
	wire_put_row_head(&w, false, 7, bytes, n, 2);
	wire_put_value(&w, WIRE_BINARY, "\1\2\3\4", 4);
	wire_put_value(&w, WIRE_ABSENT, NULL, 0);
	wire_put_commit(&w, &txn);
	seed(0, w.data, w.len);
	two[0] = n;
	memcpy(two + 1, bytes, n);
	memcpy(two + 1 + n, bytes, n);
	seed(1, two, 1 + 2 * n);
	{
		Dot			added[2] = {{500, 3}, {700, 9}};
		Part		share = {.node = 3, .len = 2, .bytes = (const uint8_t *) "\x80\x01"};
		Part		elements[3] = {{.ndots = 2, .dots = added}, {.ndots = 1, .dots = added}, {.ndots = 1, .dots = added}};
		Part		keys[2] = {{.ndots = 1, .dots = added + 1}, {.ndots = 1, .dots = added, .removed = true, .len = 1, .bytes = (const uint8_t *) "k"}};
		ColumnParts parts[4] = {{3, KIND_COUNTER, {0, 0}, 1, &share}, {4, KIND_SET, {500, 3}, 3, elements},
		{5, KIND_MAP, {0, 0}, 2, keys}, {6, KIND_MAX, {500, 3}, 0, NULL}};

		v.parts = parts, v.nparts = 4;
		n = version_encode(&v, bytes);
		two[0] = n;
		memcpy(two + 1, bytes, n);
		memcpy(two + 1 + n, bytes, n);
		seed(1, two, 1 + 2 * n);
	}
	n = 12;
	version_put_dot(bytes, v.last);
	two[0] = n;
	memcpy(two + 1, bytes, n);
	memcpy(two + 1 + n, bytes, n);
	seed(1, two, 1 + 2 * n);
	arena_reset();
}

static void
mutate(void)
{
	static const uint8_t sharp[] = {0, 1, 0x7f, 0x80, 0xff};

	current = *corpus[any(ncorpus)];
	for (int n = 1 + any(6); n > 0; n--)
	{
		size_t		at = any(current.size);
		size_t		len = 1 + any(8);

		switch (any(7))
		{
			case 0:
				current.data[at] ^= 1 << any(8);
				break;
			case 1:
				current.data[at] = any(256);
				break;
			case 2:
				current.data[at] = sharp[any(sizeof(sharp))];
				break;
			case 3:				/* drop some */
				if (at + len < current.size)
				{
					memmove(current.data + at, current.data + at + len, current.size - at - len);
					current.size -= len;
				}
				break;
			case 4:				/* repeat some */
				if (current.size + len <= MAX_INPUT && at + len <= current.size)
				{
					memmove(current.data + at + len, current.data + at, current.size - at);
					current.size += len;
				}
				break;
			case 5:				/* the tail of another */
				{
					const Input *other = corpus[any(ncorpus)];
					size_t		from = any(other->size);

					if (at + other->size - from <= MAX_INPUT)
					{
						memcpy(current.data + at, other->data + from, other->size - from);
						current.size = at + other->size - from;
					}
					break;
				}
			case 6:
				current.size = at + 1;
				break;
		}
	}
}

int
main(int argc, char **argv)
{
	int			seconds = argc > 1 ? atoi(argv[1]) : 5;
	time_t		end = time(NULL) + seconds;
	uint64_t	runs = 0;

	state = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t) time(NULL) * 2654435761u + getpid();
	printf("# fuzz: seed %llu\n", (unsigned long long) state);
	fflush(stdout);
	state |= 1;
	signal(SIGABRT, on_abort);
	__asan_set_death_callback(save_crash);
	make_corpus();
	if (fuzz_seeds)
		fuzz_seeds(seed);
	while (time(NULL) < end)
	{
		for (int i = 0; i < 2000; i++, runs++)
		{
			mutate();
			try();
		}
	}
	printf("# fuzz: %llu inputs, %d edges, %d kept\n", (unsigned long long) runs, all_edges, ncorpus);
	printf("ok - hostile bytes are refused, or keep the laws\n");
	return 0;
}
