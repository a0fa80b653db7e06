-- create_node and add_table: what they make and what they refuse
\set SHOW_CONTEXT never
CREATE EXTENSION ferry;
SELECT ferry.add_table('pg_class');
SELECT ferry.create_node('Bad Name', 'dbname=x');
SELECT ferry.create_node('n1', 'dbname=x') > 0 AS created;
SELECT ferry.create_node('n1', 'dbname=x');
-- the mark that the launcher finds can be restored by pg_upgrade; ferry labels nothing else
SECURITY LABEL ON SCHEMA ferry IS 'x';
SECURITY LABEL FOR ferry ON SCHEMA ferry IS 'x';
SELECT format('SECURITY LABEL FOR ferry ON DATABASE %I IS %L', current_database(), 'node') \gexec
SELECT provider, label FROM pg_shseclabel WHERE objoid = (SELECT oid FROM pg_database WHERE datname = current_database());
CREATE TABLE no_key (a int);
SELECT ferry.add_table('no_key');
CREATE TEMP TABLE passing (id int PRIMARY KEY);
SELECT ferry.add_table('passing');
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
SELECT ferry.add_table('unlogged');
CREATE VIEW v AS SELECT 1 AS id;
SELECT ferry.add_table('v');
CREATE TABLE modes (id int PRIMARY KEY);
SELECT ferry.add_table('modes', merge => 'cell');
SELECT ferry.add_table('modes', on_delete => 'never');
SELECT ferry.drop_table('modes');
SELECT ferry.add_peer('me', 'dbname=' || current_database() || ' port=' || current_setting('port') || ' host=' || split_part(current_setting('unix_socket_directories'), ',', 1));
SELECT ferry.drop_peer('nobody');
SELECT ferry.pause_peer('nobody');
SELECT name, is_local, is_peer FROM ferry.nodes;
SELECT peer FROM ferry.lag;
CREATE TABLE t (id int PRIMARY KEY, a int, b text);
INSERT INTO t VALUES (1, 1, 'one');
SELECT ferry.add_table('t');
SELECT ferry.add_table('t');
SELECT relation, merge, on_delete, key FROM ferry.tables;
