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

CREATE VIEW ferry.foreign_keys AS
	SELECT k.relation, k.constraint_name, k.columns, k.parent, k.parent_columns,
		   CASE c.kind WHEN 'V' THEN 'revive_parent' WHEN 'R' THEN 'remove_child' ELSE 'keep' END AS orphans
	FROM ferry.foreign_key k LEFT JOIN ferry.column_merge c ON c.relid = k.relation AND c.attnum = 0;
COMMENT ON VIEW ferry.foreign_keys IS 'foreign keys of tables under ferry and to them, and what becomes of rows whose parents died elsewhere (ferry.set_orphans)';

CREATE FUNCTION ferry.set_orphans(rel regclass, policy text) RETURNS void
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM ferry._require_node();
	IF NOT EXISTS (SELECT FROM ferry.registered_table r WHERE r.relid = rel) THEN
		RAISE EXCEPTION 'table "%" is not under ferry', rel USING ERRCODE = 'undefined_object',
			HINT = 'Add it by ferry.add_table.';
	END IF;
	IF NOT pg_has_role((SELECT relowner FROM pg_class WHERE oid = rel), 'USAGE') THEN
		RAISE EXCEPTION 'must be owner of table %', rel USING ERRCODE = 'insufficient_privilege';
	END IF;
	IF policy NOT IN ('keep', 'revive_parent', 'remove_child') THEN
		RAISE EXCEPTION 'unrecognized policy of orphans: "%"', policy USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Use "keep", "revive_parent" or "remove_child".';
	END IF;
	IF policy <> 'keep' AND NOT EXISTS (SELECT FROM ferry.foreign_key k WHERE k.relation = rel) THEN
		RAISE EXCEPTION 'table "%" has no foreign key', rel USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Name the table whose rows refer to others.';
	END IF;
	PERFORM ferry._put_strategy(rel, 0::int2,
		CASE policy WHEN 'keep' THEN 'K' WHEN 'revive_parent' THEN 'V' ELSE 'R' END::"char", NULL, ferry._stamp());
END $$;
COMMENT ON FUNCTION ferry.set_orphans(regclass, text) IS 'what becomes of a table''s rows whose parents died elsewhere, on all nodes: keep, revive_parent or remove_child';
REVOKE ALL ON FUNCTION ferry.set_orphans(regclass, text) FROM PUBLIC;

/* --- orphans: judged (apply/orphan.c says when and why) --- */

/*
 * image: the row that is gone or, if returned, that lives again; null: many.  wanted:
 * the vector that this node must hold before; after: the stamp up to which it must hold
 * everything that any member wrote.
 */
CREATE TABLE ferry.orphan_note (
	relid		oid NOT NULL,
	image		jsonb,
	wanted		text NOT NULL,
	returned	boolean NOT NULL,
	after		bigint NOT NULL
);
COMMENT ON TABLE ferry.orphan_note IS 'internal: rows that died by merging and that others may refer to, and rows that live again and may refer to dead ones';

CREATE FUNCTION ferry._holds(wanted text, dropped bigint[]) RETURNS boolean
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_holds';
COMMENT ON FUNCTION ferry._holds(text, bigint[]) IS 'internal: does this node hold that much of every node?';
REVOKE ALL ON FUNCTION ferry._holds(text, bigint[]) FROM PUBLIC;

CREATE FUNCTION ferry._held_until(members bigint[]) RETURNS bigint
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_held_until';
COMMENT ON FUNCTION ferry._held_until(bigint[]) IS 'internal: the stamp up to which this node holds everything of each of these';
REVOKE ALL ON FUNCTION ferry._held_until(bigint[]) FROM PUBLIC;

/*
 * Has the parent that a row with this state refers to been here?  It has, if this node
 * gave the row its foreign key, or holds everything up to then.  Returns 0, or up to
 * which stamp everything must be here before that is known.  Of a key's columns, and
 * of rows that merge as a whole, it is not on record who wrote them.
 */
