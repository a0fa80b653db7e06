-- the statements that are stamped without the row trigger leave what the trigger would leave
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET track_functions = 'all';
SET jit = off;
CREATE TABLE fast (id int PRIMARY KEY, gone int, a int, b text, g int GENERATED ALWAYS AS (a * 2) STORED, c numeric DEFAULT 7, d int);
ALTER TABLE fast DROP COLUMN gone;
CREATE TABLE fast_parts (id int PRIMARY KEY, a int, b text, c numeric DEFAULT 7, d int) PARTITION BY RANGE (id);
CREATE TABLE slow (LIKE fast INCLUDING ALL);
CREATE TABLE slow_parts (LIKE fast_parts INCLUDING ALL) PARTITION BY RANGE (id);
DO $$
DECLARE
	t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['fast', 'slow'] LOOP
		EXECUTE format('CREATE TABLE %1$s_low PARTITION OF %1$s_parts FOR VALUES FROM (0) TO (100)', t);
		-- columns in another order
		EXECUTE format('CREATE TABLE %1$s_high (d int, gone int, c numeric, b text, a int, id int NOT NULL)', t);
		EXECUTE format('ALTER TABLE %1$s_high DROP COLUMN gone', t);
		EXECUTE format('ALTER TABLE %1$s_parts ATTACH PARTITION %1$s_high FOR VALUES FROM (100) TO (1000)', t);
		PERFORM ferry.add_table(t::regclass), ferry.add_table((t || '_parts')::regclass);
	END LOOP;
END $$;
-- a trigger of the user's keeps ferry's in its place
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER nothing BEFORE INSERT OR UPDATE ON slow FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER nothing BEFORE INSERT OR UPDATE ON slow_parts FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE VIEW fast_seen AS SELECT id, a FROM fast WHERE id < 50 WITH CHECK OPTION;
CREATE VIEW slow_seen AS SELECT id, a FROM slow WHERE id < 50 WITH CHECK OPTION;

