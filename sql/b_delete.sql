-- deleted rows leave tombstones, whatever deletes them, and nobody sees that these were written together
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET track_functions = 'all';
CREATE TABLE gone (id int PRIMARY KEY, a int, b text);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES gone ON DELETE CASCADE);
SELECT ferry.add_table('gone'), ferry.add_table('child');
-- keys of a table: those alive, those dead with their last value of a
CREATE FUNCTION keys(rel text DEFAULT 'gone', OUT alive text, OUT dead text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format($q$
		SELECT string_agg(id || '', ' ' ORDER BY id) FILTER (WHERE (s->>'alive')::boolean),
			string_agg(id || coalesce(':' || (s->'row'->>'a'), ''), ' ' ORDER BY id) FILTER (WHERE NOT (s->>'alive')::boolean)
		FROM generate_series(1, 30) id, ferry.state(%L, jsonb_build_object('id', id)) s$q$, rel) INTO alive, dead;
END $$;
CREATE FUNCTION rows_of_tombstones(rel text DEFAULT 'gone') RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM %s', (SELECT tombstones FROM ferry.tables WHERE relation = rel::regclass)) INTO n;
	RETURN n;
END $$;
CREATE FUNCTION fill() RETURNS void LANGUAGE sql AS $$
	INSERT INTO gone SELECT i, i, 'b' || i FROM generate_series(1, 8) i ON CONFLICT DO NOTHING;
	INSERT INTO child SELECT i, i FROM generate_series(1, 8) i ON CONFLICT DO NOTHING $$;

-- by statement, and not by the trigger
SELECT fill();
BEGIN;
DELETE FROM gone WHERE id > 6;
DELETE FROM gone WHERE id = 6 RETURNING id, b;
SELECT pg_stat_get_xact_function_calls('ferry._row_trigger'::regproc) AS by_trigger;
COMMIT;
SELECT * FROM keys();
SELECT * FROM keys('child');
SELECT rows_of_tombstones(), rows_of_tombstones('child');

-- born again in the same statement: the successor of the tombstone, which goes
SELECT fill();
WITH d AS (DELETE FROM gone WHERE id <= 2 RETURNING *) INSERT INTO gone SELECT id, -a, b FROM d;
SELECT id, a, (SELECT count(*) FROM jsonb_object_keys(ferry.state('gone', '{"id": 1}')->'vv')) AS writers FROM gone WHERE id <= 2 ORDER BY id;
SELECT * FROM keys();
SELECT rows_of_tombstones();

-- a join that meets rows twice; a cursor; a prepared statement; EXPLAIN ANALYZE; nothing
DELETE FROM gone USING (SELECT 3 AS k UNION ALL SELECT 3) x WHERE id = k;
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM gone WHERE id = 4 FOR UPDATE;
FETCH c;
DELETE FROM gone WHERE CURRENT OF c;
COMMIT;
PREPARE p AS DELETE FROM gone WHERE id = $1;
EXECUTE p(5);
EXECUTE p(5);
DO $$ BEGIN EXECUTE 'EXPLAIN (ANALYZE) DELETE FROM gone WHERE a = 6'; END $$;
DELETE FROM gone WHERE a = 600;
SELECT * FROM keys();

-- many: several batches of them, in one statement, and errors that take them back
INSERT INTO gone SELECT i, i, 'b' || i FROM generate_series(101, 3000) i;
SELECT count(*) FROM (SELECT ferry.state('gone', jsonb_build_object('id', id)) AS s FROM generate_series(101, 3000) id) x WHERE NOT (s->>'alive')::boolean;
DELETE FROM gone WHERE id > 100 AND 1 / (id - 2999) IS NOT NULL;
BEGIN;
DELETE FROM gone WHERE id > 2900;
SAVEPOINT a;
DELETE FROM gone WHERE id BETWEEN 1000 AND 2000;
ROLLBACK TO a;
COMMIT;
SELECT count(*) FILTER (WHERE NOT alive) AS dead, min(id) FILTER (WHERE NOT alive), count(*) FILTER (WHERE alive) AS alive
FROM (SELECT id, (ferry.state('gone', jsonb_build_object('id', id))->>'alive')::boolean AS alive FROM generate_series(101, 3000) id) x;
WITH d AS (DELETE FROM gone WHERE id > 100 RETURNING id) SELECT count(*), sum(id) FROM d;
SELECT rows_of_tombstones() - (SELECT count(*) FROM generate_series(1, 30) id, ferry.state('gone', jsonb_build_object('id', id)) s WHERE NOT (s->>'alive')::boolean) AS of_these;

-- functions that a statement calls look at what it has deleted so far, in a subtransaction that is taken back
SELECT fill();
CREATE FUNCTION look(key int, fails boolean) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO gone VALUES (20, 20, 'looks for a tombstone, and so has all written');
	DELETE FROM gone WHERE id = 21;
	IF fails THEN
		RAISE EXCEPTION 'taken back';
	END IF;
	DELETE FROM gone WHERE id = 20;
	RETURN true;
EXCEPTION WHEN raise_exception THEN
	RETURN true;
END $$;
INSERT INTO gone VALUES (21, 21, 'deleted within');
DELETE FROM gone WHERE id <= 4 AND look(id, true);
SELECT * FROM keys();
SELECT fill();
DELETE FROM gone WHERE id <= 4 AND look(id, false);
SELECT * FROM keys();
SELECT rows_of_tombstones();
-- one key, born and dead, within the statement that deletes others
INSERT INTO gone VALUES (21, 21, 'deleted within');
WITH d AS (DELETE FROM gone WHERE id < 20 AND look(id, id % 2 = 0) RETURNING id) SELECT id FROM d ORDER BY id;
SELECT * FROM keys();

-- triggers: one that prevents, one that puts back, one that sees the tombstone of each row
SELECT fill();
CREATE FUNCTION prevent() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN OLD.id = 1 THEN NULL ELSE OLD END; END $$;
CREATE TRIGGER prevent BEFORE DELETE ON gone FOR EACH ROW EXECUTE FUNCTION prevent();
DELETE FROM gone WHERE id <= 2;
DROP TRIGGER prevent ON gone;
SELECT * FROM keys();
CREATE FUNCTION put_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO gone VALUES (OLD.id, OLD.a + 100, 'back'); RETURN NULL; END $$;
CREATE TRIGGER put_back AFTER DELETE ON gone FOR EACH ROW WHEN (OLD.id > 6) EXECUTE FUNCTION put_back();
DELETE FROM gone WHERE id >= 6;
SELECT id, a, b FROM gone WHERE id >= 6 ORDER BY id;
SELECT * FROM keys();
SELECT rows_of_tombstones();
DROP TRIGGER put_back ON gone;
-- none fires where the row is not ferry's to stamp
SET session_replication_role = replica;
DELETE FROM gone WHERE id = 8;
RESET session_replication_role;
SELECT ferry.state('gone', '{"id": 8}') IS NULL AS never_seen;

-- MERGE and partitions, of which one keeps the trigger
CREATE TABLE parts (id int PRIMARY KEY, a int) PARTITION BY RANGE (id);
CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE high (a int, id int NOT NULL);
ALTER TABLE parts ATTACH PARTITION high FOR VALUES FROM (10) TO (100);
SELECT ferry.add_table('parts');
CREATE TRIGGER prevent BEFORE DELETE ON high FOR EACH ROW EXECUTE FUNCTION prevent();
INSERT INTO parts SELECT i, i * 2 FROM generate_series(1, 15) i;
DELETE FROM parts WHERE id BETWEEN 8 AND 11 RETURNING id, a;
DELETE FROM low WHERE id = 7;
MERGE INTO parts USING (VALUES (5), (14)) v (k) ON id = k WHEN MATCHED THEN DELETE;
UPDATE parts SET id = 20 WHERE id = 1;
SELECT * FROM keys('parts');

DROP TABLE parts, child, gone;
DROP FUNCTION keys, rows_of_tombstones, fill, look, prevent, put_back;
