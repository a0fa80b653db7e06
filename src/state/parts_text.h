/*
 * parts_text.h
 *		The parts of a version (core/parts.h) in the text form of ferry.version.
 */
#ifndef FERRY_STATE_PARTS_TEXT_H
#define FERRY_STATE_PARTS_TEXT_H

#include "postgres.h"

#include "core/version.h"
#include "lib/stringinfo.h"

/* "3:c(77=80),4:s^813@77(2*813@77+814@78)" */
extern void parts_append_text(StringInfo s, const Version *v);

/* read that up to a closing brace, which is taken too; false if it is not well-formed */
extern bool parts_parse_text(const char **p, Version *v);

/* pieces of version_type.c's grammar */
extern void version_append_dot(StringInfo s, Dot d);
extern bool version_parse_number(const char **p, uint64 max, uint64 *out);
extern bool version_parse_char(const char **p, char c);
extern bool version_parse_dot(const char **p, Dot *d);

#endif							/* FERRY_STATE_PARTS_TEXT_H */
