/* arena.h: memory for the core outside the server; arena_reset frees it all */
#ifndef FERRY_TEST_ARENA_H
#define FERRY_TEST_ARENA_H

extern void arena_reset(void);

#endif
