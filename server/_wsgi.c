/* _wsgi.c - the worker as Python sees it. The types and their meaning are in _wsgi.pyi.
 *
 * This file only turns arguments into a struct worker; what a worker does is in the files named in
 * _worker.h, and http.c and uwsgi.c, which do not know Python.
 */
#include "_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <netinet/tcp.h>
#include <unistd.h>

static const char *const protocol_names[] = {
    [PROTO_UWSGI] = "uwsgi",
    [PROTO_HTTP] = "http",
    [PROTO_HTTP11] = "http11",
};

/** Arguments of Worker() that need more than storing. */
struct arguments {
    PyObject *listeners;
    PyObject *applications;
    PyObject *version;
    PyObject *node;
    PyObject *errors;
    PyObject *stats;
    PyObject *totals;
    const char *log_format;
    Py_ssize_t buffer_size;
    Py_ssize_t post_buffering;
    unsigned long long limit_post;
    unsigned long long max_requests;
    double socket_timeout;
    double keepalive_timeout;
    double reload_mercy;
    double min_lifetime;
    double heartbeat;
    int manage_script_name;
    int catch_exceptions;
    int log;
    int log_x_forwarded_for;
};

static uint64_t
milliseconds(double seconds)
{
    return seconds <= 0 ? 0 : seconds > 1e9 ? (uint64_t)1e12 : (uint64_t)(seconds * 1000);
}

/** Sockets that are served must not block, and small answers must not wait for more. */
static int
prepare_socket(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    int one = 1;
    int accepting = 0;
    socklen_t size = sizeof(accepting);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &size) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (!accepting) {
        PyErr_Format(PyExc_ValueError, "descriptor %d does not listen", fd);
        return -1;
    }
    /* inherited by accepted sockets; fails on those that are not TCP, which have no such delay */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return 0;
}

static int
parse_listener(Worker *worker, struct listener *listener, PyObject *item)
{
    const char *protocol;
    PyObject *name;
    long port;

    if (!PyTuple_Check(item)) {
        PyErr_SetString(PyExc_TypeError, "a listener is (fd, protocol, server_name, server_port)");
        return -1;
    }
    if (!PyArg_ParseTuple(item, "isUl:listener", &listener->fd, &protocol, &name, &port))
        return -1;
    listener->source = SOURCE_LISTENER;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(protocol_names); i++) {
        if (strcmp(protocol, protocol_names[i]) != 0)
            continue;
        listener->protocol = (enum protocol)i;
        listener->environ = environ_template(worker, listener->protocol, name, port);
        return listener->environ == NULL ? -1 : prepare_socket(listener->fd);
    }
    PyErr_Format(PyExc_ValueError, "unknown protocol: %s", protocol);
    return -1;
}

static int
parse_listeners(Worker *worker, PyObject *listeners)
{
    PyObject *fast = PySequence_Fast(listeners, "listeners must be a sequence");
    int result = fast == NULL ? -1 : 0;
    Py_ssize_t count = fast == NULL ? 0 : PySequence_Fast_GET_SIZE(fast);

    worker->listeners = PyMem_Calloc((size_t)count + 1, sizeof(*worker->listeners));
    if (worker->listeners == NULL)
        result = -1;
    for (Py_ssize_t i = 0; result == 0 && i < count; i++) {
        worker->listener_count++;
        result = parse_listener(worker, &worker->listeners[i], PySequence_Fast_GET_ITEM(fast, i));
    }
    Py_XDECREF(fast);
    return result;
}

/** One (mountpoint, callable). `/` and the empty string are the same mountpoint. */
static int
parse_application(struct application *application, PyObject *item)
{
    PyObject *mountpoint;
    PyObject *callable;

    if (!PyTuple_Check(item) ||
        !PyArg_ParseTuple(item, "UO:application", &mountpoint, &callable)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "an application is (mountpoint, callable)");
        return -1;
    }
    Py_ssize_t len = PyUnicode_GET_LENGTH(mountpoint);
    while (len > 0 && PyUnicode_READ_CHAR(mountpoint, len - 1) == '/')
        len--;
    application->script_name = PyUnicode_Substring(mountpoint, 0, len);
    application->callable = Py_NewRef(callable);
    return application->script_name == NULL ? -1 : 0;
}

