/*-------------------------------------------------------------------------
 *
 * version_type.c
 *		The SQL type ferry.version: what a row knows about its writers.
 *
 * Text form, made to be read and to come back unchanged:
 *
 *		813234567890123456@1234567890
 *			the last dot: hlc @ node id
 *		813234567890123456@1234567890 vv{77:813234567890000000}
 *			other writers
 *		... cols{3:813234567890000000@77,5:813234567890000000@77}
 *			columns (by column id) that an older dot wrote
 *		... live{813234567890000000@77,...}
 *			dots that keep the row alive, where not just the last one
 *		... parts{4:c(77=80)}
 *			what columns that merge by a strategy keep (state/parts_text.c)
 *		... pruned
 *			there were more writers: those that every node has heard of are left out
 *
 * The binary form is the stored one (core/version.c), which is canonical: equal
 * versions are equal bytes, on every node.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "state/parts_text.h"
#include "state/state.h"

Datum
state_version_datum(const Version *v)
{
	struct varlena *d = palloc(VARHDRSZ + version_encoded_bytes(v));

	SET_VARSIZE(d, VARHDRSZ + version_encode(v, (uint8_t *) VARDATA(d)));
	return PointerGetDatum(d);
}

static void
decode_bytes(const void *bytes, size_t n, Version *v)
{
	const char *error = NULL;

	if (!version_decode(bytes, n, v, &error))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("invalid row version"),
				 errdetail_internal("%s", error)));
}

void
state_version_read(Datum d, Version *v)
{
	struct varlena *p = PG_DETOAST_DATUM_PACKED(d);

	decode_bytes(VARDATA_ANY(p), VARSIZE_ANY_EXHDR(p), v);
}

/* --- text --- */

void
version_append_dot(StringInfo s, Dot d)
{
	appendStringInfo(s, UINT64_FORMAT "@%u", d.hlc, d.node);
}

PG_FUNCTION_INFO_V1(ferry_version_out);
Datum
ferry_version_out(PG_FUNCTION_ARGS)
{
	Version		v;
	StringInfoData s;
	char	   *sep = "";

	state_version_read(PG_GETARG_DATUM(0), &v);
	initStringInfo(&s);
	version_append_dot(&s, v.last);
	if (v.nvv > 1)
	{
		appendStringInfoString(&s, " vv{");
		for (int i = 0; i < v.nvv; i++)
		{
			if (v.vv[i].node == v.last.node)
				continue;
			appendStringInfo(&s, "%s%u:" UINT64_FORMAT, sep, v.vv[i].node, v.vv[i].hlc);
			sep = ",";
		}
		appendStringInfoChar(&s, '}');
	}
	if (v.ncols > 0)
	{
		appendStringInfoString(&s, " cols{");
		for (int c = 0; c < v.ncols; c++)
		{
			appendStringInfo(&s, "%s%u:", c > 0 ? "," : "", v.cols[c].col);
			version_append_dot(&s, v.cols[c].dot);
		}
		appendStringInfoChar(&s, '}');
	}
	if (v.nlive > 0)
	{
		appendStringInfoString(&s, " live{");
		for (int i = 0; i < v.nlive; i++)
		{
			if (i > 0)
				appendStringInfoChar(&s, ',');
			version_append_dot(&s, v.live[i]);
		}
		appendStringInfoChar(&s, '}');
	}
	if (v.nparts > 0)
	{
		appendStringInfoString(&s, " parts{");
		parts_append_text(&s, &v);
		appendStringInfoChar(&s, '}');
	}
	if (v.pruned)
		appendStringInfoString(&s, " pruned");
	PG_RETURN_CSTRING(s.data);
}

/* a number up to max at *p; false if there is none */
bool
version_parse_number(const char **p, uint64 max, uint64 *out)
{
	uint64		v = 0;
	const char *start = *p;

	while (**p >= '0' && **p <= '9')
	{
		int			digit = **p - '0';

		if (v > (max - digit) / 10)
			return false;
		v = v * 10 + digit;
		(*p)++;
	}
	*out = v;
	return *p > start;
}

bool
version_parse_char(const char **p, char c)
{
	if (**p != c)
		return false;
	(*p)++;
	return true;
}

bool
version_parse_dot(const char **p, Dot *d)
{
	uint64		hlc,
				node;

	if (!version_parse_number(p, PG_UINT64_MAX, &hlc) || !version_parse_char(p, '@') ||
		!version_parse_number(p, PG_UINT32_MAX, &node))
		return false;
	d->hlc = hlc;
	d->node = (NodeId) node;
	return true;
}

