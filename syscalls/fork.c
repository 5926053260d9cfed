/* fork.c - clone3(2) as fork(2): a copied stack, and glibc's idea of its thread kept right. */
#include "fork.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel.h"

/* Where glibc keeps this thread's tid, or 0 (PR_GET_TID_ADDRESS: 3.5 with
 * CONFIG_CHECKPOINT_RESTORE).
 *
 * The raw call goes behind glibc's back; having the kernel write the child's tid there, as glibc's
 * own fork does, keeps what depends on it (recursive mutexes, robust lists) right in the child.
 */
static unsigned long long
tid_address(void)
{
    int *address = NULL;
    if (prctl(PR_GET_TID_ADDRESS, &address, 0, 0, 0) < 0 || address == NULL) {
        return 0;
    }
    return *address == (int)syscall(SYS_gettid) ? (unsigned long long)(uintptr_t)address : 0;
}

/* The same by clone(2), where a filter answers clone3 with ENOSYS because it cannot look at its
 * flags, as those of containers do. ENOSYS again for what the older call cannot say.
 */
static long
older_clone(const struct clone_args *request, int *pidfd)
{
    unsigned long long flags = request->flags | request->exit_signal;
    if (flags > UINT32_MAX || (request->flags & CSIGNAL) != 0) {
        errno = ENOSYS;
        return -1;
    }
    void *tid = (void *)(uintptr_t)request->child_tid;
#if defined(__x86_64__)
    return syscall(SYS_clone, (unsigned long)flags, NULL, pidfd, tid, NULL);
#else
    return syscall(SYS_clone, (unsigned long)flags, NULL, pidfd, NULL, tid);
#endif
}

/**
 * fork_with() - clone3(2) with a copy of the caller's memory and stack.
 * @flags: CLONE_* of a process of its own; CLONE_PIDFD is added.
 * @exit_signal: what the parent gets at its end; below 0: SIGCHLD, or with CLONE_PARENT the one of
 *     the caller's own birth (another is EINVAL).
 * @cgroup: a descriptor of the control group to be born in, or -1.
 * @pidfd: set to the child's pidfd, in the parent.
 *
 * Return: the child's pid, 0 in the child, -1 with errno.
 */
pid_t
fork_with(unsigned long long flags, int exit_signal, int cgroup, int *pidfd)
{
    struct clone_args request = {
        .flags = flags | CLONE_PIDFD | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
        .pidfd = (unsigned long long)(uintptr_t)pidfd,
        .child_tid = tid_address(),
        .cgroup = cgroup >= 0 ? (unsigned long long)cgroup : 0,
    };
    if (request.child_tid != 0) {
        request.flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    }
    if (exit_signal < 0) {
        exit_signal = (flags & CLONE_PARENT) != 0 ? 0 : SIGCHLD;
    }
    request.exit_signal = (unsigned long long)exit_signal;
    long pid = syscall(SYS_clone3, &request, sizeof request);
    if (pid < 0 && errno == ENOSYS) {
        pid = older_clone(&request, pidfd);
    }
    return (pid_t)pid;
}
