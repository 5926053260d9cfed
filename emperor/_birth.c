/* _birth.c - the loop of a zygote, and plain births from it, for Python. See _birth.pyi.
 *
 * A birth touches as little of the zygote's memory as it can: each page that is written after a
 * fork is copied, once for each newborn. So orders that need no interpreter are carried out here,
 * and the interpreter of a newborn is told that it was forked (PyOS_AfterFork_Child) only when it
 * is wanted.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../syscalls/cmdline.h"
#include "../syscalls/faults.h"
#include "../syscalls/fork.h"
#include "newborn.h"

enum { LONGEST = 128 * 1024, NOTES_SIZE = 256 * 1024, KIND_OF_NOTE = 'N' };

/* Why serve() returns, beside the outcomes of newborn.h. */
enum { PACKET_CAME = 10, PROCESS_ENDED, NOTES_FULL, TEMPLATE_WANTED };

struct answer {
    char kind; /* 'A' */
    char padding[3];
    int32_t number;
    int32_t pid;
    int32_t error;
};

struct state {
    struct cmdline cmdline;
    struct birth birth;
    int *pidfds; /* of processes born here that did not end */
    size_t pidfd_count;
    size_t pidfd_room;
    int waiting_fds[MOST_FDS]; /* of an order that waits for the template of host roots */
    size_t waiting_count;
    size_t waiting_size; /* 0: none */
    size_t notes_size;   /* packets for the janitor, each after its length */
    unsigned char notes[NOTES_SIZE];
    unsigned char packet[LONGEST];
};

static struct state *
state_of(PyObject *module)
{
    return PyModule_GetState(module);
}

static PyObject *
event(int kind, const void *data, size_t size, const int *fds, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *number = PyLong_FromLong(fds[i]);
        if (number == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, number);
    }
    return list == NULL ? NULL : Py_BuildValue("iy#N", kind, data, (Py_ssize_t)size, list);
}

static void
close_all(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        close(fds[i]);
    }
}

/* Receive a packet and its descriptors. Return its size, 0 when the other side is gone, or -1. */
static ssize_t
receive(int link, struct state *state, int *fds, size_t *count)
{
    union {
        char bytes[CMSG_SPACE(MOST_FDS * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = state->packet, .iov_len = sizeof state->packet};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    *count = 0;
    ssize_t size = recvmsg(link, &message, MSG_CMSG_CLOEXEC);
    if (size < 0) {
        return errno == ECONNRESET ? 0 : -1;
    }
    for (struct cmsghdr *head = CMSG_FIRSTHDR(&message); head != NULL;
         head = CMSG_NXTHDR(&message, head)) {
        if (head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
            *count = (head->cmsg_len - CMSG_LEN(0)) / sizeof *fds;
            memcpy(fds, CMSG_DATA(head), *count * sizeof *fds);
        }
    }
    return size;
}

/* Tell the Emperor what became of its order. It is gone where that fails: the link says so next.
 */
static void
answer(int link, int32_t number, pid_t pid, int error, int pidfd)
{
    struct answer text = {.kind = 'A', .number = number, .pid = pid, .error = error};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = &text, .iov_len = sizeof text};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (pidfd >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &pidfd, sizeof pidfd);
    }
    ssize_t sent = sendmsg(link, &message, MSG_NOSIGNAL);
    (void)sent;
}

/* Remember a process that was born. Return 0, or -1 with ENOMEM. */
static int
remember(struct state *state, int pidfd)
{
    if (state->pidfd_count == state->pidfd_room) {
        size_t room = state->pidfd_room * 2 + 64;
        int *more = realloc(state->pidfds, room * sizeof *more);
        if (more == NULL) {
            errno = ENOMEM;
            return -1;
        }
        state->pidfds = more;
        state->pidfd_room = room;
    }
    state->pidfds[state->pidfd_count++] = pidfd;
    return 0;
}

/* Forget a process that ended. Return whether it was one of those born here. */
static bool
forget(struct state *state, int epoll, int pidfd)
{
    for (size_t i = 0; i < state->pidfd_count; i++) {
        if (state->pidfds[i] == pidfd) {
            state->pidfds[i] = state->pidfds[--state->pidfd_count];
            (void)epoll_ctl(epoll, EPOLL_CTL_DEL, pidfd,
                            NULL); /* newborns hold copies for a while */
            close(pidfd);
            return true;
        }
    }
    return false;
}

