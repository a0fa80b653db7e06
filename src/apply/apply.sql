/* --- conflicts --- */

CREATE SEQUENCE ferry.conflict_id_seq;

CREATE TABLE ferry.conflict (
	id			bigint PRIMARY KEY DEFAULT nextval('ferry.conflict_id_seq'),
	at			timestamptz NOT NULL,
	peer		name,
	relid		oid NOT NULL,
	relation	text NOT NULL,
	key			jsonb NOT NULL,
	kind		text NOT NULL,
	columns		text[] NOT NULL,
	local_row	jsonb,
	remote_row	jsonb,
	local_dot	text NOT NULL,
	remote_dot	text NOT NULL,
	winner		text NOT NULL,
	rule		text NOT NULL,
	constraint_name text,
	xid			xid NOT NULL
);
ALTER SEQUENCE ferry.conflict_id_seq OWNED BY ferry.conflict.id;
COMMENT ON TABLE ferry.conflict IS 'concurrent changes that could not both stand; see the view ferry.conflicts';
SELECT pg_catalog.pg_extension_config_dump('ferry.conflict', '');
SELECT pg_catalog.pg_extension_config_dump('ferry.conflict_id_seq', '');

CREATE VIEW ferry.conflicts AS
	SELECT id, at, relation, key, kind, columns, local_row, remote_row,
		   local_dot, remote_dot, winner, rule, constraint_name, peer
	FROM ferry.conflict;
COMMENT ON VIEW ferry.conflicts IS 'every conflict that this node resolved: when, where, what both sides had written, who won and by which rule';
COMMENT ON COLUMN ferry.conflicts.kind IS 'insert_insert, update_update, update_delete (changed here, deleted there), delete_update, unique_key, foreign_key, check, truncate, or divergence (found by ferry.verify)';
COMMENT ON COLUMN ferry.conflicts.key IS 'of the row; where two rows clash (unique_key) of the one that lost, and both images hold their keys';
COMMENT ON COLUMN ferry.conflicts.columns IS 'the columns that both sides had set to different values, or that the constraint is on';
COMMENT ON COLUMN ferry.conflicts.local_row IS 'the row as this node held it, null if it was deleted here';
COMMENT ON COLUMN ferry.conflicts.remote_row IS 'the row as it came, null if it was deleted there';
COMMENT ON COLUMN ferry.conflicts.local_dot IS 'the last write in the local state: <hlc>@<node id>';
COMMENT ON COLUMN ferry.conflicts.remote_dot IS 'the last write in the state that came: <hlc>@<node id>';
COMMENT ON COLUMN ferry.conflicts.winner IS 'local, remote, merged where each side kept some columns, or none where nobody has won yet (ferry.heal(), ferry.quarantine, ferry.orphans())';

CREATE VIEW ferry.conflict_summary AS
	SELECT relation, kind, count(*) AS conflicts,
		   count(*) FILTER (WHERE winner = 'local') AS won_here,
		   count(*) FILTER (WHERE winner = 'remote') AS won_there,
		   min(at) AS first_at, max(at) AS last_at
	FROM ferry.conflict
	GROUP BY relation, kind;
COMMENT ON VIEW ferry.conflict_summary IS 'how many conflicts this node has on record, by table and kind';

/* the function by its quoted name: pg_upgrade carries no regprocedure */
CREATE TABLE ferry.conflict_hook (
	relid		regclass PRIMARY KEY,
	function	text NOT NULL
);
COMMENT ON TABLE ferry.conflict_hook IS 'functions of this node that hear of a table''s conflicts; see ferry.set_conflict_hook';
SELECT pg_catalog.pg_extension_config_dump('ferry.conflict_hook', '');

