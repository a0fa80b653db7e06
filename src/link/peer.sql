/* --- peers --- */

CREATE TABLE ferry.peer (
	name		name PRIMARY KEY,
	node_id		bigint NOT NULL UNIQUE,
	dsn			text NOT NULL,
	forward		text NOT NULL CHECK (forward IN ('local', 'all')),
	is_paused	boolean NOT NULL DEFAULT false,
	by_hand		boolean NOT NULL DEFAULT true,
	copy_via	name,
	slot_lsn	pg_lsn,
	via_lsn		pg_lsn,
	formers		int NOT NULL DEFAULT -1,
	runs		text,
	created_at	timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ferry.peer IS 'the nodes that this one pulls from; see the view ferry.peers';
COMMENT ON COLUMN ferry.peer.by_hand IS 'made by ferry.add_peer; otherwise by the group, whose member this node is';
COMMENT ON COLUMN ferry.peer.copy_via IS 'the peer whose copy will bring what this one wrote before slot_lsn; null: copy from itself';
COMMENT ON COLUMN ferry.peer.slot_lsn IS 'where its slot for us begins';
COMMENT ON COLUMN ferry.peer.formers IS 'all its tables are here and were copied after it had been told of so many former members';
COMMENT ON COLUMN ferry.peer.runs IS 'the starts of its server, as it told us before we took anything of its last one (node/runs.c)';
COMMENT ON COLUMN ferry.peer.via_lsn IS 'the slot_lsn of which copy_via held all when its copy began';
SELECT pg_catalog.pg_extension_config_dump('ferry.peer', '');

CREATE TABLE ferry.copied_table (
	peer		name NOT NULL,
	relid		regclass NOT NULL,
	formers		int NOT NULL DEFAULT 0,
	row_count	bigint,
	byte_count	bigint,
	started_at	timestamptz,
	copied_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	brought		text,
	PRIMARY KEY (peer, relid)
);
COMMENT ON TABLE ferry.copied_table IS 'tables of which a peer''s states were copied; the others are, as soon as both sides have them';
COMMENT ON COLUMN ferry.copied_table.formers IS 'of how many former members the peer had been told before: if there are more, what it holds of their writes is still to be copied';

COMMENT ON COLUMN ferry.copied_table.brought IS 'what the peer held when its states were read: what this node holds of these tables since; null if another''s copy brought them';

/*
 * Members that have left are never forgotten, so their number says which of them
 * a peer was told of.
 */
CREATE FUNCTION ferry._formers() RETURNS int
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC SELECT count(*)::int FROM ferry.member m WHERE m.is_dropped; END;
COMMENT ON FUNCTION ferry._formers() IS 'internal: how many members have left';

CREATE VIEW ferry.peers AS
	SELECT p.name, p.node_id, p.dsn, p.forward, p.is_paused, p.by_hand, p.created_at FROM ferry.peer p;
COMMENT ON VIEW ferry.peers IS 'the nodes that this one pulls from';

CREATE FUNCTION ferry._hello(protocol int, caller_id bigint, caller name,
							 OUT node_id bigint, OUT name name, OUT now_us bigint, OUT encoding text, OUT groups text)
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'ferry_hello';

COMMENT ON FUNCTION ferry._hello(int, bigint, name) IS 'internal: what this node is, for a peer that connects';
REVOKE ALL ON FUNCTION ferry._hello(int, bigint, name) FROM PUBLIC;

CREATE FUNCTION ferry._registered(names text[], OUT relid oid, OUT schema text, OUT name text) RETURNS SETOF record
	LANGUAGE sql STRICT STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	SELECT r.relid, s.name, t.name
	FROM unnest(names) WITH ORDINALITY AS s(name, i)
		JOIN unnest(names) WITH ORDINALITY AS t(name, i) ON t.i = s.i + 1 AND s.i % 2 = 1
		JOIN pg_namespace n ON n.nspname = s.name
		JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
		JOIN ferry.registered_table r ON r.relid = c.oid
	ORDER BY s.i;
	END;
COMMENT ON FUNCTION ferry._registered(text[]) IS 'internal: those of {schema, name, ...} that are under ferry here';

CREATE FUNCTION ferry._settle_new_tables() RETURNS SETOF regclass
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	UPDATE ferry.registered_table t SET is_new = false
	WHERE t.is_new
	  AND NOT EXISTS (SELECT FROM ferry.peer p WHERE NOT EXISTS (
			SELECT FROM ferry.copied_table c WHERE c.peer = p.name AND c.relid = t.relid))
	  AND (EXISTS (SELECT FROM ferry.peer)
		   OR NOT EXISTS (SELECT FROM ferry.holding h JOIN ferry.local_node n ON n.node_id = h.node_id
						  WHERE h.vector NOT IN ('', split_part(h.vector, ':', 1) || ':' || split_part(h.vector, ':', 2))
							 OR h.vector NOT LIKE n.node_id || ':%'))
	RETURNING t.relid;
	END;
COMMENT ON FUNCTION ferry._settle_new_tables() IS 'internal: tables that have been copied from every peer are new no more';
REVOKE ALL ON FUNCTION ferry._settle_new_tables() FROM PUBLIC;

CREATE FUNCTION ferry._all_tables() RETURNS text[]
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	SELECT coalesce(array_agg(x ORDER BY r.relid, i), '{}')
	FROM ferry.registered_table r
		JOIN pg_class c ON c.oid = r.relid
		JOIN pg_namespace n ON n.oid = c.relnamespace
		CROSS JOIN LATERAL (VALUES (1, n.nspname::text), (2, c.relname::text)) AS v(i, x);
	END;
COMMENT ON FUNCTION ferry._all_tables() IS 'internal: the tables under ferry here: {schema, name, ...}';
REVOKE ALL ON FUNCTION ferry._all_tables() FROM PUBLIC;

CREATE FUNCTION ferry._has_copied(peer name, names text[]) RETURNS boolean
	LANGUAGE sql STRICT STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	SELECT count(*) * 2 = cardinality(names)
	FROM ferry._registered(names) r
		JOIN ferry.copied_table c ON c.relid = r.relid AND c.peer = _has_copied.peer;
	END;
COMMENT ON FUNCTION ferry._has_copied(name, text[]) IS 'internal: have all of {schema, name, ...} been copied from this peer?';

CREATE FUNCTION ferry._probe_peer(dsn text, OUT node_id bigint, OUT name name)
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_probe_peer';
COMMENT ON FUNCTION ferry._probe_peer(text) IS 'internal: connect to a node and ask who it is';
REVOKE ALL ON FUNCTION ferry._probe_peer(text) FROM PUBLIC;

CREATE FUNCTION ferry._end_link(name name) RETURNS void
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_end_link';
COMMENT ON FUNCTION ferry._end_link(name) IS 'internal: wait until a link''s worker has ended, and let none start for a while';
REVOKE ALL ON FUNCTION ferry._end_link(name) FROM PUBLIC;

CREATE FUNCTION ferry._forget_peer(name name, node_id bigint, dsn text) RETURNS void
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_forget_peer';
COMMENT ON FUNCTION ferry._forget_peer(name, bigint, text) IS 'internal: end a link, drop its slot and origin';
REVOKE ALL ON FUNCTION ferry._forget_peer(name, bigint, text) FROM PUBLIC;

CREATE FUNCTION ferry.add_peer(name name, dsn text, forward text DEFAULT 'local') RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	probe	record;
BEGIN
	PERFORM ferry._require_node();
	IF add_peer.forward NOT IN ('local', 'all') THEN
		RAISE EXCEPTION 'unrecognized value of forward: "%"', add_peer.forward USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Use "local" or "all".';
	END IF;
	IF EXISTS (SELECT FROM ferry.peer p WHERE p.name = add_peer.name) THEN
		RAISE EXCEPTION 'peer "%" exists already', add_peer.name USING ERRCODE = 'duplicate_object';
	END IF;
	SELECT * INTO probe FROM ferry._probe_peer(add_peer.dsn);
	IF EXISTS (SELECT FROM ferry.peer p WHERE p.node_id = probe.node_id) THEN
		RAISE EXCEPTION 'node "%" is a peer already', probe.name USING ERRCODE = 'duplicate_object';
	END IF;
	IF EXISTS (SELECT FROM ferry.member m WHERE m.name = probe.name AND m.node_id <> probe.node_id AND NOT m.is_dropped) THEN
		RAISE EXCEPTION 'another node has the name "%" already', probe.name USING ERRCODE = 'duplicate_object',
			HINT = 'Node names must be unique.';
	END IF;
	IF EXISTS (SELECT FROM ferry.member m WHERE m.node_id = probe.node_id AND m.is_dropped) THEN
		RAISE EXCEPTION 'node "%" was dropped from the group', probe.name USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'It can come back as a new node: DROP EXTENSION ferry, CREATE EXTENSION ferry and ferry.create_node there.';
	END IF;
	INSERT INTO ferry.member (node_id, name, dsn) VALUES (probe.node_id, probe.name, add_peer.dsn)
		ON CONFLICT (node_id) DO NOTHING;
	INSERT INTO ferry.peer (name, node_id, dsn, forward)
		VALUES (add_peer.name, probe.node_id, add_peer.dsn, add_peer.forward);
	PERFORM ferry._config_changed();
END $$;
COMMENT ON FUNCTION ferry.add_peer(name, text, text) IS 'pull from a node: its own writes (forward local) or all that it holds (all)';
REVOKE ALL ON FUNCTION ferry.add_peer(name, text, text) FROM PUBLIC;

CREATE FUNCTION ferry._remove_peer(name name) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	p	ferry.peer;
BEGIN
	DELETE FROM ferry.peer WHERE peer.name = _remove_peer.name RETURNING * INTO p;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'peer "%" does not exist', _remove_peer.name USING ERRCODE = 'undefined_object';
	END IF;
	DELETE FROM ferry.copied_table WHERE peer = _remove_peer.name;
	PERFORM ferry._forget_peer(p.name, p.node_id, p.dsn);
	PERFORM ferry._config_changed();
END $$;
COMMENT ON FUNCTION ferry._remove_peer(name) IS 'internal: end a link for good, here and at the peer';
REVOKE ALL ON FUNCTION ferry._remove_peer(name) FROM PUBLIC;

CREATE FUNCTION ferry.drop_peer(name name) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF ferry._is_mesh_peer(drop_peer.name) THEN
		RAISE EXCEPTION 'peer "%" is a member of the group that this node has joined', drop_peer.name
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Use ferry.pause_peer to stop pulling from it, ferry.drop_node if it leaves for good.';
	END IF;
	PERFORM ferry._remove_peer(drop_peer.name);
END $$;
COMMENT ON FUNCTION ferry.drop_peer(name) IS 'stop pulling from a node, and drop the slot that it keeps for us';
REVOKE ALL ON FUNCTION ferry.drop_peer(name) FROM PUBLIC;

CREATE FUNCTION ferry._pause_peer(name name, paused boolean) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE ferry.peer p SET is_paused = paused WHERE p.name = _pause_peer.name;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'peer "%" does not exist', name USING ERRCODE = 'undefined_object';
	END IF;
	PERFORM ferry._config_changed();
END $$;
COMMENT ON FUNCTION ferry._pause_peer(name, boolean) IS 'internal: pause or resume a peer';
REVOKE ALL ON FUNCTION ferry._pause_peer(name, boolean) FROM PUBLIC;

CREATE FUNCTION ferry.pause_peer(name name) RETURNS void
	LANGUAGE sql STRICT VOLATILE PARALLEL UNSAFE
	BEGIN ATOMIC SELECT ferry._pause_peer(name, true); END;
COMMENT ON FUNCTION ferry.pause_peer(name) IS 'stop pulling from a peer for a while: it keeps what we miss';
REVOKE ALL ON FUNCTION ferry.pause_peer(name) FROM PUBLIC;

CREATE FUNCTION ferry.resume_peer(name name) RETURNS void
	LANGUAGE sql STRICT VOLATILE PARALLEL UNSAFE
	BEGIN ATOMIC SELECT ferry._pause_peer(name, false); END;
COMMENT ON FUNCTION ferry.resume_peer(name) IS 'pull from a paused peer again';
REVOKE ALL ON FUNCTION ferry.resume_peer(name) FROM PUBLIC;

CREATE FUNCTION ferry.wait_for_peers(timeout interval) RETURNS boolean
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'ferry_wait_for_peers';
COMMENT ON FUNCTION ferry.wait_for_peers(interval) IS 'wait until every running peer holds all that was committed here before the call';

CREATE FUNCTION ferry._links(OUT peer name, OUT state text, OUT pid int,
		OUT received_lsn pg_lsn, OUT applied_lsn pg_lsn, OUT flushed_lsn pg_lsn, OUT peer_lsn pg_lsn,
		OUT last_message timestamptz, OUT last_commit_time timestamptz, OUT caught_up_at timestamptz,
		OUT txns bigint, OUT "rows" bigint, OUT conflicts bigint, OUT quarantined bigint,
		OUT txns_per_s float8, OUT rows_per_s float8, OUT failures int, OUT next_retry timestamptz,
		OUT error text, OUT error_at timestamptz,
		OUT clock_offset_us bigint, OUT clock_rtt_us bigint, OUT clock_at timestamptz)
	RETURNS SETOF record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_links';
COMMENT ON FUNCTION ferry._links() IS 'internal: links as shared memory has them';

CREATE FUNCTION ferry._copies(OUT peer name, OUT pid int, OUT relation oid, OUT since timestamptz,
		OUT row_count bigint, OUT byte_count bigint, OUT rows_there bigint)
	RETURNS SETOF record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_copies';
COMMENT ON FUNCTION ferry._copies() IS 'internal: the tables that are being copied now, as shared memory has them';

/* called before DROP EXTENSION */
CREATE FUNCTION ferry._leave() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name	name;
	rel		regclass;
BEGIN
	FOR name IN SELECT p.name FROM ferry.peer p LOOP
		PERFORM ferry._remove_peer(name);
	END LOOP;
	FOR rel IN SELECT r.relid FROM ferry.registered_table r LOOP
		PERFORM ferry.drop_table(rel);
	END LOOP;
	DELETE FROM ferry.local_node;
	PERFORM ferry._unmark();
END $$;
COMMENT ON FUNCTION ferry._leave() IS 'internal: take this node out of service and leave the tables as they were';
REVOKE ALL ON FUNCTION ferry._leave() FROM PUBLIC;

/* a table that is dropped takes its tombstones with it */
CREATE FUNCTION ferry._on_drop() RETURNS event_trigger
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r	record;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE object_type = 'table')
	   OR to_regclass('ferry.registered_table') IS NULL THEN
		RETURN;
	END IF;
	FOR r IN DELETE FROM ferry.registered_table t
			 WHERE t.relid IN (SELECT objid FROM pg_event_trigger_dropped_objects() WHERE object_type = 'table')
			 RETURNING t.relid::oid AS relid, t.tombstones LOOP
		DELETE FROM ferry.copied_table c WHERE c.relid = r.relid;
		DELETE FROM ferry.range_tombstone t WHERE t.relid = r.relid;
		EXECUTE format('DROP TABLE %s', r.tombstones);
	END LOOP;
END $$;
COMMENT ON FUNCTION ferry._on_drop() IS 'internal: a dropped table leaves ferry';
REVOKE ALL ON FUNCTION ferry._on_drop() FROM PUBLIC;
CREATE EVENT TRIGGER ferry_on_drop ON sql_drop EXECUTE FUNCTION ferry._on_drop();
