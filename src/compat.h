/*
 * compat.h
 *		Everything that differs between PostgreSQL 15 and 18, and nothing else.
 */
#ifndef FERRY_COMPAT_H
#define FERRY_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000
#error "ferry needs PostgreSQL 15 or later"
#endif

#endif							/* FERRY_COMPAT_H */
