/*
 * port.h
 *		The only thing the pure core needs from its surroundings: memory.
 *
 * Inside the server core_alloc() is palloc() in the current memory context, so
 * everything that the core returns lives and dies with that context.  In the
 * unit tests and fuzzers (FERRY_STANDALONE) it is an arena that the test
 * resets; there is no core_free() on purpose.
 */
#ifndef FERRY_CORE_PORT_H
#define FERRY_CORE_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef FERRY_STANDALONE
extern void *core_alloc(size_t bytes);
extern void *core_realloc(void *p, size_t old_bytes, size_t new_bytes);
#else
extern void *palloc(size_t bytes);
extern void *repalloc(void *p, size_t bytes);
#define core_alloc(bytes) palloc(bytes)
#define core_realloc(p, old_bytes, new_bytes) repalloc(p, new_bytes)
#endif

#endif							/* FERRY_CORE_PORT_H */
