/* acts.c - reading the acts of a birth, and doing them. Every act is one call of the kernel, or
 * the few that belong together; what they mean is said in jail/, whose steps they come from. */
#include "acts.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/ioprio.h>
#include <linux/keyctl.h>
#include <linux/securebits.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../syscalls/cmdline.h"
#include "../syscalls/faults.h"
#include "../syscalls/fork.h"
#include "../syscalls/kernel.h"
#include "listening.h"

enum { GROUPS = 1024, ALIGNMENT = 8 };

/**
 * birth_head() - read the head of a packet.
 * @packet: the packet.
 * @size: its bytes.
 * @head: filled.
 * @acts: set to what follows.
 *
 * Return: 0, or -1 where it is not whole.
 */
int
birth_head(const unsigned char *packet, size_t size, struct birth_head *head, struct cursor *acts)
{
    if (size < sizeof *head) {
        return -1;
    }
    memcpy(head, packet, sizeof *head);
    acts->at = packet + sizeof *head;
    acts->left = size - sizeof *head;
    return head->kind == KIND_OF_BIRTH && head->role_count <= ROLES ? 0 : -1;
}

/**
 * next_act() - read one act and go on behind it.
 * @cursor: where to read.
 * @act: filled; its data lies in the packet.
 *
 * Return: 1, 0 at the end, -1 where the act is not whole.
 */
int
next_act(struct cursor *cursor, struct act *act)
{
    struct act_head head;
    if (cursor->left == 0) {
        return 0;
    }
    if (cursor->left < sizeof head) {
        return -1;
    }
    memcpy(&head, cursor->at, sizeof head);
    size_t left = cursor->left - sizeof head;
    if (head.size > left) {
        return -1;
    }
    size_t padding = (ALIGNMENT - head.size % ALIGNMENT) % ALIGNMENT;
    if (padding > left - head.size) {
        return -1;
    }
    act->kind = (enum act_kind)head.kind;
    act->resume = head.resume;
    act->data = cursor->at + sizeof head;
    act->size = head.size;
    cursor->at = act->data + head.size + padding;
    cursor->left = left - head.size - padding;
    return 1;
}

/**
 * find_act() - look for the first act of a kind.
 * @cursor: where to begin; not moved.
 * @kind: what is looked for.
 * @act: filled.
 *
 * Return: 1, 0 where there is none, -1 where the packet is not whole.
 */
int
find_act(struct cursor cursor, enum act_kind kind, struct act *act)
{
    int found;
    while ((found = next_act(&cursor, act)) == 1 && act->kind != kind) {
    }
    return found;
}

/* Read NUMBER 64-bit words of the payload. Return 0, or -1 with EINVAL. */
static int
words(const struct act *act, uint64_t *values, size_t number)
{
    if (act->size != number * sizeof *values) {
        errno = EINVAL;
        return -1;
    }
    memcpy(values, act->data, act->size);
    return 0;
}

/* The payload as a text that ends with its NUL, or NULL with EINVAL. */
static const char *
text(const struct act *act)
{
    if (act->size == 0 || act->data[act->size - 1] != '\0') {
        errno = EINVAL;
        return NULL;
    }
    return (const char *)act->data;
}

static int
wait_for_maps(int fd)
{
    char go = 0;
    ssize_t count = fd < 0 ? 0 : read(fd, &go, 1);
    if (fd >= 0) {
        close(fd);
    }
    if (count != 1 || go != 'g') {
        errno = EPERM;
        return -1;
    }
    return setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 ? -1 : 0;
}

static int
bound(uint64_t kept)
{
    for (unsigned long cap = 0; cap < 64; cap++) {
        bool keep = (kept >> cap & 1) != 0;
        if (!keep && prctl(PR_CAPBSET_DROP, cap, 0UL, 0UL, 0UL) < 0) {
            return errno == EINVAL ? 0 : -1; /* beyond the last that this kernel knows */
        }
    }
    return 0;
}

