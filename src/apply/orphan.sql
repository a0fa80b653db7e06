/* --- orphans: rows whose foreign keys lead nowhere --- */

/*
 * The foreign keys that merging may have left unmet: those of tables under
 * ferry, and those to them, with the pieces of which queries are made (c is
 * the child, p the parent).  One that a partition inherits is its root's.
 */
CREATE VIEW ferry.foreign_key AS
	SELECT f.oid AS constraint_oid, f.conname AS constraint_name,
		   coalesce(pg_catalog.pg_partition_root(f.conrelid), f.conrelid::pg_catalog.regclass) AS relation,
		   coalesce(pg_catalog.pg_partition_root(f.confrelid), f.confrelid::pg_catalog.regclass) AS parent,
		   k.columns, k.parent_columns, k.filled, k.meets, k.missing,
		   (SELECT pg_catalog.format('pg_catalog.jsonb_build_object(%s)', pg_catalog.string_agg(pg_catalog.format('%L, c.%I', a.attname, a.attname), ', ' ORDER BY n))
			FROM pg_catalog.pg_index i
				CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS u(attno, n)
				JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.attno
			WHERE i.indrelid = coalesce(pg_catalog.pg_partition_root(f.conrelid), f.conrelid) AND i.indisprimary AND n <= i.indnkeyatts) AS key
	FROM pg_catalog.pg_constraint f
		CROSS JOIN LATERAL (
			SELECT pg_catalog.array_agg(c.attname::text ORDER BY n) AS columns,
				   pg_catalog.array_agg(p.attname::text ORDER BY n) AS parent_columns,
				   pg_catalog.string_agg(pg_catalog.format('c.%I IS NOT NULL', c.attname), ' AND ' ORDER BY n) AS filled,
				   pg_catalog.string_agg(pg_catalog.format('p.%I OPERATOR(%I.%s) c.%I', p.attname, s.nspname, o.oprname, c.attname), ' AND ' ORDER BY n) AS meets,
				   pg_catalog.format('pg_catalog.jsonb_build_object(%s)', pg_catalog.string_agg(pg_catalog.format('%L, c.%I', p.attname, c.attname), ', ' ORDER BY n)) AS missing
			FROM unnest(f.conkey, f.confkey, f.conpfeqop) WITH ORDINALITY AS u(child, parent, eq, n)
				JOIN pg_catalog.pg_attribute c ON c.attrelid = f.conrelid AND c.attnum = u.child
				JOIN pg_catalog.pg_attribute p ON p.attrelid = f.confrelid AND p.attnum = u.parent
				JOIN pg_catalog.pg_operator o ON o.oid = u.eq
				JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace) k
	WHERE f.contype = 'f' AND f.conparentid = 0
		AND EXISTS (SELECT FROM ferry.registered_table r
					WHERE r.relid IN (coalesce(pg_catalog.pg_partition_root(f.conrelid), f.conrelid),
									  coalesce(pg_catalog.pg_partition_root(f.confrelid), f.confrelid)));
COMMENT ON VIEW ferry.foreign_key IS 'internal: foreign keys of tables under ferry and to them, with the pieces of queries about them';

CREATE FUNCTION ferry.orphans(rel regclass DEFAULT NULL,
		OUT relation regclass, OUT constraint_name name, OUT key jsonb, OUT parent regclass, OUT missing jsonb)
	RETURNS SETOF record
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp SET row_security = off
AS $$
DECLARE
	f	ferry.foreign_key;
BEGIN
	IF rel IS NOT NULL AND NOT EXISTS (SELECT FROM ferry.registered_table r WHERE r.relid = rel) THEN
		RAISE EXCEPTION 'table "%" is not under ferry', rel USING ERRCODE = 'undefined_object',
			HINT = 'Add it by ferry.add_table.';
	END IF;
	FOR f IN SELECT * FROM ferry.foreign_key k WHERE rel IS NULL OR k.relation = rel
			 ORDER BY k.relation::text, k.constraint_name LOOP
		RETURN QUERY EXECUTE format(
			'SELECT $1, $2, %s, $3, %s FROM %s c WHERE %s AND NOT EXISTS (SELECT FROM %s p WHERE %s)',
			coalesce(f.key, 'to_jsonb(c)'), f.missing, f.relation, f.filled, f.parent, f.meets)
			USING f.relation, f.constraint_name, f.parent;
	END LOOP;
END $$;
COMMENT ON FUNCTION ferry.orphans(regclass) IS 'rows of a table, or of all, whose foreign keys lead nowhere: table, constraint, key, and the parent row that is missing';
REVOKE ALL ON FUNCTION ferry.orphans(regclass) FROM PUBLIC;

