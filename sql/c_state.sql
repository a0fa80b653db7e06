-- row states as jsonb: read, merged, refused
\set SHOW_CONTEXT never
SELECT ferry.merge('t', '{"alive": true, "key": {"id": 20}, "row": {"a": 1, "b": "x"}, "last": ["3476789819914858496", "77"], "vv": {"77": "3476789819914858496"}}');
SELECT ferry.merge('t', '{"alive": true, "key": {"id": 20}, "row": {"a": 1, "b": "x"}, "last": ["3476789819914858496", "77"], "vv": {"77": "3476789819914858496"}}');
SELECT ferry.merge('t', '{"alive": true, "key": {"id": 20}, "row": {"a": 2, "b": "y"}, "last": ["3476789819914858497", "78"], "vv": {"78": "3476789819914858497"}}');
SELECT relation, key, kind, columns, local_row, remote_row, winner, rule, peer FROM ferry.conflicts;
SELECT relation, kind, conflicts, won_here, won_there FROM ferry.conflict_summary;
SELECT ferry.merge('t', '{"alive": true}');
SELECT ferry.merge('t', '[1]');
-- the row may repeat the key, if it says the same
SELECT ferry.merge('t', '{"alive": true, "key": {"id": 20}, "row": {"id": 20, "a": 1, "b": "x"}, "last": ["3476789819914858496", "77"], "vv": {"77": "3476789819914858496"}}');
SELECT ferry.merge('t', '{"alive": true, "key": {"id": 20}, "row": {"id": 21, "a": 1, "b": "x"}, "last": ["3476789819914858496", "77"], "vv": {"77": "3476789819914858496"}}');
SELECT ferry.merge('t', '{"alive": true, "key": {"id": 20}, "row": {"id": null, "a": 1}, "last": ["3476789819914858496", "77"], "vv": {"77": "3476789819914858496"}}');
SELECT ferry.merge('t', '{"alive": true, "key": {"id": 20}, "row": {"zz": 2}, "last": ["3476789819914858497", "78"], "vv": {"78": "3476789819914858497"}}');
SELECT ferry.merge('t', '{"alive": true, "key": {"id": 20}, "row": {"a": "x"}, "last": ["3476789819914858497", "78"], "vv": {"78": "3476789819914858497"}}');
SELECT ferry.state('t', '{}');
SELECT ferry.state('pg_class', '{}');
