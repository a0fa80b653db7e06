/*-------------------------------------------------------------------------
 *
 * codec.c
 *		Values between the server's form and the wire's.
 *
 * Fixed-width by-value built-in types travel as they lie (little-endian), all
 * others by their send and receive functions, types without those by text.  The
 * sender names its types; the receiver reads a value by the sender's type and,
 * where its own column has another one, takes the way through text.
 *
 * A binary form that holds OIDs says something else on every node: arrays,
 * composite types and what is made of them name their element types so, and
 * regclass is one.  They travel as text, too, where the OIDs are not the same
 * everywhere by definition.  Text is written and read under settings that are the
 * same in every session (text_output, text_input).
 *
 * Text travels in the server's encoding: a link refuses a peer with another one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "state/codec.h"

bytea *
bytea_of(const void *data, size_t n)
{
	bytea	   *b = palloc(VARHDRSZ + n);

	SET_VARSIZE(b, VARHDRSZ + n);
	memcpy(VARDATA(b), data, n);
	return b;
}

/* --- what is portable --- */

/* types whose values are OIDs of objects */
static bool
is_reference(Oid typid)
{
	switch (typid)
	{
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCOLLATIONOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
			return true;
		default:
			return false;
	}
}

/* a part's OID stands in the binary form of the whole */
static bool
part_is_portable(Oid typid)
{
	return typid < FirstGenbkiObjectId && type_is_portable(typid);
}

bool
type_is_portable(Oid typid)
{
	Oid			part;
	bool		portable = true;

	check_stack_depth();
	typid = getBaseType(typid);
	if (is_reference(typid))
		return false;
	if (OidIsValid(part = get_element_type(typid)))
		return part_is_portable(part);
	switch (get_typtype(typid))
	{
		case TYPTYPE_RANGE:
			return type_is_portable(get_range_subtype(typid));
		case TYPTYPE_MULTIRANGE:
			return type_is_portable(get_multirange_range(typid));
		case TYPTYPE_COMPOSITE:
			{
				TupleDesc	desc = lookup_rowtype_tupdesc(typid, -1);

				for (int i = 0; i < desc->natts && portable; i++)
					if (!TupleDescAttr(desc, i)->attisdropped)
						portable = part_is_portable(TupleDescAttr(desc, i)->atttypid);
				ReleaseTupleDesc(desc);
				return portable;
			}
		default:
			return true;
	}
}

/* --- text, the same in every session --- */

int
text_pin_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", ""}, {"datestyle", "ISO"}, {"intervalstyle", "postgres"}, {"timezone", "UTC"},
		{"extra_float_digits", "3"}, {"bytea_output", "hex"}, {"xmlbinary", "base64"}
	};
	int			nest_level = NewGUCNestLevel();

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return nest_level;
}

char *
text_output(FmgrInfo *out, Datum value)
{
	int			nest_level = text_pin_settings();
	char	   *text = OutputFunctionCall(out, value);

	AtEOXact_GUC(true, nest_level);
	return text;
}

Datum
text_input(FmgrInfo *in, char *text, Oid ioparam, int32 typmod)
{
	int			nest_level = text_pin_settings();
	Datum		value = InputFunctionCall(in, text, ioparam, typmod);

	AtEOXact_GUC(true, nest_level);
	return value;
}

/* --- writing --- */

void
value_encoder_init(ValueEncoder *e, Oid typid, MemoryContext cxt)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(typid));
	Form_pg_type type;
	Oid			proc;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", typid);
	type = (Form_pg_type) GETSTRUCT(tuple);
	e->typid = typid;
	e->typlen = type->typlen;
	e->typbyval = type->typbyval;
	if (!type_is_portable(typid))
		e->kind = WIRE_TEXT;
	else if (type->typbyval && type->typlen > 0 && type->typtype == TYPTYPE_BASE && typid < FirstGenbkiObjectId)
		e->kind = WIRE_RAW;
	else
		e->kind = OidIsValid(type->typsend) ? WIRE_BINARY : WIRE_TEXT;
	proc = e->kind == WIRE_TEXT ? type->typoutput : type->typsend;
	ReleaseSysCache(tuple);
	if (e->kind != WIRE_RAW)
		fmgr_info_cxt(proc, &e->proc, cxt);
}

static void
put_raw(WireWriter *w, Datum value, int16 typlen)
{
	uint8_t		bytes[8];
	uint64		v = (uint64) value;

	for (int i = 0; i < typlen; i++)
		bytes[i] = (uint8_t) (v >> (8 * i));
	wire_put_value(w, WIRE_RAW, bytes, typlen);
}

void
value_encode(WireWriter *w, ValueEncoder *e, Datum value, bool isnull)
{
	if (isnull)
		wire_put_value(w, WIRE_NULL, NULL, 0);
	else if (e->kind == WIRE_RAW)
		put_raw(w, value, e->typlen);
	else if (e->typid == TEXTOID || e->typid == VARCHAROID || e->typid == BPCHAROID || e->typid == BYTEAOID)
	{
		/* their send format is their content */
		struct varlena *v = PG_DETOAST_DATUM_PACKED(value);

		wire_put_value(w, WIRE_BINARY, VARDATA_ANY(v), VARSIZE_ANY_EXHDR(v));
	}
	else if (e->kind == WIRE_BINARY)
	{
		bytea	   *bytes = SendFunctionCall(&e->proc, value);

		wire_put_value(w, WIRE_BINARY, VARDATA(bytes), VARSIZE(bytes) - VARHDRSZ);
	}
	else
	{
		char	   *text = text_output(&e->proc, value);

		wire_put_value(w, WIRE_TEXT, text, strlen(text));
	}
}

/* --- reading --- */

