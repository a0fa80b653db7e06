/* --- tables under ferry --- */

/* read by the output plugin under historic snapshots; column order is known to table.c */
CREATE TABLE ferry.registered_table (
	relid		regclass PRIMARY KEY,
	tombstones	regclass NOT NULL,
	merge		"char" NOT NULL CHECK (merge IN ('c', 'r')),
	on_delete	"char" NOT NULL CHECK (on_delete IN ('l', 'u')),
	added_at	timestamptz NOT NULL DEFAULT now(),
	is_new		boolean NOT NULL DEFAULT true
) WITH (user_catalog_table = true);
COMMENT ON COLUMN ferry.registered_table.is_new IS 'not copied from every peer yet: that this node holds something of an origin says nothing of this table';
COMMENT ON TABLE ferry.registered_table IS 'tables under ferry; see the view ferry.tables';
SELECT pg_catalog.pg_extension_config_dump('ferry.registered_table', '');

CREATE SEQUENCE ferry.tombstone_seq;
SELECT pg_catalog.pg_extension_config_dump('ferry.tombstone_seq', '');

/* ferry.tombstone_N: the key with its types, collations and operator classes */
CREATE FUNCTION ferry._create_tombstones(rel regclass) RETURNS regclass
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name	text := 'tombstone_' || nextval('ferry.tombstone_seq');
	cols	text;
	keys	text;
BEGIN
	SELECT string_agg(format('k%s %s', k.n, format_type(a.atttypid, a.atttypmod))
					  || CASE WHEN a.attcollation <> 0 THEN
						 (SELECT format(' COLLATE %I.%I', n.nspname, c.collname)
						  FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
						  WHERE c.oid = a.attcollation) ELSE '' END, ', ' ORDER BY k.n),
		   string_agg(format('k%s %I.%I', k.n, n.nspname, o.opcname), ', ' ORDER BY k.n)
	INTO cols, keys
	FROM pg_index i
		CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS k(attno, opclass, n)
		JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attno
		JOIN pg_opclass o ON o.oid = k.opclass
		JOIN pg_namespace n ON n.oid = o.opcnamespace
	WHERE i.indrelid = rel AND i.indisprimary AND k.n <= i.indnkeyatts;
	EXECUTE format('CREATE TABLE ferry.%I (%s, _ferry ferry.version NOT NULL, image bytea)', name, cols);
	EXECUTE format('CREATE UNIQUE INDEX ON ferry.%I (%s)', name, keys);
	EXECUTE format('COMMENT ON TABLE ferry.%I IS %L', name, 'dead rows of ' || rel::text);
	RETURN format('ferry.%I', name)::regclass;
END $$;
COMMENT ON FUNCTION ferry._create_tombstones(regclass) IS 'internal: the table that keeps a table''s dead rows';
REVOKE ALL ON FUNCTION ferry._create_tombstones(regclass) FROM PUBLIC;

/* raises unless the table can come under ferry */
CREATE FUNCTION ferry._check_table(rel regclass) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c	pg_class;
	pk	pg_index;
