/* newborn.h - from clone3(2) to the master that waits, without an interpreter. */
#ifndef DONJON_EMPEROR_NEWBORN_H
#define DONJON_EMPEROR_NEWBORN_H

#include "acts.h"
#include "sitter.h"

/* Numbers that emperor/birth.py gives these descriptors. */
enum { CONTROL_FD = 3, LAUNCH_FD = 4, ERROR_FD = 5, FIRST_FREE_FD = 6, MOST_FDS = 64 };

enum outcome {
    STOPPED = 1, /* an act failed: an interpreter goes on from newborn.resume */
    WORKER,      /* this process is worker 1 */
    MASTER       /* this process is the master, and something happened */
};

struct birth {
    struct newborn newborn;
    struct sitter sitter;
    unsigned resume;
    void *board; /* counters that master and workers share */
    size_t board_size;
};

enum outcome live(struct birth *birth, struct cmdline *cmdline, struct cursor acts, int *fds,
                  size_t count);

#endif
