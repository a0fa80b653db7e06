/*
 * relation_map.h
 *		From a peer's relation, as its stream describes it, to ours.
 */
#ifndef FERRY_APPLY_RELATION_MAP_H
#define FERRY_APPLY_RELATION_MAP_H

#include "postgres.h"

#include "core/wire.h"
#include "state/codec.h"
#include "state/state.h"

/*
 * One relation of one stream.  wire and raw live as long as the stream; the
 * rest is made by relation_map_resolve() and dropped when either side's
 * description changes.
 */
typedef struct RelationMap
{
	uint32		id;				/* the sender's; hash key */
	WireRelation wire;
	void	   *raw;			/* its 'R' message, for quarantine */
	size_t		raw_bytes;
	MemoryContext cxt;			/* of what follows */
	bool		resolved;
	Oid			relid;			/* ours */
	AttrNumber *attnos;			/* [wire column] -> our attno; 0: a column that we lack */
	ValueDecoder *decoders;		/* [wire column] */
	uint16	   *ids;			/* [sender's column id] -> our column id; 0: none */
	int			nids;
} RelationMap;

/*
 * Find our table for map->wire and fill the map.  Raises
 * ERRCODE_UNDEFINED_TABLE, ERRCODE_UNDEFINED_OBJECT (not under ferry) or
 * ERRCODE_DATATYPE_MISMATCH (other key) if there is no match.  Needs a
 * transaction.  Once resolved it costs a look at a flag.
 */
extern void relation_map_resolve(RelationMap *map);
extern void relation_map_reset(RelationMap *map);

/* decode a row into a state of our table; current context; raises on what does not fit */
extern RowState *relation_map_decode(RelationMap *map, const FerryTable *table, const WireRow *row);

#endif							/* FERRY_APPLY_RELATION_MAP_H */
