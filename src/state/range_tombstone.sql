/* --- what TRUNCATE leaves behind; column order is known to range_tombstone.c --- */

CREATE TABLE ferry.range_tombstone (
	relid		oid NOT NULL,
	version		ferry.version NOT NULL,
	at			timestamptz NOT NULL
) WITH (user_catalog_table = true);
COMMENT ON TABLE ferry.range_tombstone IS 'internal: what TRUNCATE covered: states of the table that this version includes are dead';
SELECT pg_catalog.pg_extension_config_dump('ferry.range_tombstone', '');
