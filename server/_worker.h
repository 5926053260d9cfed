/* _worker.h - what the parts of the worker share.
 *
 * DOC: Theory of Operation
 *
 * A worker serves with one loop per core (thread). A loop owns its buffers and one exchange: the
 * request that is being answered. Connections, listeners, the epoll instance and the time limits
 * are the pool's, which all loops of the worker share. A connection is either parked (armed in
 * epoll once, EPOLLONESHOT) or held by the one loop that took it; so any idle thread serves the
 * next thing that is ready, and takes one event at a time. Of a parked connection nothing is
 * touched without the pool's mutex, of a held one only its place in the lists of time limits.
 * With one thread there is no mutex, no EPOLLONESHOT, and many events a turn.
 *
 * A connection is in one of four states:
 *
 *   READ    a request head is awaited. Idle keep-alive connections are here, without any buffer.
 *   BODY    a head was parsed and kept; its body is being collected.
 *   WRITE   an answer did not fit the socket; what is left waits for EPOLLOUT. Nothing is read.
 *   LINGER  everything was said; what the client still sends is dropped until it closes, because
 *           closing with unread bytes makes the kernel send a reset that can destroy the answer.
 *
 * Requests are given to the application only when they are whole, so that a slow sender costs
 * memory but never the worker's time. Bytes are read into the loop's scratch buffer; only an
 * incomplete request is copied to its connection. Connections stand in lists by kind of time
 * limit, each in order of its deadline, so that arming one is unlinking and appending. One thread
 * sleeps until the first deadline; several have a timerfd in the pool, which wakes one of them.
 *
 * The GIL: a worker with one thread holds it except where it may sleep. With several threads a
 * loop holds it only between gil_take() and the next send: environ, application, log line. Both
 * calls are idempotent; whoever touches an object calls gil_take() first.
 *
 * Graceful stop: listeners leave epoll, then are accepted from until empty (an EPOLLEXCLUSIVE
 * wake-up that was ours would be lost to the others otherwise). Open connections go on; each one's
 * next answer carries `Connection: close`. An idle one is never closed earlier than its ordinary
 * time limit: a request that is under way meanwhile would be lost. One thread begins it for all,
 * and who sees that nothing is left writes to an eventfd that nobody reads: all threads leave.
 *
 * Python's signal handlers run on core 0, so with several threads it polls for the signal pipe
 * beside the shared epoll.
 */
#ifndef DONJON_WORKER_H
#define DONJON_WORKER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <sys/un.h>

#include "http.h"
#include "uwsgi.h"

enum protocol { PROTO_UWSGI, PROTO_HTTP, PROTO_HTTP11 };

/** Fields of a core's block in the shared statistics; _wsgi.pyi documents them. */
enum core_field {
    CORE_REQUESTS,
    CORE_EXCEPTIONS,
    CORE_TX,
    CORE_RUNNING_TIME,
    CORE_AVG_RT,
    CORE_IN_REQUEST,
    CORE_ACCEPTING,
    CORE_LAST_REQUEST,
    CORE_READ_ERRORS,
    CORE_WRITE_ERRORS,
    CORE_CONNECTIONS,
    CORE_FIELDS = 16,
};

/** Why a loop ended. */
enum stop_reason { STOPPED = 1, MAX_REQUESTS = 2, MERCY = 3 };

enum stopping { RUNNING = 0, GRACEFUL = 1, QUICK = 2 };

