/* fork.h - clone3(2) as fork(2), for callers with one thread. Knows no Python. */
#ifndef DONJON_SYSCALLS_FORK_H
#define DONJON_SYSCALLS_FORK_H

#include <sys/types.h>

pid_t fork_with(unsigned long long flags, int exit_signal, int cgroup, int *pidfd);

#endif
