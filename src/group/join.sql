/* --- joining a group and leaving it --- */

CREATE FUNCTION ferry._dump_schema(dsn text) RETURNS text
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_dump_schema';
COMMENT ON FUNCTION ferry._dump_schema(text) IS 'internal: the definitions of a peer''s database, by pg_dump';
REVOKE ALL ON FUNCTION ferry._dump_schema(text) FROM PUBLIC;

/* what a node that joins must know */
CREATE FUNCTION ferry._group() RETURNS jsonb
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	SELECT jsonb_build_object(
		'node_id', n.node_id,
		'name', n.name,
		'members', ferry._members(),
		'linked', (SELECT coalesce(jsonb_agg(p.node_id), '[]') FROM ferry.peer p),
		'tables', (SELECT coalesce(jsonb_agg(jsonb_build_object('schema', s.nspname, 'name', c.relname,
							'merge', t.merge, 'on_delete', t.on_delete) ORDER BY s.nspname, c.relname), '[]')
				   FROM ferry.tables t JOIN pg_class c ON c.oid = t.relation JOIN pg_namespace s ON s.oid = c.relnamespace))
	FROM ferry.local_node n;
	END;
COMMENT ON FUNCTION ferry._group() IS 'internal: members and tables, for a node that joins';
REVOKE ALL ON FUNCTION ferry._group() FROM PUBLIC;

/* nothing is changed by this */
CREATE FUNCTION ferry._check_join(sponsor jsonb) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	me	ferry.local_node;
	m	ferry.member;
	t	record;
BEGIN
	SELECT * INTO me FROM ferry.local_node;
	FOR m IN SELECT * FROM jsonb_populate_recordset(NULL::ferry.member, sponsor -> 'members') LOOP
		IF m.node_id = me.node_id AND m.is_dropped THEN
			RAISE EXCEPTION 'this node was dropped from the group' USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'It can come back as a new node: DROP EXTENSION ferry, CREATE EXTENSION ferry, ferry.create_node and ferry.join.';
		END IF;
		IF m.name = me.name AND m.node_id <> me.node_id AND NOT m.is_dropped THEN
			RAISE EXCEPTION 'the group has a node "%" already', m.name USING ERRCODE = 'duplicate_object',
				HINT = 'Node names must be unique. If that node is gone for good, call ferry.drop_node there first.';
		END IF;
	END LOOP;
	FOR t IN SELECT s.schema, s.name, s.merge, s.on_delete, l.merge AS our_merge, l.on_delete AS our_on_delete
			 FROM jsonb_to_recordset(sponsor -> 'tables') AS s(schema text, name text, merge text, on_delete text)
				 JOIN ferry.tables l ON l.relation = to_regclass(format('%I.%I', s.schema, s.name))
			 WHERE (s.merge, s.on_delete) IS DISTINCT FROM (l.merge, l.on_delete) LOOP
		RAISE EXCEPTION 'table "%.%" merges in another way than in the group', t.schema, t.name
			USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = format('Here it is %s, %s; there %s, %s.', t.our_merge, t.our_on_delete, t.merge, t.on_delete),
			HINT = 'Take it out by ferry.drop_table: ferry.join adds it as the group has it.';
	END LOOP;
END $$;
COMMENT ON FUNCTION ferry._check_join(jsonb) IS 'internal: raise if this node does not fit a group';
REVOKE ALL ON FUNCTION ferry._check_join(jsonb) FROM PUBLIC;

/* the group's tables: brought with their schema if none of them is here, and put under ferry */
CREATE FUNCTION ferry._join_tables(sponsor jsonb, dsn text) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t		record;
	rel		regclass;
	missing	text;
	here	int;
BEGIN
	SELECT count(to_regclass(format('%I.%I', s.schema, s.name))),
		   string_agg(format('%I.%I', s.schema, s.name), ', ') FILTER (WHERE to_regclass(format('%I.%I', s.schema, s.name)) IS NULL)
	INTO here, missing
	FROM jsonb_to_recordset(sponsor -> 'tables') AS s(schema text, name text);
	IF missing IS NOT NULL AND here > 0 THEN
		RAISE EXCEPTION 'tables of the group are missing in this database' USING ERRCODE = 'undefined_table',
			DETAIL = format('Missing: %s.', missing),
			HINT = 'Create them; ferry.join brings the schema only to a database that has none of the tables.';
	ELSIF missing IS NOT NULL THEN
		DECLARE
			message	text;
			detail	text;
			state	text;
		BEGIN
			PERFORM ferry._execute_script(ferry._dump_schema(dsn));
		EXCEPTION
			WHEN external_routine_exception OR insufficient_privilege OR query_canceled THEN
				RAISE;
			WHEN OTHERS THEN
				GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, state = RETURNED_SQLSTATE;
				RAISE EXCEPTION 'the schema of the sponsor does not fit into this database: %', message
					USING ERRCODE = state, DETAIL = detail,
					HINT = 'Roles and tablespaces must exist here (pg_dumpall --globals-only), other objects must not. Or bring the schema yourself, then call ferry.join again.';
		END;
	END IF;
	FOR t IN SELECT * FROM jsonb_to_recordset(sponsor -> 'tables') AS s(schema text, name text, merge text, on_delete text) LOOP
		rel := format('%I.%I', t.schema, t.name)::regclass;
		IF EXISTS (SELECT FROM ferry.registered_table r WHERE r.relid = rel) THEN
			CONTINUE;
		ELSIF EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = rel AND g.tgname = '~ferry_row' AND NOT g.tgisinternal) THEN
			PERFORM ferry._adopt_table(rel, t.merge, t.on_delete);
		ELSE
			PERFORM ferry.add_table(rel, t.merge, t.on_delete);
		END IF;
	END LOOP;
