-- Strategies of columns: what set_merge accepts, what local writes store, and
-- how states that somebody carries merge.
\set SHOW_CONTEXT never
SELECT ferry.set_merge('pg_class', 'relname', 'max');
CREATE DOMAIN money2 AS numeric(10,2) CHECK (value < 1000);
CREATE FUNCTION bits(int, int) RETURNS int LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 | $2';
CREATE FUNCTION bits_volatile(int, int) RETURNS int LANGUAGE sql STRICT AS 'SELECT $1 | $2';
CREATE TABLE s (id int PRIMARY KEY, n int, m money2, s2 smallint, hi text, lo numeric, tags text[], attrs jsonb,
	f int, p text, pt point, g int GENERATED ALWAYS AS (n + 1) STORED);
CREATE TABLE by_row (id int PRIMARY KEY, n int);
INSERT INTO s VALUES (0, 5, 1.5, 1, 'b', 7.0, '{z,a}', '{"x": 1}', 4, 'p');
SELECT ferry.add_table('s'), ferry.add_table('by_row', merge => 'row');

-- errors
SELECT ferry.set_merge('s', 'id', 'counter');
SELECT ferry.set_merge('s', 'nope', 'counter');
SELECT ferry.set_merge('s', '_ferry', 'max');
SELECT ferry.set_merge('s', 'g', 'counter');
SELECT ferry.set_merge('s', 'p', 'counter');
SELECT ferry.set_merge('s', 'p', 'set');
SELECT ferry.set_merge('s', 'p', 'map');
SELECT ferry.set_merge('s', 'pt', 'max');
SELECT ferry.set_merge('s', 'n', 'sum');
SELECT ferry.set_merge('s', 'n', 'bits(text, text)');
SELECT ferry.set_merge('s', 'p', 'public.bits(int, int)');
SELECT ferry.set_merge('s', 'f', 'bits_volatile');
SELECT ferry.set_merge('by_row', 'n', 'counter');
SELECT count(*) FROM ferry.column_merge;

SELECT ferry.set_merge('s', 'n', 'counter'), ferry.set_merge('s', 'm', 'counter'), ferry.set_merge('s', 's2', 'counter'),
	ferry.set_merge('s', 'hi', 'max'), ferry.set_merge('s', 'lo', 'min'), ferry.set_merge('s', 'tags', 'set'),
	ferry.set_merge('s', 'attrs', 'map'), ferry.set_merge('s', 'f', 'bits');
SELECT "column", type, strategy FROM ferry.columns WHERE relation = 's'::regclass;
ALTER TABLE s RENAME COLUMN lo TO low;
SELECT strategy FROM ferry.columns WHERE "column" = 'low';

-- what is stored: extremes only go one way, sets are sorted and have each element once
INSERT INTO s (id, n, m, s2, hi, low, tags, attrs, f, p)
	VALUES (1, 10, 2.5, 3, 'b', 7.0, '{z,a,bb,a,NULL}', '{"x": 1, "yy": {"a": 1}}', 1, 'p');
UPDATE s SET n = n - 1, hi = 'a', low = 9, tags = tags || '{c}', attrs = attrs - 'x' || '{"q": [1, 2]}', f = 2;
SELECT id, n, m, hi, low, tags, attrs, f, g FROM s ORDER BY id;
UPDATE s SET low = 7.00, hi = 'B' WHERE id = 1;
UPDATE s SET low = 6.5, hi = 'c' WHERE id = 0;
SELECT id, hi, low FROM s ORDER BY id;

-- metadata: one writer, one counter: 4 bytes more than a plain row
CREATE TABLE one (id int PRIMARY KEY, n int);
SELECT ferry.add_table('one');
SELECT ferry.set_merge('one', 'n', 'counter');
INSERT INTO one VALUES (1, 100);
UPDATE one SET n = n - 1;
UPDATE one SET n = n - 1;
SELECT n, pg_column_size(_ferry) FROM one;

