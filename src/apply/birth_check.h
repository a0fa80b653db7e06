/*
 * birth_check.h
 *		Before commit: did a key that we inserted die while we inserted it?
 */
#ifndef FERRY_APPLY_BIRTH_CHECK_H
#define FERRY_APPLY_BIRTH_CHECK_H

extern void birth_check_install(void);	/* from _PG_init */

#endif							/* FERRY_APPLY_BIRTH_CHECK_H */
