/*-------------------------------------------------------------------------
 *
 * serve.c
 *		The other side of a comparison: what a verifying peer asks us, as SQL
 *		functions.
 *
 * A session serves one comparison at a time; what it holds of the table lives
 * until the next one begins or the session ends.  The order of the questions:
 *
 *		_verify_common		which columns, under ferry here at all?
 *		_verify_root		the root, if most of the table is known from before
 *		_verify_scan		read the table; the root of the tree
 *		_verify_children	of nodes; many times
 *		_verify_items		of leaves; reads the table again
 *		_verify_states		of keys; many times
 *		_verify_take		the peer's states, to be merged here
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "node/horizon.h"
#include "node/node.h"
#include "state/codec.h"
#include "verify/side.h"
#include "verify/pace.h"
#include "verify/shape.h"
#include "verify/take.h"
#include "verify/undead.h"

static Side *served = NULL;

pg_noreturn static void
bad_question(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid question of a verification"),
			 errdetail_internal("%s", why)));
}

static Side *
require_served(void)
{
	if (served == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no verification is going on in this session")));
	return served;
}

/* the registered table of that name, or InvalidOid */
static Oid
find_table(const char *schema, const char *name)
{
	Oid			nspid = get_namespace_oid(schema, true);
	Oid			relid = OidIsValid(nspid) ? get_relname_relid(name, nspid) : InvalidOid;
	FerryTable *table = OidIsValid(relid) ? table_lookup(relid) : NULL;

	return table && table->rootid == relid ? relid : InvalidOid;
}

/* fixed-width big-endian numbers */
static size_t
numbers(bytea *bytes, size_t width, WireReader *r)
{
	size_t		n = VARSIZE_ANY_EXHDR(bytes);

	if (n % width != 0)
		bad_question("A list of numbers has an odd length.");
	wire_reader_init(r, VARDATA_ANY(bytes), n);
	return n / width;
}

PG_FUNCTION_INFO_V1(ferry_verify_common);

/*
 * SQL: ferry._verify_common(schema, name, columns text[], types text[]) returns
 * bytea: a byte per column: 0 not here, 1 here, 2 here with the same type; then
 * our horizon.  NULL if the table is not under ferry here.
 */
Datum
ferry_verify_common(PG_FUNCTION_ARGS)
{
	Oid			relid;
	int			n;
	char	  **columns;
	char	  **types;
	WireWriter	w;

	(void) node_current();
	relid = find_table(text_to_cstring(PG_GETARG_TEXT_PP(0)), text_to_cstring(PG_GETARG_TEXT_PP(1)));
	if (!OidIsValid(relid))
		PG_RETURN_NULL();
	n = shape_strings(PG_GETARG_ARRAYTYPE_P(2), &columns);
	if (shape_strings(PG_GETARG_ARRAYTYPE_P(3), &types) != n)
		bad_question("There are not as many types as columns.");
	wire_writer_init(&w, n);
	for (int c = 0; c < n; c++)
	{
		AttrNumber	attno = get_attnum(relid, columns[c]);

		wire_put_u8(&w, attno <= 0 ? 0 : strcmp(shape_type_name(relid, attno), types[c]) == 0 ? 2 : 1);
	}
	wire_put_vector(&w, horizon_current());
	PG_RETURN_BYTEA_P(bytea_of(w.data, w.len));
}

/*
 * The first six arguments of a question that reads the table: schema, name, key
 * bytea, columns text[], with_value boolean[], settled bytea.
 */
