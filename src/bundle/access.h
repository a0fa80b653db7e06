/*
 * access.h
 *		Who may carry bundles.
 */
#ifndef FERRY_BUNDLE_ACCESS_H
#define FERRY_BUNDLE_ACCESS_H

#include "postgres.h"

#include "utils/acl.h"

/*
 * Raise unless the current user has these privileges on every table under ferry:
 * a bundle holds, and may bring, all rows of all of them.
 */
extern void bundle_check_access(AclMode needed);

/* read ferry's own tables by SPI with ferry's own right, in between */
typedef struct BundleUser
{
	Oid			user;
	int			sec;
} BundleUser;

extern void bundle_enter(BundleUser *saved);	/* SPI_connect too */
extern void bundle_leave(const BundleUser *saved);	/* SPI_finish too; not needed on error */

#endif							/* FERRY_BUNDLE_ACCESS_H */
