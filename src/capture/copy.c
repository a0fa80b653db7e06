/*-------------------------------------------------------------------------
 *
 * copy.c
 *		COPY FROM in batches.
 *
 * CopyFrom() stores rows in batches only if the table has no BEFORE INSERT row
 * trigger, and decides that by a copy of the relation's trigger descriptor that
 * it makes when it begins.  Our trigger has nothing to do there when
 *
 *	- _ferry is not among the columns copied, so that each row has its default,
 *	  a fresh stamp;
 *	- the table has no tombstones, so that no row is the successor of one; those
 *	  that others write beside us are looked for at commit (apply/birth_check.c),
 *	  for which the whole table counts as born.
 *
 * So the flag that says that there is such a trigger is cleared in the relation
 * cache's entry, until CopyFrom() has made its copy.  No other statement may see
 * it so: whatever could execute one in between (ExecutorStart, a utility
 * command) sets it again first, and so does our default, which is evaluated for
 * the first row; at the latest the COPY's own end, or error, does.  Before its
 * copy is made CopyFrom() calls nothing that could write.  If the entry is
 * rebuilt meanwhile the flag is back, and the trigger fires: slower, not wrong.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"

#include "capture/copy.h"
#include "capture/statement.h"
#include "node/node.h"
#include "node/table.h"
#include "state/births.h"
#include "state/local_write.h"

static Relation hidden_in = NULL;

void
copy_show_trigger(void)
{
	if (likely(hidden_in == NULL))
		return;
	if (hidden_in->trigdesc)
		hidden_in->trigdesc->trig_insert_before_row = true;
	hidden_in = NULL;
}

void
copy_hide_trigger(Relation rel)
{
	FerryTable *table = table_lookup(RelationGetRelid(rel));

	copy_show_trigger();
	if (table == NULL || rel->rd_rel->relkind != RELKIND_RELATION ||
		SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA ||
		!statement_only_ours(rel->trigdesc, TRIGGER_TYPE_INSERT) || !state_birth_is_dot(table) ||
		node_current_or_null() == NULL)
		return;
	births_note_table(table);
	if (births_meet_tombstones(table))
		return;
	rel->trigdesc->trig_insert_before_row = false;
	hidden_in = rel;
}
