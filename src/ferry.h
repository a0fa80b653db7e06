/*
 * ferry.h
 *		The module itself: nothing but what ferry.c offers to no one else in
 *		particular.
 */
#ifndef FERRY_H
#define FERRY_H

/* capture/utility.c: COPY names its columns; capture/statement.c: statements stamp their rows */
extern void capture_install_hooks(void);

#endif							/* FERRY_H */