-- every row with its values and, by their order in time, the dots of its columns and of its vector
CREATE FUNCTION picture(rel text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format($q$
		WITH s AS MATERIALIZED (SELECT t.id, t.a, t.b, t.c, t.d, to_jsonb(t)->>'g' AS g, ferry.state(%1$L, jsonb_build_object('id', id)) AS s FROM %1$s t),
			dots AS (SELECT id, k, v, dense_rank() OVER (ORDER BY v::numeric) AS n
				FROM (SELECT id, ' last' AS k, s->'last'->>0 AS v FROM s
					UNION ALL SELECT id, key, value->>0 FROM s, jsonb_each(s->'columns')) x)
		SELECT concat_ws(' ', id, a, b, c, d, g, (SELECT string_agg(k || ':' || n, ',' ORDER BY k) FROM dots WHERE dots.id = s.id),
			(SELECT count(*) FROM jsonb_object_keys(s->'vv')), s->'alive') FROM s$q$, rel);
END $$;
-- execute it in both, of two kinds, and compare
CREATE FUNCTION in_both(sql text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	suffix text;
	n int;
	rows bigint[];
BEGIN
	FOREACH suffix IN ARRAY ARRAY['', '_parts'] LOOP
		CONTINUE WHEN suffix <> '' AND sql ~ '_seen|CURRENT OF';
		EXECUTE format(sql, 'fast' || suffix, 'fast');
		GET DIAGNOSTICS n = ROW_COUNT;
		rows[1] := n;
		EXECUTE format(sql, 'slow' || suffix, 'slow');
		GET DIAGNOSTICS n = ROW_COUNT;
		rows[2] := n;
		IF rows[1] <> rows[2] THEN
			RETURN NEXT format('%s%s: %s rows, %s by the trigger', sql, suffix, rows[1], rows[2]);
		END IF;
		RETURN QUERY SELECT format('%s%s: %s', sql, suffix, p)
			FROM ((SELECT '+' || picture('fast' || suffix) EXCEPT SELECT '+' || picture('slow' || suffix))
				UNION ALL (SELECT '-' || picture('slow' || suffix) EXCEPT SELECT '-' || picture('fast' || suffix))) x(p);
	END LOOP;
END $$;
SELECT in_both(sql) AS different FROM (VALUES
	('INSERT INTO %1$s (id, a, b) VALUES (1, 1, ''one''), (2, 2, ''two''), (3, 3, NULL), (101, 1, ''over'')'),
	('INSERT INTO %1$s (id) SELECT i FROM generate_series(10, 20) i'),
	('INSERT INTO %1$s (id, a, _ferry) VALUES (21, 1, NULL)'),
	('INSERT INTO %1$s (id, a, _ferry) SELECT id + 30, a, _ferry FROM %1$s WHERE id < 10'),
	('UPDATE %1$s SET a = coalesce(a, 0) + 1'),
	('UPDATE %1$s SET a = a + 1 WHERE id < 15'),
	('UPDATE %1$s SET a = a WHERE id < 12'),
	('UPDATE %1$s SET b = ''both'', a = 5 WHERE id IN (1, 101)'),
	('UPDATE %1$s SET a = 6 WHERE id IN (1, 101)'),
	('UPDATE %1$s SET a = 6, b = b || '''', c = 1, d = 1 WHERE id IN (2, 101)'),
	('UPDATE %1$s SET c = 1.0, d = NULL WHERE id IN (2, 101)'),
	('UPDATE %1$s SET _ferry = NULL WHERE id = 2'),
	('UPDATE %1$s SET _ferry = (SELECT _ferry FROM %1$s WHERE id = 1), d = 9 WHERE id IN (3, 101)'),
	('UPDATE %1$s t SET a = s.id FROM %1$s s WHERE t.id < 3 AND s.id > 15'),
	('UPDATE %1$s SET (a, d) = (SELECT 1, 2) WHERE id = 12 RETURNING a'),
	('WITH u AS (UPDATE %1$s SET a = 50 WHERE id < 3 RETURNING id) INSERT INTO %1$s (id, a) SELECT id + 60, 1 FROM u'),
	('WITH u AS (UPDATE %1$s SET d = 51 WHERE id < 3 RETURNING id) SELECT * FROM u'),
	('WITH i AS (INSERT INTO %1$s (id) VALUES (70)), d AS (DELETE FROM %1$s WHERE id = 71) UPDATE %1$s SET d = 52 WHERE id < 3'),
	('DELETE FROM %1$s WHERE id IN (10, 11, 101)'),
	('INSERT INTO %1$s (id, a) VALUES (10, 1), (101, 1)'),
	('UPDATE %1$s SET b = ''after its death'' WHERE id IN (10, 101)'),
	('WITH d AS (DELETE FROM %1$s WHERE id = 12 RETURNING id, a) INSERT INTO %1$s (id, a) SELECT id + 80, a FROM d'),
	('UPDATE %1$s SET id = id + 900 WHERE id IN (13, 14)'),
	('UPDATE %1$s SET a = 3, id = id WHERE id = 15'),
	('INSERT INTO %1$s (id, a) VALUES (15, 0), (16, 0) ON CONFLICT (id) DO UPDATE SET a = 99'),
	('INSERT INTO %1$s (id, a) VALUES (15, 0), (17, 0), (24, 0) ON CONFLICT DO NOTHING'),
	('MERGE INTO %1$s t USING (VALUES (15), (25)) v(id) ON t.id = v.id WHEN MATCHED THEN UPDATE SET a = 70 WHEN NOT MATCHED THEN INSERT (id, a) VALUES (v.id, 8)'),
	('UPDATE %2$s_seen SET a = 9 WHERE id = 2'),
	('INSERT INTO %2$s_seen VALUES (40, 1)'),
	('UPDATE %1$s SET b = repeat(md5(id::text), 500)'),
	('UPDATE %1$s SET a = 10 WHERE id < 20'),
	('UPDATE %1$s SET b = b, d = 3 WHERE id < 20'),
	('DO $d$ DECLARE c CURSOR FOR SELECT * FROM %1$s ORDER BY id FOR UPDATE; BEGIN FOR r IN c LOOP UPDATE %1$s SET d = 77 WHERE CURRENT OF c; END LOOP; END $d$')) x(sql);
SELECT count(*), count(DISTINCT _ferry) FROM fast;

-- with columns that merge otherwise
SELECT ferry.set_merge(t::regclass, 'a', 'counter'), ferry.set_merge(t::regclass, 'd', 'max')
	FROM unnest(ARRAY['fast', 'slow', 'fast_parts', 'slow_parts']) t;
CREATE FUNCTION parts(rel text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT regexp_replace((ferry.state(%1$L, jsonb_build_object(''id'', id)) - ''last'' - ''vv'' - ''columns'' - ''live'')::text,
		''\["\d{15,}", "\d+"\]'', ''(a dot)'', ''g'') FROM %1$s', rel);
END $$;
SELECT in_both(sql) AS different FROM (VALUES
	('INSERT INTO %1$s (id, a, d) VALUES (50, 5, 5), (51, 6, 6)'),
	('UPDATE %1$s SET a = a + 2, d = d - 1 WHERE id IN (50, 51, 1)'),
	('UPDATE %1$s SET b = ''x'' WHERE id IN (50, 51, 1)'),
	('DELETE FROM %1$s WHERE id = 50'),
	('INSERT INTO %1$s (id, a, d) VALUES (50, 1, 1)')) x(sql);
(SELECT 'fast', parts('fast') EXCEPT SELECT 'fast', parts('slow')) UNION ALL (SELECT 'slow', parts('slow') EXCEPT SELECT 'slow', parts('fast'));
SELECT id, a, d FROM fast WHERE id IN (50, 51) ORDER BY id;
SELECT ferry.set_merge(t::regclass, c, 'lww')
	FROM unnest(ARRAY['fast', 'slow', 'fast_parts', 'slow_parts']) t, unnest(ARRAY['a', 'd']::name[]) c;

-- which of them went without the trigger
CREATE FUNCTION trigger_calls(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) ' || sql LOOP
		IF line ~ '^Trigger ~ferry_row' THEN
			RETURN regexp_replace(line, ' on .*:', ':');
		END IF;
	END LOOP;
	RETURN 'none';
END $$;
SELECT sql, trigger_calls(sql) FROM (VALUES
	('INSERT INTO fast (id) VALUES (500), (501)'),
	('INSERT INTO slow (id) VALUES (500), (501)'),
	('UPDATE fast SET a = 1 WHERE id < 4'),
	('UPDATE slow SET a = 1 WHERE id < 4'),
	('UPDATE fast SET id = 502 WHERE id = 501'),
	('UPDATE fast_parts SET a = 1 WHERE id < 4'),
	('WITH u AS (UPDATE fast SET a = 2 WHERE id < 4 RETURNING 1) SELECT FROM u'),
	('INSERT INTO fast (id) VALUES (500) ON CONFLICT (id) DO UPDATE SET a = 4')) x(sql);
EXPLAIN (COSTS OFF) UPDATE fast SET a = 1 WHERE id < 4;
-- prepared, with a plan for the call and one for all
PREPARE up (int, int) AS UPDATE fast SET a = $1 WHERE id = $2;
SET plan_cache_mode = force_custom_plan;
EXECUTE up (1, 1);
SET plan_cache_mode = force_generic_plan;
EXECUTE up (2, 1);
ALTER TABLE fast ADD COLUMN e int;
EXECUTE up (3, 1);
ALTER TABLE fast DROP COLUMN d;
EXECUTE up (4, 1);
-- compiled
SET jit = on;
SET jit_above_cost = 0;
EXECUTE up (5, 1);
SET jit = off;
RESET plan_cache_mode;
DEALLOCATE up;
SELECT a, (SELECT string_agg(k, ',' ORDER BY k) FROM jsonb_object_keys(ferry.state('fast', '{"id": 1}')->'columns') k) AS older FROM fast WHERE id = 1;
-- row security goes on to see the row as it will be
CREATE ROLE regress_ferry_writer;
GRANT ALL ON fast TO regress_ferry_writer;
ALTER TABLE fast ENABLE ROW LEVEL SECURITY;
CREATE POLICY small ON fast TO regress_ferry_writer USING (id < 10) WITH CHECK (a < 100 AND _ferry IS NOT NULL);
SET ROLE regress_ferry_writer;
UPDATE fast SET a = 5;
UPDATE fast SET a = 100;
INSERT INTO fast (id, a) VALUES (9, 99);
INSERT INTO fast (id, a) VALUES (8, 100);
RESET ROLE;
SELECT id, a FROM fast WHERE id < 10 ORDER BY id;
REVOKE ALL ON fast FROM regress_ferry_writer;
DROP POLICY small ON fast;
DROP ROLE regress_ferry_writer;
-- a disabled trigger stamps nothing, so that nobody else does either; replicas write what they are told
ALTER TABLE fast DISABLE ROW LEVEL SECURITY;
CREATE TEMP TABLE was AS SELECT id, _ferry FROM fast;
ALTER TABLE fast DISABLE TRIGGER "~ferry_row";
UPDATE fast SET a = 6 WHERE id = 1;
ALTER TABLE fast ENABLE TRIGGER "~ferry_row";
SET session_replication_role = replica;
UPDATE fast SET a = 7 WHERE id = 1;
RESET session_replication_role;
SELECT a, w._ferry OPERATOR(ferry.=) f._ferry AS same FROM fast f JOIN was w USING (id) WHERE id = 1;

-- COPY in batches: no trigger where the table has no tombstones and _ferry is not named
CREATE TABLE cargo (id int PRIMARY KEY, a int, at int DEFAULT 3);
SELECT ferry.add_table('cargo');
CREATE FUNCTION calls() RETURNS bigint LANGUAGE sql AS $$ SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_xact_user_functions WHERE funcname = '_row_trigger' $$;
BEGIN;
SELECT calls() \gset before_
COPY cargo (id, a) FROM stdin;
1	1
2	2
\.
COPY cargo FROM stdin WHERE id < 5;
3	3	3
5	5	5
\.
SELECT calls() - :before_calls AS calls;
COMMIT;
-- a function called in between inserts into the same table: it meets the trigger
CREATE FUNCTION beside(i int) RETURNS boolean LANGUAGE plpgsql AS
$$ BEGIN IF i = 10 THEN INSERT INTO cargo (id, a, _ferry) SELECT 11, 11, _ferry FROM cargo WHERE id = 1 ON CONFLICT DO NOTHING; END IF; RETURN true; END $$;
CREATE DOMAIN checked AS int CHECK (beside(VALUE));
ALTER TABLE cargo ADD COLUMN c checked;
COPY cargo (c, id, a) FROM stdin;
10	10	10
\.
SELECT id, ferry.state('cargo', jsonb_build_object('id', id))->'last' = ferry.state('cargo', '{"id": 1}')->'last' AS forged FROM cargo WHERE id IN (10, 11) ORDER BY id;
-- an error leaves the trigger where it was
COPY cargo (id, a) FROM stdin;
6	six
\.
MERGE INTO cargo USING (SELECT _ferry AS v FROM cargo WHERE id = 1) x ON cargo.id = 7 WHEN NOT MATCHED THEN INSERT (id, a, _ferry) VALUES (7, 7, v);
SELECT ferry.state('cargo', '{"id": 7}')->'last' = ferry.state('cargo', '{"id": 1}')->'last' AS forged;
-- with _ferry named, and for successors of dead rows, the trigger is there
BEGIN;
SELECT calls() \gset before_
COPY cargo (id, a, _ferry) FROM stdin;
8	8	\N
\.
SELECT calls() - :before_calls AS calls;
DELETE FROM cargo WHERE id = 8;
COPY cargo (id, a) FROM stdin;
8	80
9	90
\.
SELECT calls() - :before_calls AS calls;
COMMIT;
SELECT count(*), count(_ferry), count(DISTINCT _ferry) FROM cargo;
SELECT count(*) FROM cargo WHERE (ferry.state('cargo', jsonb_build_object('id', id))->>'alive')::boolean;
SELECT ferry.drop_table(t::regclass) FROM unnest(ARRAY['fast', 'slow', 'fast_parts', 'slow_parts', 'cargo']) t;
DROP TABLE fast, slow, fast_parts, slow_parts, cargo CASCADE;
DROP DOMAIN checked;
DROP FUNCTION parts, in_both, picture, trigger_calls, nothing, beside, calls;
