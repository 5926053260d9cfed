/* _exchange.c - one request from its parsed form to the end of its answer.
 *
 * The loop's exchange is filled, the application is called with the GIL, its result is sent, the
 * request is counted and logged. What becomes of the connection afterwards is written into the
 * connection; _conn.c acts on it.
 */
#include "_worker.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#define EMPEROR_LOYAL "\x11" /* byte 17: the first request was served */

static uint64_t
micros(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/** Take the exception out and return it with its traceback; a new reference. */
static PyObject *
take_exception(void)
{
    PyObject *type;
    PyObject *value;
    PyObject *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/** Write a traceback to sys.stderr. */
static void
print_exception(PyObject *exception)
{
    PyObject *traceback = PyException_GetTraceback(exception);
    PyObject *err = PySys_GetObject("stderr"); /* borrowed */

    PyErr_Display((PyObject *)Py_TYPE(exception), exception, traceback);
    Py_XDECREF(traceback);
    PyObject *flushed = err != NULL ? PyObject_CallMethod(err, "flush", NULL) : NULL;
    if (flushed == NULL)
        PyErr_Clear(); /* a log that cannot be written has nowhere to say so */
    Py_XDECREF(flushed);
}

/** The traceback as bytes for catch-exceptions; NULL where it cannot be made. */
static PyObject *
format_exception(PyObject *exception)
{
    PyObject *module = PyImport_ImportModule("traceback");
    PyObject *lines =
        module ? PyObject_CallMethod(module, "format_exception", "O", exception) : NULL;
    PyObject *empty = lines ? PyUnicode_New(0, 0) : NULL;
    PyObject *text = empty ? PyUnicode_Join(empty, lines) : NULL;
    PyObject *bytes = text ? PyUnicode_AsEncodedString(text, "utf-8", "replace") : NULL;

    Py_XDECREF(module);
    Py_XDECREF(lines);
    Py_XDECREF(empty);
    Py_XDECREF(text);
    PyErr_Clear();
    return bytes;
}

/** The application failed: log why; a page if nothing was promised yet, else the end. */
static void
fail(struct loop *loop)
{
    static const char page[] = "Internal Server Error";
    PyObject *exception = take_exception();

    core_add(loop, CORE_EXCEPTIONS, 1);
    print_exception(exception);
    if (loop->x.committed) {
        loop->x.close = true;
    } else {
        PyObject *text = loop->worker->catch_exceptions ? format_exception(exception) : NULL;
        if (text != NULL)
            response_page(loop, 500, PyBytes_AS_STRING(text), (size_t)PyBytes_GET_SIZE(text));
        else
            response_page(loop, 500, page, sizeof(page) - 1);
        gil_take(loop);
        Py_XDECREF(text);
    }
    Py_DECREF(exception);
}

/** Call the application and send its answer. */
static void
answer(struct loop *loop, PyObject *environ)
{
    struct exchange *x = &loop->x;
    PyObject *start = response_start(loop);
    int result = -1;

    if (start != NULL) {
        PyObject *args[] = {environ, start};
        PyObject *body =
            PyObject_Vectorcall(loop->worker->applications[x->app].callable, args, 2, NULL);
        if (body != NULL) {
            result = response_result(loop, body);
            Py_DECREF(body);
            if (result == 0)
                result = response_end(loop);
        }
    }
    if (result < 0 && PyErr_Occurred())
        fail(loop);
    else if (result < 0)
        x->close = true;
}

/** Tell the Emperor, once, that this instance serves. */
static void
tell_emperor(Worker *worker)
{
    if (worker->emperor_fd < 0 || atomic_exchange(&worker->loyal, 1) != 0)
        return;
    if (write(worker->emperor_fd, EMPEROR_LOYAL, 1) != 1)
        logline_error("cannot tell the Emperor that a request was served: %s", strerror(errno));
}

/** The counters of a finished request. */
static void
count(struct loop *loop)
{
    Worker *worker = loop->worker;
    uint64_t spent = micros(CLOCK_MONOTONIC) - loop->x.started_at;
    uint64_t average = atomic_load_explicit(&loop->stats[CORE_AVG_RT], memory_order_relaxed);

    core_add(loop, CORE_REQUESTS, 1);
    core_add(loop, CORE_TX, loop->x.head_sent + loop->x.body_sent);
    core_add(loop, CORE_RUNNING_TIME, spent);
    core_set(loop, CORE_AVG_RT, (average + spent) / 2);
    core_set(loop, CORE_IN_REQUEST, 0);
    atomic_fetch_add_explicit(worker->total, 1, memory_order_relaxed);
    uint64_t served = atomic_fetch_add_explicit(&worker->served, 1, memory_order_relaxed) + 1;
    tell_emperor(worker);
    if (worker->max_requests > 0 && served >= worker->max_requests &&
        loop->now - loop->born >= worker->min_lifetime)
        loop_stop(worker, GRACEFUL, MAX_REQUESTS);
}

/** Everything between a filled exchange and its end. Takes over `environ`. */
static void
run(struct loop *loop, PyObject *environ, bool manage)
{
    static const char page[] = "Internal Server Error";
    struct exchange *x = &loop->x;
    Worker *worker = loop->worker;

    x->started_at = micros(CLOCK_MONOTONIC);
    core_set(loop, CORE_IN_REQUEST, x->started_at);
    core_set(loop, CORE_LAST_REQUEST, micros(CLOCK_REALTIME));
    x->app = -1;
    if (environ != NULL && worker->application_count > 0)
        x->app = environ_application(worker, environ, manage);
    if (PyErr_Occurred()) {
        fail(loop);
    } else if (x->app < 0) {
        logline_error("--- no python application found, check your startup logs for errors ---");
        response_page(loop, 500, page, sizeof(page) - 1);
        gil_take(loop);
    } else {
        answer(loop, environ);
    }
    count(loop);
    if (worker->log)
        logline_request(loop, environ);
    Py_XDECREF(environ);
    response_retire(loop);
    x->conn->close = x->close;
    x->conn = NULL;
}

/**
 * exchange_http() - answer an HTTP request
 * @loop:	the loop
 * @conn:	its connection
 * @request:	the request; its bytes stay where they are until this returns
 * @input:	wsgi.input, or NULL for an empty one; taken over
 * @body_len:	length of the body
 */
void
exchange_http(struct loop *loop, struct conn *conn, const struct http_request *request,
              PyObject *input, uint64_t body_len)
{
    gil_take(loop);
    bool keeps = conn->listener->protocol == PROTO_HTTP11;
    loop->x = (struct exchange){
        .conn = conn,
        .method = request->method,
        .uri = request->target,
        .protocol = {request->minor ? "HTTP/1.1" : "HTTP/1.0", 8},
        .is_head = request->method.len == 4 && memcmp(request->method.ptr, "HEAD", 4) == 0,
        .http11 = keeps && request->minor == 1,
        .close = !keeps || request->close,
        .request_body = body_len,
    };
    loop->head_len = 0;
    PyObject *stream = input != NULL ? input : loop->worker->empty_input;
    PyObject *environ = environ_http(loop, conn, request, stream, body_len);
    Py_XDECREF(input);
    run(loop, environ, loop->worker->manage_script_name);
}

/** SERVER_PROTOCOL of a packet, for the status line; only what looks like a version. */
static struct span
packet_protocol(const struct uwsgi_packet *packet)
{
    const struct span *protocol = uwsgi_find(packet, "SERVER_PROTOCOL", 15);

    if (protocol != NULL && protocol->len == 8 && memcmp(protocol->ptr, "HTTP/", 5) == 0 &&
        http_valid_text(protocol->ptr, 8))
        return *protocol;
    return (struct span){"HTTP/1.0", 8};
}

/**
 * exchange_uwsgi() - answer a uwsgi packet
 * @loop:	the loop
 * @conn:	its connection
 * @packet:	the packet; its bytes stay where they are until this returns
 * @input:	wsgi.input, or NULL for an empty one; taken over
 * @body_len:	length of the body
 */
void
exchange_uwsgi(struct loop *loop, struct conn *conn, const struct uwsgi_packet *packet,
               PyObject *input, uint64_t body_len)
{
    static const struct span none = {"", 0};
    const struct span *method = uwsgi_find(packet, "REQUEST_METHOD", 14);
    const struct span *uri = uwsgi_find(packet, "REQUEST_URI", 11);

    gil_take(loop);
    loop->x = (struct exchange){
        .conn = conn,
        .method = method != NULL ? *method : none,
        .uri = uri != NULL ? *uri : none,
        .protocol = packet_protocol(packet),
        .is_head = method != NULL && method->len == 4 && memcmp(method->ptr, "HEAD", 4) == 0,
        .close = true,
        .request_body = body_len,
    };
    loop->head_len = 0;
    PyObject *stream = input != NULL ? input : loop->worker->empty_input;
    PyObject *environ = environ_uwsgi(loop, conn, packet, stream);
    Py_XDECREF(input);
    run(loop, environ,
        loop->worker->manage_script_name || packet->modifier1 == UWSGI_MANAGE_PATH_INFO);
}