CREATE FUNCTION ferry._set_conflict_hook(rel regclass, function regprocedure, name text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	owner	oid := (SELECT relowner FROM pg_class WHERE oid = rel);
	p		pg_proc;
BEGIN
	IF NOT EXISTS (SELECT FROM ferry.registered_table r WHERE r.relid = rel) THEN
		RAISE EXCEPTION 'table "%" is not under ferry', rel USING ERRCODE = 'undefined_object',
			HINT = 'Add it by ferry.add_table.';
	END IF;
	IF NOT pg_has_role(owner, 'USAGE') THEN
		RAISE EXCEPTION 'must be owner of table %', rel USING ERRCODE = 'insufficient_privilege';
	END IF;
	DELETE FROM ferry.conflict_hook h WHERE h.relid = rel;
	IF name IS NULL THEN
		RETURN;
	END IF;
	SELECT * INTO p FROM pg_proc WHERE oid = function;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'function % does not exist', name USING ERRCODE = 'undefined_function',
			HINT = 'A conflict hook takes one argument of type jsonb.';
	END IF;
	IF p.prokind <> 'f' OR p.proretset OR p.pronargs <> 1 OR p.proargtypes[0] <> 'jsonb'::regtype THEN
		RAISE EXCEPTION 'function % cannot be a conflict hook', function USING ERRCODE = 'invalid_function_definition',
			HINT = 'A conflict hook takes one argument of type jsonb and returns no set.';
	END IF;
	IF NOT has_function_privilege(owner, function, 'EXECUTE') THEN
		RAISE EXCEPTION 'the owner of table % may not execute function %', rel, function USING ERRCODE = 'insufficient_privilege',
			DETAIL = 'Conflict hooks run as the owner of the table.';
	END IF;
	INSERT INTO ferry.conflict_hook (relid, function)
		SELECT rel, format('%I.%I', n.nspname, p.proname) FROM pg_namespace n WHERE n.oid = p.pronamespace;
END $$;
COMMENT ON FUNCTION ferry._set_conflict_hook(regclass, regprocedure, text) IS 'internal: ferry.set_conflict_hook once the function is known';
REVOKE ALL ON FUNCTION ferry._set_conflict_hook(regclass, regprocedure, text) FROM PUBLIC;

/* the function's name is looked up where the caller looks */
CREATE FUNCTION ferry.set_conflict_hook(rel regclass, function text) RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT ferry._set_conflict_hook(rel,
		CASE WHEN function ~ '^[^()]+\(.*\)$' THEN pg_catalog.to_regprocedure(function)
			 WHEN function ~ '^([[:alnum:]_.]|"[^"]+")+$' THEN pg_catalog.to_regprocedure(function || '(jsonb)') END,
		function)
	WHERE rel IS NOT NULL;
END;
COMMENT ON FUNCTION ferry.set_conflict_hook(regclass, text) IS 'a function f(jsonb) of this node that is called with each conflict of a table, in the transaction that resolves it; null takes it away';
REVOKE ALL ON FUNCTION ferry.set_conflict_hook(regclass, text) FROM PUBLIC;

/* --- quarantine --- */

CREATE SEQUENCE ferry.quarantined_id_seq;

CREATE TABLE ferry.quarantined (
	id			bigint PRIMARY KEY DEFAULT nextval('ferry.quarantined_id_seq'),
	at			timestamptz NOT NULL,
	peer		name NOT NULL,
	relation	text NOT NULL,
	key			jsonb NOT NULL,
	state		jsonb,
	frame		bytea NOT NULL,
	sqlstate	text NOT NULL,
	error		text NOT NULL,
	attempts	int NOT NULL,
	vector		text NOT NULL,
	retry_at	timestamptz
);
CREATE INDEX quarantined_retry_at ON ferry.quarantined (retry_at) WHERE retry_at IS NOT NULL;
ALTER SEQUENCE ferry.quarantined_id_seq OWNED BY ferry.quarantined.id;
COMMENT ON TABLE ferry.quarantined IS 'states that could not be merged; see the view ferry.quarantine';
SELECT pg_catalog.pg_extension_config_dump('ferry.quarantined', '');
SELECT pg_catalog.pg_extension_config_dump('ferry.quarantined_id_seq', '');

CREATE VIEW ferry.quarantine AS
	SELECT id, at, peer, relation, key, state, sqlstate, error, attempts, retry_at
	FROM ferry.quarantined;
COMMENT ON VIEW ferry.quarantine IS 'states that could not be merged, with the error; ferry.retry_quarantine() tries them again';
COMMENT ON COLUMN ferry.quarantine.state IS 'the columns outside the key, as text; null if the state is a deletion';
COMMENT ON COLUMN ferry.quarantine.retry_at IS 'when it is tried again by itself, because it waits for a value that is on its way; null: when you call ferry.retry_quarantine()';

CREATE FUNCTION ferry.retry_quarantine() RETURNS bigint
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'ferry_retry_quarantine';
COMMENT ON FUNCTION ferry.retry_quarantine() IS 'merge the quarantined states whose cause is gone; returns how many were merged';
REVOKE ALL ON FUNCTION ferry.retry_quarantine() FROM PUBLIC;

/* --- own writes --- */

CREATE TABLE ferry.own_write (
	relid		oid NOT NULL,
	key			jsonb NOT NULL
);
COMMENT ON TABLE ferry.own_write IS 'internal: rows that merging wrote with a stamp of this node, to be told to all peers';

/* --- states --- */

CREATE FUNCTION ferry._state_frame(schema text, name text, key jsonb, at_least text) RETURNS bytea
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_state_frame';
COMMENT ON FUNCTION ferry._state_frame(text, text, jsonb, text) IS 'internal: the state of a row, which includes the vector at_least, as a frame, for a peer that asks; no bytes if it is dead and forgotten';
REVOKE ALL ON FUNCTION ferry._state_frame(text, text, jsonb, text) FROM PUBLIC;

CREATE FUNCTION ferry.state(rel regclass, key jsonb) RETURNS jsonb
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_state';
COMMENT ON FUNCTION ferry.state(regclass, jsonb) IS 'the state of a row, alive or dead: its values, its last writer, its version vector; null if the key was never seen';

CREATE FUNCTION ferry.merge(rel regclass, state jsonb) RETURNS text
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_merge';
COMMENT ON FUNCTION ferry.merge(regclass, jsonb) IS 'merge a row state as ferry.state() gives it; returns applied, ignored, merged or conflict';

CREATE FUNCTION ferry.explain_merge(rel regclass, state jsonb,
		OUT part text, OUT "column" name, OUT rule text, OUT winner text, OUT local_dot text, OUT remote_dot text,
		OUT local_value jsonb, OUT remote_value jsonb, OUT result jsonb, OUT detail text)
	RETURNS SETOF record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_explain_merge';
COMMENT ON FUNCTION ferry.explain_merge(regclass, jsonb) IS 'what ferry.merge would do with a row state, and why: the state as a whole, the row''s life, and each column; changes nothing';
