/* --- how columns merge --- */

/*
 * Read by the output plugin under historic snapshots; column order is known to
 * table.c.  The function stays when another strategy is set: rows that it made
 * are still merged by it.
 */
CREATE TABLE ferry.column_merge (
	relid		regclass NOT NULL,
	attnum		int2 NOT NULL,
	kind		"char" NOT NULL CHECK (CASE attnum WHEN 0 THEN kind IN ('K', 'V', 'R') ELSE kind IN ('l', 'c', 'x', 'n', 's', 'm', 'f') END),
	version		ferry.version NOT NULL,
	function	text CHECK (function IS NOT NULL OR kind <> 'f'),
	function_version ferry.version CHECK ((function IS NULL) = (function_version IS NULL)),
	PRIMARY KEY (relid, attnum)
) WITH (user_catalog_table = true);
COMMENT ON TABLE ferry.column_merge IS 'how columns merge, last writer wins, and (attnum 0) what becomes of a table''s orphans; see the views ferry.columns and ferry.foreign_keys';
SELECT pg_catalog.pg_extension_config_dump('ferry.column_merge', '');

CREATE FUNCTION ferry._table_changed(rel regclass) RETURNS void
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'ferry_table_changed';
COMMENT ON FUNCTION ferry._table_changed(regclass) IS 'internal: what processes know of the table is read again';
REVOKE ALL ON FUNCTION ferry._table_changed(regclass) FROM PUBLIC;

CREATE FUNCTION ferry._is_ordered(type oid) RETURNS boolean
	LANGUAGE C STRICT STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'ferry_is_ordered';
COMMENT ON FUNCTION ferry._is_ordered(oid) IS 'internal: do values of a type compare, the same on every node?';

/* raises unless the strategy fits the column */
CREATE FUNCTION ferry._check_strategy(rel regclass, "column" name, strategy text, function regprocedure) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a		pg_attribute;
	base	pg_type;
	mode	"char";
	p		pg_proc;
	wanted	text;
