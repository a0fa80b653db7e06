/*-------------------------------------------------------------------------
 *
 * parts_text.c
 *		The parts of a version in the text form of ferry.version: made to come
 *		back unchanged from a dump, and just readable.
 *
 *		column		id ":" letter [ "^" since ] "(" content ")"
 *		counter		node "=" hex, ...
 *		set, map	count "*" dot { "+" dot }, ...		neighbours alike are one
 *		map			"-" hex "=" dot { "+" dot }, ...	removed keys, at the end
 *
 * The letters are those of ferry.column_merge.  What is well-formed need not be
 * right: the decoder sees it afterwards.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "node/table.h"
#include "state/parts_text.h"

static void
append_hex(StringInfo s, const uint8_t *bytes, uint32 len)
{
	for (uint32 i = 0; i < len; i++)
		appendStringInfo(s, "%02x", bytes[i]);
}

static bool
same_dots(const Part *a, const Part *b)
{
	if (a->removed || b->removed || a->ndots != b->ndots)
		return false;
	for (uint32 d = 0; d < a->ndots; d++)
		if (!dot_equal(a->dots[d], b->dots[d]))
			return false;
	return true;
}

static void
append_dots(StringInfo s, const Part *part)
{
	for (uint32 d = 0; d < part->ndots; d++)
	{
		if (d > 0)
			appendStringInfoChar(s, '+');
		version_append_dot(s, part->dots[d]);
	}
}

static void
append_content(StringInfo s, const ColumnParts *cp)
{
	uint32		next;

	for (uint32 i = 0; i < cp->nparts; i = next)
	{
		const Part *part = &cp->parts[i];

		next = i + 1;
		if (i > 0)
			appendStringInfoChar(s, ',');
		if (cp->kind == KIND_COUNTER)
		{
			appendStringInfo(s, "%u=", part->node);
			append_hex(s, part->bytes, part->len);
		}
		else if (part->removed)
		{
			appendStringInfoChar(s, '-');
			append_hex(s, part->bytes, part->len);
			appendStringInfoChar(s, '=');
			append_dots(s, part);
		}
		else
		{
			while (next < cp->nparts && same_dots(part, &cp->parts[next]))
				next++;
			appendStringInfo(s, "%u*", next - i);
			append_dots(s, part);
		}
	}
}

void
parts_append_text(StringInfo s, const Version *v)
{
	for (int p = 0; p < v->nparts; p++)
	{
		const ColumnParts *cp = &v->parts[p];

		appendStringInfo(s, "%s%u:%c", p > 0 ? "," : "", cp->col, strategy_kind_letter((ColumnKind) cp->kind));
		if (cp->since.hlc != 0)
		{
			appendStringInfoChar(s, '^');
			version_append_dot(s, (Dot) {cp->since.hlc, cp->since.node});
		}
		appendStringInfoChar(s, '(');
		append_content(s, cp);
		appendStringInfoChar(s, ')');
	}
}

/* --- reading --- */

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
parse_hex(const char **p, Part *part)
{
	uint32		cap = 8;
	uint8	   *bytes = palloc(cap);

	part->len = 0;
	while (hex_digit((*p)[0]) >= 0 && hex_digit((*p)[1]) >= 0)
	{
		if (part->len == PART_MAX_BYTES)
			return false;
		if (part->len == cap)
			bytes = repalloc(bytes, cap *= 2);
		bytes[part->len++] = hex_digit((*p)[0]) << 4 | hex_digit((*p)[1]);
		*p += 2;
	}
	part->bytes = bytes;
	return true;
}

static bool
parse_dots(const char **p, Part *part)
{
	part->dots = palloc(sizeof(Dot));
	part->ndots = 0;
	do
	{
		part->dots = repalloc(part->dots, sizeof(Dot) * (part->ndots + 1));
		if (!version_parse_dot(p, &part->dots[part->ndots]))
			return false;
		part->ndots++;
	} while (version_parse_char(p, '+'));
	return true;
}

/* one part of the content, and how often it stands there */
static bool
parse_part(const char **p, ColumnKind kind, Part *part, uint64 *count)
{
	uint64		node;

	memset(part, 0, sizeof(*part));
	*count = 1;
	if (kind == KIND_COUNTER)
	{
		if (!version_parse_number(p, PG_UINT32_MAX, &node) || !version_parse_char(p, '='))
			return false;
		part->node = (NodeId) node;
		return parse_hex(p, part);
	}
	if (kind == KIND_MAP && version_parse_char(p, '-'))
	{
		part->removed = true;
		return parse_hex(p, part) && version_parse_char(p, '=') && parse_dots(p, part);
	}
	return (kind == KIND_SET || kind == KIND_MAP) &&
		version_parse_number(p, VERSION_MAX_PARTS, count) && version_parse_char(p, '*') && parse_dots(p, part);
}

static bool
parse_content(const char **p, ColumnParts *cp)
{
	uint64		cap = 0;

	if (version_parse_char(p, ')'))
		return true;
	do
	{
		Part		part;
		uint64		count;

		if (!parse_part(p, (ColumnKind) cp->kind, &part, &count) || count == 0 ||
			cp->nparts + count > VERSION_MAX_PARTS)
			return false;
		if (!part.removed && cp->nparts > 0 && cp->parts[cp->nparts - 1].removed)
			return false;
		if (cp->nparts + count > cap)
		{
			cap = (cp->nparts + count) * 2;
			cp->parts = cp->parts ? repalloc(cp->parts, sizeof(Part) * cap) : palloc(sizeof(Part) * cap);
		}
		for (uint64 i = 0; i < count; i++)
			cp->parts[cp->nparts++] = part;
	} while (version_parse_char(p, ','));
	return version_parse_char(p, ')');
}

bool
parts_parse_text(const char **p, Version *v)
{
	do
	{
		ColumnParts cp = {0};
		ColumnKind	kind;
		uint64		col;

		if (!version_parse_number(p, VERSION_MAX_COLUMNS, &col) || col == 0 || !version_parse_char(p, ':') ||
			!strategy_kind_from_letter(**p, &kind) || kind == KIND_LWW ||
			(v->nparts > 0 && v->parts[v->nparts - 1].col >= col))
			return false;
		(*p)++;
		cp.col = (uint16) col;
		cp.kind = kind;
		if (version_parse_char(p, '^'))
		{
			Dot			since;

			if (!version_parse_dot(p, &since))
				return false;
			cp.since.hlc = since.hlc;
			cp.since.node = since.node;
		}
		if (!version_parse_char(p, '(') || !parse_content(p, &cp))
			return false;
		version_put_parts(v, &cp);
	} while (version_parse_char(p, ','));
	return version_parse_char(p, '}');
}
