/*-------------------------------------------------------------------------
 *
 * shape.c
 *		What two sides compare of a table: columns by name and type.
 *
 * A column that only one side has (ADD COLUMN has not been run everywhere yet)
 * is no difference of rows, so both look only at what both have.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "node/holding.h"
#include "node/horizon.h"
#include "verify/shape.h"

/* a vector on the wire: at most VECTOR_MAX nodes with their stamps */
#define SETTLED_MAX_BYTES (VECTOR_MAX * 20 + 16)

static int
elements(ArrayType *array, Oid type, int16 typlen, bool typbyval, char typalign, Datum **elems)
{
	bool	   *nulls;
	int			n;

	deconstruct_array(array, type, typlen, typbyval, typalign, elems, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("null is not allowed in this array")));
	}
	return n;
}

int
shape_strings(ArrayType *array, char ***strings)
{
	Datum	   *elems;
	int			n = elements(array, TEXTOID, -1, false, TYPALIGN_INT, &elems);

	*strings = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		(*strings)[i] = TextDatumGetCString(elems[i]);
	return n;
}

int
shape_flags(ArrayType *array, bool **flags)
{
	Datum	   *elems;
	int			n = elements(array, BOOLOID, 1, true, TYPALIGN_CHAR, &elems);

	*flags = palloc(sizeof(bool) * Max(n, 1));
	for (int i = 0; i < n; i++)
		(*flags)[i] = DatumGetBool(elems[i]);
	return n;
}

char *
shape_type_name(Oid relid, AttrNumber attno)
{
	return format_type_extended(get_atttype(relid, attno), -1, FORMAT_TYPE_FORCE_QUALIFY);
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* a text[] or boolean[] constructor */
static char *
array_literal(char **strings, const bool *flags, int n)
{
	StringInfoData s;

	initStringInfo(&s);
	appendStringInfoString(&s, "ARRAY[");
	for (int i = 0; i < n; i++)
		appendStringInfo(&s, "%s%s", i > 0 ? "," : "",
						 strings ? quote_literal_cstr(strings[i]) : flags[i] ? "true" : "false");
	appendStringInfo(&s, "]::pg_catalog.%s[]", strings ? "text" : "bool");
	return s.data;
}

static char *
names_of(Oid relid)
{
	return psprintf("%s,%s", quote_literal_cstr(get_namespace_name(get_rel_namespace(relid))),
					quote_literal_cstr(get_rel_name(relid)));
}

/* what either of us knows that every member holds; we do, or it is not true */
static void
read_settled(Remote *r, WireReader *reader, NodeVector *settled)
{
	NodeVector	held;

	wire_get_vector(reader, settled);
	if (reader->error || !wire_at_end(reader))
		remote_refuse(r, reader->error ? reader->error : "It spoke of more columns than there are.");
	holding_promised(&held);
	vector_limit(settled, &held);
	(void) vector_merge(settled, horizon_current());
}

bool
shape_agree(Remote *r, Oid relid, bool deep, const FpKey *key, VerifyShape *shape, NodeVector *settled)
{
	Relation	rel = table_open(relid, AccessShareLock);
	FerryTable *table = table_lookup_required(relid);
	int			n = table->nplain;
	char	  **columns = palloc(sizeof(char *) * Max(n, 1));
	char	  **types = palloc(sizeof(char *) * Max(n, 1));
	uint8_t    *answer;
	size_t		len;
	WireReader	reader;

	for (int c = 0; c < n; c++)
		columns[c] = pstrdup(NameStr(TupleDescAttr(RelationGetDescr(rel), table->plain_attnos[c] - 1)->attname));
	qsort(columns, n, sizeof(char *), compare_names);
	for (int c = 0; c < n; c++)
		types[c] = shape_type_name(relid, get_attnum(relid, columns[c]));
	table_close(rel, NoLock);

	remote_ask(r, psprintf("ferry._verify_common(%s,%s,%s)", names_of(relid),
						   array_literal(columns, NULL, n), array_literal(types, NULL, n)));
	answer = remote_answer(r, n + SETTLED_MAX_BYTES, &len);
	if (answer == NULL)
		return false;
	if (len < n)
		remote_refuse(r, "It did not speak of every column.");
	wire_reader_init(&reader, answer + n, len - n);
	read_settled(r, &reader, settled);
	memset(shape, 0, sizeof(*shape));
	shape->columns = palloc(sizeof(char *) * Max(n, 1));
	shape->with_value = palloc(sizeof(bool) * Max(n, 1));
	for (int c = 0; c < n; c++)
	{
		if (answer[c] == 0)
			continue;
		shape->columns[shape->ncolumns] = columns[c];
		shape->with_value[shape->ncolumns++] = deep && answer[c] == 2;
	}
	if (key)
		shape->key = *key;
	else
		digest_random_key(&shape->key);
	return true;
}

char *
shape_arguments(Oid relid, const VerifyShape *shape, const NodeVector *settled)
{
	uint64		key[2] = {shape->key.k0, shape->key.k1};
	WireWriter	w;

	wire_writer_init(&w, 256);
	wire_put_vector(&w, settled);
	return psprintf("%s,%s,%s,%s,%s", names_of(relid), remote_u64_literal(key, 2),
					array_literal(shape->columns, NULL, shape->ncolumns),
					array_literal(NULL, shape->with_value, shape->ncolumns),
					remote_bytes_literal(w.data, w.len));
}