/* Keep a note of SIZE bytes for the janitor. Return whether there will be room for another. */
static bool
note(struct state *state, size_t size)
{
    uint32_t length = (uint32_t)size;
    memcpy(state->notes + state->notes_size, &length, sizeof length);
    memcpy(state->notes + state->notes_size + sizeof length, state->packet, size);
    state->notes_size += sizeof length + size;
    return sizeof state->notes - state->notes_size >= sizeof length + sizeof state->packet;
}

/* Clone a newborn, in the cgroup and in the network namespace that came with its order.
 *
 * We are in that namespace for this moment alone: a newborn in a user namespace of its own has no
 * right to enter. Who cannot come back must not bear anybody else there.
 */
static pid_t
clone_newborn(const struct birth *birth, const int *fds, int *pidfd)
{
    const struct birth_head *head = &birth->newborn.head;
    struct faults *faults = birth->newborn.faults;
    unsigned long long flags = CLONE_PARENT | head->clone_flags;
    int cgroup = lent(head, fds, ROLE_CGROUP);
    int network = lent(head, fds, ROLE_NETWORK);
    int home = -1;
    if (network >= 0) {
        home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        if (home < 0) {
            return -1;
        }
        if (faults_trip(faults, "setns") || setns(network, CLONE_NEWNET) < 0) {
            int error = errno;
            close(home);
            errno = error;
            return -1;
        }
    }
    pid_t pid = faults_trip(faults, "clone3") ? -1 : fork_with(flags, 0, cgroup, pidfd);
    int error = errno;
    if (home >= 0 && pid != 0) {
        if (setns(home, CLONE_NEWNET) < 0) {
            (void)dprintf(STDERR_FILENO,
                          "[spawner] died: cannot return to the host's network: %s\n",
                          strerror(errno));
            (void)syscall(SYS_pidfd_send_signal, *pidfd, SIGKILL, NULL, 0U);
            _exit(1);
        }
        close(home);
    }
    errno = error;
    return pid;
}

/* Keep the pidfd of a newborn, and watch it. What the janitor is not told, the kernel's signal at
 * the Emperor's death still ends. */
static void
keep(struct state *state, int epoll, int pidfd)
{
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = pidfd};
    if (remember(state, pidfd) < 0) {
        close(pidfd);
    } else if (epoll_ctl(epoll, EPOLL_CTL_ADD, pidfd, &wanted) < 0) {
        (void)forget(state, epoll, pidfd);
    }
}

/* Carry out a plain order of SIZE bytes. Return 0 in the zygote, an outcome in the newborn. */
static int
bear(struct state *state, int link, int epoll, size_t size, int *fds, size_t count)
{
    struct birth_head *head = &state->birth.newborn.head;
    struct cursor acts;
    int pidfd = -1;
    if (birth_head(state->packet, size, head, &acts) < 0 || head->role_count != count) {
        answer(link, size < sizeof *head ? 0 : head->number, -1, EINVAL, -1);
        close_all(fds, count);
        return 0;
    }
    pid_t pid = clone_newborn(&state->birth, fds, &pidfd);
    if (pid == 0) {
        return (int)live(&state->birth, &state->cmdline, acts, fds, count);
    }
    int error = pid < 0 ? errno : 0;
    answer(link, head->number, pid, error, pidfd);
    close_all(fds, count);
    if (pid > 0) {
        keep(state, epoll, pidfd);
    }
    return 0;
}

/* Tell a newborn's interpreter that it is one. Return NULL with no exception in the zygote. */
static PyObject *
born(int outcome)
{
    if (outcome == 0) {
        return NULL;
    }
    PyOS_BeforeFork(); /* here, not in the zygote: what it runs in Python would be copied there */
    PyOS_AfterFork_Child();
    return event(outcome, "", 0, NULL, 0);
}

/* What happened to one descriptor of the zygote's. Return NULL with no exception to go on. */
static PyObject *
happened(struct state *state, int link, int epoll, int fd)
{
    int fds[MOST_FDS];
    size_t count = 0;
    if (fd != link) {
        return forget(state, epoll, fd) ? NULL : event(PROCESS_ENDED, "", 0, &fd, 1);
    }
    ssize_t size = receive(link, state, fds, &count);
    if (size < 0) {
        return errno == EINTR ? NULL : PyErr_SetFromErrno(PyExc_OSError);
    }
    if (size > 0 && state->packet[0] == KIND_OF_NOTE && count == 0) {
        return note(state, (size_t)size) ? NULL : event(NOTES_FULL, "", 0, NULL, 0);
    }
    if (size == 0 || state->packet[0] != KIND_OF_BIRTH) {
        return event(PACKET_CAME, state->packet, (size_t)size, fds, count);
    }
    struct birth_head head;
    struct cursor acts;
    if (birth_head(state->packet, (size_t)size, &head, &acts) == 0 &&
        (head.flags & HOST_ROOT) != 0) {
        memcpy(state->waiting_fds, fds, count * sizeof *fds);
        state->waiting_count = count;
        state->waiting_size = (size_t)size;
        return event(TEMPLATE_WANTED, "", 0, NULL, 0);
    }
    return born(bear(state, link, epoll, (size_t)size, fds, count));
}

