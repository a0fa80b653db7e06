-- what a node holds: tokens, waiting, states since
\set SHOW_CONTEXT never
SELECT ferry.token() ~ '^\d+:\d+$' AS is_vector;
SELECT ferry.wait_for(ferry.token(), '0 s');
SELECT ferry.wait_for('', '0 s');
SELECT ferry.wait_for('77:1', '10 ms');
SELECT ferry.wait_for('77', '0 s');
SELECT ferry.wait_for('77:x', '0 s');
SELECT ferry.wait_for('077:1', '0 s');
SELECT ferry.wait_for('77:1,', '0 s');
SELECT ferry.wait_for('77:1,76:1', '0 s');
SELECT ferry.wait_for('77:99999999999999999999', '0 s');
SELECT ferry.wait_for('77:1+', '0 s');
SELECT ferry.wait_for('77:1+76:1', '10 ms');
SELECT ferry.wait_for(NULL, '0 s');
-- an open transaction is not promised, but named
BEGIN;
SELECT ferry.token() AS before \gset
INSERT INTO t (id, a) VALUES (30, 1);
SELECT ferry.token() = :'before' AS same;
SELECT count(*) FROM ferry.changes(:'before') WHERE (state->'key'->>'id')::int = 30;
COMMIT;
SELECT ferry.token() = :'before' AS same;
SELECT rel, state->'key' AS key, state->'alive' AS alive FROM ferry.changes(:'before') WHERE state->'vv' ? (SELECT node_id::text FROM ferry.local_node);
SELECT ferry.token() AS now \gset
DELETE FROM t WHERE id = 30;
SELECT rel, state->'key' AS key, state->'alive' AS alive FROM ferry.changes(:'now') WHERE state->'vv' ? (SELECT node_id::text FROM ferry.local_node);
SELECT count(*) > 1 AS more FROM ferry.changes();
SELECT count(*) FROM (SELECT ferry.changes() LIMIT 1) x;
SELECT count(*) FROM ferry.changes('abc');
CREATE ROLE ferry_reader;
GRANT USAGE ON SCHEMA ferry TO ferry_reader;
SET ROLE ferry_reader;
SELECT count(*) FROM ferry.changes();
RESET ROLE;
REVOKE USAGE ON SCHEMA ferry FROM ferry_reader;
DROP ROLE ferry_reader;
