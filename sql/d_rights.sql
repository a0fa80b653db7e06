-- who may look and who may wait
SET client_min_messages = warning;
CREATE ROLE ferry_looker IN ROLE pg_monitor;
CREATE ROLE ferry_app;
CREATE EXTENSION ferry;
SELECT ferry.create_node('r', 'dbname=' || current_database()) IS NOT NULL AS is_node;
CREATE TABLE rt (id int PRIMARY KEY, a int);
SELECT ferry.add_table('rt');

SET ROLE ferry_looker;
SELECT count(*) FROM ferry.lag;
SELECT relation, merge FROM ferry.tables;
SELECT count(*) FROM ferry.clock, ferry.columns, ferry.progress, ferry.verification, ferry.conflict_summary;
SELECT * FROM ferry.conflicts;
SELECT * FROM ferry.quarantine;
SELECT * FROM ferry.nodes;
SELECT * FROM ferry.peers;

SET ROLE ferry_app;
SELECT ferry.token();
RESET ROLE;
GRANT USAGE ON SCHEMA ferry TO ferry_app;
SET ROLE ferry_app;
SELECT ferry.wait_for(ferry.token(), '1 s') AS waited, ferry.wait_for_peers('1 s') AS peers, ferry.wait_for_join('1 s') AS joined;
SELECT ferry.state('rt', '{"id": 1}');
SELECT * FROM ferry.changes();
SELECT * FROM ferry.lag;
RESET ROLE;
GRANT INSERT, SELECT ON rt TO ferry_app;
SET ROLE ferry_app;
INSERT INTO rt VALUES (1, 1);
SELECT ferry.state('rt', '{"id": 1}') -> 'row' AS "row";
SELECT ferry.merge('rt', ferry.state('rt', '{"id": 1}'));

RESET ROLE;
DROP TABLE rt;
DROP EXTENSION ferry;
DROP OWNED BY ferry_looker, ferry_app;
DROP ROLE ferry_looker, ferry_app;