PyDoc_STRVAR(serve_doc,
             "serve(link, epoll, template): carry out plain orders until something else comes");

static PyObject *
do_serve(PyObject *module, PyObject *args)
{
    struct state *state = state_of(module);
    int link, epoll;
    if (!PyArg_ParseTuple(args, "iii:serve", &link, &epoll, &state->birth.template_fd)) {
        return NULL;
    }
    if (state->waiting_size > 0) {
        size_t size = state->waiting_size;
        state->waiting_size = 0;
        PyObject *result =
            born(bear(state, link, epoll, size, state->waiting_fds, state->waiting_count));
        if (result != NULL || PyErr_Occurred()) {
            return result;
        }
    }
    (void)cmdline_know(&state->cmdline); /* without /proc it fails when it is wanted */
    for (;;) {
        struct epoll_event one;
        int ready = epoll_wait(epoll, &one, 1, -1);
        if (ready < 0 && errno != EINTR) {
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        if (ready <= 0) {
            if (PyErr_CheckSignals() < 0) {
                return NULL;
            }
            continue;
        }
        PyObject *result = happened(state, link, epoll, one.data.fd);
        if (result != NULL || PyErr_Occurred()) {
            return result;
        }
    }
}

PyDoc_STRVAR(alive_doc, "The pidfds of processes born by serve() that did not end; lent");

static PyObject *
do_alive(PyObject *module, PyObject *Py_UNUSED(unused))
{
    struct state *state = state_of(module);
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < state->pidfd_count; i++) {
        PyObject *number = PyLong_FromLong(state->pidfds[i]);
        if (number == NULL || PyList_Append(list, number) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(number);
    }
    return list;
}

PyDoc_STRVAR(take_notes_doc, "Packets for the janitor, each after its length; they are forgotten");

static PyObject *
do_take_notes(PyObject *module, PyObject *Py_UNUSED(unused))
{
    struct state *state = state_of(module);
    PyObject *notes =
        PyBytes_FromStringAndSize((const char *)state->notes, (Py_ssize_t)state->notes_size);
    if (notes != NULL) {
        state->notes_size = 0;
    }
    return notes;
}

PyDoc_STRVAR(resume_doc, "Where to go on after STOPPED");

static PyObject *
do_resume(PyObject *module, PyObject *Py_UNUSED(unused))
{
    return PyLong_FromUnsignedLong(state_of(module)->birth.resume);
}

static PyObject *
payload(const struct act *act, size_t skip)
{
    if (act->data == NULL || act->size < skip) {
        return PyBytes_FromString("");
    }
    const char *bytes = (const char *)act->data + skip;
    return PyBytes_FromStringAndSize(bytes, (Py_ssize_t)(act->size - skip));
}

PyDoc_STRVAR(record_doc, "The whole order, as the Emperor packed it");

static PyObject *
do_record(PyObject *module, PyObject *Py_UNUSED(unused))
{
    return payload(&state_of(module)->birth.newborn.record, 0);
}

PyDoc_STRVAR(told_doc, "What worker 1 is told, as the Emperor packed it");

static PyObject *
do_told(PyObject *module, PyObject *Py_UNUSED(unused))
{
    return payload(&state_of(module)->birth.newborn.serve, sizeof(uint64_t));
}

PyDoc_STRVAR(listeners_doc, "[(descriptor, device, inode)] of the open listeners");

static PyObject *
do_listeners(PyObject *module, PyObject *Py_UNUSED(unused))
{
    const struct newborn *newborn = &state_of(module)->birth.newborn;
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < newborn->listener_count; i++) {
        const struct listener *one = &newborn->listeners[i];
        PyObject *row = Py_BuildValue("iKK", one->fd, (unsigned long long)one->device,
                                      (unsigned long long)one->inode);
        if (row == NULL || PyList_Append(list, row) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(row);
    }
    return list;
}

PyDoc_STRVAR(board_doc, "The counters that master and workers share; mapped until the end");

static PyObject *
do_board(PyObject *module, PyObject *Py_UNUSED(unused))
{
    const struct birth *birth = &state_of(module)->birth;
    return PyMemoryView_FromMemory(birth->board, (Py_ssize_t)birth->board_size, PyBUF_WRITE);
}

PyDoc_STRVAR(channel_doc, "(reader, writer) of the line from the workers to the master");

static PyObject *
do_channel(PyObject *module, PyObject *Py_UNUSED(unused))
{
    const struct sitter *sitter = &state_of(module)->birth.sitter;
    return Py_BuildValue("ii", sitter->channel[0], sitter->channel[1]);
}

PyDoc_STRVAR(workers_doc, "[(slot, pid, pidfd, accepting, once, born)], born in CLOCK_MONOTONIC");

static PyObject *
do_workers(PyObject *module, PyObject *Py_UNUSED(unused))
{
    const struct sitter *sitter = &state_of(module)->birth.sitter;
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < sitter->count; i++) {
        const struct sitter_worker *one = &sitter->workers[i];
        double born = (double)one->born.tv_sec + (double)one->born.tv_nsec / 1e9;
        PyObject *row =
            Py_BuildValue("IiiNNd", one->slot, (int)one->pid, one->pidfd,
                          PyBool_FromLong(one->accepting), PyBool_FromLong(one->once), born);
        if (row == NULL || PyList_Append(list, row) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(row);
    }
    return list;
}

PyDoc_STRVAR(woken_doc, "(loaded, serving, environment, packet, signals) of the master");

static PyObject *
do_woken(PyObject *module, PyObject *Py_UNUSED(unused))
{
    const struct sitter *sitter = &state_of(module)->birth.sitter;
    const char *environment = sitter->environment == NULL ? "" : (const char *)sitter->environment;
    return Py_BuildValue("NNy#y#K", PyBool_FromLong(sitter->loaded),
                         PyBool_FromLong(sitter->serving), environment,
                         (Py_ssize_t)sitter->environment_size, (const char *)sitter->packet,
                         (Py_ssize_t)sitter->packet_size, (unsigned long long)sitter_signals());
}

static PyMethodDef methods[] = {
    {"serve", do_serve, METH_VARARGS, serve_doc},
    {"alive", do_alive, METH_NOARGS, alive_doc},
    {"take_notes", do_take_notes, METH_NOARGS, take_notes_doc},
    {"resume", do_resume, METH_NOARGS, resume_doc},
    {"record", do_record, METH_NOARGS, record_doc},
    {"told", do_told, METH_NOARGS, told_doc},
    {"listeners", do_listeners, METH_NOARGS, listeners_doc},
    {"board", do_board, METH_NOARGS, board_doc},
    {"channel", do_channel, METH_NOARGS, channel_doc},
    {"workers", do_workers, METH_NOARGS, workers_doc},
    {"woken", do_woken, METH_NOARGS, woken_doc},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    PyObject *calls = PyImport_ImportModule("donjon.syscalls._linux");
    struct faults *faults = calls == NULL ? NULL : PyCapsule_Import(FAULTS_CAPSULE, 0);
    Py_XDECREF(calls); /* sys.modules holds it */
    if (faults == NULL) {
        return -1;
    }
    state_of(module)->birth.newborn.faults = faults;
    if (PyModule_AddIntMacro(module, STOPPED) < 0 || PyModule_AddIntMacro(module, WORKER) < 0 ||
        PyModule_AddIntMacro(module, MASTER) < 0 ||
        PyModule_AddIntMacro(module, PACKET_CAME) < 0 ||
        PyModule_AddIntMacro(module, PROCESS_ENDED) < 0 ||
        PyModule_AddIntMacro(module, NOTES_FULL) < 0 ||
        PyModule_AddIntMacro(module, BUILDER) < 0 ||
        PyModule_AddIntMacro(module, TEMPLATE_WANTED) < 0) {
        return -1;
    }
    return 0;
}

static void
module_free(void *module)
{
    struct state *state = PyModule_GetState(module);
    free(state->pidfds);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_birth",
    .m_doc = "The loop of a zygote, and plain births from it.",
    .m_size = sizeof(struct state),
    .m_slots = module_slots,
    .m_methods = methods,
    .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__birth(void)
{
    return PyModuleDef_Init(&module_def);
}
