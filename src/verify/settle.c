/*-------------------------------------------------------------------------
 *
 * settle.c
 *		Two states of one version with different content: who is right?
 *
 * Equal versions mean equal content, unless someone changed it behind ferry's
 * back: a disk, a replica role, a hand in the catalogs.  Merging cannot decide
 * between equals.  What can:
 *
 *	- the table's own checks: if one side violates them and the other does not;
 *	- the other nodes: if three or more hold this version and more than half of
 *	  them agree.
 *
 * What was decided becomes a new write of this node, of the columns that
 * differ: it travels and merges as every other, and comes out ahead everywhere.
 * Two nodes that decide at the same time write the same values.  Where nothing
 * decides, both images are on record, and ferry.heal() makes the operator's
 * choice such a write.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "parser/parse_relation.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#include "compat.h"
#include "apply/apply.h"
#include "apply/conflict.h"
#include "apply/merge_row.h"
#include "apply/range_merge.h"
#include "link/connection.h"
#include "node/node.h"
#include "state/local_write.h"
#include "verify/settle.h"

/* --- the table's own checks --- */

static void
check_constraints(Relation rel, const RowState *state)
{
	EState	   *estate = CreateExecutorState();
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	ResultRelInfo *rri = makeNode(ResultRelInfo);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);

	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = rel->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
	compat_init_range_table(estate, rte);
	InitResultRelInfo(rri, rel, 1, NULL, 0);
	for (int i = 0; i < state->natts; i++)
	{
		slot->tts_values[i] = state->values[i];
		slot->tts_isnull[i] = state->kinds[i] != VALUE_HERE || state->nulls[i];
	}
	ExecStoreVirtualTuple(slot);
	if (rel->rd_att->constr && rel->rd_att->constr->has_generated_stored)
		ExecComputeStoredGenerated(rri, estate, slot, CMD_INSERT);

	/* the version is not among the state's values */
	slot->tts_isnull[table_lookup_required(RelationGetRelid(rel))->version_attno - 1] = false;
	slot->tts_values[table_lookup_required(RelationGetRelid(rel))->version_attno - 1] = state_version_datum(&state->version);
	if (rel->rd_att->constr)
		ExecConstraints(rri, slot, estate);
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
}

static bool
is_sound(Relation rel, const RowState *state)
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext cxt = CurrentMemoryContext;
	volatile bool sound = false;

	if (!state->alive)
		return true;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		check_constraints(rel, state);
		ReleaseCurrentSubTransaction();
		sound = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION)
			ReThrowError(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	return sound;
}

/* --- the other nodes --- */

typedef struct Witness
{
	char		peer[NAMEDATALEN];
	PGconn	   *conn;			/* NULL: could not be reached this time */
} Witness;

static List *witnesses = NIL;	/* of Witness */
static char asked_for[NAMEDATALEN];	/* the peer that they are to judge */

void
settle_end(void)
{
	ListCell   *lc;

	foreach(lc, witnesses)
	{
		Witness    *w = lfirst(lc);

		if (w->conn)
			PQfinish(w->conn);
	}
	list_free_deep(witnesses);
	witnesses = NIL;
	asked_for[0] = '\0';
}

/*
 * A state from a node, as ferry.state() gives it; NULL if it has none or does not
 * answer.  *ranges (unless NULL): what TRUNCATE left there, to be merged by whoever
 * does more with the state than to look at it.
 */
static RowState *
fetch_state(PGconn *conn, const FerryTable *table, Relation rel, const char *key, List **ranges)
{
	StringInfoData sql;
	PGresult   *res;
	RowState   *state = NULL;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT ferry.state(%s::pg_catalog.regclass, %s::pg_catalog.jsonb)",
					 quote_literal_cstr(quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
																   RelationGetRelationName(rel))),
					 quote_literal_cstr(key));
	res = connection_query(conn, sql.data, PGRES_TUPLES_OK);
	if (PQntuples(res) == 1 && PQnfields(res) == 1 && !PQgetisnull(res, 0, 0))
	{
		Datum		json = DirectFunctionCall1(jsonb_in, CStringGetDatum(pstrdup(PQgetvalue(res, 0, 0))));

		state = state_from_jsonb(table, rel, json);
		if (ranges)
			*ranges = state_ranges_from_jsonb(json);
	}
	PQclear(res);
	return state;
}

/* run what may raise because another node is away or different; false if it did */
static bool
try_witness(Witness *w, const char *dsn, const FerryTable *table, Relation rel, const char *key, RowState **state)
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext cxt = CurrentMemoryContext;
	volatile bool answered = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		if (dsn)
			w->conn = connection_open(dsn);
		else
			*state = fetch_state(w->conn, table, rel, key, NULL);
		ReleaseCurrentSubTransaction();
		answered = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(cxt);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			ReThrowError(error);
		if (w->conn)
			PQfinish(w->conn);
		w->conn = NULL;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	return answered;
}