CREATE FUNCTION ferry._parent_known_after(f ferry.foreign_keys, s jsonb, until bigint) RETURNS bigint
	LANGUAGE sql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(max(w.hlc) FILTER (WHERE NOT w.is_ours AND w.hlc > until), 0)
	FROM (SELECT n.node_id::text AS me, r.merge = 'c' AS by_column
		  FROM ferry.local_node n, ferry.registered_table r WHERE r.relid = f.relation) x
		CROSS JOIN unnest(f.columns) AS col
		CROSS JOIN LATERAL (SELECT coalesce(CASE WHEN by_column THEN s->'columns'->col END, s->'last') AS dot) d
		CROSS JOIN LATERAL (SELECT (d.dot->>0)::bigint AS hlc,
			CASE WHEN by_column AND NOT s->'key' ? col THEN d.dot->>1 = me
				 ELSE NOT EXISTS (SELECT FROM jsonb_object_keys(s->'vv') k WHERE k <> me) END AS is_ours) w;
$$;
COMMENT ON FUNCTION ferry._parent_known_after(ferry.foreign_keys, jsonb, bigint) IS 'internal: is it certain that a parent that is not here is dead, and not on its way?';
REVOKE ALL ON FUNCTION ferry._parent_known_after(ferry.foreign_keys, jsonb, bigint) FROM PUBLIC;

CREATE FUNCTION ferry._record_orphan(rel regclass, key jsonb, columns text[], image jsonb, local_dot text, remote_dot text,
		winner text, rule text, constraint_name text) RETURNS void
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_record_orphan';
COMMENT ON FUNCTION ferry._record_orphan(regclass, jsonb, text[], jsonb, text, text, text, text, text) IS 'internal: put an orphan on record as a conflict';
REVOKE ALL ON FUNCTION ferry._record_orphan(regclass, jsonb, text[], jsonb, text, text, text, text, text) FROM PUBLIC;

CREATE FUNCTION ferry._key_columns(rel regclass) RETURNS text[]
	LANGUAGE sql STABLE PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT t.key::text[] FROM ferry.tables t WHERE t.relation = rel;
END;
COMMENT ON FUNCTION ferry._key_columns(regclass) IS 'internal: the columns of a table''s primary key';
REVOKE ALL ON FUNCTION ferry._key_columns(regclass) FROM PUBLIC;

/*
 * A row dies or lives again by a write of this node that changes nothing else: its
 * state, with another life and a dot of ours, merged.  image says what a tombstone
 * without values does not.  Returns false if there was nothing to do, or no image, or if
 * it clashes with another row: who calls rolls back what such a clash did.
 */
CREATE FUNCTION ferry._set_life(rel regclass, key jsonb, alive boolean, image jsonb) RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s		jsonb := ferry.state(rel, key);
	dot		text[];
	plain	text[];
BEGIN
	IF s IS NULL OR (s->>'alive')::boolean = alive THEN
		RETURN false;
	END IF;
	plain := ARRAY(SELECT a.attname FROM pg_attribute a
				   WHERE a.attrelid = rel AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
					   AND a.attname <> '_ferry' AND NOT s->'key' ? a.attname);
	IF alive AND NOT s->'row' ?& plain THEN
		IF image IS NULL OR NOT image ?& plain THEN
			RETURN false;
		END IF;
		s := s || jsonb_build_object('row',
			coalesce((SELECT jsonb_object_agg(p, image->p) FROM unnest(plain) p), '{}') || (s->'row'));
	END IF;
	dot := string_to_array(ferry.version_dot(ferry._stamp()), '@');
	IF (SELECT r.merge = 'c' FROM ferry.registered_table r WHERE r.relid = rel) AND plain <> '{}' THEN
		s := s || jsonb_build_object('columns',
			(SELECT jsonb_object_agg(p, coalesce(s->'columns'->p, s->'last')) FROM unnest(plain) p));
	END IF;
	s := (s - 'live') || jsonb_build_object('alive', alive, 'last', jsonb_build_array(dot[1], dot[2]),
		'vv', s->'vv' || jsonb_build_object(dot[2], dot[1]));
	/* one that lives again and dies at once, of a clash with another row, was not to be helped */
	RETURN ferry.merge(rel, s) <> 'conflict';
END $$;
COMMENT ON FUNCTION ferry._set_life(regclass, jsonb, boolean, jsonb) IS 'internal: a row dies or lives again, with the values that it has or had';
REVOKE ALL ON FUNCTION ferry._set_life(regclass, jsonb, boolean, jsonb) FROM PUBLIC;

