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
SELECT ferry.set_orphans('child', 'adopt');
SELECT ferry.set_orphans('parent', 'remove_child');
SELECT ferry.resolve_orphans();
SELECT ferry.set_orphans('part', 'remove_child');
SELECT ferry.resolve_orphans('part');
SELECT id, parent FROM part ORDER BY id;
SELECT ferry.set_orphans('child', 'revive_parent');
SELECT * FROM ferry.foreign_keys;
SELECT ferry.resolve_orphans();
SELECT id, code, region FROM parent ORDER BY id;
SELECT * FROM ferry.orphans();
SELECT relation, key, columns, local_row, remote_row, winner, rule, constraint_name FROM ferry.conflicts WHERE kind = 'foreign_key' ORDER BY id;

-- a function that hears of conflicts
CREATE TABLE hooked (id int PRIMARY KEY, a int, b text);
CREATE TABLE heard (who name, what jsonb);
SELECT ferry.add_table('hooked');
CREATE SCHEMA "Odd schema";
CREATE FUNCTION "Odd schema"."Hear"(c jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.heard VALUES (current_user, c);
	IF c->'remote_row'->>'a' = '13' THEN
		RAISE EXCEPTION 'thirteen' USING DETAIL = 'It is an unlucky number.', ERRCODE = '40001';
	END IF;
END $$;
CREATE FUNCTION hear_int(c int) RETURNS void LANGUAGE sql AS '';
SELECT ferry.set_conflict_hook('heard', 'hear_int');
SELECT ferry.set_conflict_hook('hooked', 'hear_int');
SELECT ferry.set_conflict_hook('hooked', 'hear_int(int)');
SELECT ferry.set_conflict_hook('hooked', 'drop table heard');
SELECT ferry.set_conflict_hook('hooked', '"Odd schema"."Hear"');
CREATE FUNCTION pg_temp.rival(rel text, id int, rw text, stamp bigint DEFAULT 1) RETURNS text LANGUAGE sql AS
$$SELECT ferry.merge(rel::regclass, format('{"alive": true, "key": {"id": %s}, "row": %s, "last": ["%s", "77"], "vv": {"77": "%s"}}', id, rw, s, s)::jsonb)
	FROM (SELECT ((ferry.state(rel::regclass, jsonb_build_object('id', id)))->'last'->>0)::bigint + stamp) t(s)$$;
INSERT INTO hooked VALUES (1, 1, 'x'), (2, 2, 'y');
SELECT pg_temp.rival('hooked', 1, '{"a": 2, "b": "x"}');
SELECT who = current_user AS as_owner, what - '{id,at,relid,xid,local_dot,remote_dot}'::text[] AS what FROM heard;
SELECT pg_temp.rival('hooked', 2, '{"a": 13, "b": "y"}');
SELECT a FROM hooked WHERE id = 2;
SELECT count(*) FROM heard;
SELECT key, kind FROM ferry.conflicts WHERE relation = 'public.hooked' ORDER BY id;
SELECT ferry.set_conflict_hook('hooked', NULL);
SELECT pg_temp.rival('hooked', 2, '{"a": 14, "b": "y"}', 2);
SELECT count(*) FROM heard;
SELECT ferry.set_conflict_hook('hooked', '"Odd schema"."Hear"(jsonb)');
SELECT function FROM ferry.conflict_hook;
SELECT ferry.drop_table('hooked');
SELECT function FROM ferry.conflict_hook;
DROP TABLE hooked, heard;
DROP SCHEMA "Odd schema" CASCADE;
DROP FUNCTION hear_int;

-- what a merge would do, and why; each state has a rival's dot before or after the row's
CREATE TABLE told (id int PRIMARY KEY, a int, b int, c text DEFAULT 'none', n int, CHECK (a <= b));
SELECT ferry.add_table('told');
SELECT ferry.set_merge('told', 'n', 'counter');
INSERT INTO told VALUES (1, 1, 10, 'x', 5);
SELECT ferry.state('told', '{"id": 1}') AS before \gset
CREATE FUNCTION pg_temp.state(rel text, id int, rw text, stamp bigint, alive bool DEFAULT true, seen bool DEFAULT false) RETURNS jsonb LANGUAGE sql AS
$$SELECT jsonb_build_object('alive', alive, 'key', jsonb_build_object('id', id), 'row', rw::jsonb, 'last', jsonb_build_array(s::text, '77'),
		'vv', jsonb_build_object('77', s::text) || CASE WHEN seen THEN jsonb_build_object((SELECT node_id FROM ferry.local_node)::text, last::text) ELSE '{}' END)
	FROM (SELECT ((ferry.state(rel::regclass, jsonb_build_object('id', id)))->'last'->>0)::bigint) l(last), LATERAL (SELECT last + stamp) t(s)$$;
CREATE FUNCTION pg_temp.explain(state jsonb) RETURNS TABLE (part text, "column" name, rule text, winner text, local_value jsonb, remote_value jsonb, result jsonb, detail text) LANGUAGE sql AS
$$SELECT part, "column", rule, winner, local_value, remote_value, result, detail FROM ferry.explain_merge('told', state)$$;
SELECT * FROM pg_temp.explain(ferry.state('told', '{"id": 1}'));
SELECT * FROM pg_temp.explain(pg_temp.state('told', 1, '{"a": 2, "b": 9, "c": "y", "n": 6}', 1, true, true));
SELECT * FROM pg_temp.explain(pg_temp.state('told', 1, '{"a": 2, "b": 10, "n": 6}', 1));
SELECT * FROM pg_temp.explain(pg_temp.state('told', 1, '{}', -1, false));
SELECT * FROM pg_temp.explain(pg_temp.state('told', 1, '{}', 1, false));
SELECT * FROM pg_temp.explain('{"alive": true, "key": {"id": 2}, "row": {"a": 1, "b": 2}, "last": ["3476789819914858496", "77"], "vv": {"77": "3476789819914858496"}}');
-- refused as by a merge
SELECT * FROM ferry.explain_merge('told', '{"alive": true}');
SELECT * FROM pg_temp.explain('{"alive": true, "key": {"id": 2}, "row": {"a": 3, "b": 2}, "last": ["3476789819914858496", "77"], "vv": {"77": "3476789819914858496"}}');
SELECT * FROM pg_temp.explain('{"alive": true, "key": {"id": 2}, "row": {"a": 1}, "last": ["9223372036854775807", "77"], "vv": {"77": "9223372036854775807"}}');
SELECT ferry.state('told', '{"id": 1}') = :'before' AS unchanged;
-- a was raised here, b lowered there, and both fit the row as it was
SELECT pg_temp.state('told', 1, '{"a": 1, "b": 4, "c": "x", "n": 5}', 1, true, true)
	|| jsonb_build_object('columns', (SELECT jsonb_object_agg(k, :'before'::jsonb->'last') FROM unnest('{a,c,n}'::text[]) k)) AS lowered \gset
UPDATE told SET a = 8, c = 'kept' WHERE id = 1;
SELECT ferry.state('told', '{"id": 1}') AS before \gset
SELECT * FROM pg_temp.explain(:'lowered');
SELECT ferry.state('told', '{"id": 1}') = :'before' AS unchanged;
SELECT ferry.merge('told', :'lowered');
SELECT id, a, b, c, n FROM told;
SELECT kind, columns, local_row, remote_row, winner, rule, constraint_name FROM ferry.conflicts WHERE relation = 'public.told';
-- what TRUNCATE left elsewhere comes along: it has seen one of the row's writers, or both
CREATE FUNCTION pg_temp.truncated(own boolean) RETURNS jsonb LANGUAGE sql AS
$$SELECT pg_temp.state('told', 1, '{"a": 2, "b": 9, "n": 6}', 20) || jsonb_build_object('truncates', jsonb_build_array(jsonb_build_object('truncate', true,
		'last', jsonb_build_array(at, '77'), 'vv', CASE WHEN own THEN s->'vv' ELSE '{}' END || jsonb_build_object('77', at))))
	FROM ferry.state('told', '{"id": 1}') s, LATERAL (SELECT ((s->'last'->>0)::bigint + 10)::text) t(at)$$;
SELECT ferry.state('told', '{"id": 1}') AS before \gset
SELECT part, rule, winner, local_value, result, detail FROM ferry.explain_merge('told', pg_temp.truncated(false)) WHERE part IN ('truncate', 'state');
SELECT part, rule, winner, local_value, result, detail FROM ferry.explain_merge('told', pg_temp.truncated(true)) WHERE part IN ('truncate', 'state');
SELECT ferry.state('told', '{"id": 1}') = :'before' AS unchanged;
SELECT pg_temp.truncated(true) AS truncated \gset
SELECT ferry.merge('told', :'truncated');
SELECT part, rule, winner, local_value, result, detail FROM ferry.explain_merge('told', :'truncated') WHERE part IN ('truncate', 'state');
SELECT ferry.drop_table('told');
DROP TABLE told;

SELECT ferry.drop_table(t::regclass) FROM unnest('{part,child,parent}'::text[]) t;
DROP TABLE part, child, parent;
