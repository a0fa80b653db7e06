/* --- states in bulk --- */

CREATE FUNCTION ferry._delta_frames(tables text[] DEFAULT NULL, since text DEFAULT NULL) RETURNS SETOF bytea
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_delta_frames';
COMMENT ON FUNCTION ferry._delta_frames(text[], text) IS 'internal: the states of these tables ({schema, name, ...}; all if null) that the vector since does not include (all if null), as frames';
REVOKE ALL ON FUNCTION ferry._delta_frames(text[], text) FROM PUBLIC;

CREATE FUNCTION ferry.changes(since text DEFAULT NULL, OUT rel regclass, OUT state jsonb) RETURNS SETOF record
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_changes';
COMMENT ON FUNCTION ferry.changes(text) IS 'the states of all rows, alive and dead, that hold a write which the token since does not include (all if null), as ferry.merge takes them';
