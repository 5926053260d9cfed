/* A child that makes system calls and executes a program, and nothing else: no Python runs in it.
 *
 * A tape is a list of calls, made ready before the child is there; it plays them from a copy of
 * our memory as fork(2) gives it, or, with share, from our memory itself: then no page table is
 * copied and no page after it. Such a child has a stack of its own and runs until its exec or its
 * end, which we see by the end of file on a pipe that only it holds: unlike vfork(2) this ends
 * also if somebody stops the child, by a deadline and SIGKILL.
 *
 * Shared is memory alone. Descriptors, directory, signal handlers and credentials are copies. A
 * change of uid makes the memory undumpable (commit_creds() in the kernel), so nobody of that uid
 * can trace it; we make it what it was afterwards. Signals are blocked on both sides, so errno,
 * which is shared as well, is the child's while we wait. A child that is to be in a control group
 * with a limit of memory must not share: who is out of memory is killed with all that share it.
 */
#include "_linux.h"
#include "fork.h"

#include <linux/filter.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>

enum {
    ARGUMENTS = 6,
    REGISTERS = 32,
    STACK = 64 * 1024,
    SIGNAL_SET_SIZE = 8, /* bytes; the kernel's sigset_t */
    DEADLINE = 2 * 1000, /* ms */
    LENIENT = -2,
    FIRST_CLOSED = 4,    /* a program has 0, 1, 2 and its control socket */
    OUT_OF_THE_WAY = 64, /* where our own pipe lies, so that no dup3() of a tape closes it */
};

/* Flags with which the child is a process of its own that shares memory and nothing else. */
#define TAPE_FLAGS                                                                                \
    ((unsigned long long)CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID |               \
     CLONE_NEWNET | CLONE_PARENT)

static const struct {
    const char *name;
    long number;
} calls[] = {
    {"capset", SYS_capset},
    {"chdir", SYS_chdir},
    {"close", SYS_close},
    {"dup3", SYS_dup3},
    {"fchdir", SYS_fchdir},
    {"fcntl", SYS_fcntl},
    {"fsconfig", SYS_fsconfig},
    {"fsmount", SYS_fsmount},
    {"fsopen", SYS_fsopen},
    {"keyctl", SYS_keyctl},
    {"mkdirat", SYS_mkdirat},
    {"mknodat", SYS_mknodat},
    {"mount_setattr", SYS_mount_setattr},
    {"move_mount", SYS_move_mount},
    {"open_tree", SYS_open_tree},
    {"openat", SYS_openat},
    {"openat2", SYS_openat2},
    {"pivot_root", SYS_pivot_root},
    {"prctl", SYS_prctl},
    {"prlimit64", SYS_prlimit64},
    {"seccomp", SYS_seccomp},
    {"setgroups", SYS_setgroups},
    {"sethostname", SYS_sethostname},
    {"setresgid", SYS_setresgid},
    {"setresuid", SYS_setresuid},
    {"setsid", SYS_setsid},
    {"symlinkat", SYS_symlinkat},
    {"umount2", SYS_umount2},
    {"write", SYS_write},
};

/* One call: arguments are numbers, addresses, or (in_register) what an earlier call gave. */
struct entry {
    long number;
    long arguments[ARGUMENTS];
    bool in_register[ARGUMENTS];
    int into; /* register for the result, or -1; LENIENT: ENOSYS and EPERM are no failure */
    const char *message;      /* what could not be done, if it fails */
    struct sock_fprog filter; /* what an argument that is a list of bytes points to */
};

struct tape {
    struct entry *entries;
    Py_ssize_t count;
    long registers[REGISTERS];
    int error_fd;
    const char *program;
    const char *message; /* if it cannot be executed */
    char **argv;
    char **environment;
};

/* Say MESSAGE and the reason on the pipe for errors. */
static void
complain(int fd, const char *message, int error)
{
    char text[1024];
    const char *reason = strerrordesc_np(error);
    size_t size = strnlen(message, sizeof text - 128);
    memcpy(text, message, size);
    memcpy(text + size, ": ", 2);
    size += 2;
    size_t more = strnlen(reason == NULL ? "unknown error" : reason, 100);
    memcpy(text + size, reason == NULL ? "unknown error" : reason, more);
    text[size + more] = '\n';
    if (write(fd, text, size + more + 1) < 0) {
        return; /* nobody reads it */
    }
}