static bool
parse_section(const char **p, const char *name)
{
	size_t		n = strlen(name);

	if (strncmp(*p, name, n) != 0)
		return false;
	*p += n;
	return true;
}

static bool
parse_vv(const char **p, Version *v)
{
	do
	{
		uint64		node,
					hlc;
		int			at = v->nvv;

		if (v->nvv >= VERSION_MAX_WRITERS || !version_parse_number(p, PG_UINT32_MAX, &node) ||
			!version_parse_char(p, ':') || !version_parse_number(p, PG_UINT64_MAX, &hlc))
			return false;
		v->vv = repalloc(v->vv, sizeof(Dot) * (v->nvv + 1));
		while (at > 0 && v->vv[at - 1].node > node)
		{
			v->vv[at] = v->vv[at - 1];
			at--;
		}
		v->vv[at].node = (NodeId) node;
		v->vv[at].hlc = hlc;
		v->nvv++;
	} while (version_parse_char(p, ','));
	return version_parse_char(p, '}');
}

static bool
parse_cols(const char **p, Version *v)
{
	v->cols = palloc(sizeof(ColumnDot) * VERSION_MAX_COLUMNS);
	do
	{
		uint64		col;

		if (v->ncols >= VERSION_MAX_COLUMNS || !version_parse_number(p, VERSION_MAX_COLUMNS, &col) ||
			!version_parse_char(p, ':') || !version_parse_dot(p, &v->cols[v->ncols].dot))
			return false;
		v->cols[v->ncols++].col = (uint16_t) col;
	} while (version_parse_char(p, ','));
	return version_parse_char(p, '}');
}

static bool
parse_live(const char **p, Version *v)
{
	v->live = palloc(sizeof(Dot) * VERSION_MAX_LIVE);
	do
	{
		if (v->nlive >= VERSION_MAX_LIVE || !version_parse_dot(p, &v->live[v->nlive]))
			return false;
		v->nlive++;
	} while (version_parse_char(p, ','));
	return version_parse_char(p, '}');
}

static bool
parse_version(const char *p, Version *v)
{
	Dot			last;

	if (!version_parse_dot(&p, &last))
		return false;
	version_init(v, last);
	if (parse_section(&p, " vv{") && !parse_vv(&p, v))
		return false;
	if (parse_section(&p, " cols{") && !parse_cols(&p, v))
		return false;
	if (parse_section(&p, " live{") && !parse_live(&p, v))
		return false;
	if (parse_section(&p, " parts{") && !parts_parse_text(&p, v))
		return false;
	v->pruned = parse_section(&p, " pruned");
	return *p == '\0';
}

PG_FUNCTION_INFO_V1(ferry_version_in);
Datum
ferry_version_in(PG_FUNCTION_ARGS)
{
	char	   *text = PG_GETARG_CSTRING(0);
	Version		v;
	Version		checked;
	Datum		result;
	struct varlena *bytes;
	const char *error = NULL;

	if (!parse_version(text, &v))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid input syntax for type %s: \"%s\"", "ferry.version", text)));

	/* what the bytes cannot say, the decoder refuses */
	if (v.last.hlc == 0 || v.last.node == 0)
		error = "a dot needs a stamp and a node";
	for (int i = 0; !error && i < v.nvv; i++)
		if (v.vv[i].hlc == 0 || v.vv[i].node == 0 || dot_compare(v.vv[i], v.last) > 0 ||
			(i > 0 && v.vv[i - 1].node >= v.vv[i].node))
			error = "version vector is not in order";
	for (int c = 0; !error && c < v.ncols; c++)
		if (v.cols[c].col == 0 || dot_compare(v.cols[c].dot, v.last) >= 0 ||
			(c > 0 && v.cols[c - 1].col >= v.cols[c].col))
			error = "column dots are not in order";
	for (int i = 0; !error && i < v.nlive; i++)
		if (dot_compare(v.live[i], v.last) > 0)
			error = "live dots are not in order";
	if (!error && !version_parts_precede(&v, v.last.hlc))
		error = "a dot of a part is later than the last";
	result = error ? (Datum) 0 : state_version_datum(&v);
	if (!error)
	{
		bytes = (struct varlena *) DatumGetPointer(result);
		(void) version_decode((const uint8_t *) VARDATA(bytes), VARSIZE(bytes) - VARHDRSZ,
							  &checked, &error);
	}
	if (error)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid input for type %s: \"%s\"", "ferry.version", text),
				 errdetail_internal("%s", error)));
	PG_RETURN_DATUM(result);
}

