/*-------------------------------------------------------------------------
 *
 * waiting.c
 *		States since a vector that wait in quarantine here.
 *
 * What this node could not merge it may be the only one to have: the writer died,
 * or has forgotten.  Others may be able to merge it.  So a delta takes it along,
 * in the frame in which it came, which describes its relation and tells the
 * horizon under which it was read.  This node promises nothing of it, and
 * so nobody believes that he holds it who has not got it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "delta/waiting.h"
#include "node/holding.h"

struct WaitingScan
{
	DeltaScan  *delta;
	bool		all;
	List	   *tables;
	Relation	rel;
	TableScanDesc scan;
	TupleTableSlot *slot;
	int			relation_attno;
	int			vector_attno;
	int			frame_attno;
};

WaitingScan *
waiting_begin(DeltaScan *d, bool all, List *tables)
{
	WaitingScan *w = palloc0(sizeof(WaitingScan));
	Oid			relid = ferry_relation("quarantined");

	w->delta = d;
	w->all = all;
	w->tables = tables;
	w->rel = table_open(relid, AccessShareLock);
	w->scan = table_beginscan(w->rel, d->snapshot, 0, NULL);
	w->slot = table_slot_create(w->rel, NULL);
	w->relation_attno = get_attnum(relid, "relation");
	w->vector_attno = get_attnum(relid, "vector");
	w->frame_attno = get_attnum(relid, "frame");
	return w;
}

static char *
text_of(WaitingScan *w, int attno)
{
	bool		isnull;

	return TextDatumGetCString(slot_getattr(w->slot, attno, &isnull));
}

static bool
is_wanted(WaitingScan *w)
{
	char	   *name = text_of(w, w->relation_attno);
	ListCell   *lc;

	if (w->all)
		return true;
	foreach(lc, w->tables)
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	return false;
}

/* does it hold a write that "since" does not include?  what was pruned from it may lie up to the horizon */
static bool
is_news(WaitingScan *w)
{
	NodeVector	v;

	if (!w->delta->has_since || w->delta->beyond)
		return true;
	holding_parse(text_of(w, w->vector_attno), &v, NULL);
	return !vector_includes(&w->delta->since, &v);
}

bytea *
waiting_next(WaitingScan *w)
{
	MemoryContext oldcontext = MemoryContextSwitchTo(w->delta->row_cxt);
	bytea	   *frame = NULL;

	MemoryContextReset(w->delta->row_cxt);
	while (frame == NULL && table_scan_getnextslot(w->scan, ForwardScanDirection, w->slot))
	{
		bool		isnull;

		if (is_wanted(w) && is_news(w))
			frame = DatumGetByteaPCopy(slot_getattr(w->slot, w->frame_attno, &isnull));
	}
	MemoryContextSwitchTo(oldcontext);
	return frame;
}

void
waiting_end(WaitingScan *w)
{
	ExecDropSingleTupleTableSlot(w->slot);
	table_endscan(w->scan);
	table_close(w->rel, AccessShareLock);
}
