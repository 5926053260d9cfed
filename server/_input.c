/* _input.c - request bodies: how they are collected, wsgi.input and wsgi.file_wrapper.
 *
 * A body is whole before the application sees it, so wsgi.input is a reader over bytes that are
 * all there: in memory, or mapped from the unlinked file into which a large body was collected.
 */
#include "_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <structmember.h>
#include <sys/mman.h>
#include <unistd.h>

/** The body as the application reads it. */
typedef struct {
    PyObject_HEAD char *data;
    Py_ssize_t len;
    Py_ssize_t at;
    bool mapped;
} Input;

/** A file for a body too large for memory: on disk where there is one, and nameless. */
static int
open_unlinked(void)
{
    const char *folder = getenv("TMPDIR");
    int fd = open(folder != NULL ? folder : "/tmp", O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);

    return fd >= 0 ? fd : memfd_create("request-body", MFD_CLOEXEC);
}

static int
write_all(int fd, const char *ptr, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, ptr, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        ptr += n;
        len -= (size_t)n;
    }
    return 0;
}

/** Make room in memory for `len` more bytes. */
static int
reserve(struct body *body, size_t len)
{
    if (len <= body->cap - body->len)
        return 0;
    size_t cap = body->cap < 2048 ? 4096 : body->cap * 2;
    while (cap - body->len < len)
        cap *= 2;
    char *data = realloc(body->data, cap);
    if (data == NULL)
        return -1;
    body->data = data;
    body->cap = cap;
    return 0;
}

/**
 * body_append() - add bytes to a body
 * @body:	the body; its fd begins at -1
 * @ptr:	the bytes
 * @len:	how many
 * @in_memory:	from how many bytes on the body goes to a file
 *
 * Return: 0, or -1 without memory or disk space.
 */
int
body_append(struct body *body, const char *ptr, size_t len, size_t in_memory)
{
    if (len == 0)
        return 0;
    if (body->fd < 0 && len > in_memory - body->len) {
        body->fd = open_unlinked();
        if (body->fd < 0 || write_all(body->fd, body->data, body->len) < 0)
            return -1;
        free(body->data);
        body->data = NULL;
        body->cap = 0;
    }
    if (body->fd >= 0 ? write_all(body->fd, ptr, len) < 0 : reserve(body, len) < 0)
        return -1;
    if (body->fd < 0)
        memcpy(body->data + body->len, ptr, len);
    body->len += len;
    return 0;
}

/**
 * body_clear() - forget a body
 * @body:	the body
 */
void
body_clear(struct body *body)
{
    free(body->data);
    if (body->fd >= 0)
        close(body->fd);
    *body = (struct body){.fd = -1};
}

static PyObject *
input_new(struct module *module, char *data, size_t len, bool mapped)
{
    Input *input = PyObject_New(Input, module->input_type);

    if (input == NULL)
        return NULL;
    input->data = data;
    input->len = (Py_ssize_t)len;
    input->at = 0;
    input->mapped = mapped;
    return (PyObject *)input;
}

/**
 * input_from_bytes() - a wsgi.input over a copy of some bytes
 * @module:	module state
 * @ptr:	the bytes
 * @len:	how many
 *
 * Return: a new reference, or NULL with an exception.
 */
PyObject *
input_from_bytes(struct module *module, const char *ptr, size_t len)
{
    char *data = malloc(len ? len : 1);

    if (data == NULL)
        return PyErr_NoMemory();
    if (len)
        memcpy(data, ptr, len);
    PyObject *input = input_new(module, data, len, false);
    if (input == NULL)
        free(data);
    return input;
}

/**
 * input_from_body() - a wsgi.input that takes over a collected body
 * @module:	module state
 * @body:	the body, empty afterwards
 *
 * Return: a new reference, or NULL with an exception.
 */
