/* _response.c - start_response, and the body of an answer.
 *
 * What an application returns is sent in the form that lets it leave soonest: one small chunk in
 * the same call as the head, a list without copying, an iterable chunk by chunk, a file by
 * sendfile(2).
 */
#include "_worker.h"

#include <fcntl.h>
#include <structmember.h>
#include <sys/stat.h>
#include <unistd.h>

#define SMALL_BODY                                                                                \
    ((size_t)16384)             /* below this, copying beside the head is cheaper than a vector */
#define AHEAD ((size_t)1 << 20) /* how far an application may run ahead of a slow reader */

/** Raise what is in an exc_info tuple. */
static void
raise_exc_info(PyObject *exc_info)
{
    PyObject *value = PyTuple_Check(exc_info) && PyTuple_GET_SIZE(exc_info) == 3
                          ? PyTuple_GET_ITEM(exc_info, 1)
                          : NULL;

    if (value == NULL || !PyExceptionInstance_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "exc_info must be the tuple of sys.exc_info()");
        return;
    }
    PyErr_SetObject((PyObject *)Py_TYPE(value), value);
}

/** start_response(status, headers, exc_info=None) -> write. */
static PyObject *
start_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *names)
{
    struct loop *loop = ((Start *)self)->loop;
    Py_ssize_t count = PyVectorcall_NARGS(nargsf);
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    PyObject *exc_info = count + named == 3 ? args[2] : Py_None;

    if (count < 2 || count + named > 3 ||
        (named == 1 &&
         PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "exc_info") != 0)) {
        PyErr_SetString(PyExc_TypeError, "start_response(status, headers, exc_info=None)");
        return NULL;
    }
    if (loop == NULL || loop->x.conn == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "start_response was called outside of its request");
        return NULL;
    }
    if (exc_info != Py_None && loop->x.committed) {
        raise_exc_info(exc_info);
        return NULL;
    }
    if (exc_info == Py_None && loop->x.started) {
        PyErr_SetString(PyExc_AssertionError, "start_response was called twice");
        return NULL;
    }
    if (head_begin(loop, args[0], args[1]) < 0) {
        head_reset(loop);
        return NULL;
    }
    return Py_NewRef(loop->write);
}

/** Count what is sent, and cut it to what was announced. */
static size_t
account(struct loop *loop, size_t len)
{
    struct exchange *x = &loop->x;

    if (x->no_body)
        return 0;
    if (x->has_length) {
        if ((uint64_t)len > x->left)
            len = (size_t)x->left;
        x->left -= len;
    }
    x->body_sent += len;
    return len;
}

/** Send bytes of the body, and the head before the first. -1 with an exception or a lost peer. */
static int
send_body(struct loop *loop, const char *ptr, size_t len, PyObject *owner)
{
    struct exchange *x = &loop->x;
    struct piece pieces[4];
    char size[24];

    if (!x->started) {
        PyErr_SetString(PyExc_AssertionError, "the body came before start_response");
        return -1;
    }
    if (!x->committed && head_commit(loop, -1) < 0)
        return -1;
    size_t n = head_take(loop, &pieces[0]);
    len = account(loop, len);
    if (len > 0 && x->chunked) {
        int digits = snprintf(size, sizeof(size), "%zx\r\n", len);
        pieces[n++] = (struct piece){size, (size_t)digits, NULL};
    }
    if (len > 0)
        pieces[n++] = (struct piece){ptr, len, owner};
    if (len > 0 && x->chunked)
        pieces[n++] = (struct piece){"\r\n", 2, NULL};
    int result = n ? output_send(loop, x->conn, pieces, n) : 0;
    gil_take(loop);
    return result;
}

/** Let a slow reader catch up before the application makes more. */
static int
hold_back(struct loop *loop)
{
    int result = 0;

    if (loop->x.conn->out_len > AHEAD)
        result = output_wait(loop, loop->x.conn, AHEAD / 2);
    gil_take(loop);
    return result;
}

/** Send one chunk of the application's. Empty ones are nothing, as PEP 3333 has it. */
static int
send_chunk(struct loop *loop, PyObject *chunk)
{
    if (!PyBytes_Check(chunk)) {
        PyErr_Format(PyExc_TypeError, "the body must be bytes, not %.100s",
                     Py_TYPE(chunk)->tp_name);
        return -1;
    }
    if (PyBytes_GET_SIZE(chunk) == 0)
        return 0;
    return send_body(loop, PyBytes_AS_STRING(chunk), (size_t)PyBytes_GET_SIZE(chunk), chunk);
}

