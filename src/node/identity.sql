/* --- who we are --- */

CREATE TABLE ferry.local_node (
	singleton	boolean PRIMARY KEY DEFAULT true CHECK (singleton),
	node_id		bigint NOT NULL,
	name		name NOT NULL,
	dsn			text NOT NULL,
	incarnation	int NOT NULL DEFAULT 1,
	created_at	timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ferry.local_node IS 'this database as a node: one row';
SELECT pg_catalog.pg_extension_config_dump('ferry.local_node', '');

CREATE TABLE ferry.member (
	node_id		bigint PRIMARY KEY,
	name		name NOT NULL UNIQUE,
	dsn			text,
	is_dropped	boolean NOT NULL DEFAULT false,
	first_seen	timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ferry.member IS 'every node that this one knows, itself included';
SELECT pg_catalog.pg_extension_config_dump('ferry.member', '');

CREATE FUNCTION ferry.create_node(name name, dsn text) RETURNS bigint
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_create_node';
COMMENT ON FUNCTION ferry.create_node(name, text) IS 'make this database a node; dsn is how peers reach it; returns the node id';
REVOKE ALL ON FUNCTION ferry.create_node(name, text) FROM PUBLIC;

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
