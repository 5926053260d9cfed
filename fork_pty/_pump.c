/*
 * The pump: epoll_wait(2), and what needs no thought is done before Python hears of it.
 *
 *     class Pump:
 *         def __init__(self, epoll: int) -> None: ...
 *         def wait(self, seconds: float, events: int) -> list[tuple[int, int, bytes | None]]: ...
 *         def pair(self, terminal: int, link: int, framed: bool) -> None: ...
 *         def part(self, fd: int) -> None: ...
 *         def counts(self, terminal: int) -> tuple[int, int]: ...
 *
 * A pair is a terminal and the connection of its driver, while nobody else looks on and neither is
 * behind: bytes are copied between them here. What cannot be copied whole is returned, and parts
 * the pair: Python goes on, and pairs them again. So does any other event of either. Descriptors
 * are lent: who closes one parts it first.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "frames.h"

enum { PIECE = 16384, PIECES = 4, MUCH = 2048, EVENTS = 64 };
static_assert(PIECE <= UINT16_MAX, "the keys of one piece are one packet");

typedef enum { NOTHING, TERMINAL, RAW_LINK, FRAMED_LINK } Kind;

typedef struct {
    Kind kind;
    int other;
    uint64_t typed, shown; /* of a terminal: bytes copied since they were last asked for */
} End;

typedef struct {
    PyObject_HEAD int epoll;
    int size;
    End *ends; /* by descriptor */
    uint8_t data[PIECE * PIECES];
    uint8_t keys[FRAMES_HEADER + PIECE]; /* room before them for the header of what is left */
} Pump;

static int
pump_init(Pump *self, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    return PyArg_ParseTuple(args, "i", &self->epoll) ? 0 : -1;
}

