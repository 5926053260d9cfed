/* Taking more of the machine than was given, hiding from the end, and what two jails could share.
 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void
raise_limit(const char *name, __rlimit_resource_t which)
{
    struct rlimit limit;
    if (getrlimit(which, &limit) != 0) {
        return;
    }
    if (limit.rlim_max == RLIM_INFINITY) {
        fact(name, "unlimited");
        return;
    }
    limit.rlim_max += 1;
    fact_result(name, setrlimit(which, &limit));
}

static void
priorities(int argc, char **argv)
{
    struct sched_param first = {.sched_priority = 10};
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } deadline = {sizeof deadline, 6, 0, 0, 0, 1000000, 10000000, 10000000};
    (void)argc, (void)argv;
    fact_result("nice", setpriority(PRIO_PROCESS, 0, -20));
    fact_result("SCHED_FIFO", sched_setscheduler(0, SCHED_FIFO, &first));
    fact_result("SCHED_DEADLINE", syscall(SYS_sched_setattr, 0, &deadline, 0));
    fact_result("ioprio", syscall(SYS_ioprio_set, 1, 0, (1 << 13) | 0));
    raise_limit("open files", RLIMIT_NOFILE);
    raise_limit("core", RLIMIT_CORE);
    raise_limit("message queues", RLIMIT_MSGQUEUE);
    raise_limit("nice limit", RLIMIT_NICE);
    raise_limit("real time", RLIMIT_RTPRIO);
    raise_limit("locked memory", RLIMIT_MEMLOCK);
    FILE *file = fopen("/proc/self/oom_score_adj", "r+e");
    int now = 0;
    if (file != NULL && fscanf(file, "%d", &now) == 1) {
        rewind(file);
        int done = fprintf(file, "%d", now - 1) > 0 && fflush(file) == 0 ? 0 : -1;
        fact_result("oom_score_adj", done);
    }
    if (file != NULL) {
        fclose(file);
    }
}

/* Children that only stay; the number that could be had. */
static void
bomb(void)
{
    static pid_t made[4096];
    int number = 0;
    pid_t pid = 0;
    while (number < 4096 && (pid = fork()) > 0) {
        made[number++] = pid;
    }
    if (pid == 0) {
        pause();
        _exit(0);
    }
    fact_result("fork", pid);
    fact_number("processes", number);
    for (int i = 0; i < number; i++) {
        kill(made[i], SIGKILL);
    }
    while (wait(NULL) > 0) {
    }
}

static void
fork_bomb(int argc, char **argv)
{
    (void)argc, (void)argv;
    in_child(bomb);
}

static long long want;

static void
eat(void)
{
    for (long long had = 0; had < want; had += 1 << 20) {
        char *more =
            mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (more == MAP_FAILED) {
            fact_result("memory", -1);
            return;
        }
        memset(more, 1, 1 << 20);
    }
    fact("memory", "done");
}

static void
hog(int argc, char **argv)
{
    want = (argc > 0 ? atoll(argv[0]) : 1024) << 20;
    guarded("memory", eat);
}

/* Orphans that nobody but the first process of the jail can reap. */
static void
leave_orphans(void)
{
    for (long long i = 0; i < want; i++) {
        if (fork() == 0) {
            _exit(0);
        }
    }
}

static void
zombies(int argc, char **argv)
{
    want = 40;
    for (int i = 0; i < (argc > 0 ? atoi(argv[0]) : 1000) / 40; i++) {
        in_child(leave_orphans);
    }
    fact("orphans", "left");
}

/* Twins: each makes the other again; both in sessions of their own, deaf to what can be ignored.
 */
static void
twin(void)
{
    for (int number = 1; number < NSIG; number++) {
        signal(number, number == SIGCHLD ? SIG_DFL : SIG_IGN);
    }
    for (;;) {
        pid_t pid = fork();
        if (pid == 0) {
            setsid();
            continue;
        }
        if (pid > 0) {
            waitpid(pid, NULL, 0);
        }
    }
}

static void
cling_once(void)
{
    for (int number = 0; number < 3; number++) {
        close(number); /* nobody waits for their end of file */
    }
    for (int i = 0; i < 3; i++) {
        if (fork() == 0) {
            setsid();
            if (fork() == 0) {
                setsid();
                if (i == 0) {
                    twin();
                }
                for (int number = 1; number < NSIG; number++) {
                    signal(number, SIG_IGN);
                }
                if (i == 1) {
                    raise(SIGSTOP);
                }
                for (;;) {
                    pause();
                }
            }
            _exit(0);
        }
    }
}

static void
cling(int argc, char **argv)
{
    (void)argc, (void)argv;
    in_child(cling_once);
    fact("children", "stay");
}

static void
ipc(int argc, char **argv)
{
    if (argc < 2) {
        return;
    }
    bool make = strcmp(argv[0], "make") == 0;
    key_t key = atoi(argv[1]);
    char name[32];
    snprintf(name, sizeof name, "/probe-%d", key);
    fact_result("shared memory", shmget(key, 4096, make ? IPC_CREAT | 0600 : 0));
    mqd_t queue = mq_open(name, make ? O_RDWR | O_CREAT : O_RDWR, 0600, NULL);
    fact_result("message queue", queue);
    int file = shm_open(name, make ? O_RDWR | O_CREAT : O_RDWR, 0600);
    fact_result("/dev/shm", file);
}

const struct verb resource_verbs[] = {
    {"priorities", priorities},
    {"fork-bomb", fork_bomb},
    {"hog", hog},
    {"zombies", zombies},
    {"cling", cling},
    {"ipc", ipc},
    {NULL, NULL},
};
