/* sitter.c - a master that waits. See sitter.h.
 *
 * Signals are blocked but while ppoll(2) waits, so that a handler only has to set a bit.
 */
#include "sitter.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../syscalls/fork.h"

/* server/channel.py: HEADER, Word. */
struct message {
    uint8_t word;
    uint8_t padding;
    uint16_t slot;
    uint32_t generation;
    int32_t pid;
};

enum { SPAWNED = 1, LOADED = 2, ACCEPTING = 3, ONCE = 8, MORE = 9 };
enum { FIRST_GENERATION = 1, ENVIRONMENT_LIMIT = 1 << 20 };

/* Packets: a pipe holds a page for each, and a customer may enlarge it to a megabyte (pipe(7)). So
 * this many are all that was said before now, and one who never stops does not keep us from the
 * Emperor. */
enum { PACKETS_AT_ONCE = 256 };

/* server/loop.py: HANDLED. */
static const int handled[] = {SIGCHLD, SIGHUP,  SIGINT,  SIGQUIT,  SIGTERM,
                              SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH, SIGURG};

static volatile sig_atomic_t came[64];

static void
on_signal(int number)
{
    came[number] = 1;
}

static void
set_handlers(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    for (size_t i = 0; i < sizeof handled / sizeof handled[0]; i++) {
        (void)sigaction(handled[i], &action, NULL);
    }
}

/** sitter_default_signals() - in a child: what a program is started with (loop.py does the same).
 */
void
sitter_default_signals(void)
{
    sigset_t none;
    set_handlers(SIG_DFL);
    (void)signal(SIGTSTP, SIG_IGN);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/** sitter_signals() - which signals came and were not looked at. Return: a bit for each number. */
uint64_t
sitter_signals(void)
{
    uint64_t bits = 0;
    for (int number = 1; number < 64; number++) {
        if (came[number] != 0) {
            bits |= UINT64_C(1) << number;
            came[number] = 0;
        }
    }
    return bits;
}

static void
say(const char *line)
{
    ssize_t written = write(2, line, strlen(line));
    (void)written; /* a full or closed log stops nobody */
}

/**
 * sitter_begin() - become a master: signals only set a bit from now on, and the line to the
 *     workers is open.
 * @sitter: its emperor_fd, error_fd, wanted and threads are set.
 *
 * Return: 0, or -1 with errno.
 */
int
sitter_begin(struct sitter *sitter)
{
    char line[64];
    sigset_t every;
    sigfillset(&every);
    (void)sigprocmask(SIG_BLOCK, &every, NULL);
    set_handlers(on_signal);
    (void)signal(SIGPIPE, SIG_IGN);
    if (pipe2(sitter->channel, O_DIRECT | O_CLOEXEC) < 0 ||
        fcntl(sitter->channel[0], F_SETFL, O_DIRECT | O_NONBLOCK) < 0 ||
        fcntl(sitter->emperor_fd, F_SETFL, O_NONBLOCK) < 0) {
        return -1;
    }
    (void)snprintf(line, sizeof line, "spawned uWSGI master process (pid: %d)\n", (int)getpid());
    say(line);
    return 0;
}

static void
add_worker(struct sitter *sitter, unsigned slot, pid_t pid, int pidfd)
{
    char line[96];
    struct sitter_worker *worker = &sitter->workers[sitter->count++];
    *worker = (struct sitter_worker){.slot = slot, .pid = pid, .pidfd = pidfd};
    (void)clock_gettime(CLOCK_MONOTONIC, &worker->born);
    (void)snprintf(line, sizeof line, "spawned uWSGI worker %u (pid: %d, cores: %u)\n", slot,
                   (int)pid, sitter->threads);
    say(line);
}

/* In worker 1: nothing of the master's stays. */
static void
leave(struct sitter *sitter, pid_t master)
{
    sitter_default_signals();
    close(sitter->channel[0]);
    close(sitter->error_fd);
    close(sitter->launch_fd);
    (void)prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0UL, 0UL, 0UL);
    if (getppid() != master) {
        _exit(1);
    }
}

/**
 * sitter_fork() - make worker 1.
 * @sitter: it is in its list afterwards.
 *
 * Return: 1 in the master, 0 in the worker, -1 with errno.
 */
int
sitter_fork(struct sitter *sitter)
{
    int pidfd = -1;
    pid_t master = getpid();
    pid_t pid = fork_with(0, SIGCHLD, -1, &pidfd);
    if (pid == 0) {
        leave(sitter, master);
        return 0;
    }
    if (pid < 0) {
        return -1;
    }
    add_worker(sitter, 1, pid, pidfd);
    return 1;
}

static struct sitter_worker *
find(struct sitter *sitter, unsigned slot, pid_t pid)
{
    for (size_t i = 0; i < sitter->count; i++) {
        if (sitter->workers[i].slot == slot && sitter->workers[i].pid == pid) {
            return &sitter->workers[i];
        }
    }
    return NULL;
}

/* Own a worker that worker 1 made as its sibling. What it says is a customer's: the kernel is
 * asked whether the pid is a living child of ours. Return whether it is. */
