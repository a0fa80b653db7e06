/* --- what nodes hold --- */

/* read by the output plugin: column order is known there */
CREATE TABLE ferry.holding (
	node_id		bigint PRIMARY KEY,
	vector		text NOT NULL,
	at			timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE ferry.holding ALTER COLUMN vector SET STORAGE plain;
COMMENT ON TABLE ferry.holding IS 'what each node is known to hold of every origin: <node id>:<stamp>,...; our own row is what we promise';
SELECT pg_catalog.pg_extension_config_dump('ferry.holding', '');

CREATE TABLE ferry.horizon (
	singleton	boolean PRIMARY KEY DEFAULT true CHECK (singleton),
	vector		text NOT NULL,
	at			timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (user_catalog_table = true);
ALTER TABLE ferry.horizon ALTER COLUMN vector SET STORAGE plain;
COMMENT ON TABLE ferry.horizon IS 'what every member of the group holds: up to there version vectors are pruned and tombstones are removed';
SELECT pg_catalog.pg_extension_config_dump('ferry.horizon', '');

CREATE FUNCTION ferry._vector_entries(vector text, OUT origin bigint, OUT hlc numeric, OUT at timestamptz) RETURNS SETOF record
	LANGUAGE sql STRICT IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	SELECT split_part(e, ':', 1)::bigint, split_part(e, ':', 2)::numeric,
		   timestamptz '2000-01-01 00:00:00+00' + floor(split_part(e, ':', 2)::numeric / 4096)::float8 * interval '1 microsecond'
	FROM unnest(string_to_array(vector, ',')) AS e WHERE e <> '';
	END;
COMMENT ON FUNCTION ferry._vector_entries(text) IS 'internal: a vector as rows, each stamp also as a time';

CREATE FUNCTION ferry.token() RETURNS text
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_token';
COMMENT ON FUNCTION ferry.token() IS 'what this node holds, for ferry.wait_for on another one';

CREATE FUNCTION ferry.wait_for(token text, timeout interval) RETURNS boolean
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'ferry_wait_for';
COMMENT ON FUNCTION ferry.wait_for(text, interval) IS 'wait until what was committed where the token was taken can be read here; false if it takes longer than the timeout';

/* that a known member has left, and why, is told when links greet; a stream tells of those who are new */
CREATE FUNCTION ferry._learn_member(id bigint, name name, dsn text, dropped boolean) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO ferry.member (node_id, name, dsn, is_dropped) VALUES (id, name, nullif(dsn, ''), dropped)
		ON CONFLICT DO NOTHING;
END $$;
COMMENT ON FUNCTION ferry._learn_member(bigint, name, text, boolean) IS 'internal: a node that a peer has told of';
REVOKE ALL ON FUNCTION ferry._learn_member(bigint, name, text, boolean) FROM PUBLIC;
