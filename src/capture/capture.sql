/* --- stamping --- */

CREATE FUNCTION ferry._stamp() RETURNS ferry.version
	LANGUAGE C STABLE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_stamp';
COMMENT ON FUNCTION ferry._stamp() IS 'internal: a fresh version, the default of column _ferry';

CREATE FUNCTION ferry._row_trigger() RETURNS trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_row_trigger';
COMMENT ON FUNCTION ferry._row_trigger() IS 'internal: stamps every local write';

CREATE FUNCTION ferry._truncate_trigger() RETURNS trigger
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_truncate_trigger';
COMMENT ON FUNCTION ferry._truncate_trigger() IS 'internal: TRUNCATE leaves one tombstone for all rows';
