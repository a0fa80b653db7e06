-- foreign keys that merging left unmet
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE TABLE parent (id int PRIMARY KEY, code text, region int, UNIQUE (region, code));
CREATE TABLE child (id int, n int, parent int REFERENCES parent ON DELETE CASCADE, region int, code text,
	PRIMARY KEY (id, n), FOREIGN KEY (region, code) REFERENCES parent (region, code));
CREATE TABLE part (id int PRIMARY KEY, parent int CONSTRAINT part_parent REFERENCES parent) PARTITION BY RANGE (id);
CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (1) TO (100);
SELECT ferry.orphans('child');
SELECT ferry.add_table(t::regclass) FROM unnest('{parent,child,part}'::text[]) t;
INSERT INTO parent VALUES (1, 'x', 1), (2, 'y', 1);
INSERT INTO child VALUES (1, 1, 1, 1, 'x'), (2, 1, 2, 1, 'y'), (3, 1, NULL, 1, NULL), (4, 1, 1, NULL, 'y');
INSERT INTO part VALUES (1, 1), (2, NULL), (3, 2);
SELECT * FROM ferry.orphans();
-- the parent dies elsewhere
CREATE FUNCTION pg_temp.death(rel regclass, id int, stamp int) RETURNS text LANGUAGE sql AS
$$SELECT ferry.merge(rel, format('{"alive": false, "key": {"id": %s}, "row": {}, "last": ["%s", "77"], "vv": {"77": "%s", "%s": "%s"}}', id,
	s, s, (SELECT node_id FROM ferry.local_node), ((ferry.state(rel, jsonb_build_object('id', id)))->'last'->>0))::jsonb)
	FROM (SELECT ((ferry.state(rel, jsonb_build_object('id', id)))->'last'->>0)::bigint + stamp) t(s)$$;
SELECT pg_temp.death('parent', 2, 1);
SELECT * FROM ferry.orphans();
SELECT * FROM ferry.orphans('part');
SELECT has_function_privilege('public', 'ferry.orphans(regclass)', 'EXECUTE');
SELECT ferry.drop_table(t::regclass) FROM unnest('{part,child,parent}'::text[]) t;
DROP TABLE part, child, parent;