static Oid
read_subject(FunctionCallInfo fcinfo, VerifyShape *shape, NodeVector *settled)
{
	bytea	   *key = PG_GETARG_BYTEA_PP(2);
	bytea	   *settled_bytes = PG_GETARG_BYTEA_PP(5);
	Oid			relid = find_table(text_to_cstring(PG_GETARG_TEXT_PP(0)), text_to_cstring(PG_GETARG_TEXT_PP(1)));
	WireReader	r;

	if (!OidIsValid(relid))
		bad_question("The table is not under ferry here.");
	if (numbers(key, sizeof(uint64), &r) != 2)
		bad_question("The hash key has a wrong length.");
	shape->key.k0 = wire_get_u64(&r);
	shape->key.k1 = wire_get_u64(&r);
	shape->ncolumns = shape_strings(PG_GETARG_ARRAYTYPE_P(3), &shape->columns);
	if (shape_flags(PG_GETARG_ARRAYTYPE_P(4), &shape->with_value) != shape->ncolumns)
		bad_question("There are not as many flags as columns.");

	wire_reader_init(&r, VARDATA_ANY(settled_bytes), VARSIZE_ANY_EXHDR(settled_bytes));
	wire_get_vector(&r, settled);
	if (r.error || !wire_at_end(&r))
		bad_question("What is settled is malformed.");

	return relid;
}

/* what was asked for; a walsender that serves a verifier does nothing else, and steps back for good */
static bool
take_pace(bool paced)
{
	if (paced && am_walsender)
		pace_lower_priority();
	return paced;
}

static Datum
root_answer(const FpNode *root)
{
	WireWriter	w;

	wire_writer_init(&w, 64);
	fp_put_node(&w, root);
	PG_RETURN_BYTEA_P(bytea_of(w.data, w.len));
}

PG_FUNCTION_INFO_V1(ferry_verify_root);

/*
 * SQL: ferry._verify_root(schema, name, key bytea, columns text[], with_value
 * boolean[], settled bytea, paced, asker) returns bytea: the root.  NULL if that
 * would mean reading much.
 */
Datum
ferry_verify_root(PG_FUNCTION_ARGS)
{
	NodeVector	settled;
	VerifyShape shape;
	Oid			relid;
	Side	   *h;
	FpNode		root;

	(void) node_current();
	relid = read_subject(fcinfo, &shape, &settled);
	h = side_create(CurrentMemoryContext, relid, &shape, &settled, 1, take_pace(PG_GETARG_BOOL(6)), (NodeId) PG_GETARG_INT64(7));
	if (h->asker == NODE_ID_NONE || !side_is_mostly_known(h))
		PG_RETURN_NULL();
	side_root(h, &root);
	side_free(h);
	return root_answer(&root);
}

PG_FUNCTION_INFO_V1(ferry_verify_scan);

/*
 * SQL: ferry._verify_scan(schema, name, key bytea, columns text[], with_value
 * boolean[], settled bytea, depth, paced, asker) returns bytea: the root.  The
 * asker is 0 who draws a new key each time.
 */
Datum
ferry_verify_scan(PG_FUNCTION_ARGS)
{
	int			depth = PG_GETARG_INT32(6);
	NodeVector	settled;
	VerifyShape shape;
	Oid			relid;
	Side	   *h;

	(void) node_current();
	relid = read_subject(fcinfo, &shape, &settled);
	if (depth < 1 || depth > FP_MAX_DEPTH)
		bad_question("The depth is out of range.");
	if (served)
		side_free(served);
	served = NULL;
	h = side_create(CurrentMemoryContext, relid, &shape, &settled, depth, take_pace(PG_GETARG_BOOL(7)), (NodeId) PG_GETARG_INT64(8));
	side_scan(h);
	MemoryContextSetParent(h->cxt, TopMemoryContext);
	served = h;
	return root_answer(fp_tree_node(&h->tree, 0, 0));
}

PG_FUNCTION_INFO_V1(ferry_verify_children);

/* SQL: ferry._verify_children(level, nodes bytea) returns bytea */
Datum
ferry_verify_children(PG_FUNCTION_ARGS)
{
	Side    *h = require_served();
	int			level = PG_GETARG_INT32(0);
	WireReader	r;
	size_t		n = numbers(PG_GETARG_BYTEA_PP(1), sizeof(uint32), &r);
	WireWriter	w;

	if (level < 0 || level >= h->tree.depth)
		bad_question("The level is out of range.");
	wire_writer_init(&w, n * FP_FANOUT * 20 + 64);
	for (size_t i = 0; i < n; i++)
	{
		uint32		index = wire_get_u32(&r);

		if (index >= fp_level_width(level))
			bad_question("The node is out of range.");
		fp_put_children(&w, &h->tree, level, index);
	}
	PG_RETURN_BYTEA_P(bytea_of(w.data, w.len));
}