/** write(data): what start_response returns. */
static PyObject *
start_write(PyObject *self, PyObject *data)
{
    struct loop *loop = ((Start *)self)->loop;

    if (loop == NULL || loop->x.conn == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "write was called outside of its request");
        return NULL;
    }
    if (send_chunk(loop, data) < 0 || hold_back(loop) < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_OSError, "the client is gone");
        return NULL;
    }
    Py_RETURN_NONE;
}

/** The sum of the lengths of all chunks of a list or tuple, or -1 if one is not bytes. */
static int64_t
total_length(PyObject *result)
{
    int64_t total = 0;

    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(result); i++) {
        PyObject *chunk = PySequence_Fast_GET_ITEM(result, i);
        if (!PyBytes_Check(chunk))
            return -1;
        total += PyBytes_GET_SIZE(chunk);
    }
    return total;
}

/** A body of one small chunk, the usual case: copied behind the head, sent by one call. */
static int
send_single(struct loop *loop, PyObject *chunk)
{
    struct exchange *x = &loop->x;

    size_t len = account(loop, (size_t)PyBytes_GET_SIZE(chunk));
    if (head_add(loop, PyBytes_AS_STRING(chunk), len) < 0)
        return -1;
    struct piece piece;
    head_take(loop, &piece);
    int result = output_send(loop, x->conn, &piece, 1);
    gil_take(loop);
    return result;
}

/** A list or tuple: everything is known. */
static int
send_sequence(struct loop *loop, PyObject *result)
{
    struct exchange *x = &loop->x;
    int64_t total = total_length(result);

    if (x->started && !x->committed && total >= 0) {
        if (head_commit(loop, total) < 0)
            return -1;
        if (PySequence_Fast_GET_SIZE(result) == 1 && total <= (int64_t)SMALL_BODY)
            return send_single(loop, PySequence_Fast_GET_ITEM(result, 0));
    }
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(result); i++) {
        if (send_chunk(loop, PySequence_Fast_GET_ITEM(result, i)) < 0)
            return -1;
    }
    return 0;
}

/** Any other iterable: each chunk goes out as it comes. */
static int
send_iterable(struct loop *loop, PyObject *result)
{
    PyObject *iterator = PyObject_GetIter(result);
    PyObject *chunk;
    int sent = 0;

    if (iterator == NULL)
        return -1;
    while (sent == 0 && (chunk = PyIter_Next(iterator)) != NULL) {
        sent = send_chunk(loop, chunk);
        Py_DECREF(chunk);
        if (sent == 0)
            sent = hold_back(loop);
    }
    Py_DECREF(iterator);
    return sent < 0 || PyErr_Occurred() ? -1 : 0;
}

