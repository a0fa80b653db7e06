/*
 * exporter.h
 *		This node's states as a bundle, part by part: what both forms of export
 *		(a server file, a set of rows) draw from.
 */
#ifndef FERRY_BUNDLE_EXPORTER_H
#define FERRY_BUNDLE_EXPORTER_H

#include "postgres.h"

#include "bundle/settings.h"
#include "bundle/writer.h"

typedef struct Exporter Exporter;

/*
 * Begin a bundle of what this node holds and a node that holds since lacks (NULL:
 * nothing).  Raises unless the current user may SELECT from every table under
 * ferry.  The exporter lives in the current context and holds a cursor of the
 * current transaction.
 */
extern Exporter *exporter_begin(const char *since);

/* the next part: valid until the next call; false if there is none.  Not within SPI_connect. */
extern bool exporter_next(Exporter *e);
extern const WireWriter *exporter_part(Exporter *e);

/* to be told when it is over */
extern const BundleWriter *exporter_writer(Exporter *e);

#endif							/* FERRY_BUNDLE_EXPORTER_H */