static Oid
find_type(const WireColumn *col)
{
	Oid			nspid = get_namespace_oid(col->type_schema, true);

	if (!OidIsValid(nspid))
		return InvalidOid;
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
						   CStringGetDatum(col->type_name), ObjectIdGetDatum(nspid));
}

static void
init_decoder(ValueDecoder *d, Oid sender_typid, Oid typid, int32 typmod, MemoryContext cxt)
{
	Oid			proc;
	bool		varlena;

	memset(d, 0, sizeof(*d));
	d->sender_typid = sender_typid;
	d->typid = typid;
	d->typmod = typmod;
	d->same = (d->sender_typid == typid);
	d->content_is_text = typid == TEXTOID || typid == VARCHAROID;
	d->content_is_value = d->same && typmod < 0 && (d->content_is_text || typid == BYTEAOID);

	getTypeInputInfo(typid, &proc, &d->in_ioparam);
	fmgr_info_cxt(proc, &d->in, cxt);
	if (OidIsValid(d->sender_typid))
	{
		HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(d->sender_typid));
		Form_pg_type type = (Form_pg_type) GETSTRUCT(tuple);

		proc = type->typreceive;
		d->sender_typlen = type->typlen;
		d->sender_typbyval = type->typbyval;
		d->recv_ioparam = getTypeIOParam(tuple);
		ReleaseSysCache(tuple);
		if (OidIsValid(proc))
			fmgr_info_cxt(proc, &d->recv, cxt);
		getTypeOutputInfo(d->sender_typid, &proc, &varlena);
		fmgr_info_cxt(proc, &d->sender_out, cxt);
	}
}

void
value_decoder_init(ValueDecoder *d, const WireColumn *col, Oid typid, int32 typmod, MemoryContext cxt)
{
	init_decoder(d, find_type(col), typid, typmod, cxt);
}

void
value_decoder_init_own(ValueDecoder *d, Oid typid, int32 typmod, MemoryContext cxt)
{
	init_decoder(d, typid, typid, typmod, cxt);
}

/* is every value of the integer type a one of b? */
static bool
is_wider(Oid a, Oid b)
{
	switch (b)
	{
		case INT4OID:
			return a == INT2OID;
		case INT8OID:
			return a == INT2OID || a == INT4OID;
		case NUMERICOID:
			return a == INT2OID || a == INT4OID || a == INT8OID;
	}
	return false;
}

bool
value_decoder_init_former(ValueDecoder *d, Oid former_typid, Oid typid, int32 typmod, MemoryContext cxt)
{
	if (former_typid != typid)
	{
		if (!SearchSysCacheExists1(TYPEOID, ObjectIdGetDatum(former_typid)))
			return false;
		if (typmod >= 0 || (!is_wider(former_typid, typid) && typid != TEXTOID))
			return false;
	}
	init_decoder(d, former_typid, typid, typmod, cxt);
	return true;
}

static Datum
get_raw(const ValueDecoder *d, const WireValue *v)
{
	uint64		bits = 0;

	if (!d->sender_typbyval || v->len != (uint32) d->sender_typlen)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("value of type %s has %u bytes", format_type_be(d->sender_typid), v->len)));
	for (int i = 0; i < d->sender_typlen; i++)
		bits |= (uint64) v->data[i] << (8 * i);
	switch (d->sender_typlen)
	{
		case 1:
			return CharGetDatum((char) bits);
		case 2:
			return Int16GetDatum((int16) bits);
		case 4:
			return Int32GetDatum((int32) bits);
		default:
			return Int64GetDatum((int64) bits);
	}
}

/* a varlena whose send format is its content, as its receive function would make it */
static Datum
get_content(const ValueDecoder *d, const WireValue *v)
{
	if (d->content_is_text)
		pg_verifymbstr((const char *) v->data, v->len, false);
	return PointerGetDatum(cstring_to_text_with_len((const char *) v->data, v->len));
}

/* by the sender's type */
static Datum
get_binary(FmgrInfo *recv, Oid ioparam, int32 typmod, const WireValue *v)
{
	StringInfoData buf;
	Datum		value;

	/* receive functions may rely on a zero byte behind the value */
	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, (const char *) v->data, v->len);
	value = ReceiveFunctionCall(recv, &buf, ioparam, typmod);
	if (buf.cursor != buf.len)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("incorrect binary data format")));
	return value;
}

static char *
get_text(const WireValue *v)
{
	char	   *text = pnstrdup((const char *) v->data, v->len);

	if (strlen(text) != v->len)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("text value holds a zero byte")));
	return text;
}

Datum
value_decode(ValueDecoder *d, const WireValue *v)
{
	Datum		value;

	if (v->kind == WIRE_TEXT)
		return text_input(&d->in, get_text(v), d->in_ioparam, d->typmod);
	if (!OidIsValid(d->sender_typid) ||
		(v->kind == WIRE_BINARY && !OidIsValid(d->recv.fn_oid)))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("type of an incoming value is not known here"),
				 errhint("Create the type here as the peer has it.")));
	if (v->kind == WIRE_RAW)
		value = get_raw(d, v);
	else if (d->content_is_value)
		return get_content(d, v);
	else
		value = get_binary(&d->recv, d->recv_ioparam, d->same ? d->typmod : -1, v);
	if (d->same)
		return value;
	return text_input(&d->in, text_output(&d->sender_out, value), d->in_ioparam, d->typmod);
}

char *
value_decode_to_text(const WireColumn *col, const WireValue *v)
{
	ValueDecoder d;
	Datum		value;

	if (v->kind == WIRE_TEXT)
		return get_text(v);
	if (!OidIsValid(find_type(col)))
		return NULL;
	value_decoder_init(&d, col, TEXTOID, -1, CurrentMemoryContext);
	value = value_decode(&d, v);
	return TextDatumGetCString(value);
}