/** Interned strings; KEY_NAMES in _environ.c has their text in this order. */
enum key {
    KEY_REQUEST_METHOD,
    KEY_REQUEST_URI,
    KEY_PATH_INFO,
    KEY_QUERY_STRING,
    KEY_SERVER_PROTOCOL,
    KEY_SCRIPT_NAME,
    KEY_SERVER_NAME,
    KEY_SERVER_PORT,
    KEY_REMOTE_ADDR,
    KEY_REMOTE_PORT,
    KEY_CONTENT_TYPE,
    KEY_CONTENT_LENGTH,
    KEY_HTTP_HOST,
    KEY_HTTP_X_FORWARDED_PROTO,
    KEY_HTTPS,
    KEY_UWSGI_SCHEME,
    KEY_WSGI_VERSION,
    KEY_WSGI_URL_SCHEME,
    KEY_WSGI_INPUT,
    KEY_WSGI_INPUT_TERMINATED,
    KEY_WSGI_ERRORS,
    KEY_WSGI_MULTITHREAD,
    KEY_WSGI_MULTIPROCESS,
    KEY_WSGI_RUN_ONCE,
    KEY_WSGI_FILE_WRAPPER,
    KEY_UWSGI_VERSION,
    KEY_UWSGI_NODE,
    KEY_UWSGI_CORE,
    KEY_GET,
    KEY_POST,
    KEY_HEAD,
    KEY_HTTP_10,
    KEY_HTTP_11,
    KEY_SLASH,
    KEY_EMPTY,
    KEY_HTTP,
    KEY_SCHEME_HTTPS,
    KEY_CLOSE,
    KEY_COUNT,
};

/** State of the module. */
struct module {
    PyTypeObject *worker_type;
    PyTypeObject *start_type;
    PyTypeObject *input_type;
    PyTypeObject *wrapper_type;
    PyObject *keys[KEY_COUNT];
};

/** First member of everything that epoll can report. */
enum source {
    SOURCE_CONN,
    SOURCE_LISTENER,
    SOURCE_SIGNAL,
    SOURCE_STOP,
    SOURCE_END,
    SOURCE_ALARM,
};

struct listener {
    enum source source;
    enum protocol protocol;
    int fd;
    PyObject *environ; /* dict that each request's environ starts as */
};

struct application {
    PyObject *script_name; /* the mountpoint without a slash at its end */
    PyObject *callable;
};

/** A header seen before: its environ key, and the last value in case it comes again. */
struct header_slot {
    char name[40];
    uint8_t len;
    bool dropped;
    PyObject *key;
    PyObject *value;
};

#define HEADER_SLOTS 128 /* power of two */

struct log_format;

typedef struct worker {
    PyObject_HEAD struct module *module;
    struct listener *listeners;
    size_t listener_count;
    struct application *applications;
    size_t application_count;
    int processes;
    int threads;
    int worker_id;
    size_t buffer_size;
    size_t body_in_memory;
    uint64_t limit_post;
    uint64_t socket_timeout; /* all times in milliseconds */
    uint64_t keepalive_timeout;
    uint64_t reload_mercy;
    uint64_t min_lifetime;
    uint64_t heartbeat;
    uint64_t max_requests;
    bool manage_script_name;
    bool catch_exceptions;
    bool log;
    bool log_x_forwarded_for;
    int emperor_fd;
    struct pool *pool;
    int signal_fds[2]; /* pipe for signal.set_wakeup_fd */
    PyObject *errors;
    PyObject *version;
    PyObject *node;
    PyObject *empty_input;
    struct log_format *log_format;
    struct header_slot *slots; /* touched with the GIL only */
    size_t slot_count;
    Py_buffer stats;
    Py_buffer totals;
    _Atomic uint64_t *cores; /* CORE_FIELDS per core */
    _Atomic uint64_t *total;
    _Atomic uint64_t *own; /* where cores and total point if no buffer was given */
    _Atomic uint64_t served;
    atomic_int stopping;
    atomic_int reason;
    atomic_int loyal; /* the Emperor was told of the first request */
} Worker;

/** A piece of an answer that waits for the socket: bytes (own or an object's) or part of a file.
 */
struct segment {
    struct segment *next;
    const char *ptr;
    size_t len;
    PyObject *owner;
    int fd; /* -1 for bytes */
    off_t offset;
    char copy[];
};

/** A request body being collected: in memory, from `body_in_memory` bytes on in an unlinked file.
 */
struct body {
    char *data;
    size_t len;
    size_t cap;
    uint64_t left; /* of a Content-Length */
    int fd;
    bool chunked;
    struct http_chunked decoder;
};

enum conn_state { CONN_READ, CONN_BODY, CONN_WRITE, CONN_LINGER };

/** Kinds of time limits; each has a list of connections in order of their deadlines. */
enum timer { TIMER_IO, TIMER_IDLE, TIMER_LINGER, TIMER_COUNT };

/** Whose a connection is: a loop's; nobody's, but armed in epoll; the same, its time limit passed
 *  while it waited for a free thread. */
