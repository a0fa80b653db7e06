/*
 * background.h
 *		ferry's background workers: how one is described and started.
 */
#ifndef FERRY_LINK_BACKGROUND_H
#define FERRY_LINK_BACKGROUND_H

#include "postgres.h"

#include "postmaster/bgworker.h"

/* fill in a worker of this kind ("launcher", "supervisor", "link") and subject, never restarted */
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

#endif							/* FERRY_LINK_BACKGROUND_H */
