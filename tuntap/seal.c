/* seal.c - the filter of a router's system calls, made from a list that says what each is for; and
 * that of who holds links to other hosts.
 *
 * What is not listed fails with EPERM: there is nothing to open, nothing to execute and nobody to
 * signal. Memory can never be made executable, and ioctl(2) is left with what is asked of a tun
 * device that arrives, of the host's addresses, and of sockets.
 */
#include "seal.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define MACHINE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define MACHINE AUDIT_ARCH_AARCH64
#else
#error "seal.c: say which AUDIT_ARCH this machine has"
#endif

#define FIELD(name) ((uint32_t)offsetof(struct seccomp_data, name))
#define FIRST_HALF(number) (FIELD(args) + 8 * (number)) /* little endian: the lower half */

#define SOCKET_TYPE 0xFU /* without SOCK_CLOEXEC and SOCK_NONBLOCK: linux/net.h */

static const int ALLOWED[] = {
    /* the loop of the plane */
    SYS_epoll_create1, SYS_epoll_pwait, SYS_epoll_ctl, SYS_read, SYS_write, SYS_writev,
    SYS_recvfrom, SYS_sendto, SYS_clock_gettime,
#ifdef SYS_epoll_wait
    SYS_epoll_wait,
#endif
    /* the supervisor's messages, peers that come and go */
    SYS_recvmsg, SYS_sendmsg, SYS_accept4, SYS_getsockopt, SYS_setsockopt, SYS_getsockname,
    SYS_close, SYS_fstat, SYS_fcntl, SYS_shutdown, SYS_ppoll,
#ifdef SYS_poll
    SYS_poll,
#endif
    SYS_newfstatat, /* fstat() of glibc, on descriptors: there are no files */
    /* memory that is handed over */
    SYS_memfd_create, SYS_pread64, SYS_lseek, SYS_ftruncate,
    /* the interpreter */
    SYS_munmap, SYS_mremap, SYS_brk, SYS_madvise, SYS_futex, SYS_getrandom, SYS_rt_sigaction,
    SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack, SYS_restart_syscall, SYS_getpid,
    SYS_gettid, SYS_exit, SYS_exit_group, SYS_sched_yield};

/** What links need beside it: TCP, and files of an own directory that OpenSSL reads. */
static const int OF_LINKS[] = {
    SYS_connect, SYS_getpeername, SYS_openat, SYS_unlinkat,
#ifdef SYS_unlink
    SYS_unlink,
#endif
};

static const uint32_t REQUESTS[] = {TUNGETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ, SIOCGIFCONF,
                                    FIONBIO};

static const int MAPPING[] = {SYS_mmap, SYS_mprotect};

/** The program as it grows. */
struct writer {
    struct sock_filter *at;
};

static void
emit(struct writer *writer, uint16_t code, uint32_t value, uint8_t yes, uint8_t no)
{
    *writer->at++ = (struct sock_filter){code, yes, no, value};
}

static void
answer(struct writer *writer, uint32_t action)
{
    emit(writer, BPF_RET | BPF_K, action, 0, 0);
}

static void
load(struct writer *writer, uint32_t field)
{
    emit(writer, BPF_LD | BPF_W | BPF_ABS, field, 0, 0);
}

/** Allow where the loaded word is `value`; go on otherwise. */
static void
allow_if(struct writer *writer, uint32_t value)
{
    emit(writer, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    answer(writer, SECCOMP_RET_ALLOW);
}

/** Allow what links need; a socket is of TCP. */
static void
allow_links(struct writer *writer)
{
    for (size_t i = 0; i < sizeof(OF_LINKS) / sizeof(OF_LINKS[0]); i++)
        allow_if(writer, (uint32_t)OF_LINKS[i]);
    emit(writer, BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 9);
    load(writer, FIRST_HALF(1));
    emit(writer, BPF_ALU | BPF_AND | BPF_K, SOCKET_TYPE, 0, 0);
    emit(writer, BPF_JMP | BPF_JEQ | BPF_K, SOCK_STREAM, 0, 5);
    load(writer, FIRST_HALF(0));
    allow_if(writer, AF_INET);
    allow_if(writer, AF_INET6);
    answer(writer, SECCOMP_RET_ERRNO | EPERM);
}

/**
 * seal_program() - write the filter
 * @program:	room for it
 * @links:	whether it is for who holds links to other hosts
 *
 * Return: how many instructions it has
 */
size_t
seal_program(struct sock_filter program[SEAL_MOST], bool links)
{
    const uint32_t refuse = SECCOMP_RET_ERRNO | EPERM;
    struct writer writer = {program};

    load(&writer, FIELD(arch));
    emit(&writer, BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 1, 0);
    answer(&writer, SECCOMP_RET_KILL_PROCESS);
    load(&writer, FIELD(nr));
    for (size_t i = 0; i < sizeof(ALLOWED) / sizeof(ALLOWED[0]); i++)
        allow_if(&writer, (uint32_t)ALLOWED[i]);
    if (links)
        allow_links(&writer);
    for (size_t i = 0; i < sizeof(MAPPING) / sizeof(MAPPING[0]); i++) {
        emit(&writer, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)MAPPING[i], 0, 4);
        load(&writer, FIRST_HALF(2));
        emit(&writer, BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1);
        answer(&writer, refuse);
        answer(&writer, SECCOMP_RET_ALLOW);
    }
    emit(&writer, BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 1, 0);
    answer(&writer, refuse);
    load(&writer, FIRST_HALF(1));
    for (size_t i = 0; i < sizeof(REQUESTS) / sizeof(REQUESTS[0]); i++)
        allow_if(&writer, REQUESTS[i]);
    answer(&writer, refuse);
    return (size_t)(writer.at - program);
}
