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
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "state/codec.h"

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
	if (type->typbyval && type->typlen > 0 && type->typtype == TYPTYPE_BASE && typid < FirstGenbkiObjectId)
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
		char	   *text = OutputFunctionCall(&e->proc, value);

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
		return InputFunctionCall(&d->in, get_text(v), d->in_ioparam, d->typmod);
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
	return InputFunctionCall(&d->in, OutputFunctionCall(&d->sender_out, value),
							 d->in_ioparam, d->typmod);
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
