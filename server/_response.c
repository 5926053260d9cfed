/* _response.c - start_response, the head of an answer, and its framing.
 *
 * The head is written into the loop's buffer while start_response validates its arguments, so that
 * an error is the application's exception, where it can be seen. It is completed (committed) when
 * the first byte of the body is known, and leaves in the same system call as that byte.
 *
 * Framing. The sockets `uwsgi` and `http` end an answer by closing the connection and add nothing
 * to the application's headers. `http11` keeps the connection when the end can be known:
 * Content-Length from the application, or from us when the whole body is at hand, or chunks. More
 * bytes than a Content-Length announced are never sent; fewer end the connection.
 */
#include "_worker.h"

#include <fcntl.h>
#include <structmember.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_HEAD ((size_t)1 << 20)
#define SMALL_BODY                                                                                \
    ((size_t)16384)             /* below this, copying beside the head is cheaper than a vector */
#define AHEAD ((size_t)1 << 20) /* how far an application may run ahead of a slow reader */

/** Add bytes to the head. */
static int
head_add(struct loop *loop, const char *ptr, size_t len)
{
    if (len > loop->head_cap - loop->head_len) {
        size_t cap = loop->head_cap * 2;
        while (cap - loop->head_len < len)
            cap *= 2;
        char *head = cap > MAX_HEAD + SMALL_BODY ? NULL : realloc(loop->head, cap);
        if (head == NULL) {
            PyErr_SetString(PyExc_ValueError, "the response headers are too long");
            return -1;
        }
        loop->head = head;
        loop->head_cap = cap;
    }
    memcpy(loop->head + loop->head_len, ptr, len);
    loop->head_len += len;
    return 0;
}

#define HEAD_ADD(loop, text) head_add(loop, text, sizeof(text) - 1)

/** The bytes of a str as latin-1; -1 with an exception. */
static int
latin1_of(PyObject *text, const char *what, struct span *out)
{
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "%s must be a str, not %.100s", what,
                     Py_TYPE(text)->tp_name);
        return -1;
    }
    if (PyUnicode_READY(text) < 0)
        return -1;
    if (PyUnicode_KIND(text) != PyUnicode_1BYTE_KIND) {
        PyErr_Format(PyExc_ValueError, "%s is not latin-1: %R", what, text);
        return -1;
    }
    *out = (struct span){(const char *)PyUnicode_1BYTE_DATA(text),
                         (size_t)PyUnicode_GET_LENGTH(text)};
    return 0;
}

/** "200 OK": three digits, and a reason after a space. Interim statuses are not an application's.
 */
static int
parse_status(PyObject *status, struct span *text)
{
    if (latin1_of(status, "the status", text) < 0)
        return -1;
    const char *s = text->ptr;
    if (text->len < 3 || s[0] < '2' || s[0] > '9' || s[1] < '0' || s[1] > '9' || s[2] < '0' ||
        s[2] > '9' || (text->len > 3 && s[3] != ' ') || !http_valid_text(s, text->len)) {
        PyErr_Format(PyExc_ValueError, "invalid status: %R", status);
        return -1;
    }
    return (s[0] - '0') * 100 + (s[1] - '0') * 10 + (s[2] - '0');
}

/** The application's Content-Length. */
static int
take_length(struct exchange *x, struct span value)
{
    uint64_t total = 0;
    bool valid = value.len > 0 && value.len <= 18 && !x->has_length;

    for (size_t i = 0; valid && i < value.len; i++) {
        valid = value.ptr[i] >= '0' && value.ptr[i] <= '9';
        total = total * 10 + (uint64_t)(value.ptr[i] - '0');
    }
    if (!valid) {
        PyErr_SetString(PyExc_ValueError, "invalid or repeated Content-Length");
        return -1;
    }
    x->has_length = true;
    x->left = total;
    return 0;
}

/** Note the headers that concern framing. Return: 1 if the header is ours to send, -1 on error. */
static int
note_header(struct exchange *x, struct span name, struct span value)
{
    if (name.len == 14 && http_name_is(name, "content-length", 14))
        return take_length(x, value);
    if (name.len == 17 && http_name_is(name, "transfer-encoding", 17))
        x->has_coding = true;
    if (name.len == 10 && http_name_is(name, "connection", 10) && x->conn != NULL &&
        x->conn->listener->protocol == PROTO_HTTP11) {
        if (http_name_is(value, "close", 5))
            x->close = true;
        return 1;
    }
    return 0;
}

