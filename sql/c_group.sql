-- members, join and drop_node: what they refuse, and how news of members is merged
\set SHOW_CONTEXT never
SELECT ferry.join('port=1 host=/nowhere connect_timeout=1') \g /dev/null
SELECT ferry.drop_node('nobody');
SELECT ferry.drop_node('n1');
-- told in any order, once or twice, all come to the same
SELECT ferry._merge_members('[{"node_id": 7, "name": "seven", "dsn": "of seven", "dsn_at": "2026-01-01"}]') AS news;
SELECT ferry._merge_members('[{"node_id": 7, "name": "seven", "dsn": "older", "dsn_at": "2025-01-01"}]') AS news;
SELECT ferry._merge_members('[{"node_id": 7, "name": "seven", "dsn": "newer", "dsn_at": "2026-02-01"}]') AS news;
SELECT name, dsn, is_dropped FROM ferry.member WHERE node_id = 7;
SELECT ferry.drop_node('seven');
SELECT ferry.drop_node('seven');
SELECT ferry._merge_members('[{"node_id": 7, "name": "seven", "dsn": "newer", "dsn_at": "2026-02-01", "is_dropped": false}]') AS news;
SELECT name, dsn, is_dropped FROM ferry.member WHERE node_id = 7;
-- hostile lists
SELECT ferry._merge_members('[{"node_id": 0, "name": "x"}, {"node_id": 4294967296, "name": "x"}, {"name": "x"}, {"node_id": 8}]') AS news;
SELECT ferry._merge_members('{}') AS news;
SELECT count(*) FROM ferry.member;
-- a former member is told so
SELECT ferry._hello(protocol, 7, 'seven') FROM (VALUES (1)) v(protocol);
SELECT * FROM ferry.progress;
SELECT ferry.wait_for_join('0') AS joined;
-- a node keeps its identity, and may move
SELECT ferry.become_node('n2', 'x');
SELECT ferry.become_node('N 2', 'x');
SELECT ferry.become_node('n1', 'x');
SELECT ferry.set_dsn('dbname=moved');
SELECT n.dsn, m.dsn FROM ferry.local_node n JOIN ferry.member m USING (node_id);
-- what a peer may have seen of this node, and what shows that it went back in time
SELECT ferry._check_sight('0/1', NULL, NULL) AS fits, ferry._check_sight('0/1', NULL, ferry._runs()) AS fits_too, ferry._check_sight('0/1', NULL, '1,2') AS unknown;
SELECT ferry._check_sight('0/1', NULL, 'x') AS fits;
SELECT ferry._went_back();
INSERT INTO ferry.renaming SELECT 7, node_id, 1, 0, true FROM ferry.local_node;
SELECT ferry._greet('[]', 8, '{}');
DELETE FROM ferry.renaming;
SELECT ferry.set_dsn('dbname=x');
DELETE FROM ferry.member WHERE node_id = 7;