-- a state made by another node, 7, on the ground of what is here
CREATE FUNCTION elsewhere(state jsonb, change jsonb, strategies jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT state || jsonb_build_object('row', state->'row' || change,
			'strategies', state->'strategies' || strategies,
			'last', jsonb_build_array(((state->'last'->>0)::numeric + 1)::text, '7'),
			'vv', state->'vv' || jsonb_build_object('7', ((state->'last'->>0)::numeric + 1)::text),
			'columns', (SELECT coalesce(jsonb_object_agg(c, coalesce(state->'columns'->c, state->'last')), '{}')
						FROM jsonb_object_keys(state->'row') c WHERE NOT change ? c))
$$;
CREATE FUNCTION share(n text) RETURNS jsonb LANGUAGE sql AS
	$$ SELECT jsonb_build_object((SELECT node_id::text FROM ferry.local_node), n) $$;
CREATE TABLE theirs AS SELECT elsewhere(ferry.state('one', '{"id": 1}'), '{"n": 90}',
	jsonb_build_object('n', jsonb_build_object('kind', 'counter', 'shares', share('98')))) AS state;
UPDATE one SET n = n - 3;
SELECT ferry.merge('one', state) FROM theirs;
SELECT n FROM one;
SELECT ferry.merge('one', state) FROM theirs;
UPDATE one SET n = 0;
SELECT n FROM one;
SELECT ferry.merge('one', state) FROM theirs;
SELECT count(*) FROM ferry.conflicts WHERE relation LIKE '%one';

-- a deletion keeps the shares: who is born again adds to them
DELETE FROM one;
SELECT ferry.merge('one', state) FROM theirs;
INSERT INTO one VALUES (1, 5);
SELECT n, ferry.state('one', '{"id": 1}')->'strategies'->'n'->'shares'->>'7' AS of_7 FROM one;

-- sums that leave the range: nothing changes
INSERT INTO one VALUES (2, 2000000000);
CREATE TABLE too_much AS SELECT elsewhere(ferry.state('one', '{"id": 2}'), '{"n": 2100000000}',
	jsonb_build_object('n', jsonb_build_object('kind', 'counter', 'shares', share('2000000000')))) AS state;
UPDATE one SET n = n + 100000000 WHERE id = 2;
SELECT ferry.merge('one', state) FROM too_much;
UPDATE one SET n = n - 100000000 WHERE id = 2;
SELECT ferry.merge('one', state) FROM too_much;
SELECT * FROM (SELECT id, n FROM one) AS one ORDER BY id;

-- hostile states
CREATE FUNCTION attempt(part jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE d text;
BEGIN
	RETURN ferry.merge('s', ferry.state('s', '{"id": 1}') || jsonb_build_object('strategies', part));
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || SQLERRM || ': ' || regexp_replace(d, '\d{6,}', 'N', 'g');
END $$;
SELECT attempt('[]');
SELECT attempt('{"zz": {"kind": "max"}}');
SELECT attempt('{"n": {"kind": "lww"}}');
SELECT attempt('{"n": {"kind": "counter"}}');
SELECT attempt('{"n": {"kind": "counter", "shares": {"1": "2"}}}');
SELECT attempt('{"n": {"kind": "counter", "shares": {"x": "2"}}}');
SELECT attempt('{"p": {"kind": "counter", "shares": {}}}');
SELECT attempt('{"n": {"kind": "max", "since": ["1", "99"]}}');
SELECT attempt('{"tags": {"kind": "set", "elements": []}}');
SELECT attempt('{"tags": {"kind": "set", "elements": [[], [], [], [], []]}}');
SELECT attempt('{"attrs": {"kind": "map", "keys": {}}}');
SELECT attempt('{"attrs": {"kind": "map", "keys": {"q": ["1", "99"]}}}');
SELECT attempt('{"f": {"kind": "function"}}');

-- a key that outlived a TRUNCATE has two dots, no more
CREATE FUNCTION keys_with(d jsonb) RETURNS jsonb LANGUAGE sql AS
	$$ SELECT jsonb_build_object('attrs', jsonb_build_object('kind', 'map', 'removed', jsonb_build_object('gone', d),
		'keys', (SELECT jsonb_object_agg(k, d) FROM ferry.state('s', '{"id": 1}') s, jsonb_object_keys(s->'row'->'attrs') k))) $$;
CREATE FUNCTION two_dots() RETURNS jsonb LANGUAGE sql AS
	$$ SELECT jsonb_build_array(s->'last', jsonb_build_array('1', s->'last'->1)) FROM ferry.state('s', '{"id": 1}') s $$;
SELECT attempt(keys_with(two_dots() || two_dots()));
SELECT attempt(keys_with(two_dots()->0 || (two_dots()->1)));
SELECT attempt(keys_with(jsonb_build_array(two_dots()->0, two_dots()->0)));
SELECT ferry.merge('s', elsewhere(ferry.state('s', '{"id": 1}'), '{"p": "theirs"}', keys_with(two_dots())));
SELECT dots->0->>0 AS first, jsonb_array_length(dots) AS dots, s->'strategies'->'attrs'->'removed'->'gone' = dots AS removed_alike
	FROM (SELECT s, jsonb_path_query(s, '$.strategies.attrs.keys.*') AS dots FROM ferry.state('s', '{"id": 1}') s) AS x
	WHERE jsonb_array_length(dots) = 2 LIMIT 1;
UPDATE s SET attrs = attrs || '{"mine": 1}' WHERE id = 1;
SELECT jsonb_path_query(s, '$.strategies.attrs.removed.gone.size()') AS dots, s->'strategies'->'attrs'->'keys'->'mine' = s->'last' AS mine
	FROM ferry.state('s', '{"id": 1}') s;
SELECT '100@1 parts{2:c(1=04)}'::ferry.version;
SELECT '100@1 parts{2:c^101@1()}'::ferry.version;
SELECT '100@1 parts{2:l()}'::ferry.version;
SELECT '100@1 vv{2:50} parts{2:c(2=04),3:s(3*100@1,1*50@2+100@1),4:x^50@2(),5:m(2*100@1,-6b=50@2)}'::ferry.version;
SELECT '100@1 vv{2:50} parts{5:m(2*40@2+100@1,-6b=40@2+50@2)}'::ferry.version;
SELECT '100@1 vv{2:50} parts{5:m(2*40@2+50@2+100@1)}'::ferry.version;
SELECT '100@1 vv{2:50} parts{5:m(-6b=50@2+40@2)}'::ferry.version;

-- what a kind cannot hold makes a register of the column; NULL is a ground that counts as nothing
UPDATE s SET n = NULL, tags = '{{a,b},{c,d}}', attrs = '[1]', m = NULL WHERE id = 1;
SELECT n, tags, attrs, m, ferry.state('s', '{"id": 1}')->'strategies' ?| '{n,tags,attrs,m}' AS has_parts FROM s WHERE id = 1;
UPDATE s SET n = 3, tags = '{x}', attrs = '{"a": 1}', m = 3 WHERE id = 1;
SELECT n, tags, attrs, m, ferry.state('s', '{"id": 1}')->'strategies' ? 'n' AS n_has_parts FROM s WHERE id = 1;

-- back to the last writer; a table out of ferry forgets
SELECT ferry.set_merge('s', 'n', 'lww'), ferry.set_merge('s', 'low', 'lww');
UPDATE s SET n = 1, low = 100 WHERE id = 0;
SELECT n, low, ferry.state('s', '{"id": 0}')->'strategies' ?| '{n,low}' AS has_parts FROM s WHERE id = 0;
SELECT ferry.drop_table('s'), ferry.drop_table('by_row'), ferry.drop_table('one');
SELECT count(*) FROM ferry.column_merge;
DROP TABLE s, by_row, one, theirs, too_much;
DROP FUNCTION bits, bits_volatile, elsewhere, share, attempt, keys_with, two_dots;
DROP DOMAIN money2;