static bool
adopt(struct sitter *sitter, unsigned slot, pid_t pid)
{
    siginfo_t info = {0};
    if (pid <= 1 || slot <= 1 || slot > sitter->wanted || sitter->count == SITTER_WORKERS) {
        return false;
    }
    for (size_t i = 0; i < sitter->count; i++) {
        if (sitter->workers[i].slot == slot || sitter->workers[i].pid == pid) {
            return false;
        }
    }
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0U);
    if (pidfd < 0) {
        return false;
    }
    if (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG | WNOWAIT) < 0 ||
        info.si_pid != 0) {
        close(pidfd);
        return false;
    }
    add_worker(sitter, slot, pid, pidfd);
    return true;
}

/* The worker of that slot and pid, NULL where there is none. A sibling may speak before worker 1
 * told that it made it. */
static struct sitter_worker *
known(struct sitter *sitter, unsigned slot, pid_t pid)
{
    struct sitter_worker *worker = find(sitter, slot, pid);
    if (worker == NULL && adopt(sitter, slot, pid)) {
        worker = find(sitter, slot, pid);
    }
    return worker;
}

/* Keep a piece of what worker 1 made of its environment. Return whether there was room. */
static bool
keep_environment(struct sitter *sitter, const unsigned char *piece, size_t size)
{
    if (sitter->environment_size + size > ENVIRONMENT_LIMIT) {
        return false;
    }
    unsigned char *both = realloc(sitter->environment, sitter->environment_size + size + 1);
    if (both == NULL) {
        return false;
    }
    memcpy(both + sitter->environment_size, piece, size);
    sitter->environment = both;
    sitter->environment_size += size;
    return true;
}

static bool
loaded(struct sitter *sitter, const unsigned char *payload, size_t size)
{
    if (sitter->loaded || !keep_environment(sitter, payload, size)) {
        return false;
    }
    sitter->loaded = true;
    close(sitter->error_fd); /* who waits for us to be ready sees the end of it */
    sitter->error_fd = -1;
    return true;
}

static bool
once(struct sitter_worker *worker)
{
    if (worker == NULL) {
        return false;
    }
    worker->once = true;
    return true;
}

static bool
accepting(struct sitter *sitter, struct sitter_worker *worker)
{
    size_t ready = 0;
    if (worker == NULL || worker->accepting) {
        return false;
    }
    worker->accepting = true;
    for (size_t i = 0; i < sitter->count; i++) {
        ready += sitter->workers[i].accepting;
    }
    sitter->serving = ready == sitter->wanted;
    return true;
}

/* Take one message. Return whether it was the sitter's to take. */
static bool
take(struct sitter *sitter, const unsigned char *packet, size_t size)
{
    struct message message;
    if (size < sizeof message) {
        return true; /* malformed: nobody's */
    }
    memcpy(&message, packet, sizeof message);
    const unsigned char *payload = packet + sizeof message;
    size_t length = size - sizeof message;
    if (message.generation != FIRST_GENERATION) {
        return false;
    }
    switch (message.word) {
    case SPAWNED:
        return known(sitter, message.slot, message.pid) != NULL;
    case MORE:
        return !sitter->loaded && keep_environment(sitter, payload, length);
    case LOADED:
        return loaded(sitter, payload, length);
    case ONCE:
        return once(known(sitter, message.slot, message.pid));
    case ACCEPTING:
        return accepting(sitter, known(sitter, message.slot, message.pid));
    default:
        return false;
    }
}

/* Take what workers said. Return whether the sitter can go on. */
static bool
hear(struct sitter *sitter)
{
    for (int count = 0; count < PACKETS_AT_ONCE; count++) {
        ssize_t size = read(sitter->channel[0], sitter->packet, sizeof sitter->packet);
        if (size < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        if (!take(sitter, sitter->packet, (size_t)size)) {
            sitter->packet_size = (size_t)size;
            return false;
        }
    }
    return true;
}

/* Process 1 of a jail inherits its orphans: they are reaped, and nothing else.
 * Return whether one of the workers ended. */
static bool
reap_strangers(const struct sitter *sitter)
{
    siginfo_t info;
    for (;;) {
        info.si_pid = 0;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0) {
            return false;
        }
        for (size_t i = 0; i < sitter->count; i++) {
            if (sitter->workers[i].pid == info.si_pid) {
                return true;
            }
        }
        (void)waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG);
    }
}

/* Signals that mean something to a master; the others only must not end it. */
static bool
is_called(void)
{
    return came[SIGHUP] || came[SIGINT] || came[SIGQUIT] || came[SIGTERM] || came[SIGTSTP] ||
           came[SIGUSR1];
}

/**
 * sitter_wait() - wait until there is something that needs an interpreter.
 * @sitter: after sitter_fork() in the master.
 *
 * Signals stay blocked; sitter_signals() has those that came.
 *
 * Return: 0, or -1 with errno.
 */
int
sitter_wait(struct sitter *sitter)
{
    sigset_t none;
    struct pollfd waits[2];
    sigemptyset(&none);
    waits[0] = (struct pollfd){.fd = sitter->emperor_fd, .events = POLLIN};
    waits[1] = (struct pollfd){.fd = sitter->channel[0], .events = POLLIN};
    for (;;) {
        waits[0].revents = 0;
        if (ppoll(waits, 2, NULL, &none) < 0 && errno != EINTR) {
            return -1;
        }
        if (!hear(sitter)) { /* what a worker said before it ended comes first */
            return 0;
        }
        if (came[SIGCHLD] != 0) {
            came[SIGCHLD] = 0;
            if (reap_strangers(sitter)) {
                came[SIGCHLD] = 1;
                return 0;
            }
        }
        if (is_called() || waits[0].revents != 0) {
            return 0;
        }
    }
}