/* --- binary --- */

PG_FUNCTION_INFO_V1(ferry_version_recv);
Datum
ferry_version_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	int			n = buf->len - buf->cursor;
	const char *bytes = pq_getmsgbytes(buf, n);
	struct varlena *result;
	Version		v;
	const char *error = NULL;

	if (!version_decode((const uint8_t *) bytes, n, &v, &error))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("invalid binary format of type %s", "ferry.version"),
				 errdetail_internal("%s", error)));
	result = palloc(VARHDRSZ + n);
	SET_VARSIZE(result, VARHDRSZ + n);
	memcpy(VARDATA(result), bytes, n);
	PG_RETURN_POINTER(result);
}

PG_FUNCTION_INFO_V1(ferry_version_send);
Datum
ferry_version_send(PG_FUNCTION_ARGS)
{
	struct varlena *p = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendbytes(&buf, VARDATA_ANY(p), VARSIZE_ANY_EXHDR(p));
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

/* --- order and hash: by bytes, which begin with the last dot --- */

static int
compare_bytes(FunctionCallInfo fcinfo)
{
	struct varlena *a = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));
	struct varlena *b = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(1));
	int			na = VARSIZE_ANY_EXHDR(a);
	int			nb = VARSIZE_ANY_EXHDR(b);
	int			order = memcmp(VARDATA_ANY(a), VARDATA_ANY(b), Min(na, nb));

	PG_FREE_IF_COPY(a, 0);
	PG_FREE_IF_COPY(b, 1);
	return order != 0 ? order : na - nb;
}

#define COMPARISON(name, op) \
	PG_FUNCTION_INFO_V1(ferry_version_##name); \
	Datum \
	ferry_version_##name(PG_FUNCTION_ARGS) \
	{ \
		PG_RETURN_BOOL(compare_bytes(fcinfo) op 0); \
	} \
	extern int	ferry_no_such_thing

COMPARISON(eq, ==);
COMPARISON(ne, !=);
COMPARISON(lt, <);
COMPARISON(le, <=);
COMPARISON(gt, >);
COMPARISON(ge, >=);

PG_FUNCTION_INFO_V1(ferry_version_cmp);
Datum
ferry_version_cmp(PG_FUNCTION_ARGS)
{
	int			order = compare_bytes(fcinfo);

	PG_RETURN_INT32(order < 0 ? -1 : order > 0 ? 1 : 0);
}

PG_FUNCTION_INFO_V1(ferry_version_hash);
Datum
ferry_version_hash(PG_FUNCTION_ARGS)
{
	struct varlena *p = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));

	return hash_any((unsigned char *) VARDATA_ANY(p), VARSIZE_ANY_EXHDR(p));
}

PG_FUNCTION_INFO_V1(ferry_version_hash_extended);
Datum
ferry_version_hash_extended(PG_FUNCTION_ARGS)
{
	struct varlena *p = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(0));

	return hash_any_extended((unsigned char *) VARDATA_ANY(p), VARSIZE_ANY_EXHDR(p),
							 PG_GETARG_INT64(1));
}

/* --- what it says --- */

PG_FUNCTION_INFO_V1(ferry_compare_versions);
Datum
ferry_compare_versions(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {
		[VERSION_EQUAL] = "equal",
		[VERSION_BEFORE] = "before",
		[VERSION_AFTER] = "after",
		[VERSION_CONCURRENT] = "concurrent",
	};
	Version		a,
				b;

	state_version_read(PG_GETARG_DATUM(0), &a);
	state_version_read(PG_GETARG_DATUM(1), &b);
	PG_RETURN_TEXT_P(cstring_to_text(names[version_compare(&a, &b)]));
}

PG_FUNCTION_INFO_V1(ferry_version_dot);
Datum
ferry_version_dot(PG_FUNCTION_ARGS)
{
	Version		v;
	StringInfoData s;

	state_version_read(PG_GETARG_DATUM(0), &v);
	initStringInfo(&s);
	version_append_dot(&s, v.last);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(s.data, s.len));
}

PG_FUNCTION_INFO_V1(ferry_version_time);
Datum
ferry_version_time(PG_FUNCTION_ARGS)
{
	Version		v;

	state_version_read(PG_GETARG_DATUM(0), &v);
	PG_RETURN_TIMESTAMPTZ((TimestampTz) hlc_to_us(v.last.hlc));
}
