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
