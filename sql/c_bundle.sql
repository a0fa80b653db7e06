-- bundles: what they take and give, and what they refuse
\set SHOW_CONTEXT never
\set VERBOSITY default
CREATE TABLE carried (id int PRIMARY KEY, v text);
SELECT ferry.add_table('carried');
INSERT INTO carried SELECT i, 'v' || i FROM generate_series(1, 10) i;
DELETE FROM carried WHERE id = 10;
-- parts: a header, blocks, an end
SELECT chr(get_byte(part, 5)) AS type, count(*) FROM ferry.bundle() AS part GROUP BY 1 ORDER BY 1;
SELECT count(*) > 0 AS some FROM (SELECT ferry.bundle() LIMIT 1) s;
SELECT ferry.bundle('nonsense');
SELECT ferry.known_of('nobody') IS NULL AS unknown;
-- through the intake, into the node that it came from: nothing is new
SELECT ferry.import_intake();
CREATE TEMP TABLE laptop AS SELECT part FROM ferry.bundle() AS part;
INSERT INTO ferry.bundle_intake SELECT part FROM laptop;
INSERT INTO ferry.bundle_intake SELECT part FROM laptop LIMIT 1;
SELECT parts = (SELECT count(*) FROM laptop) AS all_parts FROM ferry.intake();
SELECT source, begins, reached, applied, merged, ignored = states AS all_ignored, conflicts, quarantined, signed_by FROM ferry.import_intake();
SELECT count(*) FROM ferry.intake();
SELECT source, blocks = blocks_done AS whole, finished_at IS NOT NULL AS finished FROM ferry.bundles;
-- a bundle that is not whole
INSERT INTO ferry.bundle_intake SELECT part FROM laptop WHERE chr(get_byte(part, 5)) <> 'E';
SELECT ferry.import_intake();
INSERT INTO ferry.bundle_intake SELECT set_byte(part, length(part) - 1, 255 - get_byte(part, length(part) - 1)) FROM laptop WHERE chr(get_byte(part, 5)) = 'E';
SELECT ferry.import_intake();
SELECT count(ferry.discard_intake(bundle_id)) FROM ferry.intake();
INSERT INTO ferry.bundle_intake VALUES ('\x00');
INSERT INTO ferry.bundle_intake VALUES (decode(repeat('00', 40), 'hex'));
INSERT INTO ferry.bundle_intake SELECT set_byte(part, 4, 2) FROM laptop LIMIT 1;
-- two at once must be named
INSERT INTO ferry.bundle_intake SELECT ferry.bundle();
INSERT INTO ferry.bundle_intake SELECT part FROM laptop;
SELECT ferry.import_intake();
SELECT count(ferry.discard_intake(bundle_id)) FROM ferry.intake();
SELECT ferry.import_intake('00000000-0000-0000-0000-000000000000');
-- files
SELECT ferry.export_bundle(NULL);
SELECT ferry.export_bundle('here');
SELECT ferry.import_bundle('here');
SELECT ferry.export_bundle('/nowhere/at/all');
SELECT ferry.import_bundle('/nowhere/at/all');
SELECT ferry.import_bundle('/tmp');
SELECT ferry.export_bundle('/etc/passwd');
SELECT ferry.import_bundle('/etc/passwd');
BEGIN;
SELECT ferry.import_bundle('/etc/passwd');
ROLLBACK;
-- keys are files that nobody else may read
SET ferry.bundle_key_file = '/etc/passwd';
SELECT ferry.bundle();
SET ferry.bundle_key_file = '/nowhere';
SELECT ferry.bundle();
RESET ferry.bundle_key_file;
SET ferry.bundle_cipher = 'rot13';
SET ferry.bundle_trusted_keys_dir = '/nowhere';
INSERT INTO ferry.bundle_intake SELECT part FROM laptop;
SELECT ferry.import_intake();
RESET ferry.bundle_trusted_keys_dir;
-- whoever carries needs the right to, and what he could do by hand
CREATE ROLE ferry_courier;
GRANT USAGE ON SCHEMA ferry TO ferry_courier;
SET ROLE ferry_courier;
SELECT ferry.bundle();
SELECT ferry.export_bundle('/tmp/x');
SELECT ferry.import_bundle('/tmp/x');
INSERT INTO ferry.bundle_intake VALUES ('');
SELECT count(*) AS visible FROM pg_settings WHERE name = 'ferry.bundle_key_file';
SET ferry.bundle_key_file = 'x';
RESET ROLE;
GRANT EXECUTE ON FUNCTION ferry.bundle, ferry.export_bundle, ferry.import_bundle, ferry.import_intake TO ferry_courier;
GRANT INSERT ON ferry.bundle_intake TO ferry_courier;
SET ROLE ferry_courier;
SELECT ferry.bundle();
SELECT ferry.export_bundle('/tmp/x');
SELECT ferry.import_bundle('/tmp/x');
SELECT ferry.import_intake();
RESET ROLE;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO ferry_courier;
SET ROLE ferry_courier;
SELECT count(*) > 2 AS carried FROM ferry.bundle();
SELECT ferry.import_intake();
RESET ROLE;
ALTER TABLE carried ENABLE ROW LEVEL SECURITY;
SET ROLE ferry_courier;
SELECT ferry.bundle();
RESET ROLE;
DROP OWNED BY ferry_courier;
DROP ROLE ferry_courier;
SELECT ferry.drop_table('carried');
DROP TABLE carried;
