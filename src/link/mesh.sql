/* --- what follows from who is a member --- */

/* who is to be linked with whom: each of these with each other */
CREATE FUNCTION ferry._mesh() RETURNS SETOF ferry.member
	LANGUAGE sql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC SELECT m.* FROM ferry.member m WHERE m.in_mesh AND NOT m.is_dropped; END;
COMMENT ON FUNCTION ferry._mesh() IS 'internal: the members that have joined and not left: all of them are linked with each other';
REVOKE ALL ON FUNCTION ferry._mesh() FROM PUBLIC;

CREATE FUNCTION ferry._is_mesh_peer(peer name) RETURNS boolean
	LANGUAGE sql STRICT STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	SELECT count(*) = 2
	FROM ferry._mesh() m
	WHERE m.node_id IN ((SELECT n.node_id FROM ferry.local_node n), (SELECT p.node_id FROM ferry.peer p WHERE p.name = _is_mesh_peer.peer));
	END;
COMMENT ON FUNCTION ferry._is_mesh_peer(name) IS 'internal: is the link to this peer one that the group wants?';
REVOKE ALL ON FUNCTION ferry._is_mesh_peer(name) FROM PUBLIC;

/*
 * A member has left, or goes on under another id.  When this returns, nothing
 * comes from it any more; so whoever asks us from then on for what we hold of its
 * writes gets all that we shall ever have.  The same holds for those whom we ask:
 * a link greets before it copies, and the greeting brings this news.  (That there
 * is one former member more makes all copies due.)
 */
CREATE FUNCTION ferry._member_has_left(node_id bigint) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	p			ferry.peer;
	dropped		boolean := (SELECT m.has_left FROM ferry.member m WHERE m.node_id = _member_has_left.node_id);
	is_me		boolean := (SELECT n.node_id = _member_has_left.node_id FROM ferry.local_node n);
BEGIN
	FOR p IN SELECT * FROM ferry.peer p WHERE p.node_id = _member_has_left.node_id OR (is_me AND dropped) LOOP
		IF dropped THEN
			DELETE FROM ferry.peer WHERE name = p.name;
			DELETE FROM ferry.copied_table WHERE peer = p.name;
			UPDATE ferry.peer SET copy_via = NULL WHERE copy_via = p.name;
			PERFORM ferry._end_link(p.name);
		ELSE
			PERFORM pg_terminate_backend(w.pid, 10000)
				FROM (SELECT l.pid FROM ferry._links() l WHERE l.peer = p.name
					  UNION SELECT c.pid FROM ferry._copies() c WHERE c.peer = p.name) w
				WHERE w.pid <> pg_backend_pid();
		END IF;
	END LOOP;
	PERFORM ferry._config_changed();
END $$;
COMMENT ON FUNCTION ferry._member_has_left(bigint) IS 'internal: end the links to a member that has left, and ask the others for what they hold of it';
REVOKE ALL ON FUNCTION ferry._member_has_left(bigint) FROM PUBLIC;

/* what is kept for those who will never fetch it; false if some of it is still in use */
CREATE FUNCTION ferry._clear_after_former() RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r		record;
	done	boolean := true;
BEGIN
	FOR r IN SELECT s.slot_name, s.active_pid FROM pg_replication_slots s
			 WHERE s.database = current_database() AND s.plugin = 'ferry'
				 AND EXISTS (SELECT FROM ferry.member m WHERE m.is_dropped
							 AND lpad(to_hex(m.node_id), 8, '0') IN (split_part(s.slot_name, '_', 2), split_part(s.slot_name, '_', 3))) LOOP
		BEGIN
			PERFORM pg_terminate_backend(r.active_pid) WHERE r.active_pid IS NOT NULL;
			PERFORM pg_drop_replication_slot(r.slot_name);
			RAISE LOG 'replication slot "%" of a former member was dropped', r.slot_name;
		EXCEPTION WHEN object_in_use THEN
			done := false;
		END;
	END LOOP;
	FOR r IN SELECT o.roname FROM pg_replication_origin o, ferry.member m
			 WHERE m.is_dropped AND NOT EXISTS (SELECT FROM ferry.peer p WHERE p.node_id = m.node_id)
				 AND o.roname IN (SELECT format('ferry_%s_%s', lpad(to_hex(l.node_id), 8, '0'), lpad(to_hex(m.node_id), 8, '0')) FROM ferry.local_node l) LOOP
		BEGIN
			PERFORM pg_replication_origin_drop(r.roname);
		EXCEPTION WHEN object_in_use THEN
			done := false;
		END;
	END LOOP;
	RETURN done;
