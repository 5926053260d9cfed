/* newborn.c - the first moments of a plain vassal. emperor/newborn.py does the same for the
 * others, in the same order, and says why. */
#include "newborn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "listening.h"

enum { SAFE = 64 }; /* received descriptors are moved here before the fixed numbers are filled */

/* End because of WHAT, with the reason in the Emperor's pipe. */
static _Noreturn void
give_up(const char *what)
{
    char line[256];
    (void)snprintf(line, sizeof line, "cannot start: %s: %s", what, strerror(errno));
    ssize_t written = write(ERROR_FD, line, strlen(line));
    _exit(written < 0 ? 2 : 1);
}

static void
default_signals(void)
{
    sigset_t none;
    const int quiet[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    for (size_t i = 0; i < sizeof quiet / sizeof quiet[0]; i++) {
        (void)signal(quiet[i], SIG_DFL);
    }
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/**
 * lent() - what came with an order.
 * @head: of the order.
 * @fds: its descriptors.
 * @role: what for.
 *
 * Return: the descriptor that came for @role, or -1.
 */
int
lent(const struct birth_head *head, const int *fds, enum role role)
{
    for (size_t i = 0; i < head->role_count; i++) {
        if (head->roles[i] == (char)role) {
            return fds[i];
        }
    }
    return -1;
}

/* Give FD the number TARGET; -1 closes that. */
static void
place(int fd, int target, bool inherited)
{
    if (fd < 0) {
        close(target);
    } else if (dup3(fd, target, inherited ? 0 : O_CLOEXEC) < 0) {
        give_up("descriptors");
    }
}

/* Be in the cgroups of v1: what is written is "the writer". */
static void
enter_groups(const struct birth_head *head, const int *fds)
{
    for (size_t i = 0; i < head->role_count; i++) {
        if (head->roles[i] == ROLE_TASKS && write(fds[i], "0", 1) != 1) {
            give_up("control group");
        }
    }
}

/* Close every descriptor from FIRST on but KEPT. */
static void
close_from(unsigned first, int kept)
{
    if (kept > (int)first) {
        (void)syscall(SYS_close_range, first, (unsigned)kept - 1, 0U);
        first = (unsigned)kept + 1;
    }
    if (syscall(SYS_close_range, first, ~0U, 0U) < 0) {
        give_up("descriptors");
    }
}

/* Put the descriptors where a vassal expects them, and close every other one. */
static void
arrange(struct birth *birth, int *fds, size_t count, bool builds)
{
    const struct birth_head *head = &birth->newborn.head;
    for (size_t i = 0; i < count; i++) {
        fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, SAFE);
        if (fds[i] < 0) {
            give_up("descriptors");
        }
    }
    int output = lent(head, fds, ROLE_LOG);
    place(open("/dev/null", O_RDONLY | O_CLOEXEC), 0, true);
    place(output, 1, true);
    place(output, 2, true);
    place(lent(head, fds, ROLE_CONTROL), CONTROL_FD, true);
    place(lent(head, fds, ROLE_LAUNCH), LAUNCH_FD, false);
    place(lent(head, fds, ROLE_ERROR), ERROR_FD, false);
    enter_groups(head, fds);
    int maps = lent(head, fds, ROLE_MAPS);
    birth->newborn.maps_fd = -1;
    if (maps >= 0) {
        place(maps, FIRST_FREE_FD, false);
        birth->newborn.maps_fd = FIRST_FREE_FD;
    }
    unsigned first = maps >= 0 ? FIRST_FREE_FD + 1 : FIRST_FREE_FD;
    close_from(first, builds ? birth->template_fd : -1);
}

static void
die_with_emperor(pid_t emperor)
{
    (void)prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0UL, 0UL, 0UL);
    pid_t parent = getppid();
    if (parent != 0 && parent != emperor) { /* 0: it is outside of our pid namespace */
        _exit(1);
    }
}

/* Map the counters that master and workers share. Return 0, or -1 with errno. */
static int
share_board(struct birth *birth)
{
    uint64_t size = 0;
    const struct act *serve = &birth->newborn.serve;
    if (serve->size < sizeof size) {
        errno = EINVAL;
        return -1;
    }
    memcpy(&size, serve->data, sizeof size);
    void *board =
        mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED) {
        return -1;
    }
    birth->board = board;
    birth->board_size = (size_t)size;
    return 0;
}

/* There can be no worker: undo what is open. The interpreter tries again, and has words for it. */
static enum outcome
abdicate(struct birth *birth)
{
    if (birth->sitter.channel[1] > 0) {
        close(birth->sitter.channel[0]);
        close(birth->sitter.channel[1]);
    }
    if (birth->board != NULL) {
        (void)munmap(birth->board, birth->board_size);
    }
    sitter_default_signals();
    close_listeners(&birth->newborn);
    birth->resume = birth->newborn.serve.resume;
    return STOPPED;
}

/* Be the master of an instance whose sockets are open. */
static enum outcome
reign(struct birth *birth)
{
    struct sitter *sitter = &birth->sitter;
    sitter->emperor_fd = CONTROL_FD;
    sitter->launch_fd = LAUNCH_FD;
    sitter->error_fd = ERROR_FD;
    sitter->wanted = birth->newborn.head.workers;
    sitter->threads = birth->newborn.head.threads;
    if (share_board(birth) < 0 || sitter_begin(sitter) < 0) {
        return abdicate(birth);
    }
    int in_master = sitter_fork(sitter);
    if (in_master < 0) {
        return abdicate(birth);
    }
    if (in_master == 0) {
        return WORKER;
    }
    if (sitter_wait(sitter) < 0) {
        give_up("the master");
    }
    return MASTER;
}

/**
 * live() - be born, in a process that was just cloned.
 * @birth: its newborn.head is read; the rest is zero.
 * @cmdline: of this process; its boundaries are known.
 * @acts: what to do.
 * @fds: descriptors that came with the order.
 * @count: how many.
 *
 * Return: what an interpreter is now wanted for.
 */
enum outcome
live(struct birth *birth, struct cmdline *cmdline, struct cursor acts, int *fds, size_t count)
{
    struct act building;
    (void)prctl(PR_SET_NAME, "donjon", 0UL, 0UL, 0UL);
    arrange(birth, fds, count, find_act(acts, ACT_BUILD, &building) == 1);
    die_with_emperor(birth->newborn.head.emperor_pid);
    default_signals();
    (void)setsid(); /* kill(0, ...) must not reach another vassal */
    int result = do_acts(&birth->newborn, cmdline, acts, &birth->resume);
    if (result != DONE) {
        if (birth->resume == NO_RESUME) {
            give_up("what comes before its jail");
        }
        if (find_act(acts, ACT_RECORD, &birth->newborn.record) != 1) {
            give_up("the order");
        }
        return result == BUILDING ? BUILDER : STOPPED;
    }
    return reign(birth);
}
