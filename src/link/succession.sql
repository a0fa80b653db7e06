/* --- going on under another id --- */

CREATE FUNCTION ferry._new_node_id() RETURNS bigint
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_new_node_id';
COMMENT ON FUNCTION ferry._new_node_id() IS 'internal: an id for a new node or incarnation';
REVOKE ALL ON FUNCTION ferry._new_node_id() FROM PUBLIC;

CREATE FUNCTION ferry._incarnation_settled() RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_incarnation_settled';
COMMENT ON FUNCTION ferry._incarnation_settled() IS 'internal: it is certain who this node is; in a transaction after the one that wrote it';
REVOKE ALL ON FUNCTION ferry._incarnation_settled() FROM PUBLIC;

CREATE FUNCTION ferry._check_sight(lsn pg_lsn, hlc bigint, runs text) RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_check_sight';
COMMENT ON FUNCTION ferry._check_sight(pg_lsn, bigint, text) IS 'internal: what a peer has seen of us; false if this node cannot have written it';
REVOKE ALL ON FUNCTION ferry._check_sight(pg_lsn, bigint, text) FROM PUBLIC;

CREATE FUNCTION ferry._went_back(OUT since bigint, OUT held bigint, OUT met boolean)
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_went_back';
COMMENT ON FUNCTION ferry._went_back() IS 'internal: null unless a peer has shown that this database went back in time; since which own stamp, and what it held before';
REVOKE ALL ON FUNCTION ferry._went_back() FROM PUBLIC;

CREATE FUNCTION ferry._runs() RETURNS text
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_runs';
COMMENT ON FUNCTION ferry._runs() IS 'internal: the starts of this server, for peers to remember';
REVOKE ALL ON FUNCTION ferry._runs() FROM PUBLIC;

/* own writes that are to be told under another id (apply/rename.c): until it is done, nobody is told anything */
CREATE TABLE ferry.renaming (
	old_id		bigint NOT NULL,
	new_id		bigint NOT NULL,
	since		bigint NOT NULL,
	held		bigint NOT NULL,
	noted		boolean NOT NULL
);
COMMENT ON TABLE ferry.renaming IS 'writes since a stamp that this node made as its former incarnation, and that are to become those of the present one';
COMMENT ON COLUMN ferry.renaming.noted IS 'ferry.counter_note has all that counters held when they were first written since';

/* what counters held when this node wrote them first in a run in which it has met no peer yet */
CREATE TABLE ferry.counter_note (
	node_id		bigint NOT NULL,
	since		bigint NOT NULL,
	relid		regclass NOT NULL,
	key			jsonb NOT NULL,
	col			int NOT NULL,
	share		bytea NOT NULL
);
CREATE INDEX ON ferry.counter_note USING hash (key);
COMMENT ON TABLE ferry.counter_note IS 'internal: this node''s contributions to counters before its first write since a start, until it meets a peer (state/counter_note.c)';

CREATE FUNCTION ferry._meet() RETURNS boolean
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_meet';
COMMENT ON FUNCTION ferry._meet() IS 'internal: this node has met a peer that knows of nothing that it has lost; true the first time since the start';
REVOKE ALL ON FUNCTION ferry._meet() FROM PUBLIC;

CREATE FUNCTION ferry._note_meeting() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF ferry._meet() THEN
		DELETE FROM ferry.counter_note;
	END IF;
END $$;
COMMENT ON FUNCTION ferry._note_meeting() IS 'internal: before anything is told to a peer or taken from it';
REVOKE ALL ON FUNCTION ferry._note_meeting() FROM PUBLIC;

CREATE FUNCTION ferry._require_renamed() RETURNS void
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_require_renamed';
COMMENT ON FUNCTION ferry._require_renamed() IS 'internal: an error while own writes wait to be told under the new id';
REVOKE ALL ON FUNCTION ferry._require_renamed() FROM PUBLIC;

/*
 * What we have seen of another node: its log, its writes (also where only others hold
 * them), its runs.
 */