END $$;
COMMENT ON FUNCTION ferry._clear_after_former() IS 'internal: drop slots and origins of former members; false if it must be tried again';
REVOKE ALL ON FUNCTION ferry._clear_after_former() FROM PUBLIC;

/*
 * Former members of whose writes this node holds all that there are: nothing
 * comes from them any more, and every other member has been asked after it had
 * been told so, and holds no table that is not here.  Not those whose states wait
 * in quarantine, nor those that gave stamps twice.
 */
CREATE FUNCTION ferry._settled_formers() RETURNS SETOF bigint
	LANGUAGE sql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	SELECT m.node_id FROM ferry.member m
	WHERE m.is_dropped AND NOT m.went_back
		AND NOT EXISTS (SELECT FROM ferry.quarantined q WHERE q.vector ~ format('(^|,)%s:', m.node_id))
		AND NOT EXISTS (
			SELECT FROM ferry.member o LEFT JOIN ferry.peer p ON p.node_id = o.node_id
			WHERE NOT o.is_dropped AND o.node_id <> (SELECT n.node_id FROM ferry.local_node n)
				AND p.formers IS DISTINCT FROM ferry._formers());
	END;
COMMENT ON FUNCTION ferry._settled_formers() IS 'internal: former members of whose writes this node holds all that there are';
REVOKE ALL ON FUNCTION ferry._settled_formers() FROM PUBLIC;

/*
 * The stamp up to which this node holds everything that anybody wrote.  Former members
 * count as long as there is something of theirs to be asked for; in a chain, nobody can
 * ask for it.
 */
CREATE FUNCTION ferry._all_held_until() RETURNS bigint
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	WITH other AS (SELECT m.node_id, m.is_dropped, m.went_back FROM ferry.member m
				   WHERE m.node_id <> (SELECT n.node_id FROM ferry.local_node n))
	SELECT ferry._held_until(ARRAY(SELECT o.node_id FROM other o WHERE NOT o.is_dropped
		OR NOT o.went_back AND o.node_id NOT IN (SELECT ferry._settled_formers())
			AND NOT EXISTS (SELECT FROM other x WHERE NOT x.is_dropped
							AND NOT EXISTS (SELECT FROM ferry.peer p WHERE p.node_id = x.node_id))));
$$;
COMMENT ON FUNCTION ferry._all_held_until() IS 'internal: the stamp up to which this node holds everything that anybody wrote';
REVOKE ALL ON FUNCTION ferry._all_held_until() FROM PUBLIC;

