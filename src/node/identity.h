/*
 * identity.h
 *		Marking databases as nodes, for the launcher to find.
 */
#ifndef FERRY_NODE_IDENTITY_H
#define FERRY_NODE_IDENTITY_H

extern void node_register_label_provider(void);

/* label this database; NULL takes the label away */
extern void node_set_label(const char *label);

#endif							/* FERRY_NODE_IDENTITY_H */
