/*-------------------------------------------------------------------------
 *
 * key_hash.c
 *		A hash of a row's key: equal keys have equal hashes.
 *
 * Equality is that of the key's index.  Types whose equal values may differ in
 * their bytes (numeric, char(n), floats, text under a nondeterministic
 * collation, and all that we do not know) count nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "utils/lsyscache.h"
#include "utils/uuid.h"

#include "compat.h"
#include "state/key_hash.h"

static uint32
hash_value(Form_pg_attribute attr, Datum value)
{
	switch (attr->atttypid)
	{
		case BOOLOID:
		case CHAROID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return hash_bytes((unsigned char *) &value, sizeof(Datum));
		case UUIDOID:
			return hash_bytes((unsigned char *) DatumGetPointer(value), UUID_LEN);
		case TEXTOID:
		case VARCHAROID:
			if (!get_collation_isdeterministic(attr->attcollation))
				return 0;
			/* FALLTHROUGH */
		case BYTEAOID:
			{
				struct varlena *v = PG_DETOAST_DATUM_PACKED(value);

				return hash_bytes((unsigned char *) VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v));
			}
		default:
			return 0;
	}
}

uint32
key_hash(TupleDesc desc, const AttrNumber *attnos, int nkeys, const Datum *values)
{
	uint32		hash = 0;

	for (int k = 0; k < nkeys; k++)
		hash = hash_combine(hash, hash_value(TupleDescAttr(desc, attnos[k] - 1), values[attnos[k] - 1]));
	return hash;
}