PG_FUNCTION_INFO_V1(ferry_verify_items);

/* SQL: ferry._verify_items(leaves bytea, max) returns bytea */
Datum
ferry_verify_items(PG_FUNCTION_ARGS)
{
	Side    *h = require_served();
	WireReader	r;
	size_t		n = numbers(PG_GETARG_BYTEA_PP(0), sizeof(uint32), &r);
	int			max = PG_GETARG_INT32(1);
	uint32_t   *leaves = palloc(sizeof(uint32_t) * Max(n, 1));
	WireWriter	w;

	if (max < 0 || max > VERIFY_MAX_ITEMS)
		bad_question("The limit is out of range.");
	for (size_t i = 0; i < n; i++)
	{
		leaves[i] = wire_get_u32(&r);
		if (leaves[i] >= fp_level_width(h->tree.depth))
			bad_question("The leaf is out of range.");
	}
	side_list(h, leaves, n, max);
	wire_writer_init(&w, h->nitems * 16 + 64);
	fp_put_items(&w, h->items, h->nitems);
	PG_RETURN_BYTEA_P(bytea_of(w.data, w.len));
}

PG_FUNCTION_INFO_V1(ferry_verify_states);

/*
 * SQL: ferry._verify_states(keys bytea) returns bytea: varint how many keys it
 * came to; the frame.
 */
Datum
ferry_verify_states(PG_FUNCTION_ARGS)
{
	Side    *h = require_served();
	WireReader	r;
	size_t		n = numbers(PG_GETARG_BYTEA_PP(0), sizeof(uint64), &r);
	uint64	   *keys = palloc(sizeof(uint64) * Max(n, 1));
	WireWriter	frame;
	WireWriter	w;
	size_t		done;

	if (n > VERIFY_MAX_KEYS)
		bad_question("There are too many keys.");
	for (size_t i = 0; i < n; i++)
		keys[i] = wire_get_u64(&r);
	wire_writer_init(&frame, 8192);
	done = side_states(h, keys, n, &frame);

	wire_writer_init(&w, frame.len + 32);
	wire_put_varint(&w, done);
	wire_put_bytes(&w, frame.data, frame.len);
	PG_RETURN_BYTEA_P(bytea_of(w.data, w.len));
}

PG_FUNCTION_INFO_V1(ferry_verify_take);

/*
 * SQL: ferry._verify_take(peer name, peer id, frame bytea, repair, patience)
 * returns bytea: varints differing, repaired, mismatched, undecided.
 */
Datum
ferry_verify_take(PG_FUNCTION_ARGS)
{
	Side    *h = require_served();
	bytea	   *frame = PG_GETARG_BYTEA_PP(2);
	Take		t = {0};
	WireWriter	w;

	(void) set_config_option("lock_timeout", VERIFY_LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	t.peer = NameStr(*PG_GETARG_NAME(0));
	t.peer_id = (NodeId) PG_GETARG_INT64(1);
	t.relid = h->relid;
	t.shape = &h->shape;
	t.repair = PG_GETARG_BOOL(3);
	t.patience_ms = Min(PG_GETARG_INT32(4), TAKE_PATIENCE_MS);
	undead_bury(h, t.peer, t.repair, &t.counts);
	take_frame(&t, VARDATA_ANY(frame), VARSIZE_ANY_EXHDR(frame));
	wire_writer_init(&w, 64);
	wire_put_varint(&w, t.counts.differing);
	wire_put_varint(&w, t.counts.repaired);
	wire_put_varint(&w, t.counts.mismatched);
	wire_put_varint(&w, t.counts.undecided);
	if (t.counts.differing > 0)
		ereport(WARNING,
				(errmsg("%lld rows of table \"%s\" differed from what peer \"%s\" had sent",
						(long long) t.counts.differing, get_rel_name(h->relid), t.peer),
				 errdetail("%lld of them were repaired.", (long long) t.counts.repaired),
				 errhint("See the conflicts of kind \"divergence\" in ferry.conflicts.")));
	PG_RETURN_BYTEA_P(bytea_of(w.data, w.len));
}
