/*
 * background.h
 *		ferry's background workers: how one is described and started.
 */
#ifndef FERRY_LINK_BACKGROUND_H
#define FERRY_LINK_BACKGROUND_H

#include "postgres.h"

#include "postmaster/bgworker.h"

/* fill in a worker of this kind ("launcher", "supervisor", "link", "import") and subject, never restarted */
extern void background_describe(BackgroundWorker *worker, const char *kind, const char *subject,
								const char *function);

/*
 * Start one, in a database; its bgw_extra is the subject (up to NAMEDATALEN), and
 * this process is told when it starts and ends.  NULL, with one WARNING in the
 * life of this process, if max_worker_processes does not suffice.  The handle
 * is allocated in the current context.
 */
extern BackgroundWorkerHandle *background_start(Oid dboid, const char *kind, const char *subject,
												const char *function);

/*
 * The settings under which states are merged, whatever the role, the database or
 * postgresql.conf set for sessions; commits do not wait for the disk.
 */
extern void background_pin_settings(void);

#endif							/* FERRY_LINK_BACKGROUND_H */
