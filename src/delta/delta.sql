/* --- states in bulk --- */

CREATE FUNCTION ferry._delta_frames(tables text[] DEFAULT NULL) RETURNS SETOF bytea
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_delta_frames';
COMMENT ON FUNCTION ferry._delta_frames(text[]) IS 'internal: the states of these tables ({schema, name, ...}), of all if null, as frames';
REVOKE ALL ON FUNCTION ferry._delta_frames(text[]) FROM PUBLIC;