/*
 * The parent with these values lives again, and those that it refers to if the
 * table's policy is that; false if it cannot.  image as above, or null.  seen ends
 * circles of rows that refer to each other.  Who calls rolls back what a false leaves.
 */
CREATE FUNCTION ferry._revive(rel regclass, wanted jsonb, image jsonb, seen text[]) RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	columns	text[] := ferry._key_columns(rel);
	source	jsonb := CASE WHEN wanted ?& columns THEN wanted ELSE image END;
	key		jsonb;
	s		jsonb;
	me		text;
	f		ferry.foreign_keys;
	missing	jsonb;
BEGIN
	IF columns IS NULL OR source IS NULL THEN
		RETURN false;
	END IF;
	key := (SELECT jsonb_object_agg(c, source->c) FROM unnest(columns) c);
	me := rel::text || key::text;
	s := ferry.state(rel, key);
	IF s IS NULL OR me = ANY (seen) THEN
		RETURN s IS NOT NULL;
	ELSIF (s->>'alive')::boolean THEN
		RETURN s->'key' || (s->'row') @> wanted;
	END IF;
	FOR f IN SELECT * FROM ferry.foreign_keys k WHERE k.relation = rel LOOP
		missing := ferry._missing_parent(f.relation, f.constraint_name, coalesce(image, '{}') || (s->'row') || key);
		IF missing IS NULL OR f.orphans = 'keep' THEN
			CONTINUE;
		ELSIF f.orphans = 'remove_child' OR NOT ferry._revive(f.parent, missing, NULL, seen || me) THEN
			RETURN false;
		END IF;
	END LOOP;
	RETURN ferry._set_life(rel, key, true, image);
END $$;
COMMENT ON FUNCTION ferry._revive(regclass, jsonb, jsonb, text[]) IS 'internal: a dead row lives again, and its ancestors';
REVOKE ALL ON FUNCTION ferry._revive(regclass, jsonb, jsonb, text[]) FROM PUBLIC;

/* the parent that a row with this image would lack by one foreign key; null: none */
CREATE FUNCTION ferry._missing_parent(rel regclass, constraint_name name, image jsonb) RETURNS jsonb
	LANGUAGE plpgsql STRICT STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	f		ferry.foreign_key;
	result	jsonb;
BEGIN
	SELECT * INTO f FROM ferry.foreign_key k WHERE k.relation = rel AND k.constraint_name = _missing_parent.constraint_name;
	EXECUTE format('SELECT %s FROM jsonb_populate_record(NULL::%s, $1) c WHERE %s AND NOT EXISTS (SELECT FROM %s p WHERE %s)',
				   f.missing, f.relation, f.filled, f.parent, f.meets)
		INTO result USING image;
	RETURN result;
END $$;
COMMENT ON FUNCTION ferry._missing_parent(regclass, name, jsonb) IS 'internal: the parent that a row would lack';
REVOKE ALL ON FUNCTION ferry._missing_parent(regclass, name, jsonb) FROM PUBLIC;

/* one orphan's fate; returns whether anything was done */
CREATE FUNCTION ferry._judge_orphan(f ferry.foreign_keys, key jsonb, missing jsonb, image jsonb) RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF f.orphans = 'remove_child' THEN
		RETURN ferry._set_life(f.relation, key, false, NULL);
	ELSIF f.orphans = 'revive_parent' THEN
		IF ferry._revive(f.parent, missing, image, '{}') THEN
			RETURN true;
		END IF;
		/* what was done for it is undone */
		RAISE EXCEPTION 'parent % of table % cannot be revived', missing, f.parent USING ERRCODE = 'no_data_found';
	END IF;
	RETURN false;
EXCEPTION
	WHEN no_data_found THEN
		RETURN false;
	WHEN transaction_rollback OR query_canceled THEN
		RAISE;
	WHEN OTHERS THEN
		RAISE WARNING 'orphan % of table % is kept: %', key, f.relation, SQLERRM;
		RETURN false;
