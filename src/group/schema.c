/*-------------------------------------------------------------------------
 *
 * schema.c
 *		Bringing a group's schema to an empty database: pg_dump, run here.
 *
 * ferry._dump_schema(dsn) is the definitions of a peer's database as SQL text:
 * what pg_dump --schema-only says, which knows them better than anyone else.
 * ferry.join executes it in its own transaction, so that it is there whole or
 * not at all.
 *
 * pg_dump is the one that came with this server, found beside its executable; it
 * reads servers of its own or an older major version.  A password in the dsn goes
 * by environment, since command lines can be read by all.
 *
 * The text is psql's language where it begins and ends: \restrict and \unrestrict
 * (minor releases since August 2025).  These two lines are cut.
 *
 * Servers up to 17 keep the version of an attribute among its options (minor releases
 * since November 2026), which is theirs alone: a pg_dump that does not know of it
 * dumps an option that no server takes.  It is cut, too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>
#include <sys/wait.h>

#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "libpq-fe.h"
#include "miscadmin.h"
#include "port.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "compat.h"

#define READ_BYTES 65536

/* in single quotes, for the shell */
static void
append_quoted(StringInfo buf, const char *text)
{
	appendStringInfoChar(buf, '\'');
	for (; *text; text++)
	{
		if (*text == '\'')
			appendStringInfoString(buf, "'\\''");
		else
			appendStringInfoChar(buf, *text);
	}
	appendStringInfoChar(buf, '\'');
}

/* the dsn without its password, which is returned apart (NULL if there is none) */
static char *
split_dsn(const char *dsn, char **password)
{
	StringInfoData buf;
	char	   *error = NULL;
	PQconninfoOption *options = PQconninfoParse(dsn, &error);

	if (options == NULL)
	{
		char	   *detail = error ? pchomp(error) : pstrdup("out of memory");

		PQfreemem(error);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid dsn"),
				 errdetail_internal("%s", detail)));
	}
	initStringInfo(&buf);
	*password = NULL;
	for (PQconninfoOption *o = options; o->keyword; o++)
	{
		if (o->val == NULL)
			continue;
		if (strcmp(o->keyword, "password") == 0)
		{
			*password = pstrdup(o->val);
			continue;
		}
		appendStringInfo(&buf, "%s='", o->keyword);
		for (const char *p = o->val; *p; p++)
		{
			if (*p == '\'' || *p == '\\')
				appendStringInfoChar(&buf, '\\');
			appendStringInfoChar(&buf, *p);
		}
		appendStringInfoString(&buf, "' ");
	}
	PQconninfoFree(options);
	return buf.data;
}

static char *
dump_command(const char *dsn)
{
	StringInfoData buf;
	char		path[MAXPGPATH];

	strlcpy(path, my_exec_path, sizeof(path));
	get_parent_directory(path);
	join_path_components(path, path, "pg_dump");
	if (access(path, X_OK) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not execute \"%s\": %m", path),
				 errhint("Bring the schema yourself (pg_dump --schema-only, psql), then call ferry.join again.")));
	initStringInfo(&buf);
	append_quoted(&buf, path);
	appendStringInfoString(&buf, " --schema-only --exclude-schema=ferry --no-publications --no-subscriptions"
						   " --no-security-labels --no-password --lock-wait-timeout=60s -d ");
	append_quoted(&buf, dsn);
	return buf.data;
}

/* all that a command writes; raises if it does not end well */
static void
read_command(const char *command, StringInfo out)
{
	FILE	   *pipe = OpenPipeStream(command, PG_BINARY_R);
	size_t		n;
	int			rc;

	if (pipe == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not execute pg_dump: %m")));
	do
	{
		CHECK_FOR_INTERRUPTS();
		enlargeStringInfo(out, READ_BYTES);
		n = fread(out->data + out->len, 1, READ_BYTES, pipe);
		out->len += n;
	} while (n > 0);
	out->data[out->len] = '\0';
	rc = ClosePipeStream(pipe);
	if (rc != 0)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not bring the schema of the sponsor"),
				 errdetail_internal("pg_dump: %s", rc == -1 ? "no exit status" : wait_result_to_str(rc)),
				 errhint("The server's log has what pg_dump said. Or bring the schema yourself (pg_dump --schema-only, psql), then call ferry.join again.")));
}

/* comment out lines of psql's own */
static void
cut_meta_commands(char *text)
{
	static const char *const commands[] = {"\\restrict ", "\\unrestrict "};

	for (int i = 0; i < lengthof(commands); i++)
	{
		size_t		len = strlen(commands[i]);
		char	   *found = NULL;

		/* the first of one, the last of the other: between them may stand function bodies */
		for (char *p = text; p; p = strchr(p, '\n'))
		{
			p += (*p == '\n');
			if (strncmp(p, commands[i], len) == 0 && (i == 1 || found == NULL))
				found = p;
		}
		if (found)
			memcpy(found, "--", 2);
	}
}

/* ALTER TABLE ... ALTER COLUMN ... SET (pg_attver=1, n_distinct=2): without the version, or nothing if that was all */
static void
cut_attribute_versions(char *text)
{
	static const char option[] = "pg_attver=";
	char	   *next;

	for (char *line = text; line; line = next)
	{
		char	   *list;
		char	   *found;
		char	   *end;

		next = strchr(line, '\n');
		if (next)
			*next = '\0';
		list = strncmp(line, "ALTER ", 6) == 0 ? strstr(line, " SET (") : NULL;
		found = list ? strstr(list, option) : NULL;
		if (found)
		{
			end = found + strlen(option);
			end += strspn(end, "0123456789");
			if (found[-1] == '(' && *end == ')')
				memcpy(line, "--", 2);
			else if (*end == ',')
				memset(found, ' ', end + 1 - found);
			else if (*end == ')' && found[-1] == ' ' && found[-2] == ',')
				memset(found - 2, ' ', end - found + 2);
		}
		if (next)
			*next++ = '\n';
	}
}

PG_FUNCTION_INFO_V1(ferry_dump_schema);

/* SQL: ferry._dump_schema(dsn) returns text */
Datum
ferry_dump_schema(PG_FUNCTION_ARGS)
{
	char	   *password;
	char	   *dsn = split_dsn(text_to_cstring(PG_GETARG_TEXT_PP(0)), &password);
	char	   *command = dump_command(dsn);
	StringInfoData out;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to run pg_dump on the server"),
				 errhint("Only superusers may; others bring the schema themselves.")));
	initStringInfo(&out);
	if (password)
		setenv("PGPASSWORD", password, 1);
	PG_TRY();
	{
		read_command(command, &out);
	}
	PG_FINALLY();
	{
		if (password)
			unsetenv("PGPASSWORD");
	}
	PG_END_TRY();
	cut_meta_commands(out.data);
	cut_attribute_versions(out.data);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

PG_FUNCTION_INFO_V1(ferry_execute_script);

/*
 * SQL: ferry._execute_script(script): SQL, many statements, in this transaction.
 * SET and set_config are undone at its end, which EXECUTE in PL/pgSQL does not do.
 */
Datum
ferry_execute_script(PG_FUNCTION_ARGS)
{
	char	   *script = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int			level = NewGUCNestLevel();
	int			rc;

	SPI_connect();
	rc = SPI_execute(script, false, 0);
	if (rc < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("could not execute script: %s", SPI_result_code_string(rc))));
	SPI_finish();
	AtEOXact_GUC(false, level);
	PG_RETURN_VOID();
}