CREATE FUNCTION ferry._sight_of(node_id bigint) RETURNS jsonb
	LANGUAGE sql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	SELECT jsonb_build_object('node_id', _sight_of.node_id,
		'lsn', (SELECT pg_replication_origin_progress(o.roname, false) FROM pg_replication_origin o
				WHERE o.roname = format('ferry_%s_%s', lpad(to_hex(n.node_id), 8, '0'), lpad(to_hex(_sight_of.node_id), 8, '0'))),
		'hlc', (SELECT max(e.hlc) FROM ferry.holding h CROSS JOIN LATERAL ferry._vector_entries(h.vector) e WHERE e.origin = _sight_of.node_id),
		'runs', (SELECT p.runs FROM ferry.peer p WHERE p.node_id = _sight_of.node_id),
		'horizon', (SELECT h.vector FROM ferry.horizon h))
	FROM ferry.local_node n;
	END;
COMMENT ON FUNCTION ferry._sight_of(bigint) IS 'internal: what we have seen of another node';
REVOKE ALL ON FUNCTION ferry._sight_of(bigint) FROM PUBLIC;

/*
 * A database that went back in time may hold rows whose deletions every member had
 * and has cleared away since: nobody could tell it that they are dead.  That is so if
 * a peer's horizon is beyond what this database held at the time to which it went
 * back.  Our own former writes are left out where that is not known.
 */
CREATE FUNCTION ferry._require_recent(horizon text) RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	me	ferry.local_node;
BEGIN
	SELECT * INTO me FROM ferry.local_node;
	IF me.incarnation > 1 AND EXISTS (
		SELECT FROM ferry._vector_entries(_require_recent.horizon) e
		LEFT JOIN (ferry.holding h CROSS JOIN LATERAL ferry._vector_entries(h.vector) o) ON h.node_id = me.node_id AND o.origin = e.origin
		WHERE e.hlc > coalesce(o.hlc, 0)
			AND NOT (o.hlc IS NULL AND EXISTS (SELECT FROM ferry.member m WHERE m.node_id = e.origin AND m.went_back))) THEN
		RAISE EXCEPTION 'node "%" was restored from a backup that is older than what its peers have cleared away', me.name
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = 'It may hold rows that were deleted so long ago that nobody knows of it any more.',
				HINT = 'Call ferry.drop_node on a peer, and ferry.join on an empty database. Backups are good for as long as ferry.prune_after.';
	END IF;
END $$;
COMMENT ON FUNCTION ferry._require_recent(text) IS 'internal: an error if this database went back beyond what is known of deletions';
REVOKE ALL ON FUNCTION ferry._require_recent(text) FROM PUBLIC;

/*
 * The identity changes, what is held does not: what we hold of the old id is what
 * was promised on record, which the log has behind all that it promises; but where we
 * have given stamps since then without knowing that some were lost it is what we held
 * before (node/runs.c), if that is known.
 */
CREATE FUNCTION ferry._take_identity(id bigint, name name, dsn text, went_back boolean, held bigint) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	old	bigint := (SELECT n.node_id FROM ferry.local_node n);
	r	record;
BEGIN
	UPDATE ferry.local_node n SET node_id = id, name = _take_identity.name, dsn = _take_identity.dsn,
		incarnation = n.incarnation + 1, system_id = h.system_id, timeline = h.timeline, database = h.database
		FROM ferry._here() h;
	INSERT INTO ferry.holding (node_id, vector)
		SELECT id, CASE WHEN went_back THEN (
				SELECT coalesce(string_agg(format('%s:%s', e.origin, CASE WHEN e.origin = old THEN held ELSE e.hlc END), ',' ORDER BY e.origin), '')
				FROM ferry._vector_entries(h.vector) e WHERE e.origin <> old OR held > 0) ELSE h.vector END
		FROM ferry.holding h WHERE h.node_id = old;
	DELETE FROM ferry.holding h WHERE h.node_id = old;
	DELETE FROM ferry.copied_table;
	UPDATE ferry.peer SET slot_lsn = NULL, via_lsn = NULL, copy_via = NULL, formers = -1;
	FOR r IN SELECT o.roname FROM pg_replication_origin o WHERE o.roname LIKE format('ferry\_%s\_%%', lpad(to_hex(old), 8, '0')) LOOP
		BEGIN
			PERFORM pg_replication_origin_drop(r.roname);
		EXCEPTION WHEN object_in_use THEN
			NULL;
		END;
	END LOOP;
	FOR r IN SELECT s.slot_name, s.active_pid FROM pg_replication_slots s
			 WHERE s.database = current_database() AND s.slot_name LIKE format('ferry\_%s\_%%', lpad(to_hex(old), 8, '0')) LOOP
		BEGIN
			PERFORM pg_terminate_backend(r.active_pid, 5000) WHERE r.active_pid IS NOT NULL;
			PERFORM pg_drop_replication_slot(r.slot_name);
		EXCEPTION WHEN object_in_use THEN
			NULL;
		END;
	END LOOP;
	PERFORM ferry._config_changed();