static int
parse_applications(Worker *worker, PyObject *applications)
{
    PyObject *fast = PySequence_Fast(applications, "applications must be a sequence");
    int result = fast == NULL ? -1 : 0;
    Py_ssize_t count = fast == NULL ? 0 : PySequence_Fast_GET_SIZE(fast);

    worker->applications = PyMem_Calloc((size_t)count + 1, sizeof(*worker->applications));
    if (worker->applications == NULL)
        result = -1;
    for (Py_ssize_t i = 0; result == 0 && i < count; i++) {
        worker->application_count++;
        result = parse_application(&worker->applications[i], PySequence_Fast_GET_ITEM(fast, i));
    }
    Py_XDECREF(fast);
    return result;
}

/** Get a writable buffer of at least `size` bytes, aligned for 64-bit counters; None leaves it. */
static int
take_buffer(PyObject *object, Py_buffer *view, size_t size, const char *what)
{
    if (object == Py_None)
        return 0;
    if (PyObject_GetBuffer(object, view, PyBUF_WRITABLE) < 0)
        return -1;
    if ((size_t)view->len >= size && (uintptr_t)view->buf % sizeof(uint64_t) == 0)
        return 0;
    PyErr_Format(PyExc_ValueError, "%s needs %zu bytes, aligned", what, size);
    return -1;
}

/** Find the counters their place: shared memory if it was given, else our own. */
static int
open_counters(Worker *worker, const struct arguments *a)
{
    size_t cores = (size_t)worker->threads * CORE_FIELDS;

    worker->own = PyMem_Calloc(cores + 1, sizeof(*worker->own));
    if (worker->own == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (take_buffer(a->stats, &worker->stats, cores * sizeof(uint64_t), "stats") < 0 ||
        take_buffer(a->totals, &worker->totals, sizeof(uint64_t), "totals") < 0)
        return -1;
    worker->cores = worker->stats.buf != NULL ? worker->stats.buf : worker->own;
    worker->total = worker->totals.buf != NULL ? worker->totals.buf : worker->own + cores;
    return 0;
}

/** The descriptors by which loops are woken. */
static int
open_wakers(Worker *worker)
{
    worker->pool = pool_new(worker->threads);
    if (worker->pool == NULL)
        goto fail;
    if (pipe2(worker->signal_fds, O_CLOEXEC | O_NONBLOCK) == 0)
        return 0;
fail:
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/** Check and store what is a number. */
static int
take_numbers(Worker *worker, const struct arguments *a)
{
    if (worker->processes < 1 || worker->threads < 1 || worker->threads > 1024) {
        PyErr_SetString(PyExc_ValueError, "processes and threads are at least 1");
        return -1;
    }
    if (a->buffer_size < 512 || a->buffer_size > (1 << 20)) {
        PyErr_SetString(PyExc_ValueError, "buffer_size is between 512 and 1048576");
        return -1;
    }
    if (a->socket_timeout <= 0) {
        PyErr_SetString(PyExc_ValueError, "socket_timeout is more than 0");
        return -1;
    }
    worker->buffer_size = (size_t)a->buffer_size;
    worker->body_in_memory = a->post_buffering > 65536 ? (size_t)a->post_buffering : 65536;
    worker->limit_post = a->limit_post;
    worker->max_requests = a->max_requests;
    worker->socket_timeout = milliseconds(a->socket_timeout);
    worker->keepalive_timeout =
        milliseconds(a->keepalive_timeout > 0 ? a->keepalive_timeout : a->socket_timeout);
    worker->reload_mercy = milliseconds(a->reload_mercy);
    worker->min_lifetime = milliseconds(a->min_lifetime);
    worker->heartbeat = milliseconds(a->heartbeat);
    worker->manage_script_name = a->manage_script_name != 0;
    worker->catch_exceptions = a->catch_exceptions != 0;
    worker->log = a->log != 0;
    worker->log_x_forwarded_for = a->log_x_forwarded_for != 0;
    return 0;
}

/** Store what is an object, and make what needs memory. */
static int
take_objects(Worker *worker, const struct arguments *a)
{
    PyObject *err = a->errors != Py_None ? a->errors : PySys_GetObject("stderr");

    worker->errors = Py_XNewRef(err != NULL ? err : Py_None);
    worker->version = Py_NewRef(a->version);
    worker->node = Py_NewRef(a->node);
    worker->empty_input = input_from_bytes(worker->module, NULL, 0);
    worker->slots = PyMem_Calloc(HEADER_SLOTS, sizeof(*worker->slots));
    worker->log_format = logline_compile(a->log_format);
    if (worker->slots != NULL && worker->log_format != NULL && worker->empty_input != NULL)
        return 0;
    if (!PyErr_Occurred())
        PyErr_NoMemory();
    return -1;
}

static int
parse_arguments(Worker *worker, struct arguments *a, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"listeners",
                            "applications",
                            "processes",
                            "threads",
                            "worker_id",
                            "version",
                            "node",
                            "buffer_size",
                            "post_buffering",
                            "limit_post",
                            "socket_timeout",
                            "keepalive_timeout",
                            "reload_mercy",
                            "max_requests",
                            "min_lifetime",
                            "manage_script_name",
                            "catch_exceptions",
                            "emperor_fd",
                            "heartbeat",
                            "log",
                            "log_format",
                            "log_x_forwarded_for",
                            "errors",
                            "stats",
                            "totals",
                            NULL};

    return PyArg_ParseTupleAndKeywords(
               args, kwargs, "|$OOiiiSSnnKdddKdppidpzpOOO:Worker", names, &a->listeners,
               &a->applications, &worker->processes, &worker->threads, &worker->worker_id,
               &a->version, &a->node, &a->buffer_size, &a->post_buffering, &a->limit_post,
               &a->socket_timeout, &a->keepalive_timeout, &a->reload_mercy, &a->max_requests,
               &a->min_lifetime, &a->manage_script_name, &a->catch_exceptions, &worker->emperor_fd,
               &a->heartbeat, &a->log, &a->log_format, &a->log_x_forwarded_for, &a->errors,
               &a->stats, &a->totals)
               ? 0
               : -1;
}

static PyObject *
worker_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Worker *worker = (Worker *)type->tp_alloc(type, 0);
    PyObject *nothing = PyTuple_New(0);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, 0);
    PyObject *release = PyBytes_FromString("2.0.31");
    struct arguments a = {
        .listeners = nothing,
        .applications = nothing,
        .version = release,
        .node = bytes,
        .errors = Py_None,
        .stats = Py_None,
        .totals = Py_None,
        .buffer_size = 4096,
        .socket_timeout = 4,
        .reload_mercy = 60,
        .log = 1,
    };

    if (worker == NULL || nothing == NULL || bytes == NULL || release == NULL)
        goto fail;
    worker->module = PyType_GetModuleState(type);
    worker->processes = worker->threads = worker->worker_id = 1;
    worker->emperor_fd = -1;
    worker->signal_fds[0] = worker->signal_fds[1] = -1;
    if (parse_arguments(worker, &a, args, kwargs) < 0 || take_numbers(worker, &a) < 0 ||
        take_objects(worker, &a) < 0 || open_counters(worker, &a) < 0 || open_wakers(worker) < 0 ||
        parse_applications(worker, a.applications) < 0 || parse_listeners(worker, a.listeners) < 0)
        goto fail;
    Py_DECREF(nothing);
    Py_DECREF(bytes);
    Py_DECREF(release);
    return (PyObject *)worker;