END $$;
COMMENT ON FUNCTION ferry._judge_orphan(ferry.foreign_keys, jsonb, jsonb, jsonb) IS 'internal: do with an orphan what its table''s policy says';
REVOKE ALL ON FUNCTION ferry._judge_orphan(ferry.foreign_keys, jsonb, jsonb, jsonb) FROM PUBLIC;

/*
 * Judge the orphans of one parent (image), or of all rows of a table (null): at
 * most so many of each foreign key; of which it is certain, everything up to until (null:
 * do not ask) being here.  Returns whether there may be more to be done, and up to which
 * stamp everything must be here before the rest is certain (0: there is none).
 */
CREATE FUNCTION ferry._judge_children(parent regclass, image jsonb, death text, child regclass, max int, until bigint,
		OUT done bigint, OUT more boolean, OUT after bigint)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp SET row_security = off
AS $$
DECLARE
	f		ferry.foreign_keys;
	k		ferry.foreign_key;
	r		record;
	acted	int;
	ok		boolean;
	known	bigint;
BEGIN
	done := 0;
	more := false;
	after := 0;
	FOR f IN SELECT v.* FROM ferry.foreign_keys v JOIN ferry.registered_table t ON t.relid = v.relation
			 WHERE v.parent = _judge_children.parent AND (child IS NULL OR v.relation = child)
			 ORDER BY v.relation::text, v.constraint_name LOOP
		SELECT * INTO k FROM ferry.foreign_key v WHERE v.relation = f.relation AND v.constraint_name = f.constraint_name;
		acted := 0;
		FOR r IN EXECUTE format(
			'SELECT %s AS key, %s AS missing, to_jsonb(c) - ''_ferry'' AS image, ferry.version_dot(c._ferry) AS dot
			 FROM %s %s c %s %s AND NOT EXISTS (SELECT FROM %s p WHERE %s) LIMIT %s',
			k.key, k.missing,
			CASE WHEN image IS NOT NULL THEN format('jsonb_populate_record(NULL::%s, $1) p JOIN', parent) END,
			f.relation, CASE WHEN image IS NOT NULL THEN format('ON %s WHERE', k.meets) ELSE 'WHERE' END,
			k.filled, parent, k.meets, max) USING image LOOP
			known := CASE WHEN until IS NOT NULL THEN ferry._parent_known_after(f, ferry.state(f.relation, r.key), until) END;
			IF known > 0 THEN
				after := greatest(after, known);
				CONTINUE;
			END IF;
			ok := ferry._judge_orphan(f, r.key, r.missing, image);
			PERFORM ferry._record_orphan(f.relation, r.key, k.columns, r.image, r.dot, death,
				CASE WHEN NOT ok THEN 'none' WHEN f.orphans = 'remove_child' THEN 'remote' ELSE 'local' END,
				CASE WHEN ok THEN f.orphans ELSE 'keep' END, f.constraint_name::text);
			acted := acted + ok::int;
		END LOOP;
		done := done + acted;
		more := more OR acted >= max;
	END LOOP;
END $$;
COMMENT ON FUNCTION ferry._judge_children(regclass, jsonb, text, regclass, int, bigint) IS 'internal: judge the orphans of a parent';
REVOKE ALL ON FUNCTION ferry._judge_children(regclass, jsonb, text, regclass, int, bigint) FROM PUBLIC;

/*
 * Judge a row that lives again (image), or all of a table (null), by each of its foreign
 * keys.
 */
CREATE FUNCTION ferry._judge_returned(rel regclass, image jsonb, until bigint, OUT more boolean, OUT after bigint)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp SET row_security = off
AS $$
DECLARE
	key		jsonb := (SELECT jsonb_object_agg(c, image->c) FROM unnest(ferry._key_columns(rel)) c);
	f		ferry.foreign_keys;
	s		jsonb;
	missing	jsonb;
	r		record;
	ok		boolean;
	known	bigint;
