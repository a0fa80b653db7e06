/* --- who may look --- */

/*
 * Members of pg_monitor see how things stand.  What holds rows (conflicts,
 * quarantine) or connection strings (nodes, peers) is not for them.
 */
GRANT USAGE ON SCHEMA ferry TO pg_monitor;
GRANT SELECT ON ferry.lag, ferry.clock, ferry.tables, ferry.columns, ferry.progress,
	ferry.verification, ferry.conflict_summary TO pg_monitor;