static int
get_caps(struct __user_cap_data_struct data[2])
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capget, &header, data) < 0 ? -1 : 0;
}

static int
set_caps(const struct __user_cap_data_struct data[2])
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capset, &header, data) < 0 ? -1 : 0;
}

static int
restrict_caps(uint64_t kept)
{
    struct __user_cap_data_struct data[2];
    if (get_caps(data) < 0) {
        return -1;
    }
    for (int half = 0; half < 2; half++) {
        uint32_t mask = (uint32_t)(kept >> (32 * half));
        data[half].effective &= mask;
        data[half].permitted &= mask;
        data[half].inheritable &= mask;
    }
    return set_caps(data);
}

/* Set the effective, permitted and inheritable sets. */
static int
put_caps(uint64_t held, uint64_t inheritable)
{
    struct __user_cap_data_struct data[2];
    for (int half = 0; half < 2; half++) {
        uint32_t mask = (uint32_t)(held >> (32 * half));
        data[half] =
            (struct __user_cap_data_struct){mask, mask, (uint32_t)(inheritable >> (32 * half))};
    }
    return set_caps(data);
}

/* Set and lock securebits, with a last use of CAP_SETPCAP. */
static int
lock_securebits(uint64_t caps, uint64_t locks)
{
    int held = prctl(PR_GET_SECUREBITS, 0UL, 0UL, 0UL, 0UL);
    unsigned long bits = ((unsigned long)held & ~(1UL << SECURE_KEEP_CAPS)) | locks;
    return held < 0 || prctl(PR_SET_SECUREBITS, bits, 0UL, 0UL, 0UL) < 0 ? -1
                                                                         : put_caps(caps, caps);
}

/* capabilities.hold() does the same. */
static int
hold_caps(uint64_t caps, bool ambient, uint64_t locks)
{
    struct __user_cap_data_struct data[2];
    const uint64_t setpcap = UINT64_C(1) << CAP_SETPCAP;
    if (get_caps(data) < 0) {
        return -1;
    }
    if ((data[0].permitted & setpcap) == 0) {
        locks = 0;
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0UL, 0UL, 0UL) < 0 ||
        put_caps(locks != 0 ? caps | setpcap : caps, caps) < 0) {
        return -1;
    }
    for (unsigned long cap = 0; ambient && cap < 64; cap++) {
        if ((caps >> cap & 1) != 0 &&
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0UL, 0UL) < 0) {
            return -1;
        }
    }
    return locks != 0 ? lock_securebits(caps, locks) : 0;
}

/* A session keyring of its own. Where there is no such call, or a filter refuses it, no keyring
 * can be reached either. */
static int
join_keyring(void)
{
    long result = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
    return result < 0 && errno != ENOSYS && errno != EPERM ? -1 : 0;
}

/* Whether all ids are those of WHO now. */
static bool
is_become(const struct identity *who)
{
    uid_t real, effective, saved;
    gid_t group, effective_group, saved_group;
    if (getresuid(&real, &effective, &saved) < 0 ||
        getresgid(&group, &effective_group, &saved_group) < 0) {
        return false;
    }
    if (who->uid >= 0 && (real != who->uid || effective != who->uid || saved != who->uid)) {
        return false;
    }
    return who->gid < 0 ||
           (group == who->gid && effective_group == who->gid && saved_group == who->gid);
}

/* The call that each kind of act is, as syscalls/ names it; NULL where there are several, or none
 * that fails. */
static const char *const calls[] = {
    [ACT_MAKE_PRIVATE] = "mount_setattr",
    [ACT_HOSTNAME] = "sethostname",
    [ACT_BOUND] = "capbset_drop",
    [ACT_HOLD_CAPS] = "capset",
    [ACT_NO_NEW_PRIVILEGES] = "set_no_new_privs",
    [ACT_LIMIT] = "setrlimit",
    [ACT_PRIORITY] = "setpriority",
    [ACT_IO_PRIORITY] = "ioprio_set",
    [ACT_KEYRING] = "join_session_keyring",
    [ACT_SECCOMP] = "seccomp_filter",
    [ACT_RECORD] = NULL,
};