BEGIN
	SELECT r.merge INTO mode FROM ferry.registered_table r WHERE r.relid = rel;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'table "%" is not under ferry', rel USING ERRCODE = 'undefined_object',
			HINT = 'Add it by ferry.add_table.';
	END IF;
	IF NOT pg_has_role((SELECT relowner FROM pg_class WHERE oid = rel), 'USAGE') THEN
		RAISE EXCEPTION 'must be owner of table %', rel USING ERRCODE = 'insufficient_privilege';
	END IF;
	SELECT * INTO a FROM pg_attribute
		WHERE attrelid = rel AND attname = "column" AND attnum > 0 AND NOT attisdropped;
	IF NOT FOUND OR "column" = '_ferry' THEN
		RAISE EXCEPTION 'table "%" has no column "%"', rel, "column" USING ERRCODE = 'undefined_column';
	END IF;
	IF mode <> 'c' THEN
		RAISE EXCEPTION 'table "%" merges by row', rel USING ERRCODE = 'object_not_in_prerequisite_state',
			DETAIL = 'Only the columns of tables that merge by column have strategies.';
	END IF;
	IF EXISTS (SELECT FROM pg_index i WHERE i.indrelid = rel AND i.indisprimary AND a.attnum = ANY (i.indkey::int2[])) THEN
		RAISE EXCEPTION 'column "%" belongs to the primary key of table "%"', "column", rel
			USING ERRCODE = 'invalid_column_reference',
			DETAIL = 'The columns of the key say which row it is: they do not merge.';
	END IF;
	IF a.attgenerated <> '' THEN
		RAISE EXCEPTION 'column "%" is generated', "column" USING ERRCODE = 'invalid_column_reference',
			HINT = 'Set the strategies of the columns that it is generated from.';
	END IF;
	WITH RECURSIVE t AS (
		SELECT y.* FROM pg_type y WHERE y.oid = a.atttypid
		UNION ALL
		SELECT y.* FROM t JOIN pg_type y ON y.oid = t.typbasetype AND t.typtype = 'd')
	SELECT * INTO base FROM t WHERE typtype <> 'd';

	wanted := CASE strategy
		WHEN 'counter' THEN CASE WHEN base.oid NOT IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
			THEN 'smallint, integer, bigint, numeric, or a domain over one of them' END
		WHEN 'set' THEN CASE WHEN base.typcategory <> 'A' OR base.typelem = 0 OR base.typlen <> -1 THEN 'an array' END
		WHEN 'map' THEN CASE WHEN base.oid <> 'jsonb'::regtype THEN 'jsonb' END
		WHEN 'max' THEN CASE WHEN NOT ferry._is_ordered(base.oid) THEN 'a type with an order (a default btree operator class) that is the same on every node: no row type, no enum, no range of text' END
		WHEN 'min' THEN CASE WHEN NOT ferry._is_ordered(base.oid) THEN 'a type with an order (a default btree operator class) that is the same on every node: no row type, no enum, no range of text' END
		END;
	IF wanted IS NOT NULL THEN
		RAISE EXCEPTION 'column "%" of type % cannot merge by strategy "%"', "column", format_type(a.atttypid, a.atttypmod), strategy
			USING ERRCODE = 'datatype_mismatch', DETAIL = format('The strategy needs %s.', wanted);
	END IF;
	IF strategy IN ('lww', 'counter', 'max', 'min', 'set', 'map') THEN
		RETURN;
	END IF;

	IF function IS NULL THEN
		RAISE EXCEPTION 'unrecognized strategy: "%"', strategy USING ERRCODE = 'invalid_parameter_value',
			HINT = format('Use "lww", "counter", "max", "min", "set", "map", or a function that takes two values of type %1$s and returns one.', format_type(base.oid, NULL));
	END IF;
	SELECT * INTO p FROM pg_proc WHERE oid = function;
	IF p.prokind <> 'f' OR p.proretset OR p.pronargs <> 2 OR p.proargtypes[0] <> p.proargtypes[1]
	   OR p.proargtypes[0] <> p.prorettype OR p.prorettype NOT IN (a.atttypid, base.oid) THEN
		RAISE EXCEPTION 'function % cannot merge column "%"', function, "column" USING ERRCODE = 'invalid_function_definition',
			HINT = format('It must take two values of type %1$s and return one.', format_type(a.atttypid, NULL));
	END IF;
	IF p.provolatile <> 'i' THEN
		RAISE EXCEPTION 'function % cannot merge column "%" because it is not immutable', function, "column"
			USING ERRCODE = 'invalid_function_definition',
			DETAIL = 'Every node must get the same from the same two values. It must also be commutative, associative and idempotent.',
			HINT = 'Declare it IMMUTABLE if it is.';
	END IF;
END $$;
COMMENT ON FUNCTION ferry._check_strategy(regclass, name, text, regprocedure) IS 'internal: raise unless a strategy fits a column';
REVOKE ALL ON FUNCTION ferry._check_strategy(regclass, name, text, regprocedure) FROM PUBLIC;

/*
 * A strategy set here or elsewhere: the later setting stays, and the later
 * function.  Returns whether anything is new.  (ON CONFLICT does not work on user catalog tables.)
 */
CREATE FUNCTION ferry._put_strategy(rel regclass, attnum int2, kind "char", function text, version ferry.version)
	RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	held	ferry.column_merge;
	news	boolean;
	news_f	boolean;
BEGIN
	LOCK TABLE ferry.column_merge IN SHARE ROW EXCLUSIVE MODE;
	SELECT * INTO held FROM ferry.column_merge c WHERE c.relid = rel AND c.attnum = _put_strategy.attnum;
	news := held.version IS NULL OR version OPERATOR(ferry.>) held.version;
	news_f := kind = 'f' AND (held.function_version IS NULL OR version OPERATOR(ferry.>) held.function_version);
	IF NOT news AND NOT news_f THEN
		RETURN false;
	ELSIF held.version IS NULL THEN
		INSERT INTO ferry.column_merge
			VALUES (rel, attnum, kind, version, function, CASE WHEN kind = 'f' THEN version END);
	ELSE
		UPDATE ferry.column_merge c
			SET kind = CASE WHEN news THEN _put_strategy.kind ELSE c.kind END,
				version = CASE WHEN news THEN _put_strategy.version ELSE c.version END,
				function = CASE WHEN news_f THEN _put_strategy.function ELSE c.function END,
				function_version = CASE WHEN news_f THEN _put_strategy.version ELSE c.function_version END
			WHERE c.relid = rel AND c.attnum = _put_strategy.attnum;
	END IF;
	PERFORM ferry._table_changed(rel);
	RETURN true;