/* connect to all peers but the one to be judged, once for all mismatches with it */
static void
find_witnesses(const char *peer)
{
	Oid			types[1] = {NAMEOID};
	Datum		args[1] = {CStringGetDatum(peer)};
	List	   *dsns = NIL;
	ListCell   *lw;
	ListCell   *ld;

	if (strcmp(asked_for, peer) == 0)
		return;
	settle_end();
	strlcpy(asked_for, peer, NAMEDATALEN);
	SPI_connect();
	SPI_execute_with_args("SELECT name, dsn FROM ferry.peer WHERE name <> $1 ORDER BY name",
						  1, types, args, NULL, true, 0);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext oldcontext = MemoryContextSwitchTo(TopMemoryContext);
		Witness    *w = palloc0(sizeof(Witness));

		strlcpy(w->peer, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1), NAMEDATALEN);
		witnesses = lappend(witnesses, w);
		MemoryContextSwitchTo(oldcontext);
		dsns = lappend(dsns, SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2));
	}
	forboth(lw, witnesses, ld, dsns)
		(void) try_witness(lfirst(lw), lfirst(ld), NULL, NULL, NULL, NULL);
	SPI_finish();
}

/* >0: most nodes that hold this version have the remote content; <0: the local; 0: nobody can tell */
static int
ask_witnesses(Take *t, Relation rel, const FerryTable *table, const RowState *local, const RowState *remote)
{
	VerifyDigest *d = digest_create(t->shape, table, rel, CurrentMemoryContext);
	char	   *key = JsonbToCString(NULL, &DatumGetJsonbP(state_key_to_jsonb(table, rel, local))->root, 0);
	Digest		ours;
	Digest		theirs;
	int			for_local = 1;
	int			for_remote = 1;
	int			all = 2;
	ListCell   *lc;

	digest_state(d, local, &ours);
	digest_state(d, remote, &theirs);
	find_witnesses(t->peer);
	foreach(lc, witnesses)
	{
		Witness    *w = lfirst(lc);
		RowState   *state = NULL;
		Digest		digest;

		if (w->conn == NULL || !try_witness(w, NULL, table, rel, key, &state) || state == NULL)
			continue;
		digest_state(d, state, &digest);
		if (!digest_same_version(&digest, &ours))
			continue;
		all++;
		for_local += digest_same_item(&digest, &ours);
		for_remote += digest_same_item(&digest, &theirs);
	}
	if (all >= 3 && for_remote * 2 > all)
		return 1;
	if (all >= 3 && for_local * 2 > all)
		return -1;
	return 0;
}

/* --- the outcome --- */

/*
 * What the write is made on: the loser's row, but in the columns that merge by a
 * strategy.  Their parts are the same on both sides, and to write a difference of
 * values into them would count it twice: they are left as the winner has them.
 */
static FoundRow
written_over(const FerryTable *table, const RowState *winner, const RowState *loser)
{
	RowState   *base = state_create(table);
	FoundRow	found = {&loser->version, loser->alive, base->values, base->nulls, base->kinds};

	memcpy(base->values, loser->values, sizeof(Datum) * loser->natts);
	memcpy(base->nulls, loser->nulls, sizeof(bool) * loser->natts);
	memcpy(base->kinds, loser->kinds, sizeof(uint8) * loser->natts);
	for (int s = 0; s < table->nstrategies; s++)
	{
		int			i = table->id_attnos[table->strategies[s].id - 1] - 1;

		if (i < 0 || table->strategies[s].kind == KIND_LWW)
			continue;
		base->values[i] = winner->values[i];
		base->nulls[i] = winner->nulls[i];
	}
	return found;
}

/* the winner's content as a new write on top of the version that both have */
static void
write_anew(Relation rel, const FerryTable *table, const RowState *winner, const RowState *loser)
{
	RowState   *out = state_create(table);

	memcpy(out->values, winner->values, sizeof(Datum) * winner->natts);
	memcpy(out->nulls, winner->nulls, sizeof(bool) * winner->natts);
	memcpy(out->kinds, winner->kinds, sizeof(uint8) * winner->natts);
	out->alive = winner->alive;
	if (winner->alive)
	{
		FoundRow	found = written_over(table, winner, loser);

		(void) state_local_write(table, RelationGetDescr(rel), &found, out->values, out->nulls,
								 node_stamp(), &out->version);
	}
	else
		state_local_delete(table, &loser->version, node_stamp(), &out->version);
	(void) apply_state(rel, table_lookup_required(RelationGetRelid(rel)), out, NULL);
}

