/*
 * arena.c
 *		core_alloc for tests: every block is its own malloc, so that the
 *		sanitizer sees each overrun; arena_reset() frees them.
 */
#include <stdlib.h>

#include "arena.h"
#include "core/port.h"

static void **blocks;
static size_t nblocks,
			cap;

void *
core_alloc(size_t bytes)
{
	if (nblocks == cap)
	{
		cap = cap ? cap * 2 : 1024;
		blocks = realloc(blocks, cap * sizeof(void *));
	}
	return blocks[nblocks++] = malloc(bytes ? bytes : 1);
}

void *
core_realloc(void *p, size_t old_bytes, size_t new_bytes)
{
	void	   *fresh = core_alloc(new_bytes);

	memcpy(fresh, p, old_bytes < new_bytes ? old_bytes : new_bytes);
	return fresh;
}

void
arena_reset(void)
{
	for (size_t i = 0; i < nblocks; i++)
		free(blocks[i]);
	nblocks = 0;
}