END $$;
COMMENT ON FUNCTION ferry._put_strategy(regclass, int2, "char", text, ferry.version) IS 'internal: keep a strategy if it is later than what is held';
REVOKE ALL ON FUNCTION ferry._put_strategy(regclass, int2, "char", text, ferry.version) FROM PUBLIC;

CREATE FUNCTION ferry._set_merge(rel regclass, "column" name, strategy text, function regprocedure) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind "char" := CASE strategy WHEN 'lww' THEN 'l' WHEN 'counter' THEN 'c' WHEN 'max' THEN 'x' WHEN 'min' THEN 'n'
		WHEN 'set' THEN 's' WHEN 'map' THEN 'm' ELSE 'f' END;
BEGIN
	PERFORM ferry._require_node();
	PERFORM ferry._check_strategy(rel, "column", strategy, function);
	PERFORM ferry._put_strategy(rel,
		(SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = rel AND a.attname = "column"),
		kind, CASE kind WHEN 'f' THEN function::text END, ferry._stamp());
END $$;
COMMENT ON FUNCTION ferry._set_merge(regclass, name, text, regprocedure) IS 'internal: ferry.set_merge once the function is known';
REVOKE ALL ON FUNCTION ferry._set_merge(regclass, name, text, regprocedure) FROM PUBLIC;

/* the function's name is looked up where the caller looks; all else is bound when this is created */
CREATE FUNCTION ferry.set_merge(rel regclass, "column" name, strategy text) RETURNS void
	LANGUAGE sql STRICT VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
	SELECT ferry._set_merge(rel, "column", strategy,
		CASE WHEN strategy IN ('lww', 'counter', 'max', 'min', 'set', 'map') THEN NULL
			 WHEN strategy ~ '^[^()]+\(.*\)$' THEN pg_catalog.to_regprocedure(strategy)
			 WHEN strategy ~ '^[[:alnum:]_".]+$' THEN pg_catalog.to_regprocedure(
				(SELECT pg_catalog.format('%s(%s,%s)', strategy, t.t, t.t)
				 FROM (SELECT pg_catalog.format_type(a.atttypid, NULL) FROM pg_catalog.pg_attribute a
					   WHERE a.attrelid = rel AND a.attname = "column") AS t(t)))
		END);
END;
COMMENT ON FUNCTION ferry.set_merge(regclass, name, text) IS 'how a column merges, on all nodes: lww, counter, max, min, set, map, or a function f(value, value) that is immutable, commutative, associative and idempotent';
REVOKE ALL ON FUNCTION ferry.set_merge(regclass, name, text) FROM PUBLIC;

CREATE VIEW ferry.columns AS
	SELECT r.relid AS relation, a.attname AS "column", pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
		   CASE c.kind WHEN 'c' THEN 'counter' WHEN 'x' THEN 'max' WHEN 'n' THEN 'min' WHEN 's' THEN 'set'
				WHEN 'm' THEN 'map' WHEN 'f' THEN c.function ELSE 'lww' END AS strategy,
		   ferry.version_time(c.version) AS set_at
	FROM ferry.registered_table r
		JOIN pg_catalog.pg_attribute a ON a.attrelid = r.relid AND a.attnum > 0 AND NOT a.attisdropped
			AND a.attname <> '_ferry' AND a.attgenerated = ''
		LEFT JOIN ferry.column_merge c ON c.relid = r.relid AND c.attnum = a.attnum
	WHERE r.merge = 'c'
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i
						WHERE i.indrelid = r.relid AND i.indisprimary AND a.attnum = ANY (i.indkey::int2[]));
COMMENT ON VIEW ferry.columns IS 'the columns that merge each for itself, and by what strategy (ferry.set_merge)';