/** The regular file behind a file_wrapper as a descriptor of our own; -1 if there is none. */
static int
open_file(PyObject *wrapper, off_t *offset, size_t *len)
{
    struct stat st;
    int fd = PyObject_AsFileDescriptor(input_wrapper_file(wrapper));

    if (fd < 0) {
        PyErr_Clear(); /* not an operating system's file: iterated over instead */
        return -1;
    }
    PyObject *at = PyObject_CallMethod(input_wrapper_file(wrapper), "tell", NULL);
    *offset = at == NULL ? -1 : (off_t)PyLong_AsLongLong(at);
    Py_XDECREF(at);
    if (PyErr_Occurred() || *offset < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        PyErr_Clear();
        return -1;
    }
    *len = st.st_size > *offset ? (size_t)(st.st_size - *offset) : 0;
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/** wsgi.file_wrapper: by sendfile(2) where it is a regular file. */
static int
send_wrapper(struct loop *loop, PyObject *wrapper)
{
    struct exchange *x = &loop->x;
    struct piece head;
    off_t offset = 0;
    size_t len = 0;
    int fd = x->started && !x->committed ? open_file(wrapper, &offset, &len) : -1;

    if (fd < 0)
        return send_iterable(loop, wrapper);
    if (head_commit(loop, (int64_t)len) < 0) {
        close(fd);
        return -1;
    }
    x->via_sendfile = true;
    len = account(loop, len);
    int result = head_take(loop, &head) ? output_send(loop, x->conn, &head, 1) : 0;
    if (result == 0)
        result = output_file(loop, x->conn, fd, offset, len);
    else
        close(fd);
    gil_take(loop);
    return result;
}

/**
 * response_result() - send what the application returned
 * @loop:	the loop, which holds the GIL
 * @result:	the application's iterable; its close() is called
 *
 * Return: 0; -1 with an exception, or without one when the peer is gone.
 */
int
response_result(struct loop *loop, PyObject *result)
{
    if (PyList_CheckExact(result) || PyTuple_CheckExact(result))
        return send_sequence(loop, result);
    int sent = Py_TYPE(result) == loop->module->wrapper_type ? send_wrapper(loop, result)
                                                             : send_iterable(loop, result);
    PyObject *type;
    PyObject *value;
    PyObject *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *close_method = PyObject_GetAttr(result, loop->module->keys[KEY_CLOSE]);
    PyObject *closed = close_method ? PyObject_CallNoArgs(close_method) : NULL;
    if (close_method == NULL && PyErr_ExceptionMatches(PyExc_AttributeError))
        PyErr_Clear();
    Py_XDECREF(close_method);
    Py_XDECREF(closed);
    if (type != NULL) {
        if (PyErr_Occurred())
            PyErr_WriteUnraisable(result); /* the first exception is the answer's */
        PyErr_Restore(type, value, traceback);
    }
    return PyErr_Occurred() ? -1 : sent;
}

/**
 * response_end() - complete an answer after the application's last byte
 * @loop:	the loop, which holds the GIL
 *
 * Return: 0; -1 with an exception, or without one when the peer is gone.
 */
int
response_end(struct loop *loop)
{
    struct exchange *x = &loop->x;
    struct piece pieces[2];

    if (!x->started) {
        PyErr_SetString(PyExc_AssertionError, "the application did not call start_response");
        return -1;
    }
    if (!x->committed && head_commit(loop, 0) < 0)
        return -1;
    if (x->has_length && x->left > 0 && !x->no_body)
        x->close = true; /* fewer bytes than announced: only the end of the connection tells */
    size_t n = head_take(loop, &pieces[0]);
    if (x->chunked)
        pieces[n++] = (struct piece){"0\r\n\r\n", 5, NULL};
    int result = n ? output_send(loop, x->conn, pieces, n) : 0;
    gil_take(loop);
    return result;
}

/**
 * response_page() - answer with a page of our own and the end of the connection
 * @loop:	the loop; in an exchange whose answer is not committed
 * @status:	the status
 * @text:	the body
 * @len:	its length
 */
void
response_page(struct loop *loop, int status, const char *text, size_t len)
{
    struct exchange *x = &loop->x;
    char head[256];
    int n = snprintf(head, sizeof(head),
                     "%.*s %d %s\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n",
                     (int)x->protocol.len, x->protocol.ptr, status, http_reason(status));
    struct piece pieces[2] = {{head, (size_t)n, NULL}, {text, len, NULL}};

    loop->head_len = 0;
    x->started = x->committed = x->close = true;
    x->has_length = x->chunked = false;
    x->status = status;
    x->header_count = 2;
    x->head_sent = (size_t)n;
    x->no_body = x->is_head && x->conn->listener->protocol == PROTO_HTTP11;
    x->body_sent = x->no_body ? 0 : len;
    output_send(loop, x->conn, pieces, x->no_body ? 1 : 2);
}

static PyMethodDef start_methods[] = {
    {"write", start_write, METH_O, "Send bytes of the body at once."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef start_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Start, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static void
start_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_Free(self);
    Py_DECREF(type);
}

static PyType_Slot start_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t) "start_response(status, headers, exc_info=None) -> write"},
    {Py_tp_dealloc, start_dealloc},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_methods, start_methods},
    {Py_tp_members, start_members},
    {0, NULL},
};

PyType_Spec response_start_spec = {
    .name = "donjon.server._wsgi.StartResponse",
    .basicsize = sizeof(Start),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = start_slots,
};

/**
 * response_start() - the start_response of this loop
 * @loop:	the loop, which holds the GIL
 *
 * Return: a borrowed reference, or NULL with an exception.
 */
PyObject *
response_start(struct loop *loop)
{
    if (loop->start != NULL)
        return (PyObject *)loop->start;
    Start *start = PyObject_New(Start, loop->module->start_type);
    if (start == NULL)
        return NULL;
    start->vectorcall = start_call;
    start->loop = loop;
    loop->write = PyObject_GetAttrString((PyObject *)start, "write");
    if (loop->write == NULL) {
        Py_DECREF(start);
        return NULL;
    }
    loop->start = start;
    return (PyObject *)start;
}

/**
 * response_retire() - let go of start_response if somebody else holds it
 * @loop:	the loop, which holds the GIL
 *
 * An application that kept it must not reach into a later request with it. Its bound method holds
 * the second of the two references that are ours.
 */
void
response_retire(struct loop *loop)
{
    if (loop->start == NULL || (Py_REFCNT(loop->start) == 2 && Py_REFCNT(loop->write) == 1))
        return;
    loop->start->loop = NULL;
    Py_CLEAR(loop->start);
    Py_CLEAR(loop->write);
}
