/* faults.h - the seam for tests: a named call fails on demand. Knows no Python. */
#ifndef DONJON_SYSCALLS_FAULTS_H
#define DONJON_SYSCALLS_FAULTS_H

#include <stdbool.h>
#include <stddef.h>

enum { FAULTS = 16, FAULT_NAME = 40 };

struct fault {
    char name[FAULT_NAME];
    int error;  /* errno to fail with */
    long after; /* calls still let through */
    long times; /* failures left; -1 for ever */
};

struct faults {
    int armed; /* how many are in use; 0 is all that a call looks at in production */
    struct fault each[FAULTS];
};

/* What other extensions import, so that all count the same calls. */
#define FAULTS_CAPSULE "donjon.syscalls._linux.faults"

bool faults_trip(struct faults *faults, const char *name);
int faults_arm(struct faults *faults, const char *name, size_t length, int error, long after,
               long times);

#endif
