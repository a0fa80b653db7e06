/*
 * compat.h
 *		Everything that differs between PostgreSQL 15 and 18, and nothing else.
 */
#ifndef FERRY_COMPAT_H
#define FERRY_COMPAT_H

#include "postgres.h"

#include "access/tableam.h"

#if PG_VERSION_NUM < 150000
#error "ferry needs PostgreSQL 15 or later"
#endif

/* 16: what reads a varlena moved out of postgres.h, what names a relation's file into another header */
#if PG_VERSION_NUM >= 160000
#include "storage/relfilelocator.h"
#include "varatt.h"
#else
#include "storage/relfilenode.h"
#endif

/* 18: a function that does not return is marked in front */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* 17: a backend's local transaction id moved */
#if PG_VERSION_NUM >= 170000
#define COMPAT_MY_LXID (MyProc->vxid.lxid)
#else
#define COMPAT_MY_LXID (MyProc->lxid)
#endif

/* 16: the number of a relation's file has another name */
#if PG_VERSION_NUM >= 160000
#define compat_relation_file_number(rel) ((rel)->rd_locator.relNumber)
#else
#define compat_relation_file_number(rel) ((rel)->rd_node.relNode)
#endif

/* 17: who frees a set of events is a resource owner, not a context; NULL, or one that stays: nobody */
#if PG_VERSION_NUM >= 170000
#define compat_create_wait_set(n) CreateWaitEventSet(NULL, n)
#else
#define compat_create_wait_set(n) CreateWaitEventSet(TopMemoryContext, n)
#endif

/* --- logical decoding --- */

/* 17: a message can be flushed at once; we flush ourselves */
#if PG_VERSION_NUM >= 170000
#define compat_log_message(prefix, message, size) LogLogicalMessage(prefix, message, size, false, false)
#else
#define compat_log_message(prefix, message, size) LogLogicalMessage(prefix, message, size, false)
#endif

/* 16: an origin may be shared by parallel workers */
#if PG_VERSION_NUM >= 160000
#define compat_origin_session_setup(origin) replorigin_session_setup(origin, 0)
#else
#define compat_origin_session_setup(origin) replorigin_session_setup(origin)
#endif

/* 17: a change's tuple has no buffer around it */
#if PG_VERSION_NUM >= 170000
#define compat_change_newtuple(c) ((c)->data.tp.newtuple)
#else
#define compat_change_newtuple(c) (&(c)->data.tp.newtuple->tuple)
#endif

/* 16: a relation's file has another name */
#if PG_VERSION_NUM >= 160000
typedef RelFileLocator CompatRelFile;
#define compat_change_rel_file(c) ((c)->data.tp.rlocator)
#define compat_rel_file_equals(a, b) RelFileLocatorEquals(a, b)
#else
typedef RelFileNode CompatRelFile;
#define compat_change_rel_file(c) ((c)->data.tp.relnode)
#define compat_rel_file_equals(a, b) RelFileNodeEquals(a, b)
#endif

/* one of three times in a union */
#define compat_txn_commit_time(txn) ((txn)->xact_time.commit_time)

/* --- executor --- */

/* the range table of a plan-less executor state: one relation */
#if PG_VERSION_NUM >= 180000
#define compat_init_range_table(estate, rte) \
	do { \
		List	   *perminfos_ = NIL; \
		addRTEPermissionInfo(&perminfos_, rte); \
		ExecInitRangeTable(estate, list_make1(rte), perminfos_, bms_make_singleton(1)); \
	} while (0)
#elif PG_VERSION_NUM >= 160000
#define compat_init_range_table(estate, rte) \
	do { \
		List	   *perminfos_ = NIL; \
		addRTEPermissionInfo(&perminfos_, rte); \
		ExecInitRangeTable(estate, list_make1(rte), perminfos_); \
	} while (0)
#else
#define compat_init_range_table(estate, rte) \
	ExecInitRangeTable(estate, list_make1(rte))
#endif

/* 18: result relations may be pruned when a statement starts; these are for those that are left */
#if PG_VERSION_NUM >= 180000
#define COMPAT_UPDATE_COLNOS(mtstate) ((mtstate)->mt_updateColnosLists)
#else
#define COMPAT_UPDATE_COLNOS(mtstate) (((ModifyTable *) (mtstate)->ps.plan)->updateColnosLists)
#endif

/* 18: RETURNING may ask for old and new rows, of which one may not be */
#if PG_VERSION_NUM >= 180000
#define compat_pass_returning_flags(from, to) \
	((to)->flags = ((to)->flags & ~(EEO_FLAG_OLD_IS_NULL | EEO_FLAG_NEW_IS_NULL)) | \
	 ((from)->flags & (EEO_FLAG_OLD_IS_NULL | EEO_FLAG_NEW_IS_NULL)))