enum holder { HELD, PARKED, LATE };

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

struct conn {
    enum source source;
    int fd;
    struct conn *prev;
    struct conn *next;
    const struct listener *listener;
    uint64_t deadline;
    uint64_t since; /* when the first byte of this request came */
    uint32_t events;
    uint8_t state;
    uint8_t timer;
    uint8_t holder;
    bool close;  /* after what is in `out` */
    bool linger; /* instead of closing at once */
    bool broken; /* the peer is gone; nothing more is sent */
    char *in;    /* an incomplete request, or requests after the one being answered */
    size_t in_len;
    char *head; /* the head of the request whose body is being collected */
    size_t head_len;
    struct body body;
    struct segment *out;
    struct segment *out_last;
    size_t out_len;
    PyObject *remote_addr;
    PyObject *remote_port;
    union address peer;
};

/** The request being answered, and its answer so far. */
struct exchange {
    struct conn *conn; /* NULL between requests */
    struct span method;
    struct span uri;
    struct span protocol;
    uint64_t started_at; /* µs, CLOCK_MONOTONIC */
    uint64_t request_body;
    int app;
    int status;
    unsigned header_count;
    unsigned writes;
    uint64_t body_sent;
    uint64_t head_sent;
    uint64_t left; /* what may still be sent under the answer's Content-Length */
    bool is_head;
    bool http11; /* the request was HTTP/1.1 on a keep-alive socket */
    bool close;
    bool started;   /* start_response was called */
    bool committed; /* the head is complete; nothing can be taken back */
    bool has_length;
    bool has_coding;
    bool chunked;
    bool no_body; /* none may follow this status or method */
    bool via_sendfile;
};

/** The start_response of a loop. Used again as long as nobody else holds it. */
typedef struct start {
    PyObject_HEAD vectorcallfunc vectorcall;
    struct loop *loop; /* NULL once it is of no use any more */
} Start;

struct waker {
    enum source source;
    int fd;
};

/** What the loops of a worker share. */
struct pool {
    pthread_mutex_t mutex;
    bool shared; /* several threads */
    bool draining;
    bool deaf;    /* listeners are not in epoll */
    bool over;    /* all loops have to leave */
    bool mercy;   /* it is over though connections are open */
    bool closing; /* the last loop is closing what is left */
    int epoll_fd;
    unsigned loops;     /* in serve() */
    unsigned accepting; /* loops that take from listeners now */
    uint64_t deadline;  /* of draining */
    uint64_t deaf_until;
    uint64_t next_beat;
    uint64_t alarm_at; /* 0: not set */
    uint64_t open;
    struct waker signal;
    struct waker stop;
    struct waker end;
    struct waker alarm;
    struct conn timers[TIMER_COUNT]; /* list heads */
    struct conn *free;
    unsigned free_count;
};

struct loop {
    Worker *worker;
    struct pool *pool;
    struct module *module;
    _Atomic uint64_t *stats;
    PyThreadState *thread; /* NULL while the GIL is held */
    int core;
    bool free_gil;  /* several threads: hold the GIL for the application only */
    bool signalled; /* Python may have signal handlers to run */
    uint64_t now;   /* ms, CLOCK_MONOTONIC_COARSE */
    uint64_t born;
    char *scratch;
    size_t scratch_size;
    char *head;
    size_t head_len;
    size_t head_cap;
    Start *start;
    PyObject *write;
    struct exchange x;
    struct http_request request;
    struct uwsgi_packet packet;
    time_t log_second;
    char log_date[32];
};

/* _loop.c */
void gil_take(struct loop *loop);
void gil_drop(struct loop *loop);
int loop_run(Worker *worker, int core);
void loop_deafen(struct loop *loop);
void loop_stop(Worker *worker, enum stopping how, enum stop_reason reason);

