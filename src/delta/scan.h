/*
 * scan.h
 *		States since a vector: the rows and tombstones that it does not include.
 */
#ifndef FERRY_DELTA_SCAN_H
#define FERRY_DELTA_SCAN_H

#include "postgres.h"

#include "access/relscan.h"
#include "core/vector.h"
#include "executor/tuptable.h"
#include "node/table.h"
#include "utils/array.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

typedef struct DeltaScan
{
	NodeVector	holds;			/* what whoever takes all of it holds then, if he held "since" */
	List	   *sources;		/* still to be read */
	NodeVector	horizon;		/* under which the states are read */
	bool		has_since;
	NodeVector	since;
	bool		beyond;			/* the horizon goes beyond since */
	Snapshot	snapshot;
	Relation	rel;			/* being read: a leaf of a table under ferry, or its tombstones */
	Relation	owner_rel;		/* the table, if these are tombstones */
	FerryTable *table;			/* of rel or owner_rel; valid while they are open */
	bool		opened;			/* by this call of delta_scan_next */
	TableScanDesc scan;
	TupleTableSlot *slot;		/* the state found, all attributes deformed */
	MemoryContext row_cxt;		/* reset before each row */
} DeltaScan;

/*
 * Begin: samples what this node holds, then takes a snapshot for all of the scan.
 * Lives in the current context; since may be NULL.  Tables are added before the
 * first delta_scan_next: by name ({schema, name, ...}; those not under ferry are
 * left out), all, or one by one.
 */
extern DeltaScan *delta_scan_begin(const char *since);
extern void delta_scan_add_named(DeltaScan *d, ArrayType *names);
extern void delta_scan_add_all(DeltaScan *d);
extern void delta_scan_add(DeltaScan *d, Oid relid);

/* the tables to be read, of which the first state has not been asked for yet: list of OIDs */
extern List *delta_scan_tables(DeltaScan *d);

/* raise unless the user may read all of them: a state that is left out in silence is lost */
extern void delta_scan_check_access(DeltaScan *d);

/* warn if tombstones may be gone that "since" does not include */
extern void delta_scan_warn(const DeltaScan *d);

/* the next state, in d->slot; false at the end */
extern bool delta_scan_next(DeltaScan *d);

/* let go of what is open; also after an early stop, but not needed on error */
extern void delta_scan_end(DeltaScan *d);

#endif							/* FERRY_DELTA_SCAN_H */
