/*
 * codec.h
 *		Values between the server's form and the wire's.
 */
#ifndef FERRY_STATE_CODEC_H
#define FERRY_STATE_CODEC_H

#include "postgres.h"

#include "core/narrow.h"
#include "core/wire.h"
#include "fmgr.h"
#include "node/table.h"
#include "utils/rel.h"

/* a copy of these bytes, in the current context */
extern bytea *bytea_of(const void *data, size_t n);

/* does the binary form of a type's values mean the same on every node: are there no OIDs in it? */
extern bool type_is_portable(Oid typid);

/* for what is called until AtEOXact_GUC(true, result): settings on which texts depend, the same in every session */
extern int	text_pin_settings(void);

/* output and input functions, called under them */
extern char *text_output(FmgrInfo *out, Datum value);
extern Datum text_input(FmgrInfo *in, char *text, Oid ioparam, int32 typmod);

/* how to write one column's values; made once per relation and stream */
typedef struct ValueEncoder
{
	Oid			typid;
	int16		typlen;
	bool		typbyval;
	WireKind	kind;			/* RAW, BINARY or TEXT */
	FmgrInfo	proc;			/* typsend or typoutput */
} ValueEncoder;

extern void value_encoder_init(ValueEncoder *e, Oid typid, MemoryContext cxt);

/* leaks into the current (short-lived) context; an on-disk TOAST pointer is fetched */
extern void value_encode(WireWriter *w, ValueEncoder *e, Datum value, bool isnull);

/* how to read a column that the sender describes by type name */
typedef struct ValueDecoder
{
	Oid			sender_typid;	/* the sender's type, here; InvalidOid: unknown here */
	Oid			typid;			/* our column's type */
	int32		typmod;
	bool		same;			/* both are the same type: no text detour */
	bool		content_is_value;	/* text, varchar, bytea, without a length: no function to be called */
	bool		content_is_text;
	int16		sender_typlen;
	bool		sender_typbyval;
	Oid			recv_ioparam,
				in_ioparam;
	FmgrInfo	recv;			/* sender type's receive */
	FmgrInfo	sender_out;		/* sender type's output, for the detour */
	FmgrInfo	in;				/* our type's input */
} ValueDecoder;

extern void value_decoder_init(ValueDecoder *d, const WireColumn *col,
							   Oid typid, int32 typmod, MemoryContext cxt);

/* the same for a value that this node wrote itself, by a column's own type */
extern void value_decoder_init_own(ValueDecoder *d, Oid typid, int32 typmod, MemoryContext cxt);

/*
 * The same for values that were written when the column had perhaps another type.
 * False, and d is not set, if that type is gone or not every value of it has its place
 * in the present one.
 */
extern bool value_decoder_init_former(ValueDecoder *d, Oid former_typid, Oid typid, int32 typmod, MemoryContext cxt);

/*
 * Decode a RAW, BINARY or TEXT value into our column's type (domains are
 * checked, typmod applied); allocates in the current context; raises what the
 * type's functions raise, ERRCODE_PROTOCOL_VIOLATION for impossible lengths.
 */
extern Datum value_decode(ValueDecoder *d, const WireValue *v);

/* text of a value by the sender's type, for quarantine; NULL if unknown here */
extern char *value_decode_to_text(const WireColumn *col, const WireValue *v);

/*
 * What both senders (output plugin, delta) know of a relation: its wire
 * description and encoders in wire column order.  attnos are of that relation
 * (a partition describes itself under its root's name and column ids).
 */
typedef struct RelationEncoder
{
	WireRelation wire;			/* wire.id is the root's OID */
	AttrNumber *attnos;			/* [wire column] -> attno in relid */
	ValueEncoder *values;
	AttrNumber	version_attno;
	int			nkeys;
	int			nstrategies;
	WireStrategy *strategies;
	bool	   *omitted;		/* [wire column]: of the row that is being encoded */
} RelationEncoder;

extern RelationEncoder *relation_encoder_create(const FerryTable *table, Relation rel, MemoryContext cxt);

/* the relation, and how its columns merge: what a receiver must know before its rows */
extern void relation_encode_description(WireWriter *w, const RelationEncoder *e);

/* one live row as an 'A' message, with all its values */
extern void relation_encode_alive(WireWriter *w, RelationEncoder *e, Datum *values, bool *nulls);

/*
 * The same as the log has it: on-disk TOAST pointers become WIRE_UNCHANGED.  So
 * do, with a stream, values that its receiver holds (core/narrow.h), if that saves
 * enough.
 */
extern void relation_encode_logged(WireWriter *w, RelationEncoder *e, const NarrowStream *stream,
								   Datum *values, bool *nulls);

/* one tombstone row (see tombstone.h for its layout) as a 'D' message */
extern void relation_encode_dead(WireWriter *w, RelationEncoder *e,
								 Datum *tomb_values, bool *tomb_nulls);

/* a state of the relation that e was made for, as an 'A' or 'D' message with all its values */
struct RowState;
extern void relation_encode_state(WireWriter *w, RelationEncoder *e, const struct RowState *state);

#endif							/* FERRY_STATE_CODEC_H */
