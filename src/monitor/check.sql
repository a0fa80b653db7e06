/* --- is everything set as it must be? --- */

CREATE FUNCTION ferry._check_peer(dsn text) RETURNS text
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	message text;
	detail	text;
	lacks	text;
BEGIN
	lacks := ferry._ask_peer(dsn, 'SELECT ferry._peer_lacks()');
	RETURN 'the role of its dsn is not allowed all that it needs there: ' || lacks;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(': ', message, nullif(detail, ''));
END $$;
COMMENT ON FUNCTION ferry._check_peer(text) IS 'internal: what is wrong with reaching a peer, or null';
REVOKE ALL ON FUNCTION ferry._check_peer(text) FROM PUBLIC;

CREATE FUNCTION ferry.check(OUT item text, OUT problem text, OUT remedy text) RETURNS SETOF record
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	links	int := (SELECT count(*) FROM ferry.peer);
	nodes	int := (SELECT count(*) FROM pg_shseclabel WHERE provider = 'ferry');
	n		int;
	p		record;
	preload	text := current_setting('shared_preload_libraries');
	plugins	text := current_setting('output_plugin_libraries', true);
BEGIN
	IF current_setting('server_version_num')::int < 150014
	   OR current_setting('server_version_num')::int BETWEEN 160000 AND 160009
	   OR current_setting('server_version_num')::int BETWEEN 170000 AND 170005 THEN
		RETURN QUERY SELECT 'server version', 'this minor version can lose changes in logical decoding: ' || current_setting('server_version'),
			'install the newest minor version (15.14, 16.10, 17.6 or later)';
	END IF;
	IF NOT 'ferry' = ANY (string_to_array(replace(replace(preload, ' ', ''), '"', ''), ',')) THEN
		RETURN QUERY SELECT 'shared_preload_libraries', 'ferry is not preloaded',
			format('shared_preload_libraries = ''%s''    # in postgresql.conf, then restart', concat_ws(', ', nullif(preload, ''), 'ferry'));
	END IF;
	IF current_setting('wal_level') <> 'logical' THEN
		RETURN QUERY SELECT 'wal_level', 'changes cannot be decoded with wal_level = ' || current_setting('wal_level'),
			'wal_level = logical    # in postgresql.conf, then restart';
	END IF;
	IF plugins IS NOT NULL AND NOT 'ferry' = ANY (string_to_array(replace(plugins, ' ', ''), ',')) THEN
		RETURN QUERY SELECT 'output_plugin_libraries', 'the server does not allow the output plugin ferry',
			format('output_plugin_libraries = ''%s''    # in postgresql.conf, then reload', concat_ws(', ', nullif(plugins, ''), 'ferry'));
	END IF;
	IF NOT EXISTS (SELECT FROM ferry.local_node) THEN
		RETURN QUERY SELECT 'node', 'this database is not a node', 'SELECT ferry.create_node(name, dsn)';
	END IF;
	/* one launcher, a supervisor and sometimes a verifier a node, a worker a link, and those that help one of them to copy */
	n := 1 + 2 * nodes + links + coalesce(current_setting('ferry.copy_workers', true)::int, 1) - 1;
	IF current_setting('max_worker_processes')::int < n + 2 THEN
		RETURN QUERY SELECT 'max_worker_processes', format('%s are set, ferry needs %s and others need some too', current_setting('max_worker_processes'), n),
			format('max_worker_processes = %s    # in postgresql.conf, then restart', n + 8);
	END IF;
	SELECT count(*) INTO n FROM pg_replication_slots;
	IF current_setting('max_replication_slots')::int < greatest(n, links) + 1 THEN
		RETURN QUERY SELECT 'max_replication_slots', format('%s are set, %s are in use', current_setting('max_replication_slots'), n),
			format('max_replication_slots = %s    # in postgresql.conf, then restart', greatest(n, links) + 8);
	END IF;
	IF current_setting('max_wal_senders')::int < links + 1 THEN
		RETURN QUERY SELECT 'max_wal_senders', format('%s are set for %s peers', current_setting('max_wal_senders'), links),
			format('max_wal_senders = %s    # in postgresql.conf, then restart', links + 8);
	END IF;
	FOR p IN SELECT name, dsn FROM ferry.peer ORDER BY name LOOP
		problem := ferry._check_peer(p.dsn);
		IF problem IS NOT NULL THEN
			item := 'peer ' || p.name;
			remedy := CASE WHEN problem ~ 'not allowed|permission denied' THEN 'do that at the peer, as a superuser; all that its role needs: ferry.grant_peer'
				ELSE 'check its dsn, server and pg_hba.conf; to change the dsn: ferry.drop_peer and ferry.add_peer' END;
			RETURN NEXT;
		END IF;
	END LOOP;
	FOR p IN SELECT * FROM ferry.clock WHERE abs(offset_ms) > max_skew_ms / 2.0 LOOP
		RETURN QUERY SELECT 'clock of ' || p.peer, format('it differs from ours by %s ms; the limit is %s ms', round(p.offset_ms), p.max_skew_ms),
			'set both clocks by NTP';
	END LOOP;
	FOR p IN SELECT r.relid FROM ferry.registered_table r
			 WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = r.relid AND t.tgname = '~ferry_row' AND t.tgenabled IN ('O', 'A')) LOOP
		RETURN QUERY SELECT 'table ' || p.relid::regclass, 'its trigger "~ferry_row" is missing or disabled: writes are not stamped',
			format('ALTER TABLE %s ENABLE TRIGGER "~ferry_row"', p.relid::regclass);
	END LOOP;
END $$;
COMMENT ON FUNCTION ferry.check() IS 'every setting and privilege that is missing, with the line that mends it; no rows if all is well';
REVOKE ALL ON FUNCTION ferry.check() FROM PUBLIC;
