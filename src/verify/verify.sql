/* --- verification --- */

CREATE SEQUENCE ferry.verify_run_seq AS int CYCLE;

CREATE TABLE ferry.verified (
	peer			name NOT NULL,
	peer_since		timestamptz NOT NULL,
	relid			oid NOT NULL,
	table_since		timestamptz NOT NULL,
	run				bigint NOT NULL,
	deep			boolean NOT NULL,
	started_at		timestamptz NOT NULL,
	finished_at		timestamptz NOT NULL,
	rows_compared	bigint NOT NULL,
	rows_known		bigint NOT NULL,
	ranges			bigint NOT NULL,
	bytes			bigint NOT NULL,
	differing		bigint NOT NULL,
	repaired		bigint NOT NULL,
	mismatched		bigint NOT NULL,
	undecided		bigint NOT NULL,
	error			text,
	proven_equal_at	timestamptz,
	proven_deep_at	timestamptz,
	orphans			bigint,
	divergences		bigint NOT NULL,
	PRIMARY KEY (peer, relid)
);
COMMENT ON TABLE ferry.verified IS 'what the last verification of each peer and table found; see the view ferry.verification';
COMMENT ON COLUMN ferry.verified.peer_since IS 'created_at of that peer: a name, for one that was dropped and came again is another; never compared with a clock';
COMMENT ON COLUMN ferry.verified.table_since IS 'added_at of that table, likewise';

CREATE TABLE ferry.verify_answer (LIKE ferry.verified);
COMMENT ON TABLE ferry.verify_answer IS 'what runs on demand found, until ferry.verify() returns it: other runs write to ferry.verified meanwhile';

CREATE TABLE ferry.verify_known (
	asker	bigint,
	relid	oid,
	parts	bytea NOT NULL,
	PRIMARY KEY (asker, relid)
);
COMMENT ON TABLE ferry.verify_known IS 'fingerprints of parts of tables, with the LSN of the page of the visibility map under which they hold (src/verify/known.c)';
REVOKE ALL ON ferry.verify_known FROM PUBLIC;