/* _pool.c */
uint64_t pool_now(void);
struct pool *pool_new(int threads);
void pool_free(struct pool *pool);
int pool_enter(struct loop *loop);
void pool_leave(struct loop *loop);
int pool_listen(struct loop *loop, bool listening);
bool pool_take(struct pool *pool, struct conn *conn);
int pool_park(struct loop *loop, struct conn *conn, uint32_t events);
struct conn *pool_expired(struct loop *loop);
uint64_t pool_first(const struct pool *pool);
void pool_alarm(struct loop *loop, uint64_t when);
void pool_alarmed(struct pool *pool);
void conn_close(struct loop *loop, struct conn *conn);
void conn_arm(struct loop *loop, struct conn *conn, enum timer timer);
struct conn *conn_new(struct loop *loop, const struct listener *listener, int fd);

static inline void
pool_lock(struct pool *pool)
{
    if (pool->shared)
        pthread_mutex_lock(&pool->mutex);
}

static inline void
pool_unlock(struct pool *pool)
{
    if (pool->shared)
        pthread_mutex_unlock(&pool->mutex);
}

/* _accept.c */
void accept_some(struct loop *loop, struct listener *listener, int budget);

/* _conn.c */
void conn_await(struct loop *loop, struct conn *conn);
void conn_receive(struct loop *loop, struct conn *conn);
void conn_event(struct loop *loop, struct conn *conn, uint32_t events);
void conn_expire(struct loop *loop, struct conn *conn);

/* _exchange.c */
void exchange_http(struct loop *loop, struct conn *conn, const struct http_request *request,
                   PyObject *input, uint64_t body_len);
void exchange_uwsgi(struct loop *loop, struct conn *conn, const struct uwsgi_packet *packet,
                    PyObject *input, uint64_t body_len);

/* _environ.c */
extern const char *const KEY_NAMES[KEY_COUNT];
PyObject *environ_template(Worker *worker, enum protocol protocol, PyObject *name, long port);
PyObject *environ_http(struct loop *loop, struct conn *conn, const struct http_request *request,
                       PyObject *input, uint64_t body_len);
PyObject *environ_uwsgi(struct loop *loop, struct conn *conn, const struct uwsgi_packet *packet,
                        PyObject *input);
int environ_application(Worker *worker, PyObject *environ, bool manage);
int environ_remote(struct loop *loop, struct conn *conn);

/* _head.c */
struct piece;
int head_add(struct loop *loop, const char *ptr, size_t len);
void head_reset(struct loop *loop);
int head_begin(struct loop *loop, PyObject *status, PyObject *headers);
int head_commit(struct loop *loop, int64_t known);
size_t head_take(struct loop *loop, struct piece *piece);

/* _response.c */
extern PyType_Spec response_start_spec;
PyObject *response_start(struct loop *loop);
void response_retire(struct loop *loop);
int response_result(struct loop *loop, PyObject *result);
int response_end(struct loop *loop);
void response_page(struct loop *loop, int status, const char *text, size_t len);

/* _output.c */
struct piece {
    const char *ptr;
    size_t len;
    PyObject *owner; /* keeps ptr alive; NULL: copied if it must wait */
};
int output_send(struct loop *loop, struct conn *conn, const struct piece *pieces, size_t count);
int output_file(struct loop *loop, struct conn *conn, int fd, off_t offset, size_t len);
int output_flush(struct loop *loop, struct conn *conn);
int output_wait(struct loop *loop, struct conn *conn, size_t bound);
void output_clear(struct loop *loop, struct conn *conn);

/* _input.c */
extern PyType_Spec input_spec;
extern PyType_Spec input_wrapper_spec;
int body_append(struct body *body, const char *ptr, size_t len, size_t in_memory);
void body_clear(struct body *body);
PyObject *input_from_bytes(struct module *module, const char *ptr, size_t len);
PyObject *input_from_body(struct module *module, struct body *body);
PyObject *input_wrapper_file(PyObject *wrapper);

/* _logline.c */
struct log_format *logline_compile(const char *format);
void logline_free(struct log_format *format);
void logline_request(struct loop *loop, PyObject *environ);
void logline_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** Add to a counter of the core. */
static inline void
core_add(struct loop *loop, enum core_field field, uint64_t n)
{
    atomic_store_explicit(&loop->stats[field],
                          atomic_load_explicit(&loop->stats[field], memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void
core_set(struct loop *loop, enum core_field field, uint64_t n)
{
    atomic_store_explicit(&loop->stats[field], n, memory_order_relaxed);
}

#endif
