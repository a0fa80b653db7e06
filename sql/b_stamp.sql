-- every local write is stamped, none can be forged, COPY does not see _ferry
\set SHOW_CONTEXT never
INSERT INTO t VALUES (2, 2, 'two');
INSERT INTO t SELECT 3, 3, 'three';
DO $$ DECLARE r t; BEGIN SELECT * INTO r FROM t WHERE id = 2; r.id := 4; r._ferry := NULL; INSERT INTO t VALUES (r.*); END $$;
INSERT INTO t SELECT * FROM jsonb_populate_record(null::t, '{"id": 5, "a": 5}');
INSERT INTO t SELECT 6, a, b, _ferry FROM t WHERE id = 1;
SELECT count(*), count(_ferry), count(DISTINCT _ferry) FROM t;
SELECT a._ferry OPERATOR(ferry.=) b._ferry AS forged FROM t a, t b WHERE a.id = 1 AND b.id = 6;
UPDATE t SET _ferry = (SELECT _ferry FROM t WHERE id = 1) WHERE id = 2;
SELECT ferry.compare_versions(a._ferry, b._ferry) FROM t a, t b WHERE a.id = 1 AND b.id = 2;
COPY t FROM stdin;
7	7	seven
\.
COPY (SELECT id FROM t ORDER BY id) TO stdout;
COPY t TO stdout;
MERGE INTO t USING (VALUES (7), (8)) AS v(id) ON t.id = v.id WHEN MATCHED THEN UPDATE SET a = 70 WHEN NOT MATCHED THEN INSERT VALUES (v.id, 8, 'eight');
INSERT INTO t VALUES (8, 0, '') ON CONFLICT (id) DO UPDATE SET a = 80;
SELECT id, a, (ferry.state('t', jsonb_build_object('id', id))->'columns') ? 'b' AS b_is_older FROM t WHERE id > 6 ORDER BY id;
DELETE FROM t WHERE id = 8;
SELECT ferry.state('t', '{"id": 8}')->'alive' AS alive;
INSERT INTO t VALUES (8, 8, 'again');
SELECT ferry.state('t', '{"id": 8}')->'alive' AS alive;
UPDATE t SET id = 9 WHERE id = 8;
SELECT ferry.state('t', '{"id": 8}')->'alive' AS old, ferry.state('t', '{"id": 9}')->'alive' AS new;
TRUNCATE t;
SELECT ferry.state('t', '{"id": 9}')->'alive' AS alive, (SELECT count(*) FROM t);

-- a user's BEFORE trigger changes a column: what counts is the row as it is stored
CREATE TABLE touched (id int PRIMARY KEY, a int, b int, updated_at int DEFAULT 0);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.updated_at := OLD.updated_at + 1; RETURN NEW; END';
CREATE TRIGGER zz_touch BEFORE UPDATE ON touched FOR EACH ROW EXECUTE FUNCTION touch();
SELECT ferry.add_table('touched');
INSERT INTO touched VALUES (1, 1, 1);
UPDATE touched SET a = 2;
SELECT updated_at, (SELECT array_agg(k ORDER BY k) FROM jsonb_object_keys(ferry.state('touched', '{"id": 1}')->'columns') k) AS older FROM touched;
-- a column that is added later stands behind _ferry: a positional INSERT meets it and cannot forge it
ALTER TABLE touched ADD COLUMN c int;
INSERT INTO touched VALUES (2, 1, 1, 0, 5);
INSERT INTO touched VALUES (2, 1, 1, 0, NULL, 5);
INSERT INTO touched (id, c) VALUES (3, 6);
SELECT id, c, _ferry IS NOT NULL AS stamped FROM touched ORDER BY id;
-- until the table is tidied, which stamps nothing anew
CREATE TEMP TABLE stamps AS SELECT id, _ferry AS was FROM touched;
SELECT ferry.tidy_table('touched');
SELECT ferry.tidy_table('touched');
SELECT bool_and(_ferry OPERATOR(ferry.=) was) AS same, count(*) FROM touched JOIN stamps USING (id);
INSERT INTO touched VALUES (4, 1, 1, 0, 7);
SELECT id, c, _ferry IS NOT NULL AS stamped FROM touched WHERE id = 4;
DELETE FROM touched WHERE id = 4;
SELECT attname FROM pg_attribute WHERE attrelid = 'touched'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;
SELECT ferry.tidy_table('stamps');
-- an updatable view, a subtransaction that is rolled back
CREATE VIEW seen AS SELECT id, a FROM touched WHERE id < 3;
UPDATE seen SET a = 9 WHERE id = 2;
SELECT ferry.compare_versions(x._ferry, y._ferry) FROM touched x, touched y WHERE x.id = 1 AND y.id = 2;
BEGIN;
DELETE FROM touched WHERE id = 3;
SAVEPOINT s;
DELETE FROM touched WHERE id = 2;
ROLLBACK TO s;
COMMIT;
SELECT id, ferry.state('touched', jsonb_build_object('id', id))->'alive' AS alive FROM generate_series(1, 3) id;
SELECT DISTINCT _ferry IS NULL FROM touched GROUP BY _ferry ORDER BY 1;
SELECT ferry.drop_table('touched');
DROP VIEW seen;
DROP TABLE touched;
