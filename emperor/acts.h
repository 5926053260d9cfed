/* acts.h - a birth written down as acts of the kernel, to be done without an interpreter.
 *
 * A packet is a struct birth_head, then acts: a struct act_head each, its payload, and padding to
 * eight bytes. The Emperor writes it (emperor/flat.py), its own spawner reads it; nobody else
 * holds an end of their socket. It is checked all the same.
 */
#ifndef DONJON_EMPEROR_ACTS_H
#define DONJON_EMPEROR_ACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum birth_flag { HOST_ROOT = 1 }; /* the zygote's template of host roots must be of today */
enum { ROLES = 32, LISTENERS = 16, KIND_OF_BIRTH = 'F', NO_RESUME = 0xFFFF };

/* Numbers that emperor/birth.py gives these descriptors. */
enum { CONTROL_FD = 3, LAUNCH_FD = 4, ERROR_FD = 5, FIRST_FREE_FD = 6, MOST_FDS = 64 };

struct birth_head {
    char kind; /* KIND_OF_BIRTH */
    uint8_t role_count;
    uint16_t workers; /* how many the instance has */
    int32_t number;
    int32_t emperor_pid;
    uint16_t threads; /* of each worker, for the log */
    uint16_t flags;   /* HOST_ROOT */
    uint64_t clone_flags;
    char roles[ROLES]; /* what the descriptors beside the packet are: enum role */
};

/* The letters of emperor/flat.py. */
enum role {
    ROLE_CONTROL = 'c',
    ROLE_LAUNCH = 'l',
    ROLE_ERROR = 'e',
    ROLE_LOG = 'o',
    ROLE_CGROUP = 'g', /* for clone3, v2 */
    ROLE_TASKS = 't',  /* of a v1 group: 0 written into it is the writer (cgroups(7)) */
    ROLE_MAPS = 'm',   /* readable when the id maps are written */
    ROLE_NETWORK = 'n' /* the network namespace to be born in */
};

enum act_kind {
    ACT_DIRECTORY = 1,
    ACT_COMMAND_LINE,
    ACT_WAIT_FOR_MAPS,
    ACT_BUILD, /* the jail's steps before the drop, by an interpreter in a process beside us */
    ACT_MAKE_PRIVATE, /* every mount */
    ACT_HOSTNAME,
    ACT_BOUND,    /* u64: the capabilities that stay in the bounding set */
    ACT_RESTRICT, /* u64: those that stay in the other sets */
    ACT_KEEP_CAPS,
    ACT_BECOME,    /* struct identity */
    ACT_HOLD_CAPS, /* u64 capabilities, u64 whether ambient too, u64 securebits to lock */
    ACT_DUMPABLE,
    ACT_NO_NEW_PRIVILEGES,
    ACT_LIMIT,       /* u64 resource, u64 soft, u64 hard */
    ACT_PRIORITY,    /* i64 */
    ACT_IO_PRIORITY, /* u64 */
    ACT_KEYRING,
    ACT_SAY,     /* a line for the log */
    ACT_SECCOMP, /* struct sock_filter[] */
    ACT_LISTEN,  /* struct listening, then the address */
    ACT_SERVE,   /* u64 bytes of shared counters, then what the worker is told */
    ACT_RECORD   /* the whole order, for an interpreter */
};

struct act_head {
    uint16_t kind;
    uint16_t resume; /* where an interpreter takes over if the act fails */
    uint32_t size;
};

struct identity {
    int64_t uid;    /* -1: stays */
    int64_t gid;    /* -1: stays */
    int64_t groups; /* how many u32 follow; -1: they stay */
};

struct listening {
    int32_t family; /* AF_UNIX, AF_INET, AF_INET6 */
    int32_t port;
    int32_t backlog;
    int32_t mode;  /* chmod of a unix socket's file; -1: as it is */
    int32_t umask; /* while it is made; -1: as it is */
    int32_t reuse_port;
};

struct listener {
    int fd;
    dev_t device; /* with inode: the file of a unix socket, 0 for others */
    ino_t inode;
};

struct cursor {
    const unsigned char *at;
    size_t left;
};

struct act {
    enum act_kind kind;
    unsigned resume;
    const unsigned char *data;
    size_t size;
};

struct faults;

/* What became of a birth so far. */
struct newborn {
    struct birth_head head;
    struct listener listeners[LISTENERS];
    size_t listener_count;
    struct act serve;
    struct act record;
    struct faults *faults; /* of tests */
    int maps_fd;
};

int birth_head(const unsigned char *packet, size_t size, struct birth_head *head,
               struct cursor *acts);
int next_act(struct cursor *cursor, struct act *act);
int find_act(struct cursor cursor, enum act_kind kind, struct act *act);

struct cmdline;
enum { FAILED = -1, DONE = 0, BUILDING = 1 };

int do_acts(struct newborn *newborn, struct cmdline *cmdline, struct cursor cursor,
            unsigned *resume);

#endif
