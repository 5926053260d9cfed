/* Who we are, what we hold, and whether we can become more. */
#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void
ids(int argc, char **argv)
{
    static const char *const fields[] = {"Uid",    "Gid",    "Groups", "CapInh",  "CapPrm",
                                         "CapEff", "CapBnd", "CapAmb", "Seccomp", "NoNewPrivs"};
    char value[256];
    (void)argc, (void)argv;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (word_after("/proc/self/status", fields[i], value, sizeof value)) {
            fact(fields[i], value);
        }
    }
    fact_number("euid", geteuid());
    fact_number("pid", getpid());
    fact_number("no-new-privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    fact_number("secure", prctl(PR_GET_SECUREBITS));
}

static const char *
kind_of(mode_t mode)
{
    return S_ISDIR(mode)    ? "directory"
           : S_ISREG(mode)  ? "file"
           : S_ISSOCK(mode) ? "socket"
           : S_ISFIFO(mode) ? "pipe"
           : S_ISCHR(mode)  ? "device"
                            : "other";
}

static void
descriptors(int argc, char **argv)
{
    char name[32];
    struct stat info;
    (void)argc, (void)argv;
    for (int number = 3; number < 4096; number++) {
        if (fstat(number, &info) != 0) {
            continue;
        }
        snprintf(name, sizeof name, "%d", number);
        fact(name, kind_of(info.st_mode));
        int through = openat(number, "../../../../../../etc/shadow", O_RDONLY | O_CLOEXEC);
        if (through >= 0) {
            snprintf(name, sizeof name, "%d leads out", number);
            fact(name, "done");
            close(through);
        }
    }
}

static void
cgroup(int argc, char **argv)
{
    char line[512];
    char name[16];
    int count = 0;
    FILE *file = fopen("/proc/self/cgroup", "re");
    (void)argc, (void)argv;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        snprintf(name, sizeof name, "%d", count++);
        fact(name, line);
    }
    if (file != NULL) {
        fclose(file);
    }
}

static long
all_capabilities(void)
{
    struct {
        uint32_t version;
        int pid;
    } head = {0x20080522, 0};
    struct {
        uint32_t effective, permitted, inheritable;
    } data[2] = {{UINT32_MAX, UINT32_MAX, UINT32_MAX}, {0x1ff, 0x1ff, 0x1ff}};
    return syscall(SYS_capset, &head, data);
}

static void
gain(int argc, char **argv)
{
    gid_t wheel = 0;
    (void)argc, (void)argv;
    fact_result("setgroups", setgroups(1, &wheel));
    fact_result("capset", all_capabilities());
    fact_result("ambient", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0));
    fact_result("securebits", prctl(PR_SET_SECUREBITS, 0x2f));
    fact_result("nnp off", prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
}

static const char *const KINDS[] = {"mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time"};

static void
join(int argc, char **argv)
{
    char path[64];
    (void)argc, (void)argv;
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        snprintf(path, sizeof path, "/proc/1/ns/%s", KINDS[i]);
        int number = open(path, O_RDONLY | O_CLOEXEC);
        fact_result(KINDS[i], number < 0 ? -1 : setns(number, 0));
        if (number >= 0) {
            close(number);
        }
    }
    int target = (int)syscall(SYS_pidfd_open, 1, 0);
    fact_result("pidfd", target < 0 ? -1 : setns(target, CLONE_NEWNS | CLONE_NEWUTS));
    fact_result("pidfd_getfd", target < 0 ? -1 : syscall(SYS_pidfd_getfd, target, 0, 0));
    if (target >= 0) {
        close(target);
    }
}

static unsigned long long wanted;
static char label[32];

static void
try_unshare(void)
{
    fact_result(label, unshare((int)wanted));
}

static void
try_clone3(void)
{
    struct clone_args args = {.flags = wanted, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        _exit(0);
    }
    fact_result(label, pid);
}

static void
namespaces(int argc, char **argv)
{
    static const struct {
        const char *name;
        unsigned long long flag;
    } all[] = {{"user", CLONE_NEWUSER},     {"mnt", CLONE_NEWNS},  {"pid", CLONE_NEWPID},
               {"net", CLONE_NEWNET},       {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS},
               {"cgroup", CLONE_NEWCGROUP}, {"time", 0x80}};
    (void)argc, (void)argv;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        wanted = all[i].flag | CLONE_NEWUSER; /* as anybody can ask for it */
        snprintf(label, sizeof label, "unshare %s", all[i].name);
        guarded(label, try_unshare);
        snprintf(label, sizeof label, "clone3 %s", all[i].name);
        guarded(label, try_clone3);
    }
}

/* Processes that come into sight, and what of them can be opened while they are still another
 * program than the one that they become: after a successful open their /proc/PID/exe is looked at,
 * and it only ever changes to that program.
 */
static void
look_at(const char *name, const char *becomes)
{
    static const char *const parts[] = {"mem", "environ", "maps", "fd", "root", "cwd"};
    char path[64];
    char link[256];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(path, sizeof path, "/proc/%s/%s", name, parts[i]);
        int number = open(path, O_RDONLY | O_CLOEXEC);
        if (number < 0) {
            continue;
        }
        close(number);
        snprintf(path, sizeof path, "/proc/%s/exe", name);
        ssize_t length = readlink(path, link, sizeof link - 1);
        if (length > 0) {
            link[length] = '\0';
            if (strcmp(link, becomes) != 0) {
                fact(parts[i], link);
            }
        }
    }
}

static void
spy(int argc, char **argv)
{
    static bool known[1 << 16];
    time_t end = time(NULL) + (argc > 0 ? atoi(argv[0]) : 1);
    long long newcomers = 0;
    bool first = true;
    while (argc > 1 && time(NULL) < end) {
        struct dirent *entry;
        DIR *stream = opendir("/proc");
        while (stream != NULL && (entry = readdir(stream)) != NULL) {
            int pid = atoi(entry->d_name);
            if (pid <= 0 || pid >= 1 << 16 || known[pid]) {
                continue;
            }
            if (first) {
                known[pid] = true;
            } else {
                newcomers++;
                look_at(entry->d_name, argv[1]);
            }
        }
        if (stream != NULL) {
            closedir(stream);
        }
        first = false;
    }
    fact_number("newcomers", newcomers);
}

const struct verb identity_verbs[] = {
    {"ids", ids},   {"descriptors", descriptors}, {"cgroup", cgroup}, {"gain", gain},
    {"join", join}, {"namespaces", namespaces},   {"spy", spy},       {NULL, NULL},
};