BEGIN
	SELECT * INTO c FROM pg_class WHERE oid = rel;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'relation with OID % does not exist', rel::oid USING ERRCODE = 'undefined_table';
	END IF;
	IF c.relkind NOT IN ('r', 'p') THEN
		RAISE EXCEPTION '"%" is not a table', c.relname USING ERRCODE = 'wrong_object_type',
			HINT = 'Only ordinary and partitioned tables can come under ferry.';
	END IF;
	IF c.relnamespace IN ('pg_catalog'::regnamespace, 'ferry'::regnamespace, 'information_schema'::regnamespace) THEN
		RAISE EXCEPTION 'table "%" is a system table', c.relname USING ERRCODE = 'wrong_object_type';
	END IF;
	IF c.relpersistence <> 'p' THEN
		RAISE EXCEPTION 'table "%" is %', c.relname,
				CASE c.relpersistence WHEN 't' THEN 'temporary' ELSE 'unlogged' END
			USING ERRCODE = 'wrong_object_type',
			DETAIL = 'Its changes are not in the write-ahead log.',
			HINT = 'Use a permanent, logged table (ALTER TABLE ... SET LOGGED).';
	END IF;
	IF c.relispartition THEN
		RAISE EXCEPTION 'table "%" is a partition', c.relname USING ERRCODE = 'wrong_object_type',
			HINT = format('Add the partitioned table %s; its partitions come with it.', pg_partition_root(rel));
	END IF;
	IF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = rel)
	   OR (c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = rel)) THEN
		RAISE EXCEPTION 'table "%" takes part in inheritance', c.relname USING ERRCODE = 'feature_not_supported',
			HINT = 'Use declarative partitioning.';
	END IF;
	IF NOT pg_has_role(c.relowner, 'USAGE') THEN
		RAISE EXCEPTION 'must be owner of table %', c.relname USING ERRCODE = 'insufficient_privilege';
	END IF;
	IF EXISTS (SELECT FROM ferry.registered_table r WHERE r.relid = rel) THEN
		RAISE EXCEPTION 'table "%" is already under ferry', c.relname USING ERRCODE = 'duplicate_object';
	END IF;
	IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = rel AND attname = '_ferry' AND NOT attisdropped) THEN
		RAISE EXCEPTION 'table "%" has a column "_ferry" already', c.relname USING ERRCODE = 'duplicate_column',
			HINT = 'Rename or drop the column.';
	END IF;
	SELECT * INTO pk FROM pg_index WHERE indrelid = rel AND indisprimary;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'table "%" has no primary key', c.relname USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Rows are matched by their primary key: add one by ALTER TABLE ... ADD PRIMARY KEY.';
	END IF;
	IF NOT pk.indimmediate OR NOT pk.indisvalid THEN
		RAISE EXCEPTION 'primary key of table "%" is deferrable or not valid', c.relname
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Make the primary key NOT DEFERRABLE.';
	END IF;
END $$;
COMMENT ON FUNCTION ferry._check_table(regclass) IS 'internal: raise unless the table can come under ferry';
REVOKE ALL ON FUNCTION ferry._check_table(regclass) FROM PUBLIC;

CREATE FUNCTION ferry.add_table(rel regclass, merge text DEFAULT 'column', on_delete text DEFAULT 'last_wins')
	RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	tombs regclass;
BEGIN
	PERFORM ferry._require_node();
	IF merge NOT IN ('column', 'row') THEN
		RAISE EXCEPTION 'unrecognized merge mode: "%"', merge USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Use "column" or "row".';
	END IF;
	IF on_delete NOT IN ('last_wins', 'update_wins') THEN
		RAISE EXCEPTION 'unrecognized policy of deletion: "%"', on_delete USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Use "last_wins" or "update_wins".';
	END IF;
	PERFORM ferry._check_table(rel);
	tombs := ferry._create_tombstones(rel);
	EXECUTE format('ALTER TABLE %s ADD COLUMN _ferry ferry.version NOT NULL DEFAULT ferry._stamp()', rel);
	EXECUTE format('COMMENT ON COLUMN %s._ferry IS %L', rel, 'who wrote this row, and when: kept by ferry');
	/* the names begin with ~ so that they fire after everybody else's */
	EXECUTE format('CREATE TRIGGER "~ferry_row" BEFORE INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION ferry._row_trigger()', rel);
	EXECUTE format('CREATE TRIGGER "~ferry_truncate" BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION ferry._truncate_trigger()', rel);
	INSERT INTO ferry.registered_table (relid, tombstones, merge, on_delete)
		VALUES (rel, tombs, left(merge, 1)::"char", left(on_delete, 1)::"char");
	PERFORM ferry._config_changed();
END $$;
COMMENT ON FUNCTION ferry.add_table(regclass, text, text) IS 'bring a table under ferry: merge by column or by row, and who wins between a deletion and a concurrent change';
REVOKE ALL ON FUNCTION ferry.add_table(regclass, text, text) FROM PUBLIC;

