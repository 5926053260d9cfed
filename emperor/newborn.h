/* newborn.h - from clone3(2) to the master that waits, without an interpreter. */
#ifndef DONJON_EMPEROR_NEWBORN_H
#define DONJON_EMPEROR_NEWBORN_H

#include "acts.h"
#include "sitter.h"

enum outcome {
    STOPPED = 1, /* an act failed: an interpreter goes on from newborn.resume */
    BUILDER,     /* this process puts the jail of a newborn together */
    WORKER,      /* this process is worker 1 */
    MASTER       /* this process is the master, and something happened */
};

struct birth {
    struct newborn newborn;
    struct sitter sitter;
    unsigned resume;
    int template_fd; /* of host roots, for a builder; -1: none */
    void *board;     /* counters that master and workers share */
    size_t board_size;
};

int lent(const struct birth_head *head, const int *fds, enum role role);
enum outcome live(struct birth *birth, struct cmdline *cmdline, struct cursor acts, int *fds,
                  size_t count);

#endif
