/* Calls that change the machine, or reach what is not for programs in jails. */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/quota.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct named {
    const char *name;
    attempt_fn attempt;
};

static void
guard_all(const struct named *all)
{
    for (; all->name != NULL; all++) {
        guarded(all->name, all->attempt);
    }
}

/* Only root of the host may: refused with or without a filter. */

static void
try_reboot(void)
{
    fact_result("reboot", reboot(RB_DISABLE_CAD));
}
static void
try_swapon(void)
{
    fact_result("swapon", swapon("/tmp/swap", 0));
}
static void
try_settimeofday(void)
{
    struct timeval now; /* the time that it is: a jail that may is a jail that may */
    gettimeofday(&now, NULL);
    fact_result("settimeofday", settimeofday(&now, NULL));
}
static void
try_clock_settime(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    fact_result("clock_settime", clock_settime(CLOCK_REALTIME, &now));
}
static void
try_adjtimex(void)
{
    struct timex change = {.modes = 0};
    adjtimex(&change);
    change.modes = ADJ_STATUS;
    fact_result("adjtimex", adjtimex(&change));
}
static void
try_acct(void)
{
    fact_result("acct", acct("/tmp/acct"));
}
static void
try_init_module(void)
{
    fact_result("init_module", syscall(SYS_init_module, "", 0, ""));
}
static void
try_finit_module(void)
{
    fact_result("finit_module", syscall(SYS_finit_module, 0, "", 0));
}
static void
try_delete_module(void)
{
    fact_result("delete_module", syscall(SYS_delete_module, "none", 0));
}
static void
try_kexec_load(void)
{
    fact_result("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
}
static void
try_iopl(void)
{
    fact_result("iopl", syscall(SYS_iopl, 3));
}
static void
try_ioperm(void)
{
    fact_result("ioperm", syscall(SYS_ioperm, 0x80, 1, 1));
}
static void
try_quotactl(void)
{
    fact_result("quotactl", quotactl(QCMD(Q_QUOTAOFF, 0), "/dev/vda", 0, NULL));
}
static void
try_syslog(void)
{
    char text[64];
    fact_result("syslog", klogctl(3, text, sizeof text));
}
static void
try_sethostname(void)
{
    fact_result("sethostname", sethostname("escaped", 7));
}
static void
try_setdomainname(void)
{
    fact_result("setdomainname", setdomainname("escaped", 7));
}
static void
try_vhangup(void)
{
    fact_result("vhangup", vhangup());
}
static void
try_fanotify(void)
{
    fact_result("fanotify_init", syscall(SYS_fanotify_init, 0, 0)); /* needs CAP_SYS_ADMIN */
}
static void
try_raw_socket(void)
{
    fact_result("raw socket", syscall(SYS_socket, 2, 3, 1));
}
static void
try_packet_socket(void)
{
    fact_result("packet socket", syscall(SYS_socket, 17, 3, 0x300));
}

static const struct named PRIVILEGED[] = {
    {"reboot", try_reboot},
    {"swapon", try_swapon},
    {"settimeofday", try_settimeofday},
    {"clock_settime", try_clock_settime},
    {"adjtimex", try_adjtimex},
    {"acct", try_acct},
    {"init_module", try_init_module},
    {"finit_module", try_finit_module},
    {"delete_module", try_delete_module},
    {"kexec_load", try_kexec_load},
    {"iopl", try_iopl},
    {"ioperm", try_ioperm},
    {"quotactl", try_quotactl},
    {"syslog", try_syslog},
    {"sethostname", try_sethostname},
    {"setdomainname", try_setdomainname},
    {"vhangup", try_vhangup},
    {"fanotify_init", try_fanotify},
    {"raw socket", try_raw_socket},
    {"packet socket", try_packet_socket},
    {NULL, NULL},
};

static void
privileged(int argc, char **argv)
{
    (void)argc, (void)argv;
    guard_all(PRIVILEGED);
}

/* Anybody may, and no application needs it: a filter refuses it. */

static void
try_add_key(void)
{
    long key = syscall(SYS_add_key, "user", "probe", "x", 1, KEY_SPEC_PROCESS_KEYRING);
    fact_result("add_key", key);
}
static void
try_keyctl(void)
{
    fact_result("keyctl", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1));
}
static void
try_request_key(void)
{
    long key = syscall(SYS_request_key, "user", "probe", NULL, KEY_SPEC_PROCESS_KEYRING);
    fact_result("request_key", key);
}
static void
try_io_uring(void)
{
    struct io_uring_params parameters = {0};
    fact_result("io_uring_setup", syscall(SYS_io_uring_setup, 1, &parameters));
}
static void
try_bpf(void)
{
    union bpf_attr attributes = {0};
    attributes.map_type = BPF_MAP_TYPE_ARRAY;
    attributes.key_size = attributes.value_size = 4;
    attributes.max_entries = 1;
    fact_result("bpf", syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes));
}
static void
try_userfaultfd(void)
{
    fact_result("userfaultfd", syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY));
}
static void
try_perf(void)
{
    struct perf_event_attr attributes = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attributes};
    attributes.config = PERF_COUNT_SW_TASK_CLOCK;
    attributes.exclude_kernel = 1;
    fact_result("perf_event_open", syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0));
}
static void
try_ptrace(void)
{
    fact_result("ptrace", ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}
static void
try_vm_readv(void)
{
    char one = 'x';
    char two = 'y';
    struct iovec here = {&one, 1};
    struct iovec there = {&two, 1};
    fact_result("process_vm_readv", process_vm_readv(getpid(), &here, 1, &there, 1, 0));
}
static void
try_unshare(void)
{
    fact_result("unshare", unshare(CLONE_NEWUSER));
}
static void
try_mount(void)
{
    errno = 0;
    long result = syscall(SYS_mount, NULL, NULL, NULL, 0, NULL);
    fact_result("mount", result); /* EFAULT without a filter */
}
static void
try_tiocsti(void)
{
    int master = -1;
    int slave = -1;
    if (openpty(&master, &slave, NULL, NULL, NULL) != 0) {
        fact("TIOCSTI", "no terminal");
        return;
    }
    setsid();
    ioctl(slave, TIOCSCTTY, 0);
    fact_result("TIOCSTI", ioctl(slave, TIOCSTI, "x"));
    /* the kernel looks at 32 bits of the request (CVE-2019-10063) */
    fact_result("TIOCSTI high", syscall(SYS_ioctl, slave, TIOCSTI | (1UL << 32), "x"));
    fact_result("TIOCLINUX", ioctl(slave, TIOCLINUX, "\3"));
}

static const struct named FILTERED[] = {
    {"add_key", try_add_key},         {"keyctl", try_keyctl}, {"request_key", try_request_key},
    {"io_uring_setup", try_io_uring}, {"bpf", try_bpf},       {"userfaultfd", try_userfaultfd},
    {"perf_event_open", try_perf},    {"ptrace", try_ptrace}, {"process_vm_readv", try_vm_readv},
    {"unshare", try_unshare},         {"mount", try_mount},   {NULL, NULL},
};

static void
filtered(int argc, char **argv)
{
    (void)argc, (void)argv;
    guard_all(FILTERED);
}

static void
terminal(int argc, char **argv)
{
    (void)argc, (void)argv;
    guarded("TIOCSTI", try_tiocsti);
}

#ifdef __x86_64__
static void
try_x32(void)
{
    fact_result("x32 getpid", syscall(0x40000000 | SYS_getpid));
}
static void
try_i386(void)
{
    long result = 20; /* getpid */
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
    errno = result < 0 ? (int)-result : 0;
    fact_result("i386 getpid", result < 0 ? -1 : 0);
}
#endif

static void
foreign_calls(int argc, char **argv)
{
    (void)argc, (void)argv;
#ifdef __x86_64__
    guarded("x32 getpid", try_x32);
    guarded("i386 getpid", try_i386);
#endif
}

static void
signals(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        pid_t pid = atoi(argv[i]);
        fact_result(argv[i], kill(pid, 0));
        int target = (int)syscall(SYS_pidfd_open, pid, 0);
        char name[32];
        snprintf(name, sizeof name, "pidfd %d", pid);
        fact_result(name, target);
    }
}

/* Kills the caller too, so there is no answer: look from outside. */
static void
kill_everybody(int argc, char **argv)
{
    (void)argc, (void)argv;
    kill(-1, SIGKILL);
}

static void
keyring(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "probe";
    if (argc > 0 && strcmp(argv[0], "add") == 0) {
        fact_result("user", syscall(SYS_add_key, "user", name, "x", 1, KEY_SPEC_USER_KEYRING));
    } else {
        fact_result("user",
                    syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_USER_KEYRING, "user", name, 0));
    }
}

const struct verb kernel_verbs[] = {
    {"privileged", privileged}, {"filtered", filtered},
    {"terminal", terminal},     {"foreign-calls", foreign_calls},
    {"signals", signals},       {"kill-everybody", kill_everybody},
    {"keyring", keyring},       {NULL, NULL},
};
