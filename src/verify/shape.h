/*
 * shape.h
 *		What two sides compare of a table: columns by name and type.
 */
#ifndef FERRY_VERIFY_SHAPE_H
#define FERRY_VERIFY_SHAPE_H

#include "postgres.h"

#include "access/attnum.h"
#include "utils/array.h"
#include "verify/digest.h"
#include "verify/remote.h"

/* arrays without nulls, into the current context; return their length; raise on nulls */
extern int	shape_strings(ArrayType *array, char ***strings);
extern int	shape_flags(ArrayType *array, bool **flags);

/* of a column, schema-qualified and with its modifier's meaning left out */
extern char *shape_type_name(Oid relid, AttrNumber attno);

/*
 * Ask the peer which of our table's columns it has too.  False if the table is
 * not under ferry there.  Draws a new key; allocates in the current context.
 */
extern bool shape_agree(Remote *r, Oid relid, bool deep, VerifyShape *shape);

/* the arguments of ferry._verify_scan() up to depth */
extern char *shape_arguments(Oid relid, const VerifyShape *shape);

#endif							/* FERRY_VERIFY_SHAPE_H */
