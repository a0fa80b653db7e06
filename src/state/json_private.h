/*
 * json_private.h
 *		What the files that write and read row states in jsonb share.
 */
#ifndef FERRY_STATE_JSON_PRIVATE_H
#define FERRY_STATE_JSON_PRIVATE_H

#include "state/state.h"

#define bad_state(...) \
	ereport(ERROR, \
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), \
			 errmsg("invalid row state"), \
			 errdetail(__VA_ARGS__), \
			 errhint("ferry.state() shows what a row state looks like.")))

/* --- writing (json.c) --- */
extern void json_push_key(JsonbParseState **ps, const char *name);
extern void json_push_string(JsonbParseState **ps, JsonbIteratorToken token, const char *s);
extern void json_push_dot(JsonbParseState **ps, Dot d);

/* --- values (json_value.c) --- */

/* these columns of a state as an object; returns it if it is the outermost */
extern JsonbValue *json_push_columns(JsonbParseState **ps, Relation rel, const RowState *s,
									 const AttrNumber *attnos, int n);

/* the columns among these that an object holds, into a state */
extern void json_get_columns(RowState *s, Relation rel, JsonbContainer *object, const AttrNumber *attnos, int n);

/* --- reading (json_parse.c) --- */

/* a member of an object, NULL if there is none */
extern JsonbValue *json_member(JsonbContainer *object, const char *name);
extern JsonbContainer *json_object_member(JsonbContainer *object, const char *name, bool required);

/* a string or a number that is an unsigned integer of at most max; never 0 */
extern uint64 json_unsigned(const char *what, const JsonbValue *v, uint64 max);

/* ["<hlc>", "<node id>"]; covered: by the vector that v has already */
extern Dot	json_dot(const char *what, const JsonbValue *v);
extern Dot	json_covered_dot(const char *what, const JsonbValue *v, const Version *version);

/* every member must be a column of ours among those given */
extern void json_check_names(const char *what, JsonbContainer *object, Relation rel, const AttrNumber *attnos, int n);

/* --- "strategies" (json_strategies.c) --- */
extern void json_push_strategies(JsonbParseState **ps, const FerryTable *table, Relation rel, const RowState *s);

/* into version, whose vector and column dots are there */
extern void json_get_strategies(const FerryTable *table, Relation rel, JsonbContainer *object, Version *version);

/* do a state's values fit what "strategies" says of them? */
extern void json_check_strategies(const FerryTable *table, Relation rel, const RowState *s);

#endif							/* FERRY_STATE_JSON_PRIVATE_H */