CREATE TABLE ferry.verify_key (
	key		bytea NOT NULL,
	since	timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ferry.verify_key IS 'the hash key under which this node compares by schedule, for a day';
REVOKE ALL ON ferry.verify_key FROM PUBLIC;

CREATE FUNCTION ferry._verify_due() RETURNS timestamptz
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_verify_due';
COMMENT ON FUNCTION ferry._verify_due() IS 'internal: when the next verification by schedule is due; null if never';

CREATE VIEW ferry.verification AS
	SELECT p.name AS peer, r.relid AS relation, v.started_at AS last_run, v.deep, v.rows_compared, v.rows_known, v.ranges, v.bytes,
		   v.differing, v.repaired, v.mismatched, v.undecided, v.finished_at - v.started_at AS duration, v.error,
		   v.proven_equal_at, v.proven_deep_at, coalesce(v.divergences, 0) AS divergences, v.orphans,
		   ferry._verify_due() AS next_run
	FROM ferry.peer p
		CROSS JOIN ferry.registered_table r
		LEFT JOIN ferry.verified v ON v.peer = p.name AND v.relid = r.relid
			AND v.peer_since = p.created_at AND v.table_since = r.added_at;
COMMENT ON VIEW ferry.verification IS 'per peer and table: the last comparison, what it found, and since when both are proven equal';
COMMENT ON COLUMN ferry.verification.rows_compared IS 'rows and tombstones of this node';
COMMENT ON COLUMN ferry.verification.rows_known IS 'of those, rows that nobody had touched since an earlier run by schedule, so that they were not read again';
COMMENT ON COLUMN ferry.verification.ranges IS 'fingerprints of ranges that were compared';
COMMENT ON COLUMN ferry.verification.bytes IS 'bytes exchanged with the peer';
COMMENT ON COLUMN ferry.verification.differing IS 'rows that one side should have held and did not, or held with another content';
COMMENT ON COLUMN ferry.verification.repaired IS 'of those, mended on either side';
COMMENT ON COLUMN ferry.verification.mismatched IS 'of those, the same version with another content: a value was changed behind ferry''s back';
COMMENT ON COLUMN ferry.verification.undecided IS 'rows that could not be judged because one side is behind the other, or the table''s first copy is not done; they are left to the next run';
COMMENT ON COLUMN ferry.verification.proven_equal_at IS 'both sides held the same states then, but for writes that were on their way';
COMMENT ON COLUMN ferry.verification.proven_deep_at IS 'the same with every value compared';
COMMENT ON COLUMN ferry.verification.orphans IS 'foreign keys that refer to rows that are not here, as counted by the last run on demand or of all values';
COMMENT ON COLUMN ferry.verification.divergences IS 'differing rows found in all runs together';

CREATE FUNCTION ferry._verify_run(run bigint, rel oid, peer_id bigint, repair boolean, deep boolean) RETURNS void
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_verify_run';
COMMENT ON FUNCTION ferry._verify_run(bigint, oid, bigint, boolean, boolean) IS 'internal: run a verifier and wait for its end';
REVOKE ALL ON FUNCTION ferry._verify_run(bigint, oid, bigint, boolean, boolean) FROM PUBLIC;

CREATE FUNCTION ferry.verify(rel regclass DEFAULT NULL, peer name DEFAULT NULL, repair boolean DEFAULT true,
							 deep boolean DEFAULT false)
	RETURNS SETOF ferry.verification
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	id		bigint := 0;
	this	bigint := nextval('ferry.verify_run_seq');
	peers	name[];
	tables	oid[];
	lacking	record;
BEGIN
	PERFORM ferry._require_node();
	IF rel IS NOT NULL AND NOT EXISTS (SELECT FROM ferry.registered_table r WHERE r.relid = verify.rel) THEN
		RAISE EXCEPTION 'table "%" is not under ferry', rel USING ERRCODE = 'undefined_object',
			HINT = 'Add it by ferry.add_table; of a partitioned table name the root.';
	END IF;
	IF verify.peer IS NOT NULL THEN
		SELECT p.node_id INTO id FROM ferry.peer p WHERE p.name = verify.peer;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'peer "%" does not exist', verify.peer USING ERRCODE = 'undefined_object';
		END IF;
	END IF;
	peers := ARRAY(SELECT p.name FROM ferry.peer p WHERE id IN (0, p.node_id));
	tables := ARRAY(SELECT r.relid FROM ferry.registered_table r WHERE verify.rel IS NULL OR r.relid = verify.rel);
	IF peers = '{}' THEN
		RAISE EXCEPTION 'there is no peer to verify with' USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'See ferry.peers.';
	ELSIF tables = '{}' THEN
		RAISE EXCEPTION 'there is no table to verify' USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Add tables by ferry.add_table.';
	END IF;
	PERFORM ferry._verify_run(this, coalesce(rel::oid, 0), id, coalesce(verify.repair, true), coalesce(verify.deep, false));

	/* each pair that there was, and still is, has an answer; else the verifier has died */
	SELECT p.name AS peer, r.relid AS rel INTO lacking
	FROM ferry.peer p CROSS JOIN ferry.registered_table r
	WHERE p.name = ANY (peers) AND r.relid = ANY (tables)
		AND NOT EXISTS (SELECT FROM ferry.verify_answer a WHERE a.run = this AND a.peer = p.name AND a.relid = r.relid)
	ORDER BY p.name, r.relid::text LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'verification ended before everything was compared' USING ERRCODE = 'operator_intervention',
			DETAIL = format('Table "%s" was not compared with peer "%s".', lacking.rel, lacking.peer),
			HINT = 'The server log says why; what was compared is in ferry.verification.';
	END IF;
	RETURN QUERY
		WITH v AS (DELETE FROM ferry.verify_answer a WHERE a.run = this RETURNING a.*)
		SELECT v.peer, v.relid::regclass, v.started_at, v.deep, v.rows_compared, v.rows_known, v.ranges, v.bytes,
			   v.differing, v.repaired, v.mismatched, v.undecided, v.finished_at - v.started_at, v.error,
			   v.proven_equal_at, v.proven_deep_at, v.divergences, v.orphans, ferry._verify_due()
		FROM v ORDER BY v.peer, v.relid::regclass::text;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'nothing was compared' USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'The peers or the tables were dropped meanwhile.';
	END IF;
END $$;
COMMENT ON FUNCTION ferry.verify(regclass, name, boolean, boolean) IS 'compare a table (or all) with a peer (or all) now, and repair what differs on both sides; deep: the values too';
REVOKE ALL ON FUNCTION ferry.verify(regclass, name, boolean, boolean) FROM PUBLIC;

CREATE FUNCTION ferry._heal(rel regclass, key jsonb, keep_local boolean, dsn text) RETURNS void
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_heal';
COMMENT ON FUNCTION ferry._heal(regclass, jsonb, boolean, text) IS 'internal: write one side''s content of a row anew';
REVOKE ALL ON FUNCTION ferry._heal(regclass, jsonb, boolean, text) FROM PUBLIC;

CREATE FUNCTION ferry.heal(rel regclass, key jsonb, choice text, peer name DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	other	name := $4;
	dsn		text;
BEGIN
	PERFORM ferry._require_node();
	IF rel IS NULL OR $2 IS NULL OR choice IS NULL OR choice NOT IN ('local', 'remote') THEN
		RAISE EXCEPTION 'unrecognized choice: "%"', choice USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Use "local" for the row as it is here, "remote" for the peer''s, with a table and a key.';
	END IF;
	IF other IS NULL THEN
		SELECT c.peer INTO other FROM ferry.conflict c
		WHERE c.relid = rel AND c.key = $2 AND c.kind = 'divergence' AND c.winner = 'none'
			AND c.rule = 'same_version'
		ORDER BY c.id DESC LIMIT 1;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'no undecided divergence of this row is on record' USING ERRCODE = 'no_data_found',
				HINT = 'Call ferry.verify(deep => true), or name the peer.';
		END IF;
	END IF;
	SELECT p.dsn INTO dsn FROM ferry.peer p WHERE p.name = other;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'peer "%" does not exist', other USING ERRCODE = 'undefined_object';
	END IF;
	PERFORM ferry._heal(rel, $2, choice = 'local', dsn);
	UPDATE ferry.conflict c SET winner = choice, rule = 'ferry.heal'
		WHERE c.relid = rel AND c.key = $2 AND c.kind = 'divergence' AND c.winner = 'none' AND c.rule = 'same_version';
END $$;
COMMENT ON FUNCTION ferry.heal(regclass, jsonb, text, name) IS 'where two nodes hold different values under one version: make the local or the remote row a new write, which then goes everywhere';
REVOKE ALL ON FUNCTION ferry.heal(regclass, jsonb, text, name) FROM PUBLIC;

/* --- what a verifying peer asks --- */

CREATE FUNCTION ferry._verify_common(schema text, name text, columns text[], types text[]) RETURNS bytea
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_verify_common';
COMMENT ON FUNCTION ferry._verify_common(text, text, text[], text[]) IS 'internal: which of these columns are here too';
REVOKE ALL ON FUNCTION ferry._verify_common(text, text, text[], text[]) FROM PUBLIC;

CREATE FUNCTION ferry._verify_root(schema text, name text, key bytea, columns text[], with_value boolean[],
									 settled bytea, paced boolean, asker bigint)
	RETURNS bytea
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'ferry_verify_root';
COMMENT ON FUNCTION ferry._verify_root(text, text, bytea, text[], boolean[], bytea, boolean, bigint) IS 'internal: the root of a tree of fingerprints, if most of the table is known from before; else null';
REVOKE ALL ON FUNCTION ferry._verify_root(text, text, bytea, text[], boolean[], bytea, boolean, bigint) FROM PUBLIC;

CREATE FUNCTION ferry._verify_scan(schema text, name text, key bytea, columns text[], with_value boolean[],
									 settled bytea, depth int, paced boolean, asker bigint DEFAULT 0)
	RETURNS bytea
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'ferry_verify_scan';
COMMENT ON FUNCTION ferry._verify_scan(text, text, bytea, text[], boolean[], bytea, int, boolean, bigint) IS 'internal: read a table into a tree of fingerprints; the root';
REVOKE ALL ON FUNCTION ferry._verify_scan(text, text, bytea, text[], boolean[], bytea, int, boolean, bigint) FROM PUBLIC;

CREATE FUNCTION ferry._verify_children(level int, nodes bytea) RETURNS bytea
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_verify_children';
COMMENT ON FUNCTION ferry._verify_children(int, bytea) IS 'internal: the fingerprints below these nodes of the tree';
REVOKE ALL ON FUNCTION ferry._verify_children(int, bytea) FROM PUBLIC;

CREATE FUNCTION ferry._verify_items(leaves bytea, max int) RETURNS bytea
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_verify_items';
COMMENT ON FUNCTION ferry._verify_items(bytea, int) IS 'internal: the items of these leaves of the tree';
REVOKE ALL ON FUNCTION ferry._verify_items(bytea, int) FROM PUBLIC;

CREATE FUNCTION ferry._verify_states(keys bytea) RETURNS bytea
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_verify_states';
COMMENT ON FUNCTION ferry._verify_states(bytea) IS 'internal: the states of these keys, as a frame';
REVOKE ALL ON FUNCTION ferry._verify_states(bytea) FROM PUBLIC;

CREATE FUNCTION ferry._verify_take(peer name, peer_id bigint, frame bytea, repair boolean, patience int) RETURNS bytea
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'ferry_verify_take';
COMMENT ON FUNCTION ferry._verify_take(name, bigint, bytea, boolean, int) IS 'internal: judge the peer''s states and merge what is missing here';
REVOKE ALL ON FUNCTION ferry._verify_take(name, bigint, bytea, boolean, int) FROM PUBLIC;
