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

CREATE FUNCTION ferry._raise_held(since text, token text) RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_raise_held';
COMMENT ON FUNCTION ferry._raise_held(text, text) IS 'internal: what a node that holds since lacks of token is merged here; false if since is not held here';
REVOKE ALL ON FUNCTION ferry._raise_held(text, text) FROM PUBLIC;

CREATE FUNCTION ferry.note_merged(node name, node_id bigint, since text, token text) RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
	held boolean;
BEGIN
	PERFORM ferry._require_node();
	IF node IS NULL OR node_id IS NULL OR token IS NULL THEN
		RAISE EXCEPTION 'node, node id and token must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
	IF node_id NOT BETWEEN 1 AND 4294967295 THEN
		RAISE EXCEPTION 'invalid node id: %', node_id USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF EXISTS (SELECT FROM ferry.nodes n WHERE n.is_local AND (n.node_id = note_merged.node_id OR n.name = node)) THEN
		RAISE EXCEPTION 'node "%" is this node', node USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Name the node whose ferry.changes() have been merged here.';
	END IF;
	held := ferry._raise_held(since, token);
	PERFORM ferry._merge_members(jsonb_build_array(jsonb_build_object('node_id', node_id, 'name', node)));
	/* that node holds what its token says, of every origin the most that was ever told */
	INSERT INTO ferry.holding AS h (node_id, vector) VALUES (node_id, regexp_replace(token, ',?\+.*', ''))
		ON CONFLICT ON CONSTRAINT holding_pkey DO UPDATE SET at = excluded.at,
			vector = (SELECT string_agg(e.origin || ':' || e.hlc, ',' ORDER BY e.origin)
					  FROM (SELECT v.origin, max(v.hlc) AS hlc
							FROM (SELECT * FROM ferry._vector_entries(h.vector) UNION ALL SELECT * FROM ferry._vector_entries(excluded.vector)) v
							GROUP BY 1) e);
	RETURN held;
END $$;
COMMENT ON FUNCTION ferry.note_merged(name, bigint, text, text) IS 'all of ferry.changes(since), which a node gave when its token was this one, has been merged here; true if this node holds what the token says from now on, false if it lacked some of since';
REVOKE ALL ON FUNCTION ferry.note_merged(name, bigint, text, text) FROM PUBLIC;
