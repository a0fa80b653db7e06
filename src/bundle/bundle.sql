/* --- bundles: states as a file that is carried by hand --- */

CREATE TABLE ferry.bundle_import (
	bundle_id	uuid PRIMARY KEY,
	digest		bytea NOT NULL,
	source_id	bigint NOT NULL,
	source		name NOT NULL,
	created_at	timestamptz NOT NULL,
	started_at	timestamptz NOT NULL DEFAULT clock_timestamp(),
	finished_at	timestamptz,
	blocks		bigint NOT NULL,
	blocks_done	bigint NOT NULL DEFAULT 0,
	tables		bigint NOT NULL,
	states		bigint NOT NULL,
	applied		bigint NOT NULL DEFAULT 0,
	merged		bigint NOT NULL DEFAULT 0,
	ignored		bigint NOT NULL DEFAULT 0,
	conflicts	bigint NOT NULL DEFAULT 0,
	quarantined	bigint NOT NULL DEFAULT 0,
	begins		text,
	reaches		text,
	reached		boolean NOT NULL DEFAULT false,
	signed_by	text
);
COMMENT ON TABLE ferry.bundle_import IS 'bundles that were imported, or are: how far, and what became of their states; see the view ferry.bundles';
SELECT pg_catalog.pg_extension_config_dump('ferry.bundle_import', '');

CREATE VIEW ferry.bundles AS
	SELECT bundle_id, source, created_at, started_at, finished_at, blocks, blocks_done, tables, states,
		   applied, merged, ignored, conflicts, quarantined, begins, reaches, reached, signed_by
	FROM ferry.bundle_import;
COMMENT ON VIEW ferry.bundles IS 'bundles that were imported, or are: how far, and what became of their states';
COMMENT ON COLUMN ferry.bundles.created_at IS 'when it was written, by its writer''s clock';
COMMENT ON COLUMN ferry.bundles.finished_at IS 'null while it is not merged whole: import it again, it goes on';
COMMENT ON COLUMN ferry.bundles.begins IS 'the vector since which it holds all; null: from the beginning';
COMMENT ON COLUMN ferry.bundles.reached IS 'this node holds now what the bundle reaches; false while bundles before it are missing';
COMMENT ON COLUMN ferry.bundles.reaches IS 'the vector that it brings a node to which holds what it begins at';
COMMENT ON COLUMN ferry.bundles.signed_by IS 'the trusted key that signed it; null if signatures are not verified here';

CREATE FUNCTION ferry.known_of(node name) RETURNS text
	LANGUAGE sql STRICT STABLE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	SELECT nullif(h.vector, '') FROM ferry.member m JOIN ferry.holding h ON h.node_id = m.node_id WHERE m.name = known_of.node;
	END;
COMMENT ON FUNCTION ferry.known_of(name) IS 'what a node is known to hold, by its bundles and by links; null if nothing is known: what to export a bundle for it since';
REVOKE ALL ON FUNCTION ferry.known_of(name) FROM PUBLIC;

CREATE FUNCTION ferry.bundle(since text DEFAULT NULL) RETURNS SETOF bytea
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'ferry_bundle';
COMMENT ON FUNCTION ferry.bundle(text) IS 'what this node holds and a node with that vector lacks, as a bundle: \copy (SELECT ferry.bundle()) TO ''file'' (FORMAT binary)';
REVOKE ALL ON FUNCTION ferry.bundle(text) FROM PUBLIC;

CREATE FUNCTION ferry.export_bundle(file text, since text DEFAULT NULL,
		OUT bundle_id uuid, OUT begins text, OUT reaches text, OUT tables bigint, OUT states bigint, OUT deleted bigint,
		OUT blocks bigint, OUT bytes bigint, OUT raw_bytes bigint, OUT cipher text, OUT signature text)
	RETURNS record
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'ferry_export_bundle';
COMMENT ON FUNCTION ferry.export_bundle(text, text) IS 'write a bundle into a new file of the server; returns what is in it';
REVOKE ALL ON FUNCTION ferry.export_bundle(text, text) FROM PUBLIC;

