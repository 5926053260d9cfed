/* What the kernel's headers give, and what they lack on older hosts.
 *
 * Numbers and structs come from the headers of the build machine. Each fallback names the kernel
 * that brought it: built on an older host, the call is still made, and an older kernel answers
 * ENOSYS or EINVAL. <sys/mount.h> is left out on purpose: glibc 2.36's copy collides with
 * <linux/mount.h>.
 */
#ifndef DONJON_SYSCALLS_KERNEL_H
#define DONJON_SYSCALLS_KERNEL_H

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/if_tun.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* clone3(2). The set of flags that this module may pass through is in _linux.c. */
#ifndef CLONE_NEWTIME /* 5.6 */
#define CLONE_NEWTIME 0x00000080
#endif
#ifndef CLONE_NEWCGROUP /* 4.6 */
#define CLONE_NEWCGROUP 0x02000000
#endif
#ifndef CLONE_CLEAR_SIGHAND /* 5.5 */
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif
#ifndef CLONE_INTO_CGROUP /* 5.7 */
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

/* Syscall numbers from 424 up are the same on every architecture but alpha. */
#ifndef SYS_pidfd_send_signal /* 5.1 */
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_open_tree /* 5.2, as the five below */
#define SYS_open_tree 428
#define SYS_move_mount 429
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif
#ifndef SYS_pidfd_open /* 5.3 */
#define SYS_pidfd_open 434
#endif
#ifndef SYS_clone3 /* 5.3 */
#define SYS_clone3 435
#endif
#ifndef SYS_close_range /* 5.9 */
#define SYS_close_range 436
#endif
#ifndef SYS_openat2 /* 5.6 */
#define SYS_openat2 437
#endif
#ifndef SYS_pidfd_getfd /* 5.6 */
#define SYS_pidfd_getfd 438
#endif
#ifndef SYS_mount_setattr /* 5.12 */
#define SYS_mount_setattr 442
#endif
#ifndef SYS_landlock_create_ruleset /* 5.13 */
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

/* umount2(2): only in <sys/mount.h>, see above. */
#ifndef MNT_FORCE
#define MNT_FORCE 1
#define MNT_DETACH 2
#define MNT_EXPIRE 4
#endif
#ifndef UMOUNT_NOFOLLOW /* 2.6.34 */
#define UMOUNT_NOFOLLOW 8
#endif

#ifndef MS_NOSYMFOLLOW /* 5.10 */
#define MS_NOSYMFOLLOW 256
#endif

/* mount_setattr(2) */
#ifndef MOUNT_ATTR_IDMAP /* 5.12 */
#define MOUNT_ATTR_IDMAP 0x00100000
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW /* 5.14 */
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif
#ifndef MOUNT_ATTR_SIZE_VER0 /* 5.12 */
#define MOUNT_ATTR_SIZE_VER0 32
struct mount_attr {
    __u64 attr_set;
    __u64 attr_clr;
    __u64 propagation;
    __u64 userns_fd;
};
#endif
#ifndef MOVE_MOUNT_SET_GROUP /* 5.15 */
#define MOVE_MOUNT_SET_GROUP 0x00000100
#endif
#ifndef MOVE_MOUNT_BENEATH /* 6.5 */
#define MOVE_MOUNT_BENEATH 0x00000200
#endif

/* linux/mount.h has these as an enum, which the preprocessor cannot see. 6.6 */
#define DONJON_FSCONFIG_CMD_CREATE_EXCL 8

#ifndef RESOLVE_CACHED /* 5.12 */
#define RESOLVE_CACHED 0x20
#endif
#ifndef CLOSE_RANGE_CLOEXEC /* 5.11 */
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif
#ifndef AT_RECURSIVE /* 5.2 */
#define AT_RECURSIVE 0x8000
#endif
#ifndef AT_STATX_DONT_SYNC /* 4.11 */
#define AT_STATX_DONT_SYNC 0x4000
#endif
#ifndef PIDFD_NONBLOCK /* 5.10 */
#define PIDFD_NONBLOCK O_NONBLOCK
#endif

/* loop(4) */
#ifndef LOOP_CONFIGURE /* 5.8 */
#define LOOP_CONFIGURE 0x4C0A
struct loop_config {
    __u32 fd;
    __u32 block_size;
    struct loop_info64 info;
    __u64 __reserved[8];
};
#endif

/* prctl(2) */
#ifndef PR_SET_MEMORY_MERGE /* 6.4 */
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif
#ifndef PR_SCHED_CORE /* 5.14 */
#define PR_SCHED_CORE 62
#endif
#ifndef PR_GET_AUXV /* 6.4 */
#define PR_GET_AUXV 0x41555856
#endif
#ifndef PR_SET_MDWE /* 6.3 */
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif
#ifndef PR_SET_VMA /* 5.17 */
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

/* capabilities(7) */
#ifndef CAP_PERFMON /* 5.8 */
#define CAP_PERFMON 38
#define CAP_BPF 39
#endif
#ifndef CAP_CHECKPOINT_RESTORE /* 5.9 */
#define CAP_CHECKPOINT_RESTORE 40
#endif

#ifndef LANDLOCK_CREATE_RULESET_VERSION /* 5.13; linux/landlock.h may be missing */
#define LANDLOCK_CREATE_RULESET_VERSION (1U << 0)
#endif
#define DONJON_LANDLOCK_RULE_PATH_BENEATH 1  /* an enum of linux/landlock.h */
#define DONJON_KEYCTL_JOIN_SESSION_KEYRING 1 /* linux/keyctl.h */

/* seccomp(2) */
#ifndef SECCOMP_USER_NOTIF_FLAG_CONTINUE /* 5.5 */
#define SECCOMP_USER_NOTIF_FLAG_CONTINUE (1UL << 0)
#endif
#ifndef SECCOMP_FILTER_FLAG_TSYNC_ESRCH /* 5.7 */
#define SECCOMP_FILTER_FLAG_TSYNC_ESRCH (1UL << 4)
#endif

#ifndef TUN_F_USO4 /* 6.2 */
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#endif