/* is this mismatch on record since an earlier run, and still open? */
static bool
is_on_record(const char *peer, Relation rel, const FerryTable *table, const RowState *local)
{
	Oid			types[4] = {NAMEOID, OIDOID, JSONBOID, TEXTOID};
	Datum		args[4];
	bool		found;

	args[0] = CStringGetDatum(peer);
	args[1] = ObjectIdGetDatum(RelationGetRelid(rel));
	args[2] = state_key_to_jsonb(table, rel, local);
	args[3] = CStringGetTextDatum(psprintf(UINT64_FORMAT "@%u", local->version.last.hlc, local->version.last.node));
	SPI_connect();
	SPI_execute_with_args("SELECT 1 FROM ferry.conflict WHERE peer = $1 AND relid = $2 AND key = $3 "
						  "AND local_dot = $4 AND kind = 'divergence' AND winner = 'none' AND rule = 'same_version'",
						  4, types, args, NULL, true, 1);
	found = SPI_processed > 0;
	SPI_finish();
	return found;
}

static List *
differing_columns(const FerryTable *table, Relation rel, const RowState *a, const RowState *b)
{
	List	   *names = NIL;

	for (int c = 0; c < table->nplain; c++)
	{
		AttrNumber	attno = table->plain_attnos[c];

		if (merge_values_differ(rel, attno, a, b))
			names = lappend(names, NameStr(TupleDescAttr(RelationGetDescr(rel), attno - 1)->attname));
	}
	return names;
}

bool
settle_mismatch(Take *t, Relation rel, const FerryTable *table, RowState *local, RowState *remote)
{
	Conflict	conflict = {CONFLICT_DIVERGENCE};
	bool		local_sound;
	bool		remote_sound;
	int			favour;

	if (!t->repair || is_on_record(t->peer, rel, table, local))
		return false;
	local_sound = is_sound(rel, local);
	remote_sound = is_sound(rel, remote);
	conflict.rule = "constraints";
	favour = remote_sound - local_sound;
	if (favour == 0)
	{
		conflict.rule = "majority";
		favour = ask_witnesses(t, rel, table, local, remote);
	}
	if (favour == 0)
		conflict.rule = "same_version";
	conflict.winner = favour > 0 ? WINNER_REMOTE : favour < 0 ? WINNER_LOCAL : WINNER_NONE;
	conflict.columns = differing_columns(table, rel, local, remote);
	conflict_record(table, rel, t->peer, local, remote, &conflict);
	if (favour > 0)
		write_anew(rel, table, remote, local);
	else if (favour < 0)
		write_anew(rel, table, local, remote);
	return favour != 0;
}

/* --- ferry.heal --- */

PG_FUNCTION_INFO_V1(ferry_heal);

/*
 * SQL: ferry._heal(rel, key, keep_local, dsn): write one side's content of a row
 * anew.  Returns whether the two sides differed.
 */
Datum
ferry_heal(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Relation	rel;
	FerryTable *table;
	ApplyTarget *target;
	RowState   *key;
	RowState   *local;
	RowState   *tomb;
	RowState   *remote = NULL;
	List	   *ranges = NIL;
	ListCell   *lc;
	PGconn	   *conn;
	bool		keep_local = PG_GETARG_BOOL(2);

	(void) node_current();
	rel = table_open(relid, RowExclusiveLock);
	table = table_lookup_required(relid);
	if (table->rootid != relid)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table \"%s\" is a partition", RelationGetRelationName(rel)),
				 errhint("Name the table \"%s\", of which it is a part.", get_rel_name(table->rootid))));
	key = state_key_from_jsonb(table, rel, PG_GETARG_DATUM(1));
	conn = connection_open(text_to_cstring(PG_GETARG_TEXT_PP(3)));
	PG_TRY();
	{
		remote = fetch_state(conn, table, rel,
							 JsonbToCString(NULL, &PG_GETARG_JSONB_P(1)->root, 0), &ranges);
	}
	PG_FINALLY();
	{
		PQfinish(conn);
	}
	PG_END_TRY();

	/* what is written anew here comes after all that was known there (core/range.c) */
	foreach(lc, ranges)
		(void) apply_range(rel, table_lookup_required(relid), lfirst(lc), NULL);

	target = target_open(rel, table_lookup_required(relid));
	merge_row_held(target, key, &local, &tomb);
	if (local && tomb)
		local = merge_states(target_table(target), rel, local, tomb);
	else if (tomb)
		local = tomb;
	if (local == NULL || remote == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("row is not known on %s", local ? "the peer" : "this node"),
				 errhint("A row that one side lacks needs no choice: ferry.verify() merges it.")));
	/* the last write tells: of the others, one side may have forgotten some */
	if (!dot_equal(local->version.last, remote->version.last) &&
		version_compare(&local->version, &remote->version) != VERSION_EQUAL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("versions of the row differ between this node and the peer"),
				 errhint("Merging decides between different versions: wait for the links, or call ferry.verify().")));
	if (keep_local)
		write_anew(rel, target_table(target), local, remote);
	else
		write_anew(rel, target_table(target), remote, local);
	target_close(target);
	table_close(rel, NoLock);
	PG_RETURN_VOID();
}