#else
#define compat_pass_returning_flags(from, to) ((void) 0)
#endif

/* 16: maps to a partition are made on demand */
#if PG_VERSION_NUM >= 160000
#define compat_root_to_leaf_map(rri, estate) ExecGetRootToChildMap(rri, estate)
#else
#define compat_root_to_leaf_map(rri, estate) ((rri)->ri_RootToPartitionMap)
#endif

/* 16: updates may need summarizing indexes only */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes CompatUpdateIndexes;
#define COMPAT_UPDATE_ALL_INDEXES TU_All
#define compat_wants_index_update(u) ((u) != TU_None)
#define compat_insert_index_tuples(rri, slot, estate, update, u) \
	ExecInsertIndexTuples(rri, slot, estate, update, false, NULL, NIL, (u) == TU_Summarizing)
/* the same, but a duplicate in one of the indexes in soft is reported, not raised */
#define compat_insert_index_tuples_soft(rri, slot, estate, update, u, soft) \
	ExecInsertIndexTuples(rri, slot, estate, update, (soft) != NIL, NULL, soft, (u) == TU_Summarizing)
#else
typedef bool CompatUpdateIndexes;
#define COMPAT_UPDATE_ALL_INDEXES true
#define compat_wants_index_update(u) (u)
#define compat_insert_index_tuples(rri, slot, estate, update, u) \
	ExecInsertIndexTuples(rri, slot, estate, update, false, NULL, NIL)
#define compat_insert_index_tuples_soft(rri, slot, estate, update, u, soft) \
	ExecInsertIndexTuples(rri, slot, estate, update, (soft) != NIL, NULL, soft)
#endif

/* 16: BEFORE triggers report what became of the tuple; 18: within MERGE or not */
#define compat_epq_init(epqstate, estate) \
	EvalPlanQualInit(epqstate, estate, NULL, NIL, -1 COMPAT_EPQ_RESULT_RELATIONS)
#if PG_VERSION_NUM >= 180000
#define COMPAT_EPQ_RESULT_RELATIONS , NIL
#define compat_br_update_triggers(estate, epqstate, rri, tid, slot) \
	ExecBRUpdateTriggers(estate, epqstate, rri, tid, NULL, slot, NULL, NULL, false)
#define compat_br_delete_triggers(estate, epqstate, rri, tid) \
	ExecBRDeleteTriggers(estate, epqstate, rri, tid, NULL, NULL, NULL, NULL, false)
#elif PG_VERSION_NUM >= 160000
#define COMPAT_EPQ_RESULT_RELATIONS , NIL
#define compat_br_update_triggers(estate, epqstate, rri, tid, slot) \
	ExecBRUpdateTriggers(estate, epqstate, rri, tid, NULL, slot, NULL, NULL)
#define compat_br_delete_triggers(estate, epqstate, rri, tid) \
	ExecBRDeleteTriggers(estate, epqstate, rri, tid, NULL, NULL, NULL, NULL)
#else
#define COMPAT_EPQ_RESULT_RELATIONS
#define compat_br_update_triggers(estate, epqstate, rri, tid, slot) \
	ExecBRUpdateTriggers(estate, epqstate, rri, tid, NULL, slot, NULL)
#define compat_br_delete_triggers(estate, epqstate, rri, tid) \
	ExecBRDeleteTriggers(estate, epqstate, rri, tid, NULL, NULL)
#endif

/* 18: index scans are instrumented, primary keys may be asked for deferrable ones */
#if PG_VERSION_NUM >= 180000
#define compat_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, NULL, nkeys, 0)
#define compat_check_index_constraints(rri, slot, estate, conflict, arbiters) \
	ExecCheckIndexConstraints(rri, slot, estate, conflict, NULL, arbiters)
#define COMPAT_PK_ARG , false
#else
#define compat_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, nkeys, 0)
#define compat_check_index_constraints(rri, slot, estate, conflict, arbiters) \
	ExecCheckIndexConstraints(rri, slot, estate, conflict, arbiters)
#define COMPAT_PK_ARG
#endif

/* 18: constraints may be there without being enforced */
#if PG_VERSION_NUM >= 180000
#define compat_check_is_enforced(check) ((check)->ccenforced)
#else
#define compat_check_is_enforced(check) (true)
#endif

#define compat_tuple_delete(rel, tid, cid, tmfd) \
	table_tuple_delete(rel, tid, cid, InvalidSnapshot, InvalidSnapshot, true, tmfd, false)

#endif							/* FERRY_COMPAT_H */