static int
set_groups(const struct act *act, const struct identity *who)
{
    gid_t groups[GROUPS];
    size_t count = (size_t)who->groups;
    if (who->groups < 0) {
        return 0;
    }
    if (count > GROUPS || act->size != sizeof *who + count * sizeof *groups) {
        errno = EINVAL;
        return -1;
    }
    memcpy(groups, act->data + sizeof *who, count * sizeof *groups);
    return setgroups(count, groups);
}

/* Groups first, the uid last. The change takes back PR_SET_PDEATHSIG (prctl(2)). */
static int
become(struct newborn *newborn, const struct act *act)
{
    struct identity who;
    struct faults *faults = newborn->faults;
    if (act->size < sizeof who) {
        errno = EINVAL;
        return -1;
    }
    memcpy(&who, act->data, sizeof who);
    if ((who.groups >= 0 && faults_trip(faults, "setgroups")) || set_groups(act, &who) < 0) {
        return -1;
    }
    if ((who.gid >= 0 && faults_trip(faults, "setresgid")) ||
        (who.uid >= 0 && faults_trip(faults, "setresuid"))) {
        return -1;
    }
    gid_t gid = (gid_t)who.gid;
    uid_t uid = (uid_t)who.uid;
    if ((who.gid >= 0 && setresgid(gid, gid, gid) < 0) ||
        (who.uid >= 0 && setresuid(uid, uid, uid) < 0)) {
        return -1;
    }
    if (!is_become(&who)) {
        errno = EPERM;
        return -1;
    }
    if (prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0UL, 0UL, 0UL) < 0) {
        return -1;
    }
    pid_t parent = getppid();
    if (parent != 0 &&
        parent != newborn->head.emperor_pid) { /* 0: it is outside of our pid namespace */
        _exit(1);
    }
    return 0;
}

static int
limit(const struct act *act)
{
    uint64_t values[3];
    if (words(act, values, 3) < 0) {
        return -1;
    }
    struct rlimit both = {.rlim_cur = values[1], .rlim_max = values[2]};
    return setrlimit((__rlimit_resource_t)values[0], &both);
}

static int
filter(const struct act *act)
{
    size_t count = act->size / sizeof(struct sock_filter);
    if (count == 0 || count > UINT16_MAX || act->size % sizeof(struct sock_filter) != 0) {
        errno = EINVAL;
        return -1;
    }
    struct sock_fprog program = {
        .len = (unsigned short)count,
        .filter = (struct sock_filter *)(uintptr_t)act->data,
    };
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0UL, &program);
}

/* Let a child that shares root, working directory and descriptors put the jail together: what an
 * interpreter writes to memory ends with it. Its failure is told already, and is ours.
 * Return BUILDING in the child, DONE in the newborn, or FAILED with errno. */
static int
build(void)
{
    int pidfd = -1;
    siginfo_t info = {0};
    pid_t pid = fork_with(CLONE_FS | CLONE_FILES, SIGCHLD, -1, &pidfd);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0UL, 0UL, 0UL);
        return BUILDING;
    }
    if (pid < 0) {
        return FAILED;
    }
    while (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0) {
        if (errno != EINTR) {
            return FAILED;
        }
    }
    if (info.si_code != CLD_EXITED || info.si_status != 0) {
        _exit(info.si_code == CLD_EXITED ? info.si_status : 1);
    }
    /* what it opened is open here: nothing of that is the vassal's */
    return syscall(SYS_close_range, FIRST_FREE_FD, ~0U, 0U) < 0 ? FAILED : DONE;
}

