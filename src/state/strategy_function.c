/*-------------------------------------------------------------------------
 *
 * strategy_function.c
 *		Columns that merge by a function of the user's: f(value, value).
 *
 * The function must be commutative, associative and idempotent: a join.  A local
 * write stores f(old, new), so that writes go up in its order as merges do.  A
 * strict function is not asked about NULL, which gives way to every value.
 *
 * It is found by the signature that ferry.set_merge was given last, on each node,
 * also where another strategy is set by now.  If it is missing there or raises,
 * the row goes to quarantine.  States do not say which function made them: one
 * that replaces another should agree with it on what is there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "state/strategy.h"

typedef struct KnownFunction
{
	char	   *signature;
	FmgrInfo	finfo;
} KnownFunction;

/* reset when any function changes */
static MemoryContext known_cxt = NULL;
static List *known = NIL;
static bool stale = false;

static void
invalidate(Datum arg, int cacheid, uint32 hashvalue)
{
	stale = true;
}

static FmgrInfo *
find_function(const StrategyColumn *col)
{
	ListCell   *lc;
	KnownFunction *f;
	Oid			oid;
	MemoryContext oldcontext;

	if (col->function == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("column \"%s\" does not merge by a function here", NameStr(col->attr->attname)),
				 errdetail("A row state comes from a node where it does."),
				 errhint("When this node has heard of it (see ferry.columns), call ferry.retry_quarantine().")));
	if (known_cxt == NULL)
	{
		known_cxt = AllocSetContextCreate(CacheMemoryContext, "ferry merge functions", ALLOCSET_SMALL_SIZES);
		CacheRegisterSyscacheCallback(PROCOID, invalidate, (Datum) 0);
	}
	if (stale)
	{
		MemoryContextReset(known_cxt);
		known = NIL;
		stale = false;
	}
	foreach(lc, known)
	{
		f = lfirst(lc);
		if (strcmp(f->signature, col->function) == 0)
			return &f->finfo;
	}
	oid = DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum(col->function)));
	oldcontext = MemoryContextSwitchTo(known_cxt);
	f = palloc(sizeof(KnownFunction));
	f->signature = pstrdup(col->function);
	fmgr_info_cxt(oid, &f->finfo, known_cxt);
	known = lappend(known, f);
	MemoryContextSwitchTo(oldcontext);
	return &f->finfo;
}

static void
call(const StrategyColumn *col, const StrategySide *a, Datum b, bool b_null, Datum *value, bool *isnull)
{
	FmgrInfo	finfo = *find_function(col);
	LOCAL_FCINFO(fcinfo, 2);

	if (finfo.fn_strict && (a->isnull || b_null))
	{
		*value = a->isnull ? b : a->value;
		*isnull = a->isnull && b_null;
		return;
	}
	finfo.fn_mcxt = CurrentMemoryContext;
	InitFunctionCallInfoData(*fcinfo, &finfo, 2, C_COLLATION_OID, NULL, NULL);
	fcinfo->args[0].value = a->value;
	fcinfo->args[0].isnull = a->isnull;
	fcinfo->args[1].value = b;
	fcinfo->args[1].isnull = b_null;
	*value = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
}

void
function_write(const StrategyColumn *col, StrategyWrite *w)
{
	ColumnParts parts = {.col = col->id, .kind = KIND_FUNCTION, .since = w->since};

	version_put_parts(w->after, &parts);
	if (w->old)
		call(col, w->old, w->value, w->isnull, &w->value, &w->isnull);
}

void
function_join(const StrategyColumn *col, StrategyJoin *j)
{
	ColumnParts parts = {.col = col->id, .kind = KIND_FUNCTION, .since = j->since};

	version_put_parts(j->out, &parts);
	call(col, j->local, j->remote->value, j->remote->isnull, &j->value, &j->isnull);
}
