CREATE TYPE ferry.version;

CREATE FUNCTION ferry.version_in(cstring) RETURNS ferry.version
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ferry_version_in';
CREATE FUNCTION ferry.version_out(ferry.version) RETURNS cstring
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ferry_version_out';
CREATE FUNCTION ferry.version_recv(internal) RETURNS ferry.version
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ferry_version_recv';
CREATE FUNCTION ferry.version_send(ferry.version) RETURNS bytea
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ferry_version_send';

CREATE TYPE ferry.version (
	INPUT = ferry.version_in,
	OUTPUT = ferry.version_out,
	RECEIVE = ferry.version_recv,
	SEND = ferry.version_send,
	INTERNALLENGTH = VARIABLE,
	ALIGNMENT = int4,
	STORAGE = main
);
COMMENT ON TYPE ferry.version IS 'who wrote a row, and when: its last dot, version vector and column dots';
COMMENT ON FUNCTION ferry.version_in(cstring) IS 'I/O';
COMMENT ON FUNCTION ferry.version_out(ferry.version) IS 'I/O';
COMMENT ON FUNCTION ferry.version_recv(internal) IS 'I/O';
COMMENT ON FUNCTION ferry.version_send(ferry.version) IS 'I/O';

CREATE FUNCTION ferry.version_eq(ferry.version, ferry.version) RETURNS boolean
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ferry_version_eq';
COMMENT ON FUNCTION ferry.version_eq(ferry.version, ferry.version) IS 'implementation of an operator: order of bytes, last dot first';
CREATE FUNCTION ferry.version_ne(ferry.version, ferry.version) RETURNS boolean
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ferry_version_ne';
COMMENT ON FUNCTION ferry.version_ne(ferry.version, ferry.version) IS 'implementation of an operator: order of bytes, last dot first';
CREATE FUNCTION ferry.version_lt(ferry.version, ferry.version) RETURNS boolean
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ferry_version_lt';
COMMENT ON FUNCTION ferry.version_lt(ferry.version, ferry.version) IS 'implementation of an operator: order of bytes, last dot first';
CREATE FUNCTION ferry.version_le(ferry.version, ferry.version) RETURNS boolean
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ferry_version_le';
COMMENT ON FUNCTION ferry.version_le(ferry.version, ferry.version) IS 'implementation of an operator: order of bytes, last dot first';
CREATE FUNCTION ferry.version_gt(ferry.version, ferry.version) RETURNS boolean
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ferry_version_gt';
COMMENT ON FUNCTION ferry.version_gt(ferry.version, ferry.version) IS 'implementation of an operator: order of bytes, last dot first';
CREATE FUNCTION ferry.version_ge(ferry.version, ferry.version) RETURNS boolean
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ferry_version_ge';
COMMENT ON FUNCTION ferry.version_ge(ferry.version, ferry.version) IS 'implementation of an operator: order of bytes, last dot first';
CREATE FUNCTION ferry.version_cmp(ferry.version, ferry.version) RETURNS integer
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ferry_version_cmp';
COMMENT ON FUNCTION ferry.version_cmp(ferry.version, ferry.version) IS 'btree support: order of bytes, last dot first';
CREATE FUNCTION ferry.version_hash(ferry.version) RETURNS integer
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ferry_version_hash';
COMMENT ON FUNCTION ferry.version_hash(ferry.version) IS 'hash support';
CREATE FUNCTION ferry.version_hash_extended(ferry.version, bigint) RETURNS bigint
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ferry_version_hash_extended';
COMMENT ON FUNCTION ferry.version_hash_extended(ferry.version, bigint) IS 'hash support';

CREATE OPERATOR ferry.= (
	LEFTARG = ferry.version, RIGHTARG = ferry.version, FUNCTION = ferry.version_eq,
	COMMUTATOR = OPERATOR(ferry.=), NEGATOR = OPERATOR(ferry.<>), RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES
);
CREATE OPERATOR ferry.<> (
	LEFTARG = ferry.version, RIGHTARG = ferry.version, FUNCTION = ferry.version_ne,
	COMMUTATOR = OPERATOR(ferry.<>), NEGATOR = OPERATOR(ferry.=), RESTRICT = neqsel, JOIN = neqjoinsel
);
CREATE OPERATOR ferry.< (
	LEFTARG = ferry.version, RIGHTARG = ferry.version, FUNCTION = ferry.version_lt,
	COMMUTATOR = OPERATOR(ferry.>), NEGATOR = OPERATOR(ferry.>=), RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
CREATE OPERATOR ferry.<= (
	LEFTARG = ferry.version, RIGHTARG = ferry.version, FUNCTION = ferry.version_le,
	COMMUTATOR = OPERATOR(ferry.>=), NEGATOR = OPERATOR(ferry.>), RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
CREATE OPERATOR ferry.> (
	LEFTARG = ferry.version, RIGHTARG = ferry.version, FUNCTION = ferry.version_gt,
	COMMUTATOR = OPERATOR(ferry.<), NEGATOR = OPERATOR(ferry.<=), RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);
CREATE OPERATOR ferry.>= (
	LEFTARG = ferry.version, RIGHTARG = ferry.version, FUNCTION = ferry.version_ge,
	COMMUTATOR = OPERATOR(ferry.<=), NEGATOR = OPERATOR(ferry.<), RESTRICT = scalargesel, JOIN = scalargejoinsel
);

CREATE OPERATOR CLASS ferry.version_ops DEFAULT FOR TYPE ferry.version USING btree AS
	OPERATOR 1 ferry.<, OPERATOR 2 ferry.<=, OPERATOR 3 ferry.=, OPERATOR 4 ferry.>=, OPERATOR 5 ferry.>,
	FUNCTION 1 ferry.version_cmp(ferry.version, ferry.version);
CREATE OPERATOR CLASS ferry.version_hash_ops DEFAULT FOR TYPE ferry.version USING hash AS
	OPERATOR 1 ferry.=,
	FUNCTION 1 ferry.version_hash(ferry.version),
	FUNCTION 2 ferry.version_hash_extended(ferry.version, bigint);

CREATE FUNCTION ferry.compare_versions(a ferry.version, b ferry.version) RETURNS text
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ferry_compare_versions';
COMMENT ON FUNCTION ferry.compare_versions(ferry.version, ferry.version) IS 'before, after, equal or concurrent: whether one of two versions includes the other';
CREATE FUNCTION ferry.version_dot(version ferry.version) RETURNS text
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ferry_version_dot';
COMMENT ON FUNCTION ferry.version_dot(ferry.version) IS 'the last write: <hlc>@<node id>';
CREATE FUNCTION ferry.version_time(version ferry.version) RETURNS timestamptz
	LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ferry_version_time';
COMMENT ON FUNCTION ferry.version_time(ferry.version) IS 'when the last write was made, by its writer''s hybrid logical clock';

