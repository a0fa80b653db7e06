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
		   l.error AS last_error, l.error_at AS last_error_at, l.last_message, l.pid
	FROM ferry.peer p LEFT JOIN ferry._links() l ON l.peer = p.name;
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
	SELECT m.name, m.node_id, n.node_id IS NOT NULL AS is_local, p.name IS NOT NULL AS is_peer,
		   m.is_dropped, m.dsn, m.first_seen
	FROM ferry.member m
		LEFT JOIN ferry.local_node n ON n.node_id = m.node_id
		LEFT JOIN ferry.peer p ON p.node_id = m.node_id;
COMMENT ON VIEW ferry.nodes IS 'the nodes that this one knows, itself included';
