/*
 * copy_table.h
 *		Copying one table from a peer: its states, merged.
 */
#ifndef FERRY_LINK_COPY_TABLE_H
#define FERRY_LINK_COPY_TABLE_H

#include "postgres.h"

#include "libpq-fe.h"
#include "link/link.h"

/* a table to be copied */
typedef struct DueTable
{
	Oid			relid;
	char	   *schema;
	char	   *name;
	bool		is_new;			/* here: all of it is wanted */
	int64		rows_there;		/* about how many the peer has */
	int64		bytes_there;
} DueTable;

/* how it is to be copied */
typedef struct CopyManner
{
	bool		careful;		/* row by row, bad ones to quarantine */
	bool		went_back;		/* what this node lacks may include writes of its own */
	int			formers;		/* of how many former members the peer has been told */
} CopyManner;

/*
 * Copy a table, in many local transactions, and put on record that it is copied,
 * durably; copier (an entry of the link's) shows how far it is.  Of a table that
 * is not new here only what this node lacks is asked for.  Raises what the peer,
 * the connection or merging raises; what was committed until then stays.
 */
extern void copy_table(PGconn *conn, LinkShared *link, LinkCopier *copier, NodeId peer_id,
					   const CopyManner *manner, const DueTable *t);

#endif							/* FERRY_LINK_COPY_TABLE_H */