BEGIN
	more := false;
	after := 0;
	FOR f IN SELECT v.* FROM ferry.foreign_keys v JOIN ferry.registered_table t ON t.relid = v.parent
			 WHERE v.relation = rel AND v.orphans <> 'keep' ORDER BY v.constraint_name LOOP
		IF image IS NULL THEN
			r := ferry._judge_children(f.parent, NULL, '', rel, 1000, until);
			more := more OR r.more;
			after := greatest(after, r.after);
			CONTINUE;
		END IF;
		s := ferry.state(rel, key);
		EXIT WHEN NOT coalesce((s->>'alive')::boolean, false);
		missing := ferry._missing_parent(rel, f.constraint_name, (s->'row') || (s->'key'));
		CONTINUE WHEN missing IS NULL;
		known := ferry._parent_known_after(f, s, until);
		IF known > 0 THEN
			after := greatest(after, known);
			CONTINUE;
		END IF;
		ok := ferry._judge_orphan(f, key, missing, NULL);
		PERFORM ferry._record_orphan(rel, key, f.columns, image, concat_ws('@', s->'last'->>0, s->'last'->>1), '',
			CASE WHEN NOT ok THEN 'none' WHEN f.orphans = 'remove_child' THEN 'remote' ELSE 'local' END,
			CASE WHEN ok THEN f.orphans ELSE 'keep' END, f.constraint_name::text);
	END LOOP;
END $$;
COMMENT ON FUNCTION ferry._judge_returned(regclass, jsonb, bigint) IS 'internal: judge a row that merging took out of its tombstone';
REVOKE ALL ON FUNCTION ferry._judge_returned(regclass, jsonb, bigint) FROM PUBLIC;

CREATE FUNCTION ferry._judge_orphans(max int, until bigint) RETURNS boolean
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	gone	bigint[] := ARRAY(SELECT m.node_id FROM ferry.member m WHERE m.is_dropped);
	n		record;
	r		record;
	judged	int := 0;
BEGIN
	FOR n IN SELECT o.ctid AS at, o.* FROM ferry.orphan_note o
			 WHERE ferry._holds(o.wanted, gone) AND o.after <= until
				 AND NOT (o.returned AND EXISTS (SELECT FROM ferry.foreign_key f JOIN ferry.registered_table t ON t.relid = f.parent
												 WHERE f.relation = o.relid AND t.is_new))
			 LIMIT max FOR UPDATE SKIP LOCKED LOOP
		judged := judged + 1;
		IF n.returned THEN
			r := ferry._judge_returned(n.relid, n.image, until);
		ELSE
			r := ferry._judge_children(n.relid, n.image, regexp_replace(split_part(n.wanted, ',', 1), '(\d+):(\d+)', '\2@\1'), NULL, 1000, until);
		END IF;
		IF NOT r.more AND r.after > 0 THEN
			UPDATE ferry.orphan_note o SET after = r.after WHERE o.ctid = n.at;
		ELSIF NOT r.more THEN
			DELETE FROM ferry.orphan_note o WHERE o.ctid = n.at;
		END IF;
	END LOOP;
	RETURN judged > 0;
END $$;
COMMENT ON FUNCTION ferry._judge_orphans(int, bigint) IS 'internal: judge rows that live again, and the children of rows that died by merging, once what they may rest on is here; returns whether there may be more';
REVOKE ALL ON FUNCTION ferry._judge_orphans(int, bigint) FROM PUBLIC;

CREATE FUNCTION ferry.resolve_orphans(rel regclass DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	f		record;
	r		record;
	total	bigint := 0;
BEGIN
	IF rel IS NOT NULL AND NOT EXISTS (SELECT FROM ferry.registered_table t WHERE t.relid = rel) THEN
		RAISE EXCEPTION 'table "%" is not under ferry', rel USING ERRCODE = 'undefined_object',
			HINT = 'Add it by ferry.add_table.';
	END IF;
	FOR f IN SELECT DISTINCT k.relation, k.parent FROM ferry.foreign_keys k
			 WHERE k.orphans <> 'keep' AND (rel IS NULL OR k.relation = rel) LOOP
		LOOP
			r := ferry._judge_children(f.parent, NULL, '', f.relation, 1000, NULL);
			total := total + r.done;
			EXIT WHEN NOT r.more;
		END LOOP;
	END LOOP;
	RETURN total;
END $$;
COMMENT ON FUNCTION ferry.resolve_orphans(regclass) IS 'do with the orphans that ferry.orphans lists what ferry.set_orphans says; returns how many were resolved';
REVOKE ALL ON FUNCTION ferry.resolve_orphans(regclass) FROM PUBLIC;