/* The child. It allocates nothing and calls nothing of Python. */
static int
child(void *given)
{
    struct tape *tape = given;
    for (Py_ssize_t i = 0; i < tape->count; i++) {
        const struct entry *entry = &tape->entries[i];
        long value[ARGUMENTS];
        for (int at = 0; at < ARGUMENTS; at++) {
            value[at] = entry->in_register[at] ? tape->registers[entry->arguments[at]]
                                               : entry->arguments[at];
        }
        long result =
            syscall(entry->number, value[0], value[1], value[2], value[3], value[4], value[5]);
        if (result < 0 && entry->into == LENIENT && (errno == ENOSYS || errno == EPERM)) {
            continue;
        }
        if (result < 0) {
            complain(tape->error_fd, entry->message, errno);
            _exit(1);
        }
        if (entry->into >= 0) {
            tape->registers[entry->into] = result;
        }
    }
    /* Not before the exec: the pipe that tells of it must stay open until then. */
    if (syscall(SYS_close_range, FIRST_CLOSED, ~0U, CLOSE_RANGE_CLOEXEC) < 0) {
        complain(tape->error_fd, "cannot close descriptors", errno);
        _exit(1);
    }
    /* All zero is SIG_DFL in whatever order the kernel has its fields. The C library's signal(3)
     * would not touch 32 and 33, its own, which we may have inherited ignored. */
    static const unsigned long defaults[8] = {0};
    for (int number = 1; number < NSIG; number++) { /* SIGKILL and SIGSTOP refuse: rightly */
        (void)syscall(SYS_rt_sigaction, number, defaults, NULL, SIGNAL_SET_SIZE);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(tape->program, tape->argv, tape->environment);
    complain(tape->error_fd, tape->message, errno);
    _exit(1);
}

/* Read one argument of a call. Return 0, or -1 with an exception set. */
static int
read_argument(struct entry *entry, Py_ssize_t at, PyObject *value)
{
    if (PyBytes_Check(value)) {
        entry->arguments[at] = (long)(uintptr_t)PyBytes_AS_STRING(value);
        return 0;
    }
    if (PyTuple_Check(value) && PyTuple_GET_SIZE(value) == 1) {
        entry->arguments[at] = PyLong_AsLong(PyTuple_GET_ITEM(value, 0));
        entry->in_register[at] = true;
        if (entry->arguments[at] < 0 || entry->arguments[at] >= REGISTERS) {
            PyErr_SetString(PyExc_ValueError, "play: no such register");
            return -1;
        }
        return 0;
    }
    if (PyList_Check(value) && PyList_GET_SIZE(value) == 1) {
        char *code = NULL;
        Py_ssize_t size = 0;
        if (PyBytes_AsStringAndSize(PyList_GET_ITEM(value, 0), &code, &size) < 0) {
            return -1;
        }
        entry->filter.len = (unsigned short)((size_t)size / sizeof(struct sock_filter));
        entry->filter.filter = (struct sock_filter *)(void *)code;
        entry->arguments[at] = (long)(uintptr_t)&entry->filter;
        return 0;
    }
    unsigned long long bits = PyLong_AsUnsignedLongLongMask(value);
    entry->arguments[at] = (long)bits;
    return PyErr_Occurred() ? -1 : 0;
}

/* Read (name, arguments, into, message). Return 0, or -1 with an exception set. */
static int
read_entry(struct entry *entry, PyObject *item)
{
    const char *name = NULL;
    PyObject *arguments = NULL;
    if (!PyTuple_Check(item)) {
        PyErr_SetString(PyExc_TypeError, "play: an entry is a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(item, "sO!is:play", &name, &PyTuple_Type, &arguments, &entry->into,
                          &entry->message)) {
        return -1;
    }
    entry->number = -1;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        if (strcmp(calls[i].name, name) == 0) {
            entry->number = calls[i].number;
        }
    }
    if (entry->number < 0 || entry->into >= REGISTERS || PyTuple_GET_SIZE(arguments) > ARGUMENTS) {
        PyErr_Format(PyExc_ValueError, "play: %s is not a call that a tape can have", name);
        return -1;
    }
    for (Py_ssize_t at = 0; at < PyTuple_GET_SIZE(arguments); at++) {
        if (read_argument(entry, at, PyTuple_GET_ITEM(arguments, at)) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Return an array of the texts of a tuple of bytes that ends with NULL, or NULL with an exception.
 */
static char **
texts_of(PyObject *tuple)
{
    Py_ssize_t count = PyTuple_GET_SIZE(tuple);
    char **texts = PyMem_RawCalloc((size_t)count + 1, sizeof *texts);
    if (texts == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (PyBytes_AsStringAndSize(PyTuple_GET_ITEM(tuple, i), &texts[i], NULL) < 0) {
            PyMem_RawFree(texts);
            return NULL;
        }
    }
    return texts;
}

/* Wait until nobody holds the pipe's other end: the child executed, or ended. */
static void
wait_for_end_of_file(int fd, int pidfd, int deadline)
{
    struct pollfd watch = {.fd = fd, .events = POLLIN};
    if (poll(&watch, 1, deadline) != 0) {
        return;
    }
    syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    poll(&watch, 1, -1);
}

/* Make the child in our memory and wait until it needs it no more. Return its pid, or -1. */
static int
run_shared(struct tape *tape, unsigned long long flags, int deadline, int *pidfd)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -1;
    }
    char *stack = PyMem_RawMalloc(STACK);
    int writer = fcntl(ends[1], F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
    int pid = -1;
    int error = stack == NULL ? ENOMEM : errno;
    close(ends[1]);
    if (stack != NULL && writer >= 0) {
        int dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
        uintptr_t top = ((uintptr_t)stack + STACK) & ~(uintptr_t)15;
        int how = (int)flags | CLONE_VM | CLONE_PIDFD | ((flags & CLONE_PARENT) ? 0 : SIGCHLD);
        pid = clone(child, (void *)top, how, tape, pidfd);
        error = errno;
        close(writer);
        if (pid > 0) {
            wait_for_end_of_file(ends[0], *pidfd, deadline);
            prctl(PR_SET_DUMPABLE, dumpable == 1, 0, 0, 0);
        }
    }
    close(ends[0]);
    PyMem_RawFree(stack);
    errno = error;
    return pid;
}

PyDoc_STRVAR(play_doc,
             "clone3(2), the calls of a tape, execve(2): (pid, pidfd).\n\n"
             "An entry is (call, arguments, register for the result or -1, message). An argument\n"
             "is a number, bytes for an address, [bytes] for a filter of system calls, or (n,)\n"
             "for register n; -2 lets ENOSYS and EPERM pass. What else fails ends the child\n"
             "with its message on error_fd. With share it is clone(2) with our memory.");

static PyObject *
do_play(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"flags",   "tape",  "error_fd", "program",  "argv", "environment",
                            "message", "share", "cgroup",   "deadline", NULL};
    unsigned long long flags = 0;
    int share = 0;
    int cgroup = -1;
    int deadline = DEADLINE;
    PyObject *entries = NULL, *argv = NULL, *environment = NULL, *result = NULL;
    struct tape tape = {.error_fd = -1};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O!iyO!O!y|$pii:play", names, mask64, &flags,
                                     &PyTuple_Type, &entries, &tape.error_fd, &tape.program,
                                     &PyTuple_Type, &argv, &PyTuple_Type, &environment,
                                     &tape.message, &share, &cgroup, &deadline)) {
        return NULL;
    }
    if ((flags & ~TAPE_FLAGS) != 0 || (share && cgroup >= 0)) {
        PyErr_SetString(PyExc_ValueError, "play: a flag that a tape cannot have");
        return NULL;
    }
    tape.count = PyTuple_GET_SIZE(entries);
    tape.entries = PyMem_RawCalloc((size_t)tape.count + 1, sizeof *tape.entries);
    tape.argv = texts_of(argv);
    tape.environment = tape.argv == NULL ? NULL : texts_of(environment);
    if (tape.entries == NULL || tape.environment == NULL) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < tape.count; i++) {
        if (read_entry(&tape.entries[i], PyTuple_GET_ITEM(entries, i)) < 0) {
            goto done;
        }
    }
    if (PyErr_Occurred() || PySys_Audit("os.fork", NULL) < 0) {
        goto done;
    }
    int pidfd = -1;
    int pid = -1;
    if (!tripped(module, "play")) {
        sigset_t all, before;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, &before);
        if (share) {
            pid = run_shared(&tape, flags, deadline, &pidfd);
        } else if ((pid = fork_with(flags, -1, cgroup, &pidfd)) == 0) {
            child(&tape);
        }
        int error = errno;
        sigprocmask(SIG_SETMASK, &before, NULL);
        errno = error;
    }
    result = pid < 0 ? PyErr_SetFromErrno(PyExc_OSError) : Py_BuildValue("ii", pid, pidfd);
done:
    if (!PyErr_Occurred() && result == NULL) {
        PyErr_NoMemory();
    }
    PyMem_RawFree(tape.entries);
    PyMem_RawFree(tape.argv);
    PyMem_RawFree(tape.environment);
    return result;
}

PyMethodDef tape_methods[] = {
    KEYWORDS(play),
    {NULL, NULL, 0, NULL},
};