/* peers whose slots here were given up */
CREATE TABLE ferry.given_up (
	node_id		bigint PRIMARY KEY,
	wal_bytes	numeric,
	at			timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE ferry.given_up IS 'peers that did not fetch our log for so long that it is not kept for them any more';

/*
 * What counts is what the peer has not confirmed.  (A slot's restart_lsn may lag
 * behind because a transaction is open here, which is not the peer's fault.)
 */
CREATE FUNCTION ferry._limit_slots() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r		record;
	lim		bigint := (SELECT s.setting::bigint * 1048576 FROM pg_settings s WHERE s.name = 'ferry.max_slot_wal');
BEGIN
	DELETE FROM ferry.given_up g USING ferry.local_node n, pg_replication_slots s
		WHERE s.slot_name = format('ferry_%s_%s', lpad(to_hex(n.node_id), 8, '0'), lpad(to_hex(g.node_id), 8, '0'))
			AND s.wal_status IS DISTINCT FROM 'lost';
	FOR r IN SELECT s.slot_name, s.active_pid, m.node_id, m.name, s.wal_status,
					pg_wal_lsn_diff(pg_current_wal_lsn(), s.confirmed_flush_lsn) AS bytes
			 FROM pg_replication_slots s
				 JOIN ferry.local_node n ON split_part(s.slot_name, '_', 2) = lpad(to_hex(n.node_id), 8, '0')
				 JOIN ferry.member m ON split_part(s.slot_name, '_', 3) = lpad(to_hex(m.node_id), 8, '0')
			 WHERE s.database = current_database() AND s.plugin = 'ferry'
				 AND (s.wal_status = 'lost' OR lim >= 0 AND pg_wal_lsn_diff(pg_current_wal_lsn(), s.confirmed_flush_lsn) > lim) LOOP
		BEGIN
			PERFORM pg_terminate_backend(r.active_pid) WHERE r.active_pid IS NOT NULL;
			PERFORM pg_drop_replication_slot(r.slot_name);
			INSERT INTO ferry.given_up (node_id, wal_bytes) VALUES (r.node_id, r.bytes) ON CONFLICT DO NOTHING;
			RAISE LOG 'replication slot "%" of ferry node "%" was given up', r.slot_name, r.name
				USING DETAIL = CASE WHEN r.wal_status = 'lost' THEN 'The server had invalidated it.'
					ELSE format('The node has not fetched %s of log; ferry.max_slot_wal allows %s.', pg_size_pretty(r.bytes), pg_size_pretty(lim)) END,
					HINT = 'When the node comes back, it copies what it lacks.';
		EXCEPTION WHEN object_in_use THEN
			NULL;				/* its sender is about to end: next time */
		END;
	END LOOP;
END $$;
COMMENT ON FUNCTION ferry._limit_slots() IS 'internal: give up slots of peers that are away for too long';
REVOKE ALL ON FUNCTION ferry._limit_slots() FROM PUBLIC;

/* called by the supervisor whenever the configuration has changed */
CREATE FUNCTION ferry._follow_members() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	me	ferry.member;
	m	ferry.member;
BEGIN
	SELECT o.* INTO me FROM ferry.member o JOIN ferry.local_node n ON n.node_id = o.node_id;
	/* who goes on under another id keeps its link; slot, origin and copies are made anew */
	LOOP
		SELECT o.* INTO m FROM ferry.member o JOIN ferry.peer p ON p.node_id = o.node_id WHERE o.successor IS NOT NULL LIMIT 1;
		EXIT WHEN NOT FOUND;
		IF EXISTS (SELECT FROM ferry.peer p WHERE p.node_id = m.successor) THEN
			DELETE FROM ferry.copied_table c USING ferry.peer p WHERE p.node_id = m.node_id AND c.peer = p.name;
			DELETE FROM ferry.peer p WHERE p.node_id = m.node_id;
		ELSE
			UPDATE ferry.peer p SET node_id = m.successor, slot_lsn = NULL, via_lsn = NULL, copy_via = NULL, formers = -1, runs = NULL WHERE p.node_id = m.node_id;
		END IF;
	END LOOP;
	IF NOT EXISTS (SELECT FROM ferry._mesh() o WHERE o.node_id = me.node_id) THEN
		RETURN;
	END IF;
	UPDATE ferry.peer p SET dsn = o.dsn FROM ferry.member o
		WHERE o.node_id = p.node_id AND NOT p.by_hand AND o.dsn <> p.dsn;
	IF FOUND THEN
		PERFORM ferry._config_changed();
	END IF;
	FOR m IN SELECT * FROM ferry._mesh() o
			 WHERE o.dsn IS NOT NULL AND o.node_id <> me.node_id
				 AND NOT EXISTS (SELECT FROM ferry.peer p WHERE p.node_id = o.node_id) LOOP
		INSERT INTO ferry.peer (name, node_id, dsn, forward, by_hand)
			VALUES (CASE WHEN EXISTS (SELECT FROM ferry.peer p WHERE p.name = m.name)
						THEN format('%s_%s', left(m.name, 50), m.node_id) ELSE m.name END,
					m.node_id, m.dsn, 'local', false);
	END LOOP;
END $$;
COMMENT ON FUNCTION ferry._follow_members() IS 'internal: make the peers that the group wants';
REVOKE ALL ON FUNCTION ferry._follow_members() FROM PUBLIC;

CREATE FUNCTION ferry._greet(members jsonb, caller bigint, sight jsonb) RETURNS jsonb
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF (sight ->> 'node_id')::bigint = (SELECT n.node_id FROM ferry.local_node n)
	   AND NOT ferry._check_sight((sight ->> 'lsn')::pg_lsn, (sight ->> 'hlc')::bigint, sight ->> 'runs') THEN
		RAISE EXCEPTION 'node "%" went back in time and is about to take a new incarnation', (SELECT n.name FROM ferry.local_node n)
			USING ERRCODE = 'connection_exception';
	END IF;
	PERFORM ferry._require_renamed();
	PERFORM ferry._require_recent(sight ->> 'horizon');
	PERFORM ferry._merge_members(members);
	PERFORM ferry._note_meeting();
	RETURN jsonb_build_object('members', ferry._members(), 'sight', ferry._sight_of(caller), 'runs', ferry._runs());
END $$;
COMMENT ON FUNCTION ferry._greet(jsonb, bigint, jsonb) IS 'internal: a peer tells us of the members that it knows, and what it has seen of us; returns the same of ours';
REVOKE ALL ON FUNCTION ferry._greet(jsonb, bigint, jsonb) FROM PUBLIC;

/* do we hold all that this peer of ours had written before its WAL location? */
CREATE FUNCTION ferry._holds_until(node_id bigint, lsn pg_lsn) RETURNS boolean
	LANGUAGE sql STRICT VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	SELECT coalesce(bool_or(l.applied_lsn >= _holds_until.lsn), false)
	FROM ferry.peer p JOIN ferry._links() l ON l.peer = p.name
	WHERE p.node_id = _holds_until.node_id AND l.state = 'streaming';
	END;
COMMENT ON FUNCTION ferry._holds_until(bigint, pg_lsn) IS 'internal: do we hold all that a peer had written before its WAL location?';
REVOKE ALL ON FUNCTION ferry._holds_until(bigint, pg_lsn) FROM PUBLIC;

CREATE FUNCTION ferry._table_size(schema text, name text, OUT row_count bigint, OUT byte_count bigint)
	LANGUAGE sql STRICT STABLE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	SELECT sum(greatest(c.reltuples, 0))::bigint, sum(pg_table_size(c.oid))::bigint
	FROM ferry._registered(ARRAY[_table_size.schema, _table_size.name]) r
		CROSS JOIN LATERAL (SELECT t.relid FROM pg_partition_tree(r.relid) t WHERE t.isleaf UNION SELECT r.relid) AS part(relid)
		JOIN pg_class c ON c.oid = part.relid;
	END;
COMMENT ON FUNCTION ferry._table_size(text, text) IS 'internal: about how large a table is, for whoever copies it';
REVOKE ALL ON FUNCTION ferry._table_size(text, text) FROM PUBLIC;

CREATE FUNCTION ferry._ask_peer(dsn text, question text) RETURNS text
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_ask_peer';
COMMENT ON FUNCTION ferry._ask_peer(text, text) IS 'internal: connect to a node and have it answer a query of one value';
REVOKE ALL ON FUNCTION ferry._ask_peer(text, text) FROM PUBLIC;

/* what we are told of the peer's runs is on record before anything of them is taken, and only if the peer was content */
CREATE FUNCTION ferry._take_greeting(answer jsonb, peer_id bigint) RETURNS boolean
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF (answer -> 'sight' ->> 'node_id')::bigint = (SELECT n.node_id FROM ferry.local_node n)
	   AND NOT ferry._check_sight((answer -> 'sight' ->> 'lsn')::pg_lsn, (answer -> 'sight' ->> 'hlc')::bigint, answer -> 'sight' ->> 'runs') THEN
		RETURN false;
	END IF;
	PERFORM ferry._require_recent(answer -> 'sight' ->> 'horizon');
	PERFORM ferry._merge_members(answer -> 'members');
	UPDATE ferry.peer p SET runs = answer ->> 'runs'
		WHERE p.node_id = _take_greeting.peer_id AND p.runs IS DISTINCT FROM answer ->> 'runs';
	PERFORM ferry._note_meeting();
	RETURN true;
END $$;
COMMENT ON FUNCTION ferry._take_greeting(jsonb, bigint) IS 'internal: what a peer answered to our greeting; false if it shows that this node went back in time';
REVOKE ALL ON FUNCTION ferry._take_greeting(jsonb, bigint) FROM PUBLIC;

/* a table is there with all that belongs to it, as pg_dump brings it: put it on the list */
CREATE FUNCTION ferry._adopt_table(rel regclass, merge text, on_delete text) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO ferry.registered_table (relid, tombstones, merge, on_delete)
		VALUES (rel, ferry._create_tombstones(rel), left(merge, 1)::"char", left(on_delete, 1)::"char");
	PERFORM ferry._config_changed();
END $$;
COMMENT ON FUNCTION ferry._adopt_table(regclass, text, text) IS 'internal: register a table that has its column and triggers already';
REVOKE ALL ON FUNCTION ferry._adopt_table(regclass, text, text) FROM PUBLIC;