/* A full or closed log stops nobody. */
static int
say(const struct act *act)
{
    ssize_t written = write(2, act->data, act->size);
    (void)written;
    return 0;
}

static int
do_words(const struct act *act)
{
    uint64_t values[3] = {0, 0, 0};
    if (words(act, values, act->kind == ACT_HOLD_CAPS ? 3 : 1) < 0) {
        return -1;
    }
    switch (act->kind) {
    case ACT_BOUND:
        return bound(values[0]);
    case ACT_RESTRICT:
        return restrict_caps(values[0]);
    case ACT_HOLD_CAPS:
        return hold_caps(values[0], values[1] != 0, values[2]);
    case ACT_IO_PRIORITY:
        return (int)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, (int)values[0]);
    default:
        return setpriority(PRIO_PROCESS, 0, (int)(int64_t)values[0]);
    }
}

/* Do one act. Return DONE, BUILDING in the child that builds, or FAILED with errno. */
static int
do_act(struct newborn *newborn, struct cmdline *cmdline, const struct act *act)
{
    size_t kind = (size_t)act->kind;
    const char *call = kind < sizeof calls / sizeof calls[0] ? calls[kind] : NULL;
    if (call != NULL && faults_trip(newborn->faults, call)) {
        return FAILED;
    }
    switch (act->kind) {
    case ACT_DIRECTORY:
        return text(act) == NULL ? -1 : chdir(text(act));
    case ACT_COMMAND_LINE:
        if (text(act) == NULL) {
            return -1;
        }
        /* without CONFIG_CHECKPOINT_RESTORE the old words stay */
        (void)cmdline_show(cmdline, text(act), act->size);
        return 0;
    case ACT_WAIT_FOR_MAPS:
        return wait_for_maps(newborn->maps_fd);
    case ACT_BUILD:
        return build();
    case ACT_MAKE_PRIVATE:
        return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    case ACT_HOSTNAME:
        return text(act) == NULL ? -1 : sethostname(text(act), act->size - 1);
    case ACT_KEEP_CAPS:
        return prctl(PR_SET_KEEPCAPS, 1UL, 0UL, 0UL, 0UL);
    case ACT_BECOME:
        return become(newborn, act);
    case ACT_DUMPABLE:
        return prctl(PR_SET_DUMPABLE, 1UL, 0UL, 0UL, 0UL);
    case ACT_NO_NEW_PRIVILEGES:
        return prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL);
    case ACT_LIMIT:
        return limit(act);
    case ACT_SECCOMP:
        return filter(act);
    case ACT_LISTEN:
        return listen_on(newborn, act);
    case ACT_BOUND:
    case ACT_RESTRICT:
    case ACT_HOLD_CAPS:
    case ACT_PRIORITY:
    case ACT_IO_PRIORITY:
        return do_words(act);
    case ACT_KEYRING:
        return join_keyring();
    case ACT_SAY:
        return say(act);
    case ACT_SERVE:
        newborn->serve = *act;
        return 0;
    case ACT_RECORD:
        newborn->record = *act;
        return 0;
    default:
        errno = EINVAL;
        return -1;
    }
}

/**
 * do_acts() - do every act, in order.
 * @newborn: who; gets the listeners, and the acts that are not for the kernel.
 * @cmdline: of this process.
 * @cursor: the first act.
 * @resume: set where one fails: from where an interpreter goes on, in its own words.
 *
 * Return: DONE; FAILED with errno where one failed; BUILDING in a child that builds the jail.
 */
int
do_acts(struct newborn *newborn, struct cmdline *cmdline, struct cursor cursor, unsigned *resume)
{
    struct act act;
    int found;
    while ((found = next_act(&cursor, &act)) == 1) {
        int result = do_act(newborn, cmdline, &act);
        if (result != DONE) {
            *resume = act.resume;
            return result;
        }
    }
    if (found < 0) {
        errno = EINVAL;
        *resume = 0;
        return FAILED;
    }
    return DONE;
}
