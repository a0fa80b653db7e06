/* --- what the role may do that peers connect as --- */

/*
 * A dsn need not name a superuser: REPLICATION, reading the tables, and these.
 * What changes something here, or reads what is nobody's business, does so as its
 * owner.  Whoever has these rights is a member of the group, and trusted as such.
 */
CREATE FUNCTION ferry._peer_rights(OUT kind text, OUT object text, OUT id oid) RETURNS SETOF record
	LANGUAGE sql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	SELECT 'FUNCTION', p.oid::regprocedure::text, p.oid
	FROM pg_proc p
	WHERE p.pronamespace = 'ferry'::regnamespace
		AND p.proname IN ('_hello', '_greet', '_group', '_here', '_all_tables', '_table_size', '_holds_until', '_delta_frames', '_state_frame',
			'_verify_common', '_verify_root', '_verify_scan', '_verify_children', '_verify_items', '_verify_states', '_verify_take', '_peer_lacks', 'state')
	UNION ALL
	SELECT 'TABLE', c.oid::regclass::text, c.oid
	FROM pg_class c
	WHERE c.relnamespace = 'ferry'::regnamespace AND c.relname IN ('member', 'holding', 'local_node');
	END;
COMMENT ON FUNCTION ferry._peer_rights() IS 'internal: what the role must be allowed that peers connect as';
REVOKE ALL ON FUNCTION ferry._peer_rights() FROM PUBLIC;

CREATE FUNCTION ferry.grant_peer(role regrole) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r	record;
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA ferry TO %s', role);
	FOR r IN SELECT * FROM ferry._peer_rights() LOOP
		EXECUTE format('GRANT %s ON %s %s TO %s', CASE r.kind WHEN 'TABLE' THEN 'SELECT' ELSE 'EXECUTE' END, r.kind, r.object, role);
	END LOOP;
END $$;
COMMENT ON FUNCTION ferry.grant_peer(regrole) IS 'let peers connect as this role; it needs REPLICATION, LOGIN and SELECT on the tables under ferry, too';
REVOKE ALL ON FUNCTION ferry.grant_peer(regrole) FROM PUBLIC;

/* what the role that asks lacks, with the statement that mends it; null if nothing */
CREATE FUNCTION ferry._peer_lacks() RETURNS text
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	me	pg_roles;
BEGIN
	SELECT * INTO me FROM pg_roles r WHERE r.rolname = session_user;
	IF me.rolsuper THEN
		RETURN NULL;
	END IF;
	IF NOT me.rolreplication THEN
		RETURN format('ALTER ROLE %I REPLICATION', session_user);
	END IF;
	IF EXISTS (SELECT FROM ferry._peer_rights() r
			   WHERE CASE r.kind WHEN 'TABLE' THEN NOT has_table_privilege(session_user, r.id, 'SELECT')
				   ELSE NOT has_function_privilege(session_user, r.id, 'EXECUTE') END) THEN
		RETURN format('SELECT ferry.grant_peer(%L)', session_user);
	END IF;
	RETURN (SELECT format('GRANT SELECT ON %s TO %I', string_agg(r.relid::regclass::text, ', ' ORDER BY r.relid), session_user)
			FROM ferry.registered_table r WHERE NOT has_table_privilege(session_user, r.relid, 'SELECT')
			HAVING count(*) > 0);
END $$;
COMMENT ON FUNCTION ferry._peer_lacks() IS 'internal: what the role that peers connect as is not allowed, as a statement that mends it; null if nothing';
REVOKE ALL ON FUNCTION ferry._peer_lacks() FROM PUBLIC;
