/*
 * version_private.h
 *		What version.c and its codec share with each other and nobody else.
 */
#ifndef FERRY_CORE_VERSION_PRIVATE_H
#define FERRY_CORE_VERSION_PRIVATE_H

#include "core/version.h"

/* by column id */
extern void version_sort_columns(ColumnDot *cols, int n);

#endif							/* FERRY_CORE_VERSION_PRIVATE_H */