static void
pump_dealloc(Pump *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyMem_Free(self->ends);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static bool
is_known(const Pump *self, int fd)
{
    return fd >= 0 && fd < self->size && self->ends[fd].kind != NOTHING;
}

static void
part(Pump *self, int fd)
{
    if (is_known(self, fd)) {
        self->ends[self->ends[fd].other].kind = NOTHING;
        self->ends[fd].kind = NOTHING;
    }
}

/* Put (fd, events, data) into the list; data may be nothing. Return: -1 with an exception. */
static int
tell(PyObject *list, int fd, uint32_t events, const uint8_t *data, size_t size)
{
    PyObject *item = data ? Py_BuildValue("iIy#", fd, events, data, (Py_ssize_t)size)
                          : Py_BuildValue("iIO", fd, events, Py_None);
    if (item == NULL)
        return -1;
    int failed = PyList_Append(list, item);
    Py_DECREF(item);
    return failed;
}

/* Copy from a terminal to its client. Return: -1 with an exception. */
static int
show(Pump *self, int fd, uint32_t events, PyObject *list)
{
    int link = self->ends[fd].other;
    size_t size = 0;
    ssize_t got = read(fd, self->data, PIECE);

    if (got <= 0) { /* Python reads again, and sees why */
        part(self, fd);
        return tell(list, fd, events, NULL, 0);
    }
    size = (size_t)got;
    if (size >= MUCH)
        while (size <= sizeof self->data - PIECE && (got = read(fd, self->data + size, PIECE)) > 0)
            size += (size_t)got;
    ssize_t sent = send(link, self->data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    size_t done = sent > 0 ? (size_t)sent : 0;
    self->ends[fd].shown += done;
    if (done == size)
        return 0;
    part(self, fd);
    return tell(list, fd, 0, self->data + done, size - done);
}

/*
 * Copy from a client to its terminal. What a terminal does not take of a framed client is returned
 * as a packet again: the keys alone would be read as packets. Return: -1 with an exception.
 */
static int
type(Pump *self, int fd, uint32_t events, PyObject *list)
{
    int terminal = self->ends[fd].other;
    uint8_t *keys = self->data;
    ssize_t got = recv(fd, self->data, PIECE, MSG_DONTWAIT);

    if (got <= 0) {
        part(self, fd);
        return tell(list, fd, events, NULL, 0);
    }
    size_t size = (size_t)got;
    bool framed = self->ends[fd].kind == FRAMED_LINK;
    if (framed) {
        keys = self->keys + FRAMES_HEADER;
        size = frames_keys(self->data, (size_t)got, keys);
        if (size == FRAMES_MORE) {
            part(self, fd);
            return tell(list, fd, events, self->data, (size_t)got);
        }
    }
    ssize_t written = size > 0 ? write(terminal, keys, size) : 0;
    size_t done = written > 0 ? (size_t)written : 0;
    self->ends[terminal].typed += done;
    if (done == size)
        return 0;
    part(self, fd);
    keys += done;
    size -= done;
    if (framed) {
        keys -= FRAMES_HEADER;
        frames_head(keys, (uint16_t)size);
        size += FRAMES_HEADER;
    }
    return tell(list, fd, 0, keys, size);
}

static int
serve(Pump *self, const struct epoll_event *event, PyObject *list)
{
    int fd = event->data.fd;

    if (!is_known(self, fd))
        return tell(list, fd, event->events, NULL, 0);
    if (event->events != EPOLLIN) {
        part(self, fd);
        return tell(list, fd, event->events, NULL, 0);
    }
    if (self->ends[fd].kind == TERMINAL)
        return show(self, fd, event->events, list);
    return type(self, fd, event->events, list);
}

/* Return: milliseconds until `end`, rounded up; 0 where it is over, -1 where there is none. */
static int
milliseconds_to(double end)
{
    struct timespec now;

    if (end < 0)
        return -1;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double left = (end - (double)now.tv_sec) * 1e3 - (double)now.tv_nsec / 1e6;
    return left <= 0 ? 0 : left < 1e9 ? (int)left + 1 : INT_MAX;
}

static double
end_of(double seconds)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return seconds < 0 ? -1 : (double)now.tv_sec + (double)now.tv_nsec / 1e9 + seconds;
}

/* Wait once. Return: how many events, 0 also where a signal came; -1 with an exception. */
static int
wait_once(const Pump *self, struct epoll_event *events, int most, int timeout)
{
    PyThreadState *state = PyEval_SaveThread();
    int count = epoll_wait(self->epoll, events, most, timeout);
    int error = errno;
    PyEval_RestoreThread(state);

    if (count >= 0)
        return count;
    if (error == EINTR)
        return PyErr_CheckSignals() < 0 ? -1 : 0;
    errno = error;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

static PyObject *
pump_wait(Pump *self, PyObject *args)
{
    struct epoll_event events[EVENTS];
    double seconds;
    int most, timeout, count;

    if (!PyArg_ParseTuple(args, "di", &seconds, &most))
        return NULL;
    most = most < 1 ? 1 : most > EVENTS ? EVENTS : most;
    PyObject *list = PyList_New(0);
    if (list == NULL)
        return NULL;
    double end = end_of(seconds);
    do {
        timeout = milliseconds_to(end);
        count = wait_once(self, events, most, timeout);
        if (count < 0)
            goto fail;
        for (int i = 0; i < count; i++)
            if (serve(self, &events[i], list) < 0)
                goto fail;
    } while (count > 0 && timeout != 0 && PyList_GET_SIZE(list) == 0);
    return list;
fail:
    Py_DECREF(list);
    return NULL;
}

static int
reserve(Pump *self, int fd)
{
    if (fd < self->size)
        return 0;
    int size = fd + 64;
    End *ends = PyMem_Realloc(self->ends, (size_t)size * sizeof *ends);
    if (ends == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (int i = self->size; i < size; i++)
        ends[i] = (End){NOTHING, -1, 0, 0};
    self->ends = ends;
    self->size = size;
    return 0;
}

static PyObject *
pump_pair(Pump *self, PyObject *args)
{
    int terminal, link, framed;

    if (!PyArg_ParseTuple(args, "iip", &terminal, &link, &framed))
        return NULL;
    if (terminal < 0 || link < 0 || terminal == link) {
        PyErr_SetString(PyExc_ValueError, "not two descriptors");
        return NULL;
    }
    if (reserve(self, terminal) < 0 || reserve(self, link) < 0)
        return NULL;
    part(self, terminal);
    part(self, link);
    self->ends[terminal].kind = TERMINAL;
    self->ends[terminal].other = link;
    self->ends[link].kind = framed ? FRAMED_LINK : RAW_LINK;
    self->ends[link].other = terminal;
    Py_RETURN_NONE;
}

static PyObject *
pump_part(Pump *self, PyObject *args)
{
    int fd;

    if (!PyArg_ParseTuple(args, "i", &fd))
        return NULL;
    part(self, fd);
    Py_RETURN_NONE;
}

static PyObject *
pump_counts(Pump *self, PyObject *args)
{
    int fd;

    if (!PyArg_ParseTuple(args, "i", &fd))
        return NULL;
    if (fd < 0 || fd >= self->size)
        return Py_BuildValue("ii", 0, 0);
    End *end = &self->ends[fd];
    unsigned long long typed = end->typed, shown = end->shown;
    end->typed = end->shown = 0;
    return Py_BuildValue("KK", typed, shown);
}

static PyMethodDef pump_methods[] = {
    {"wait", (PyCFunction)pump_wait, METH_VARARGS, NULL},
    {"pair", (PyCFunction)pump_pair, METH_VARARGS, NULL},
    {"part", (PyCFunction)pump_part, METH_VARARGS, NULL},
    {"counts", (PyCFunction)pump_counts, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot pump_slots[] = {
    {Py_tp_init, pump_init},
    {Py_tp_dealloc, pump_dealloc},
    {Py_tp_methods, pump_methods},
    {0, NULL},
};

static PyType_Spec pump_spec = {
    .name = "donjon.fork_pty._pump.Pump",
    .basicsize = sizeof(Pump),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = pump_slots,
};

static int
module_exec(PyObject *module)
{
    PyObject *pump = PyType_FromModuleAndSpec(module, &pump_spec, NULL);

    if (pump == NULL)
        return -1;
    int failed = PyModule_AddObjectRef(module, "Pump", pump);
    Py_DECREF(pump);
    return failed;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_pump",
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__pump(void)
{
    return PyModuleDef_Init(&module_def);
}
