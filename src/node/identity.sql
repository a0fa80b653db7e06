/* --- who we are --- */

CREATE TABLE ferry.local_node (
	singleton	boolean PRIMARY KEY DEFAULT true CHECK (singleton),
	node_id		bigint NOT NULL,
	name		name NOT NULL,
	dsn			text NOT NULL,
	incarnation	int NOT NULL DEFAULT 1,
	system_id	bigint NOT NULL,
	timeline	bigint NOT NULL,
	database	oid NOT NULL,
	groups		uuid[] NOT NULL CHECK (cardinality(groups) > 0),
	created_at	timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ferry.local_node IS 'this database as a node: one row';
COMMENT ON COLUMN ferry.local_node.groups IS 'the group of nodes that this one belongs to, by every id that it has or had before groups were joined; sorted';
SELECT pg_catalog.pg_extension_config_dump('ferry.local_node', '');

CREATE FUNCTION ferry._here(OUT system_id bigint, OUT timeline bigint, OUT database oid, OUT instance bigint)
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_here';
COMMENT ON FUNCTION ferry._here() IS 'internal: the server, its timeline, this database, this run of the server';

CREATE FUNCTION ferry._is_in_doubt() RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_is_in_doubt';
COMMENT ON FUNCTION ferry._is_in_doubt() IS 'internal: was this database restored, promoted or copied, and has not found out what that means?';

CREATE FUNCTION ferry.create_node(name name, dsn text, group_id uuid DEFAULT gen_random_uuid()) RETURNS bigint
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_create_node';
COMMENT ON FUNCTION ferry.create_node(name, text, uuid) IS 'make this database a node; dsn is how peers reach it; group_id: the group of nodes it belongs to (default: a new one, until it is linked); returns the node id';
REVOKE ALL ON FUNCTION ferry.create_node(name, text, uuid) FROM PUBLIC;

/* a grow-only set, so that groups which are joined anywhere know each other everywhere */
CREATE FUNCTION ferry._join_groups(others uuid[]) RETURNS void
	LANGUAGE sql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	UPDATE ferry.local_node SET groups = ARRAY(SELECT DISTINCT g FROM unnest(groups || others) AS g ORDER BY g)
	WHERE NOT groups @> others;
	END;
COMMENT ON FUNCTION ferry._join_groups(uuid[]) IS 'internal: the group here and one known by these ids are the same from now on';
REVOKE ALL ON FUNCTION ferry._join_groups(uuid[]) FROM PUBLIC;

CREATE FUNCTION ferry._require_node() RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_require_node';
COMMENT ON FUNCTION ferry._require_node() IS 'internal: raise unless this database is a node';
CREATE FUNCTION ferry._config_changed() RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_config_changed';
COMMENT ON FUNCTION ferry._config_changed() IS 'internal: wake the supervisor at commit';

CREATE FUNCTION ferry._unmark() RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_unmark';
COMMENT ON FUNCTION ferry._unmark() IS 'internal: tell the launcher that this database is no node any more';
REVOKE ALL ON FUNCTION ferry._unmark() FROM PUBLIC;