PyObject *
input_from_body(struct module *module, struct body *body)
{
    char *data = body->data;
    bool mapped = body->fd >= 0;

    if (mapped) {
        data = mmap(NULL, body->len, PROT_READ, MAP_PRIVATE, body->fd, 0);
        if (data == MAP_FAILED)
            return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyObject *input = input_new(module, data, body->len, mapped);
    if (input == NULL && mapped)
        munmap(data, body->len);
    if (input != NULL)
        body->data = NULL;
    body_clear(body);
    return input;
}

static void
input_dealloc(PyObject *self)
{
    Input *input = (Input *)self;
    PyTypeObject *type = Py_TYPE(self);

    if (input->mapped)
        munmap(input->data, (size_t)input->len);
    else
        free(input->data);
    PyObject_Free(self);
    Py_DECREF(type);
}

/** Bytes from the position on, at most `limit` (negative: all), at most up to a newline if asked.
 */
static PyObject *
input_take(Input *input, Py_ssize_t limit, bool line)
{
    Py_ssize_t n = input->len - input->at;
    const char *from = input->data + input->at;

    if (limit >= 0 && limit < n)
        n = limit;
    if (line && n > 0) {
        const char *end = memchr(from, '\n', (size_t)n);
        if (end != NULL)
            n = end - from + 1;
    }
    input->at += n;
    return PyBytes_FromStringAndSize(n > 0 ? from : NULL, n);
}

/** The optional size argument of read() and readline(): None and negative mean everything. */
static int
parse_size(PyObject *const *args, Py_ssize_t count, Py_ssize_t *size)
{
    *size = -1;
    if (count > 1) {
        PyErr_Format(PyExc_TypeError, "expected at most 1 argument, got %zd", count);
        return -1;
    }
    if (count == 0 || args[0] == Py_None)
        return 0;
    *size = PyNumber_AsSsize_t(args[0], NULL);
    return *size == -1 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *
input_read(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t size;

    return parse_size(args, count, &size) < 0 ? NULL : input_take((Input *)self, size, false);
}

static PyObject *
input_readline(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t size;

    return parse_size(args, count, &size) < 0 ? NULL : input_take((Input *)self, size, true);
}

static PyObject *
input_next(PyObject *self)
{
    Input *input = (Input *)self;

    return input->at == input->len ? NULL : input_take(input, -1, true);
}

static PyObject *
input_readlines(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Input *input = (Input *)self;
    Py_ssize_t hint;
    Py_ssize_t total = 0;

    if (parse_size(args, count, &hint) < 0)
        return NULL;
    PyObject *lines = PyList_New(0);
    while (lines != NULL && input->at < input->len && (hint <= 0 || total < hint)) {
        PyObject *line = input_take(input, -1, true);
        if (line == NULL || PyList_Append(lines, line) < 0)
            Py_CLEAR(lines);
        else
            total += PyBytes_GET_SIZE(line);
        Py_XDECREF(line);
    }
    return lines;
}

static PyObject *
input_seek(PyObject *self, PyObject *args)
{
    Input *input = (Input *)self;
    Py_ssize_t offset;
    int whence = SEEK_SET;

    if (!PyArg_ParseTuple(args, "n|i:seek", &offset, &whence))
        return NULL;
    Py_ssize_t base = whence == SEEK_CUR ? input->at : whence == SEEK_END ? input->len : 0;
    if (whence < SEEK_SET || whence > SEEK_END || offset < -base) {
        PyErr_SetString(PyExc_ValueError, "invalid position in the request body");
        return NULL;
    }
    input->at = offset > input->len - base ? input->len : base + offset;
    return PyLong_FromSsize_t(input->at);
}

static PyObject *
input_tell(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSsize_t(((Input *)self)->at);
}

static PyMethodDef input_methods[] = {
    {"read", (PyCFunction)(void (*)(void))input_read, METH_FASTCALL, "Read up to size bytes."},
    {"readline", (PyCFunction)(void (*)(void))input_readline, METH_FASTCALL, "Read a line."},
    {"readlines", (PyCFunction)(void (*)(void))input_readlines, METH_FASTCALL, "Read all lines."},
    {"seek", input_seek, METH_VARARGS, "Move to a position."},
    {"tell", input_tell, METH_NOARGS, "The position."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot input_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "wsgi.input: the whole body of a request."},
    {Py_tp_dealloc, input_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, input_next},
    {Py_tp_methods, input_methods},
    {0, NULL},
};

PyType_Spec input_spec = {
    .name = "donjon.server._wsgi.Input",
    .basicsize = sizeof(Input),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = input_slots,
};

/** wsgi.file_wrapper(file[, block size]). The server sends its file by sendfile(2) if it has one.
 */
typedef struct {
    PyObject_HEAD PyObject *file;
    Py_ssize_t block;
} Wrapper;

static PyObject *
wrapper_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *file;
    Py_ssize_t block = 8192;

    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "file_wrapper takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O|n:file_wrapper", &file, &block))
        return NULL;
    Wrapper *wrapper = (Wrapper *)type->tp_alloc(type, 0);
    if (wrapper == NULL)
        return NULL;
    wrapper->file = Py_NewRef(file);
    wrapper->block = block > 0 ? block : 8192;
    return (PyObject *)wrapper;
}

static int
wrapper_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Wrapper *)self)->file);
    return 0;
}

static int
wrapper_clear(PyObject *self)
{
    Py_CLEAR(((Wrapper *)self)->file);
    return 0;
}

static void
wrapper_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    wrapper_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
wrapper_next(PyObject *self)
{
    Wrapper *wrapper = (Wrapper *)self;
    PyObject *data = PyObject_CallMethod(wrapper->file, "read", "n", wrapper->block);

    if (data != NULL && PyObject_Size(data) == 0)
        Py_CLEAR(data); /* no exception: the iteration ends */
    return data;
}

static PyObject *
wrapper_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *close_method = PyObject_GetAttrString(((Wrapper *)self)->file, "close");

    if (close_method == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError))
            return NULL;
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    PyObject *result = PyObject_CallNoArgs(close_method);
    Py_DECREF(close_method);
    return result;
}

/**
 * input_wrapper_file() - the file of a file_wrapper
 * @wrapper:	an object of wrapper_type
 *
 * Return: a borrowed reference.
 */
PyObject *
input_wrapper_file(PyObject *wrapper)
{
    return ((Wrapper *)wrapper)->file;
}

static PyMethodDef wrapper_methods[] = {
    {"close", wrapper_close, METH_NOARGS, "Close the file."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot wrapper_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "wsgi.file_wrapper: an iterable over the blocks of a file."},
    {Py_tp_new, wrapper_new},
    {Py_tp_dealloc, wrapper_dealloc},
    {Py_tp_traverse, wrapper_traverse},
    {Py_tp_clear, wrapper_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, wrapper_next},
    {Py_tp_methods, wrapper_methods},
    {0, NULL},
};

PyType_Spec input_wrapper_spec = {
    .name = "donjon.server._wsgi.FileWrapper",
    .basicsize = sizeof(Wrapper),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = wrapper_slots,
};
