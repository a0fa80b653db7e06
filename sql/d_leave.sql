-- drop_table, DROP TABLE and DROP EXTENSION leave nothing behind
\set SHOW_CONTEXT never
SELECT ferry.drop_table('t');
\d t
SELECT ferry.add_table($$t$$);
CREATE TABLE u (id int PRIMARY KEY);
SELECT ferry.add_table($$u$$, merge => $$row$$, on_delete => $$update_wins$$);
DROP TABLE u;
SELECT relation FROM ferry.tables;
DROP EXTENSION ferry;
\d t
SELECT nspname FROM pg_namespace WHERE nspname = $$ferry$$;
