/* --- what people look at --- */

CREATE VIEW ferry.lag AS
	SELECT p.name AS peer,
		   CASE WHEN p.is_paused THEN 'paused' ELSE coalesce(l.state, 'stopped') END AS state,
		   l.peer_lsn, l.received_lsn, l.applied_lsn, l.flushed_lsn,
		   greatest(l.peer_lsn - l.applied_lsn, 0)::bigint AS bytes_behind,
		   CASE WHEN l.state = 'streaming' AND l.applied_lsn >= l.peer_lsn THEN 0
				ELSE extract(epoch FROM clock_timestamp() - coalesce(l.caught_up_at, p.created_at)) END::float8 AS seconds_behind,
		   coalesce(l.txns_per_s, 0) AS transactions_per_second,
		   coalesce(l.rows_per_s, 0) AS rows_per_second,
		   l.txns AS transactions, l.rows, l.conflicts, l.quarantined,
		   coalesce(l.failures, 0) AS failures, l.next_retry,
		   l.error AS last_error, l.error_at AS last_error_at, l.last_message, l.pid,
		   k.kept_state, k.kept_bytes
	FROM ferry.peer p LEFT JOIN ferry._links() l ON l.peer = p.name
		LEFT JOIN LATERAL (
			SELECT CASE WHEN s.active THEN 'streaming' WHEN s.slot_name IS NOT NULL THEN 'away' ELSE 'will resync' END AS kept_state,
				   pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.confirmed_flush_lsn)::bigint AS kept_bytes
			FROM ferry.local_node n
				LEFT JOIN pg_catalog.pg_replication_slots s
					ON s.slot_name = pg_catalog.format('ferry_%s_%s', lpad(to_hex(n.node_id), 8, '0'), lpad(to_hex(p.node_id), 8, '0'))
					AND s.wal_status IS DISTINCT FROM 'lost'
				LEFT JOIN ferry.given_up g ON g.node_id = p.node_id
			WHERE s.slot_name IS NOT NULL OR g.node_id IS NOT NULL) k ON true;
COMMENT ON COLUMN ferry.lag.kept_state IS 'the other direction: does the peer fetch our changes? streaming, away (log is kept for it) or will resync (not any more: it will copy what it lacks); null if it has never fetched any';
COMMENT ON COLUMN ferry.lag.kept_bytes IS 'bytes of our log that the peer has not confirmed';
COMMENT ON VIEW ferry.lag IS 'how far this node is behind each peer, and what its link is doing';
COMMENT ON COLUMN ferry.lag.bytes_behind IS 'bytes of the peer''s WAL that are not applied here';
COMMENT ON COLUMN ferry.lag.seconds_behind IS 'seconds since this node last held all that the peer had';
COMMENT ON COLUMN ferry.lag.failures IS 'failed attempts in a row';

CREATE VIEW ferry.clock AS
	SELECT p.name AS peer, l.clock_offset_us / 1000.0 AS offset_ms, l.clock_rtt_us / 1000.0 AS round_trip_ms,
		   l.clock_at AS measured_at,
		   (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'ferry.max_clock_skew') AS max_skew_ms
	FROM ferry.peer p LEFT JOIN ferry._links() l ON l.peer = p.name;
COMMENT ON VIEW ferry.clock IS 'each peer''s clock minus ours, as last measured over the link; half the round trip is how far off that may be';