END $$;
COMMENT ON FUNCTION ferry._take_identity(bigint, name, text, boolean, bigint) IS 'internal: this database goes on under another id';
REVOKE ALL ON FUNCTION ferry._take_identity(bigint, name, text, boolean, bigint) FROM PUBLIC;

/*
 * A new incarnation of the same node; null if it has been dropped: then it stays what it
 * is.  Where it went back and has met a peer before it knew, what it told that
 * peer of its writes does not count.
 */
CREATE FUNCTION ferry._succeed_self() RETURNS bigint
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	back	record;
	me	ferry.member;
	id	bigint := ferry._new_node_id();
	dsn	text := (SELECT n.dsn FROM ferry.local_node n);
BEGIN
	SELECT m.* INTO me FROM ferry.member m JOIN ferry.local_node n ON n.node_id = m.node_id;
	IF me.is_dropped THEN
		UPDATE ferry.local_node n SET system_id = h.system_id, timeline = h.timeline, database = h.database FROM ferry._here() h;
		RETURN NULL;
	END IF;
	SELECT * INTO back FROM ferry._went_back();
	PERFORM ferry._take_identity(id, me.name, dsn, back.met IS NOT NULL, coalesce(back.held, 0));
	INSERT INTO ferry.member (node_id, name, dsn, dsn_at, in_mesh)
		VALUES (id, me.name, dsn, clock_timestamp(), me.in_mesh);
	UPDATE ferry.member m SET is_dropped = true, successor = id, went_back = coalesce(back.met, false) WHERE m.node_id = me.node_id;
	IF back.since IS NOT NULL THEN
		INSERT INTO ferry.renaming VALUES (me.node_id, id, back.since, back.held, NOT back.met);
	END IF;
	RETURN id;
END $$;
COMMENT ON FUNCTION ferry._succeed_self() IS 'internal: take a new incarnation';
REVOKE ALL ON FUNCTION ferry._succeed_self() FROM PUBLIC;

CREATE FUNCTION ferry.become_node(name name, dsn text) RETURNS bigint
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id	bigint := ferry._new_node_id();
BEGIN
	PERFORM ferry._require_node();
	IF NOT name ~ '^[a-z0-9_]+$' THEN
		RAISE EXCEPTION 'invalid node name "%"', name USING ERRCODE = 'invalid_name',
			HINT = 'Use lower-case letters, digits and underscores.';
	END IF;
	IF EXISTS (SELECT FROM ferry.member m WHERE m.name = become_node.name AND NOT m.is_dropped) THEN
		RAISE EXCEPTION 'another node has the name "%" already', name USING ERRCODE = 'duplicate_object',
			HINT = 'Node names must be unique.';
	END IF;
	IF NOT ferry._is_in_doubt() THEN
		RAISE EXCEPTION 'this database is no copy' USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'A node keeps its identity. Only a database that was restored or copied while its original lives takes another one.';
	END IF;
	DELETE FROM ferry.peer;
	PERFORM ferry._take_identity(id, name, dsn, false, 0);
	INSERT INTO ferry.member (node_id, name, dsn, dsn_at) VALUES (id, name, dsn, clock_timestamp());
	RETURN id;
END $$;
COMMENT ON FUNCTION ferry.become_node(name, text) IS 'make the copy of a living node a node of its own, linked with nobody; returns the node id';
REVOKE ALL ON FUNCTION ferry.become_node(name, text) FROM PUBLIC;

CREATE FUNCTION ferry.set_dsn(dsn text) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	PERFORM ferry._require_node();
	UPDATE ferry.local_node SET dsn = set_dsn.dsn;
	UPDATE ferry.member m SET dsn = set_dsn.dsn, dsn_at = clock_timestamp()
		FROM ferry.local_node n WHERE n.node_id = m.node_id;
	PERFORM ferry._config_changed();
END $$;
COMMENT ON FUNCTION ferry.set_dsn(text) IS 'peers reach this node in another way from now on; those that joined follow';
REVOKE ALL ON FUNCTION ferry.set_dsn(text) FROM PUBLIC;