CREATE FUNCTION ferry.drop_table(rel regclass) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	tombs regclass;
BEGIN
	DELETE FROM ferry.registered_table r WHERE r.relid = rel RETURNING tombstones INTO tombs;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'table "%" is not under ferry', rel USING ERRCODE = 'undefined_object';
	END IF;
	EXECUTE format('DROP TRIGGER IF EXISTS "~ferry_row" ON %s', rel);
	EXECUTE format('DROP TRIGGER IF EXISTS "~ferry_truncate" ON %s', rel);
	EXECUTE format('ALTER TABLE %s DROP COLUMN IF EXISTS _ferry', rel);
	EXECUTE format('DROP TABLE %s', tombs);
	DELETE FROM ferry.copied_table c WHERE c.relid = rel;
	DELETE FROM ferry.column_merge c WHERE c.relid = rel;
	DELETE FROM ferry.range_tombstone t WHERE t.relid = rel;
	DELETE FROM ferry.conflict_hook h WHERE h.relid = rel;
	DELETE FROM ferry.orphan_note o WHERE o.relid = rel;
	PERFORM ferry._config_changed();
END $$;
COMMENT ON FUNCTION ferry.drop_table(regclass) IS 'take a table out of ferry: it is left as it was before ferry.add_table';
REVOKE ALL ON FUNCTION ferry.drop_table(regclass) FROM PUBLIC;

/* the rewrite of ALTER TYPE is no write of rows: nothing is stamped, nothing is sent */
CREATE FUNCTION ferry.tidy_table(rel regclass) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM ferry.registered_table r WHERE r.relid = rel) THEN
		RAISE EXCEPTION 'table "%" is not under ferry', rel USING ERRCODE = 'undefined_object',
			HINT = 'Add it by ferry.add_table.';
	END IF;
	IF NOT EXISTS (SELECT FROM pg_attribute a JOIN pg_attribute v ON v.attrelid = a.attrelid AND v.attname = '_ferry'
				   WHERE a.attrelid = rel AND a.attnum > v.attnum AND NOT a.attisdropped) THEN
		RETURN;
	END IF;
	EXECUTE format('ALTER TABLE %s ADD COLUMN _ferry_tidy ferry.version', rel);
	EXECUTE format('ALTER TABLE %s ALTER COLUMN _ferry_tidy TYPE ferry.version USING _ferry', rel);
	EXECUTE format('ALTER TABLE %s DROP COLUMN _ferry', rel);
	EXECUTE format('ALTER TABLE %s RENAME COLUMN _ferry_tidy TO _ferry', rel);
	EXECUTE format('ALTER TABLE %s ALTER COLUMN _ferry SET DEFAULT ferry._stamp(), ALTER COLUMN _ferry SET NOT NULL', rel);
	EXECUTE format('COMMENT ON COLUMN %s._ferry IS %L', rel, 'who wrote this row, and when: kept by ferry');
	PERFORM ferry._config_changed();
END $$;
COMMENT ON FUNCTION ferry.tidy_table(regclass) IS 'move the column _ferry behind columns that were added later; rewrites the table';
REVOKE ALL ON FUNCTION ferry.tidy_table(regclass) FROM PUBLIC;

CREATE VIEW ferry.tables AS
	SELECT r.relid AS relation,
		   CASE r.merge WHEN 'c' THEN 'column' ELSE 'row' END AS merge,
		   CASE r.on_delete WHEN 'l' THEN 'last_wins' ELSE 'update_wins' END AS on_delete,
		   (SELECT array_agg(a.attname ORDER BY k.n)
			FROM pg_catalog.pg_index i
				CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attno, n)
				JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attno
			WHERE i.indrelid = r.relid AND i.indisprimary AND k.n <= i.indnkeyatts) AS key,
		   r.tombstones, r.added_at
	FROM ferry.registered_table r;
COMMENT ON VIEW ferry.tables IS 'the tables under ferry, how they merge, and where their dead rows are kept';
