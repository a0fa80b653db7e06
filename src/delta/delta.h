/*
 * delta.h
 *		States since a version vector, as frames: everything that is not the
 *		live stream.
 */
#ifndef FERRY_DELTA_DELTA_H
#define FERRY_DELTA_DELTA_H

#include "postgres.h"

#define DELTA_FRAME_BYTES (64 * 1024)

/* SQL: ferry._delta_frames(tables text[], since text) returns setof bytea, see delta.sql */

#endif							/* FERRY_DELTA_DELTA_H */