/** Validate one (name, value) and add it to the head. */
static int
add_header(struct loop *loop, PyObject *item)
{
    struct span name;
    struct span value;

    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2) {
        PyErr_Format(PyExc_TypeError, "a header must be a tuple (name, value), not %R", item);
        return -1;
    }
    if (latin1_of(PyTuple_GET_ITEM(item, 0), "a header's name", &name) < 0 ||
        latin1_of(PyTuple_GET_ITEM(item, 1), "a header's value", &value) < 0)
        return -1;
    if (!http_valid_token(name.ptr, name.len) || !http_valid_text(value.ptr, value.len)) {
        PyErr_Format(PyExc_ValueError, "invalid character in the header %R", item);
        return -1;
    }
    int noted = note_header(&loop->x, name, value);
    if (noted != 0)
        return noted < 0 ? -1 : 0;
    loop->x.header_count++;
    if (head_add(loop, name.ptr, name.len) < 0 || HEAD_ADD(loop, ": ") < 0 ||
        head_add(loop, value.ptr, value.len) < 0 || HEAD_ADD(loop, "\r\n") < 0)
        return -1;
    return 0;
}

/** Forget a head that was begun. */
static void
head_reset(struct loop *loop)
{
    struct exchange *x = &loop->x;

    loop->head_len = 0;
    x->header_count = 0;
    x->status = 0;
    x->has_length = x->has_coding = x->started = false;
}

/** Write status line and headers. */
static int
head_begin(struct loop *loop, PyObject *status, PyObject *headers)
{
    struct exchange *x = &loop->x;
    struct span text;
    int code = parse_status(status, &text);

    if (code < 0)
        return -1;
    if (!PyList_Check(headers)) {
        PyErr_Format(PyExc_TypeError, "the headers must be a list, not %.100s",
                     Py_TYPE(headers)->tp_name);
        return -1;
    }
    head_reset(loop);
    if (head_add(loop, x->protocol.ptr, x->protocol.len) < 0 || HEAD_ADD(loop, " ") < 0 ||
        head_add(loop, text.ptr, text.len) < 0 || HEAD_ADD(loop, "\r\n") < 0)
        return -1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(headers); i++) {
        if (add_header(loop, PyList_GET_ITEM(headers, i)) < 0)
            return -1;
    }
    x->status = code;
    x->started = true;
    return 0;
}

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

/** Complete the head: choose the framing. `known` is the length of the whole body, or -1. */
static int
commit(struct loop *loop, int64_t known)
{
    struct exchange *x = &loop->x;
    char line[64];

    x->committed = true;
    x->no_body = x->status == 204 || x->status == 304 ||
                 (x->is_head && x->conn->listener->protocol == PROTO_HTTP11);
    if (x->http11 && x->has_coding)
        x->close = true; /* the application made its own framing, which we cannot check */
    if (x->http11 && !x->has_coding && !x->has_length && x->status != 204 && x->status != 304) {
        if (known > 0 || (known == 0 && !x->is_head)) {
            int n = snprintf(line, sizeof(line), "Content-Length: %lld\r\n", (long long)known);
            if (head_add(loop, line, (size_t)n) < 0)
                return -1;
        } else if (!x->no_body) {
            x->chunked = true;
            if (HEAD_ADD(loop, "Transfer-Encoding: chunked\r\n") < 0)
                return -1;
        }
    }
    if (atomic_load_explicit(&loop->worker->stopping, memory_order_relaxed) != RUNNING)
        x->close = true;
    if (x->close && x->conn->listener->protocol == PROTO_HTTP11 &&
        HEAD_ADD(loop, "Connection: close\r\n") < 0)
        return -1;
    if (HEAD_ADD(loop, "\r\n") < 0)
        return -1;
    x->head_sent = loop->head_len;
    return 0;
}

/** Take the head out of its buffer as the first piece of a send; 0 pieces if it went already. */
static size_t
take_head(struct loop *loop, struct piece *piece)
{
    if (loop->head_len == 0)
        return 0;
    *piece = (struct piece){loop->head, loop->head_len, NULL};
    loop->head_len = 0;
    return 1;
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
    if (!x->committed && commit(loop, -1) < 0)
        return -1;
    size_t n = take_head(loop, &pieces[0]);
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
    take_head(loop, &piece);
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
        if (commit(loop, total) < 0)
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
    if (commit(loop, (int64_t)len) < 0) {
        close(fd);
        return -1;
    }
    x->via_sendfile = true;
    len = account(loop, len);
    int result = take_head(loop, &head) ? output_send(loop, x->conn, &head, 1) : 0;
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
    if (!x->committed && commit(loop, 0) < 0)
        return -1;
    if (x->has_length && x->left > 0 && !x->no_body)
        x->close = true; /* fewer bytes than announced: only the end of the connection tells */
    size_t n = take_head(loop, &pieces[0]);
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
