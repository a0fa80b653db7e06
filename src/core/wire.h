/*
 * wire.h
 *		The messages that ferry's nodes send each other, write beside read.
 *
 * A frame is a run of messages; the live stream (one frame per CopyData), the
 * delta and quarantine all use the same ones.  Numbers are varints (LEB128) or
 * big-endian; strings and values carry their length first.  The reader trusts
 * nothing: it never reads beyond its buffer, and once it has met bad bytes it
 * stays failed and returns zeroes.
 *
 *	'B' begin		u64 final_lsn, i64 commit_us, varint xid; final_lsn 0: the transaction
 *					comes in parts, others, whole, may stand between here and its 'C'
 *	'C' commit		u64 commit_lsn, u64 end_lsn, i64 commit_us
 *	'R' relation	see WireRelation; ids are the sender's, once per stream
 *	'A' alive row	see WireRow
 *	'D' dead row	see WireRow
 *	'T' table added	string schema, string name: this table was registered just now
 *	'S' strategy	see WireStrategy: how a column of a described relation merges
 *	'X' range		varint relation id, varint length, version: rows of the relation
 *					that this version includes are dead (TRUNCATE)
 *	'W' holds		varint node id, vector: what that node holds; if it is the
 *					sender, all of that has been sent by now
 *	'H' horizon		vector: under it are the rows that follow to be read
 *	'M' member		see WireMember
 *	'Z' zipped		a whole frame of the others, compressed: see zip.c
 *
 * A vector is varint n, n * (varint node id, u64 hlc), sorted by node id.
 */
#ifndef FERRY_CORE_WIRE_H
#define FERRY_CORE_WIRE_H

#include "core/vector.h"
#include "core/version.h"

#define WIRE_PROTOCOL 1
#define WIRE_MAX_COLUMNS 1700
#define WIRE_MAX_NAME 255		/* bytes */

typedef enum WireType
{
	WIRE_BEGIN = 'B',
	WIRE_COMMIT = 'C',
	WIRE_RELATION = 'R',
	WIRE_ALIVE = 'A',
	WIRE_DEAD = 'D',
	WIRE_RANGE = 'X',
	WIRE_TABLE_ADDED = 'T',
	WIRE_HOLDS = 'W',
	WIRE_HORIZON = 'H',
	WIRE_MEMBER = 'M',
	WIRE_STRATEGY = 'S',
	WIRE_ZIPPED = 'Z'
} WireType;

/* --- growable output buffer --- */
typedef struct WireWriter
{
	uint8_t    *data;
	size_t		len;
	size_t		cap;
} WireWriter;

extern void wire_writer_init(WireWriter *w, size_t cap);
extern void wire_reserve(WireWriter *w, size_t bytes);
extern void wire_put_u8(WireWriter *w, uint8_t v);
extern void wire_put_u32(WireWriter *w, uint32_t v);
extern void wire_put_u64(WireWriter *w, uint64_t v);
extern void wire_put_varint(WireWriter *w, uint64_t v);
extern void wire_put_bytes(WireWriter *w, const void *p, size_t n);
extern void wire_put_string(WireWriter *w, const char *s);	/* varint length, bytes, no NUL */

/* --- bounded input --- */
typedef struct WireReader
{
	const uint8_t *p;
	const uint8_t *end;
	const char *error;			/* NULL while all is well; static text */
} WireReader;

extern void wire_reader_init(WireReader *r, const void *p, size_t n);
extern uint8_t wire_get_u8(WireReader *r);
extern uint32_t wire_get_u32(WireReader *r);
extern uint64_t wire_get_u64(WireReader *r);
extern uint64_t wire_get_varint(WireReader *r);
extern const uint8_t *wire_get_bytes(WireReader *r, size_t n);	/* into the buffer; NULL if failed */
extern char *wire_get_string(WireReader *r, size_t max_bytes);	/* allocated, NUL-terminated, no inner NUL */
static inline bool
wire_at_end(const WireReader *r)
{
	return r->error != NULL || r->p >= r->end;
}

/* --- messages --- */
typedef struct WireTxn
{
	uint64_t	commit_lsn;		/* B: final_lsn */
	uint64_t	end_lsn;		/* C only */
	int64_t		commit_us;		/* microseconds since 2000-01-01 */
	uint32_t	xid;			/* B only */
} WireTxn;

#define WIRE_COLUMN_KEY 0x01

