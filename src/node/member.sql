/* --- the members of our group: who belongs to it, and who does no more --- */

/*
 * Members are merged as rows are: whatever is told in whatever order, once or
 * twice, by whomever, all come to hold the same.  What a node id stands for
 * never changes; a dsn is a register by its time; in_mesh, is_dropped, has_left
 * and successor only ever go one way, so that nobody returns by old news.
 *
 * Who was dropped has left, and so has whoever goes on for it: a standby that is
 * promoted after its node was dropped does not come in by a new id.
 */
CREATE TABLE ferry.member (
	node_id		bigint PRIMARY KEY,
	name		name NOT NULL,
	dsn			text,
	dsn_at		timestamptz NOT NULL DEFAULT '-infinity',
	in_mesh		boolean NOT NULL DEFAULT false,
	is_dropped	boolean NOT NULL DEFAULT false,
	has_left	boolean NOT NULL DEFAULT false,
	successor	bigint,
	went_back	boolean NOT NULL DEFAULT false,
	first_seen	timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ferry.member IS 'every node that this one knows, itself included';
COMMENT ON COLUMN ferry.member.dsn_at IS 'when the node said so; -infinity if we had it from somebody else';
COMMENT ON COLUMN ferry.member.in_mesh IS 'has joined by ferry.join: all such nodes are linked with each other';
COMMENT ON COLUMN ferry.member.is_dropped IS 'has left for good, or is an earlier incarnation of its successor';
COMMENT ON COLUMN ferry.member.has_left IS 'has left for good, by ferry.drop_node';
COMMENT ON COLUMN ferry.member.went_back IS 'it told others what it held after it had lost some of it: what it told does not count';
COMMENT ON COLUMN ferry.member.successor IS 'the node id under which this node goes on, after a restore or a failover';
SELECT pg_catalog.pg_extension_config_dump('ferry.member', '');

CREATE FUNCTION ferry._members() RETURNS jsonb
	LANGUAGE sql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	BEGIN ATOMIC
	SELECT coalesce(jsonb_agg(jsonb_build_object('node_id', m.node_id, 'name', m.name, 'dsn', m.dsn, 'dsn_at', m.dsn_at,
			'in_mesh', m.in_mesh, 'is_dropped', m.is_dropped, 'has_left', m.has_left, 'successor', m.successor, 'went_back', m.went_back) ORDER BY m.node_id), '[]')
	FROM ferry.member m;
	END;
COMMENT ON FUNCTION ferry._members() IS 'internal: what this node knows of members, for others to merge';
REVOKE ALL ON FUNCTION ferry._members() FROM PUBLIC;

/* to be called in order of node id by all, so that two who merge at a time wait instead of deadlocking */
CREATE FUNCTION ferry._merge_members(members jsonb) RETURNS boolean
	LANGUAGE plpgsql STRICT VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	r		ferry.member;
	old		ferry.member;
	heir	bigint;
	news	boolean := false;
BEGIN
	FOR r IN SELECT m.node_id, m.name, m.dsn, coalesce(m.dsn_at, '-infinity'), coalesce(m.in_mesh, false),
					coalesce(m.is_dropped, false), coalesce(m.has_left, false), m.successor, coalesce(m.went_back, false), now()
			 FROM jsonb_populate_recordset(NULL::ferry.member, members) m
			 WHERE m.node_id BETWEEN 1 AND 4294967295 AND m.name IS NOT NULL ORDER BY m.node_id LOOP
		INSERT INTO ferry.member (node_id, name) VALUES (r.node_id, r.name) ON CONFLICT DO NOTHING;
		news := news OR FOUND;
		SELECT * INTO old FROM ferry.member m WHERE m.node_id = r.node_id FOR UPDATE;
		UPDATE ferry.member m SET
			dsn = CASE WHEN m.dsn IS NULL OR r.dsn_at > m.dsn_at OR (r.dsn_at = m.dsn_at AND r.dsn_at > '-infinity' AND r.dsn > m.dsn)
					   THEN coalesce(r.dsn, m.dsn) ELSE m.dsn END,
			dsn_at = greatest(m.dsn_at, r.dsn_at),
			in_mesh = m.in_mesh OR r.in_mesh,
			is_dropped = m.is_dropped OR r.is_dropped,
			has_left = m.has_left OR r.has_left,
			successor = greatest(m.successor, r.successor),
			went_back = m.went_back OR r.went_back
		WHERE m.node_id = r.node_id
			AND ((m.dsn IS NULL AND r.dsn IS NOT NULL) OR r.dsn_at > m.dsn_at
				 OR (r.dsn_at = m.dsn_at AND r.dsn_at > '-infinity' AND r.dsn > m.dsn)
				 OR r.in_mesh > m.in_mesh OR r.is_dropped > m.is_dropped OR r.has_left > m.has_left OR r.went_back > m.went_back
				 OR greatest(m.successor, r.successor) IS DISTINCT FROM m.successor);
		news := news OR FOUND;
		IF r.is_dropped AND NOT old.is_dropped THEN
			PERFORM ferry._member_has_left(r.node_id);
		END IF;
	END LOOP;
	LOOP
		UPDATE ferry.member s SET has_left = true, is_dropped = true FROM ferry.member m
			WHERE m.has_left AND s.node_id = m.successor AND NOT s.has_left
			RETURNING s.node_id INTO heir;
		EXIT WHEN NOT FOUND;
		PERFORM ferry._member_has_left(heir);
		news := true;
	END LOOP;
	IF news THEN
		PERFORM ferry._config_changed();
	END IF;
	RETURN news;
END $$;
COMMENT ON FUNCTION ferry._merge_members(jsonb) IS 'internal: learn of members; true if there was news';
REVOKE ALL ON FUNCTION ferry._merge_members(jsonb) FROM PUBLIC;