CREATE VIEW ferry.nodes AS
	WITH known AS (		/* the latest that is known of each origin, by its own word */
		SELECT h.node_id AS origin, e.hlc, e.at
		FROM ferry.holding h CROSS JOIN LATERAL ferry._vector_entries(h.vector) e
		WHERE e.origin = h.node_id
	), lacks AS (		/* what a node is not known to hold of it; of one that is not heard of, everything */
		SELECT m.node_id, k.origin, k.at, e.at AS held_at,
			   NOT m.is_dropped AND coalesce(e.hlc, 0) <= coalesce(z.hlc, 0) AS is_lowest
		FROM ferry.member m
			CROSS JOIN known k
			LEFT JOIN ferry.holding h ON h.node_id = m.node_id
			LEFT JOIN LATERAL ferry._vector_entries(h.vector) e ON e.origin = k.origin
			LEFT JOIN (ferry.horizon hz CROSS JOIN LATERAL ferry._vector_entries(hz.vector) z) ON z.origin = k.origin
		WHERE coalesce(e.hlc, 0) < k.hlc
	)
	SELECT m.name, m.node_id, n.node_id IS NOT NULL AS is_local, p.name IS NOT NULL AS is_peer,
		   m.in_mesh, m.is_dropped, m.successor, m.dsn, m.first_seen,
		   ours.at AS held_until,
		   (SELECT extract(epoch FROM k.at - coalesce(ours.at, m.first_seen))
			FROM known k WHERE k.origin = m.node_id AND (ours.at IS NULL OR ours.at < k.at))::float8 AS seconds_behind,
		   h.at AS heard_at,
		   EXISTS (SELECT FROM lacks l WHERE l.node_id = m.node_id AND l.is_lowest) AS holds_back_horizon,
		   (SELECT array_agg(o.name ORDER BY o.name)
			FROM lacks l JOIN ferry.member o ON o.node_id = l.origin
			WHERE l.node_id = m.node_id) AS lacks_writes_of,
		   h.vector AS holds
	FROM ferry.member m
		LEFT JOIN ferry.local_node n ON n.node_id = m.node_id
		LEFT JOIN ferry.peer p ON p.node_id = m.node_id
		LEFT JOIN ferry.holding h ON h.node_id = m.node_id
		LEFT JOIN LATERAL (
			SELECT e.at FROM ferry.holding us JOIN ferry.local_node l ON l.node_id = us.node_id
				CROSS JOIN LATERAL ferry._vector_entries(us.vector) e
			WHERE e.origin = m.node_id) ours ON true;
COMMENT ON VIEW ferry.nodes IS 'the nodes that this one knows, itself included, and what is known of what they hold';
COMMENT ON COLUMN ferry.nodes.held_until IS 'this node holds all that was written there up to then';
COMMENT ON COLUMN ferry.nodes.seconds_behind IS 'how much older that is than the latest write there that this node knows of; null if it holds it';
COMMENT ON COLUMN ferry.nodes.heard_at IS 'when this node last heard what that one holds';
COMMENT ON COLUMN ferry.nodes.holds_back_horizon IS 'tombstones and version vectors cannot be cleared away because this node is not known to hold later writes than the horizon';
COMMENT ON COLUMN ferry.nodes.lacks_writes_of IS 'of whom it is not known to hold the latest writes; null if of nobody';
COMMENT ON COLUMN ferry.nodes.holds IS 'what it is known to hold: <node id>:<stamp>,...';

CREATE VIEW ferry.progress AS
	SELECT p.name AS peer, r.relid AS relation,
		   CASE WHEN k.relation IS NOT NULL THEN 'copying'
				WHEN c.formers >= f.formers THEN 'done'
				WHEN p.copy_via IS NOT NULL THEN 'by ' || p.copy_via
				ELSE 'waiting' END AS state,
		   coalesce(k.row_count, c.row_count) AS rows,
		   coalesce(k.byte_count, c.byte_count) AS bytes,
		   k.rows_there,
		   w.rows_per_second,
		   CASE WHEN w.rows_per_second > 0 AND k.rows_there >= k.row_count
				THEN make_interval(secs => (k.rows_there - k.row_count) / w.rows_per_second) END AS time_left,
		   coalesce(k.since, c.started_at) AS started_at,
		   CASE WHEN k.relation IS NULL AND c.formers >= f.formers THEN c.copied_at END AS done_at
	FROM ferry.peer p CROSS JOIN ferry.registered_table r CROSS JOIN (SELECT ferry._formers() AS formers) f
		LEFT JOIN ferry.copied_table c ON c.peer = p.name AND c.relid = r.relid
		LEFT JOIN ferry._copies() k ON k.peer = p.name AND k.relation = r.relid
		CROSS JOIN LATERAL (SELECT (CASE WHEN k.relation IS NOT NULL
				THEN k.row_count / greatest(extract(epoch FROM clock_timestamp() - k.since), 0.001)
				ELSE c.row_count / greatest(extract(epoch FROM c.copied_at - c.started_at), 0.001) END)::float8) AS w(rows_per_second);
COMMENT ON VIEW ferry.progress IS 'how far copies from peers are, by table';
COMMENT ON COLUMN ferry.progress.state IS 'waiting, copying, done; or "by" the peer whose copy brings this one''s rows too';
COMMENT ON COLUMN ferry.progress.rows_there IS 'about how many rows the peer has, as its statistics say';
COMMENT ON COLUMN ferry.progress.time_left IS 'at the rate so far; rows that need not be sent are not foreseen';

CREATE FUNCTION ferry.wait_for_join(timeout interval) RETURNS boolean
	LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'ferry_wait_for_join';
COMMENT ON FUNCTION ferry.wait_for_join(interval) IS 'wait until every link has copied what it has to, and streams; false if the time is over before';
