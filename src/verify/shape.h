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
 * Ask the peer which of our table's columns it has too, and what it knows that
 * every member holds: settled is that and what we know.  False if the table is not
 * under ferry there.  key is NULL for a new one; allocates in the current context.
 */
extern bool shape_agree(Remote *r, Oid relid, bool deep, const FpKey *key, VerifyShape *shape, NodeVector *settled);

/* the arguments of ferry._verify_scan() and _verify_root() up to what is settled */
extern char *shape_arguments(Oid relid, const VerifyShape *shape, const NodeVector *settled);

#endif							/* FERRY_VERIFY_SHAPE_H */