fail:
    Py_XDECREF(nothing);
    Py_XDECREF(bytes);
    Py_XDECREF(release);
    Py_XDECREF(worker);
    return NULL;
}

static int
worker_traverse(PyObject *self, visitproc visit, void *arg)
{
    Worker *worker = (Worker *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(worker->errors);
    for (size_t i = 0; i < worker->listener_count; i++)
        Py_VISIT(worker->listeners[i].environ);
    for (size_t i = 0; i < worker->application_count; i++)
        Py_VISIT(worker->applications[i].callable);
    return 0;
}

static int
worker_clear(PyObject *self)
{
    Worker *worker = (Worker *)self;

    Py_CLEAR(worker->errors);
    for (size_t i = 0; i < worker->listener_count; i++)
        Py_CLEAR(worker->listeners[i].environ);
    for (size_t i = 0; i < worker->application_count; i++)
        Py_CLEAR(worker->applications[i].callable);
    return 0;
}

static void
close_wakers(Worker *worker)
{
    for (int i = 0; i < 2; i++) {
        if (worker->signal_fds[i] >= 0)
            close(worker->signal_fds[i]);
    }
    pool_free(worker->pool);
}

static void
worker_dealloc(PyObject *self)
{
    Worker *worker = (Worker *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    worker_clear(self);
    for (size_t i = 0; i < worker->application_count; i++)
        Py_CLEAR(worker->applications[i].script_name);
    for (size_t i = 0; worker->slots != NULL && i < HEADER_SLOTS; i++) {
        Py_CLEAR(worker->slots[i].key);
        Py_CLEAR(worker->slots[i].value);
    }
    Py_CLEAR(worker->version);
    Py_CLEAR(worker->node);
    Py_CLEAR(worker->empty_input);
    if (worker->stats.obj != NULL)
        PyBuffer_Release(&worker->stats);
    if (worker->totals.obj != NULL)
        PyBuffer_Release(&worker->totals);
    close_wakers(worker);
    logline_free(worker->log_format);
    PyMem_Free(worker->listeners);
    PyMem_Free(worker->applications);
    PyMem_Free(worker->slots);
    PyMem_Free(worker->own);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
worker_serve(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"core", NULL};
    Worker *worker = (Worker *)self;
    int core = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|i:serve", names, &core))
        return NULL;
    if (core < 0 || core >= worker->threads) {
        PyErr_Format(PyExc_ValueError, "there is no core %d", core);
        return NULL;
    }
    int reason = loop_run(worker, core);
    return reason < 0 ? NULL : PyLong_FromLong(reason);
}

static PyObject *
worker_stop(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"quick", NULL};
    int quick = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$p:stop", names, &quick))
        return NULL;
    loop_stop((Worker *)self, quick ? QUICK : GRACEFUL, STOPPED);
    Py_RETURN_NONE;
}

static PyObject *
worker_wake_fd(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(((Worker *)self)->signal_fds[1]);
}

static PyMethodDef worker_methods[] = {
    {"serve", (PyCFunction)(void (*)(void))worker_serve, METH_VARARGS | METH_KEYWORDS,
     "Serve on a core until stopped."},
    {"stop", (PyCFunction)(void (*)(void))worker_stop, METH_VARARGS | METH_KEYWORDS,
     "Make serve() return on all cores."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef worker_properties[] = {
    {"wake_fd", worker_wake_fd, NULL, "For signal.set_wakeup_fd().", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot worker_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "Serves WSGI applications on listening sockets."},
    {Py_tp_new, worker_new},
    {Py_tp_dealloc, worker_dealloc},
    {Py_tp_traverse, worker_traverse},
    {Py_tp_clear, worker_clear},
    {Py_tp_methods, worker_methods},
    {Py_tp_getset, worker_properties},
    {0, NULL},
};

static PyType_Spec worker_spec = {
    .name = "donjon.server._wsgi.Worker",
    .basicsize = sizeof(Worker),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = worker_slots,
};

static int
add_type(PyObject *module, PyTypeObject **place, PyType_Spec *spec)
{
    *place = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    return *place == NULL ? -1 : 0;
}

static int
module_exec(PyObject *module)
{
    struct module *state = PyModule_GetState(module);

    for (int i = 0; i < KEY_COUNT; i++) {
        state->keys[i] = PyUnicode_InternFromString(KEY_NAMES[i]);
        if (state->keys[i] == NULL)
            return -1;
    }
    if (add_type(module, &state->worker_type, &worker_spec) < 0 ||
        add_type(module, &state->start_type, &response_start_spec) < 0 ||
        add_type(module, &state->input_type, &input_spec) < 0 ||
        add_type(module, &state->wrapper_type, &input_wrapper_spec) < 0)
        return -1;
    if (PyModule_AddType(module, state->worker_type) < 0 ||
        PyModule_AddType(module, state->wrapper_type) < 0)
        return -1;
    if (PyModule_AddIntConstant(module, "STOPPED", STOPPED) < 0 ||
        PyModule_AddIntConstant(module, "MAX_REQUESTS", MAX_REQUESTS) < 0 ||
        PyModule_AddIntConstant(module, "MERCY", MERCY) < 0)
        return -1;
    return PyModule_AddIntConstant(module, "CORE_SIZE", CORE_FIELDS * sizeof(uint64_t));
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct module *state = PyModule_GetState(module);

    Py_VISIT(state->worker_type);
    Py_VISIT(state->start_type);
    Py_VISIT(state->input_type);
    Py_VISIT(state->wrapper_type);
    return 0;
}

static int
module_clear(PyObject *module)
{
    struct module *state = PyModule_GetState(module);

    Py_CLEAR(state->worker_type);
    Py_CLEAR(state->start_type);
    Py_CLEAR(state->input_type);
    Py_CLEAR(state->wrapper_type);
    for (int i = 0; i < KEY_COUNT; i++)
        Py_CLEAR(state->keys[i]);
    return 0;
}

static void
module_free(void *module)
{
    module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_wsgi",
    .m_doc = "The worker: accepts, parses, calls the application, answers.",
    .m_size = sizeof(struct module),
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__wsgi(void)
{
    return PyModuleDef_Init(&module_def);
}