END $$;
COMMENT ON FUNCTION ferry._join_tables(jsonb, text) IS 'internal: have the group''s tables under ferry here';
REVOKE ALL ON FUNCTION ferry._join_tables(jsonb, text) FROM PUBLIC;

CREATE FUNCTION ferry._execute_script(script text) RETURNS void
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_execute_script';
COMMENT ON FUNCTION ferry._execute_script(text) IS 'internal: execute SQL; settings that it makes end with it';
REVOKE ALL ON FUNCTION ferry._execute_script(text) FROM PUBLIC;

/*
 * All of this is one local transaction.  What it asks for is brought about by the
 * links, which also introduce us to all others: a crash before its commit
 * leaves nothing anywhere, one after it loses nothing.
 */
CREATE FUNCTION ferry.join(sponsor_dsn text) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	sponsor	jsonb;
	via		name;
BEGIN
	PERFORM ferry._require_node();
	LOCK TABLE ferry.local_node IN SHARE ROW EXCLUSIVE MODE;
	sponsor := ferry._ask_peer(sponsor_dsn, 'SELECT ferry._group()')::jsonb;
	PERFORM ferry._check_join(sponsor);
	PERFORM ferry._join_tables(sponsor, sponsor_dsn);

	PERFORM ferry._merge_members(sponsor -> 'members');
	UPDATE ferry.member m SET in_mesh = true
		WHERE NOT m.is_dropped AND NOT m.in_mesh
			AND (m.node_id IN ((sponsor ->> 'node_id')::bigint, (SELECT n.node_id FROM ferry.local_node n))
				 OR sponsor -> 'linked' @> to_jsonb(m.node_id));
	INSERT INTO ferry.peer (name, node_id, dsn, forward, by_hand)
		SELECT sponsor ->> 'name', (sponsor ->> 'node_id')::bigint, sponsor_dsn, 'local', true
		WHERE NOT EXISTS (SELECT FROM ferry.peer p WHERE p.node_id = (sponsor ->> 'node_id')::bigint);
	PERFORM ferry._follow_members();
	SELECT p.name INTO via FROM ferry.peer p WHERE p.node_id = (sponsor ->> 'node_id')::bigint;
	/* the sponsor's copy brings all, the other links only stream until then; what was copied before stays so */
	UPDATE ferry.peer p SET copy_via = CASE WHEN p.name = via THEN NULL ELSE via END, via_lsn = NULL
		WHERE p.copy_via IS NOT NULL OR NOT EXISTS (SELECT FROM ferry.copied_table c WHERE c.peer = p.name);
	PERFORM ferry._config_changed();
END $$;
COMMENT ON FUNCTION ferry.join(text) IS 'join the group of the node that this dsn leads to: its tables, its data, links with all its members; see ferry.progress';
REVOKE ALL ON FUNCTION ferry.join(text) FROM PUBLIC;

CREATE FUNCTION ferry.drop_node(name name, node_id bigint DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	m	ferry.member;
	ids	bigint[];
BEGIN
	PERFORM ferry._require_node();
	ids := ARRAY(SELECT o.node_id FROM ferry.member o
				 WHERE o.name = drop_node.name AND NOT o.is_dropped AND o.node_id = coalesce(drop_node.node_id, o.node_id) ORDER BY 1);
	IF cardinality(ids) > 1 THEN
		RAISE EXCEPTION 'there are % nodes "%"', cardinality(ids), name USING ERRCODE = 'ambiguous_alias',
			DETAIL = format('Their node ids are %s.', array_to_string(ids, ', ')),
			HINT = 'Each went on as the node while it could not reach the other. Say which one is to leave: ferry.drop_node(name, node_id).';
	END IF;
	SELECT * INTO m FROM ferry.member o WHERE o.node_id = ids[1];
	IF NOT FOUND THEN
		IF EXISTS (SELECT FROM ferry.member o WHERE o.name = drop_node.name AND o.node_id = coalesce(drop_node.node_id, o.node_id)) THEN
			RAISE EXCEPTION 'node "%" has been dropped already', name USING ERRCODE = 'undefined_object';
		END IF;
		RAISE EXCEPTION 'node "%" does not exist', concat_ws(' ', name, node_id) USING ERRCODE = 'undefined_object',
			HINT = 'The view ferry.nodes has those that are known here.';
	END IF;
	IF m.node_id = (SELECT n.node_id FROM ferry.local_node n) THEN
		RAISE EXCEPTION 'node "%" is this node itself', name USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Call ferry.drop_node at another member of the group.';
	END IF;
	m.is_dropped := true;
	m.has_left := true;
	PERFORM ferry._merge_members(jsonb_build_array(to_jsonb(m)));
END $$;
COMMENT ON FUNCTION ferry.drop_node(name, bigint) IS 'a node leaves the group for good, on all members: links and slots go, it is not waited for, and what any of them has of its writes reaches all';
REVOKE ALL ON FUNCTION ferry.drop_node(name, bigint) FROM PUBLIC;
