/* _head.c - the head of an answer, and its framing.
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

#define MAX_HEAD ((size_t)1 << 20)

/**
 * head_add() - add bytes to the head
 * @loop:	the loop
 * @ptr:	the bytes
 * @len:	how many
 *
 * Return: 0, or -1 with an exception.
 */
int
head_add(struct loop *loop, const char *ptr, size_t len)
{
    if (len > loop->head_cap - loop->head_len) {
        size_t cap = loop->head_cap * 2;
        while (cap - loop->head_len < len)
            cap *= 2;
        char *head = cap > MAX_HEAD ? NULL : realloc(loop->head, cap);
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
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_READY(text) < 0)
        return -1;
#endif
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

/**
 * head_reset() - forget a head that was begun
 * @loop:	the loop
 */
void
head_reset(struct loop *loop)
{
    struct exchange *x = &loop->x;

    loop->head_len = 0;
    x->header_count = 0;
    x->status = 0;
    x->has_length = x->has_coding = x->started = false;
}

/**
 * head_begin() - write status line and headers of an answer that is not committed
 * @loop:	the loop
 * @status:	as start_response got it
 * @headers:	as start_response got them
 *
 * Return: 0, or -1 with an exception.
 */
int
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

/**
 * head_commit() - complete the head: choose the framing
 * @loop:	the loop
 * @known:	length of the whole body, or -1
 *
 * Return: 0, or -1 with an exception.
 */
int
head_commit(struct loop *loop, int64_t known)
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

/**
 * head_take() - take the head out of its buffer, as the first piece of a send
 * @loop:	the loop
 * @piece:	set to the head
 *
 * Return: how many pieces that is: 0 if the head went already.
 */
size_t
head_take(struct loop *loop, struct piece *piece)
{
    if (loop->head_len == 0)
        return 0;
    *piece = (struct piece){loop->head, loop->head_len, NULL};
    loop->head_len = 0;
    return 1;
}
