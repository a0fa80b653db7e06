/*
 * fetcher.h
 *		A second connection of a link, to ask the peer for single states.
 */
#ifndef FERRY_LINK_FETCHER_H
#define FERRY_LINK_FETCHER_H

/* from now on this process asks the peer by dsn; it connects at first need */
extern void fetcher_install(const char *peer, const char *dsn);

#endif							/* FERRY_LINK_FETCHER_H */