CREATE FUNCTION ferry.import_bundle(file text, adopt_group boolean DEFAULT false,
		OUT bundle_id uuid, OUT source name, OUT begins text, OUT reaches text, OUT reached boolean,
		OUT tables bigint, OUT states bigint, OUT blocks bigint,
		OUT applied bigint, OUT merged bigint, OUT ignored bigint, OUT conflicts bigint, OUT quarantined bigint,
		OUT signed_by text)
	RETURNS record
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'ferry_import_bundle';
COMMENT ON FUNCTION ferry.import_bundle(text, boolean) IS 'merge a bundle from a file of the server, after it was verified whole; adopt_group: its group and this node''s are one from now on; returns what became of its states';
REVOKE ALL ON FUNCTION ferry.import_bundle(text, boolean) FROM PUBLIC;

/* --- a way in for clients --- */

CREATE TABLE ferry.bundle_part (
	courier		name NOT NULL,
	bundle_id	uuid NOT NULL,
	number		bigint NOT NULL,
	part		bytea NOT NULL,
	brought_at	timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (courier, bundle_id, number)
);
ALTER TABLE ferry.bundle_part ALTER COLUMN part SET STORAGE EXTERNAL;
COMMENT ON TABLE ferry.bundle_part IS 'parts of bundles that clients brought, until they are imported';

CREATE FUNCTION ferry._bundle_part_name(part bytea, OUT bundle_id uuid, OUT number bigint)
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'ferry_bundle_part_name';
COMMENT ON FUNCTION ferry._bundle_part_name(bytea) IS 'internal: of which bundle a part says that it is, and its number';

CREATE VIEW ferry.bundle_intake AS
	SELECT part FROM ferry.bundle_part WHERE false;
COMMENT ON VIEW ferry.bundle_intake IS 'where clients bring a bundle: \copy ferry.bundle_intake FROM ''file'' (FORMAT binary), then ferry.import_intake()';

/* a part that comes again replaces the first: a broken upload is simply done again */
CREATE FUNCTION ferry._take_bundle_part() RETURNS trigger
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO ferry.bundle_part (courier, bundle_id, number, part)
		SELECT session_user, n.bundle_id, n.number, NEW.part FROM ferry._bundle_part_name(NEW.part) n
		ON CONFLICT (courier, bundle_id, number) DO UPDATE SET part = excluded.part, brought_at = excluded.brought_at;
	RETURN NEW;
END $$;
COMMENT ON FUNCTION ferry._take_bundle_part() IS 'internal: keep a part that a client brought';
REVOKE ALL ON FUNCTION ferry._take_bundle_part() FROM PUBLIC;
CREATE TRIGGER take INSTEAD OF INSERT ON ferry.bundle_intake FOR EACH ROW EXECUTE FUNCTION ferry._take_bundle_part();

/* what this session's user has brought */
CREATE FUNCTION ferry.intake(OUT bundle_id uuid, OUT parts bigint, OUT bytes bigint, OUT last_brought_at timestamptz)
	RETURNS SETOF record
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	SELECT p.bundle_id, count(*), sum(octet_length(p.part)), max(p.brought_at)
	FROM ferry.bundle_part p WHERE p.courier = session_user GROUP BY 1 ORDER BY 4;
	END;
COMMENT ON FUNCTION ferry.intake() IS 'the bundles that the session''s user has brought and not imported yet';

CREATE FUNCTION ferry.import_intake(bundle uuid DEFAULT NULL, adopt_group boolean DEFAULT false,
		OUT bundle_id uuid, OUT source name, OUT begins text, OUT reaches text, OUT reached boolean,
		OUT tables bigint, OUT states bigint, OUT blocks bigint,
		OUT applied bigint, OUT merged bigint, OUT ignored bigint, OUT conflicts bigint, OUT quarantined bigint,
		OUT signed_by text)
	RETURNS record
	LANGUAGE C VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'ferry_import_intake';
COMMENT ON FUNCTION ferry.import_intake(uuid, boolean) IS 'merge a bundle that the session''s user has brought into ferry.bundle_intake; like import_bundle';
REVOKE ALL ON FUNCTION ferry.import_intake(uuid, boolean) FROM PUBLIC;

CREATE FUNCTION ferry.discard_intake(bundle uuid) RETURNS bigint
	LANGUAGE sql STRICT VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	WITH gone AS (DELETE FROM ferry.bundle_part p WHERE p.courier = session_user AND p.bundle_id = discard_intake.bundle RETURNING 1)
	SELECT count(*) FROM gone;
	END;
COMMENT ON FUNCTION ferry.discard_intake(uuid) IS 'forget a bundle that the session''s user has brought; returns how many parts there were';
REVOKE ALL ON FUNCTION ferry.discard_intake(uuid) FROM PUBLIC;