typedef struct WireColumn
{
	uint16_t	id;				/* sender's column id */
	uint8_t		flags;
	char	   *name;
	char	   *type_schema;
	char	   *type_name;
} WireColumn;

/*
 * Key columns come first, in key order, then the others in column id order.
 * The version column is not among them.
 */
typedef struct WireRelation
{
	uint32_t	id;
	char	   *schema;
	char	   *name;
	uint16_t	ncols;
	WireColumn *cols;
} WireRelation;

typedef enum WireKind
{
	WIRE_NULL = 0,
	WIRE_UNCHANGED = 1,			/* this write did not touch it: TOASTed, or left out (narrow.h) */
	WIRE_ABSENT = 2,			/* not part of this state (row-mode tombstone) */
	WIRE_BINARY = 3,			/* the type's send format */
	WIRE_TEXT = 4,				/* the type's output format */
	WIRE_RAW = 5				/* fixed-width by-value: 1, 2, 4 or 8 bytes, little-endian */
} WireKind;

typedef struct WireValue
{
	WireKind	kind;
	uint32_t	len;
	const uint8_t *data;		/* into the buffer that was read */
} WireValue;

typedef struct WireRow
{
	bool		alive;
	uint32_t	relation;
	uint32_t	version_len;
	const uint8_t *version;		/* encoded; column ids are the sender's */
	uint16_t	ncols;			/* as many as the relation has */
	WireValue  *values;
} WireRow;

/*
 * The later dot counts; kind is a ColumnKind, function empty but for KIND_FUNCTION.
 * Column 0 is the table itself: kind is then what becomes of orphans, at most
 * WIRE_LAST_ORPHANS.
 */
#define WIRE_LAST_ORPHANS 2
typedef struct WireStrategy
{
	uint32_t	relation;
	uint16_t	column;			/* sender's column id */
	uint8_t		kind;
	char	   *function;
	Dot			dot;
} WireStrategy;

#define WIRE_MAX_FUNCTION 1024	/* bytes of a signature */
typedef struct WireRange
{
	uint32_t	relation;
	uint32_t	version_len;
	const uint8_t *version;		/* encoded; it has no column dots */
} WireRange;

extern void wire_put_begin(WireWriter *w, const WireTxn *t);
extern void wire_get_begin(WireReader *r, WireTxn *t);	/* readers start after the type byte */
extern void wire_put_commit(WireWriter *w, const WireTxn *t);
extern void wire_get_commit(WireReader *r, WireTxn *t);
extern void wire_put_relation(WireWriter *w, const WireRelation *rel);
extern void wire_get_relation(WireReader *r, WireRelation *rel);

/* what is known of a node; is_dropped is for ever */
typedef struct WireMember
{
	NodeId		id;
	bool		is_dropped;
	char	   *name;
	char	   *dsn;			/* empty: not known */
} WireMember;

#define WIRE_MAX_DSN 8192

extern void wire_put_vector(WireWriter *w, const NodeVector *v);
extern void wire_get_vector(WireReader *r, NodeVector *v);
extern void wire_put_holds(WireWriter *w, NodeId node, const NodeVector *v);
extern NodeId wire_get_holds(WireReader *r, NodeVector *v);
extern void wire_put_horizon(WireWriter *w, const NodeVector *v);	/* read: wire_get_vector */
extern void wire_put_member(WireWriter *w, const WireMember *m);
extern void wire_get_member(WireReader *r, WireMember *m);
extern void wire_put_strategy(WireWriter *w, const WireStrategy *s);
extern void wire_get_strategy(WireReader *r, WireStrategy *s);

/*
 * A row is written as a head and then its values one by one, so that the
 * sender needs no array:
 *		wire_put_row_head(); wire_put_value() ncols times.
 * A value's header is one varint: 0 null, 1 unchanged, 2 absent, otherwise
 * 3 + len * 3 + (kind - WIRE_BINARY).
 */
extern void wire_put_row_head(WireWriter *w, bool alive, uint32_t relation,
							  const void *version, size_t version_len, int ncols);
extern void wire_put_value(WireWriter *w, WireKind kind, const void *data, size_t len);
extern void wire_get_value(WireReader *r, WireValue *v);

/* values is the caller's array of max_cols; a row with more columns fails */
extern void wire_get_row(WireReader *r, WireRow *row, WireValue *values, int max_cols);

extern void wire_put_range(WireWriter *w, uint32_t relation, const void *version, size_t version_len);
extern void wire_get_range(WireReader *r, WireRange *range);

#endif							/* FERRY_CORE_WIRE_H */
