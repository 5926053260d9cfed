/* _loop.c - the event loop of one core.
 *
 * One turn: look at the stop flag, close what ran out of time, wait, act. With one thread the loop
 * first asks epoll without waiting, so that a busy worker never gives up the GIL for nothing. With
 * several each takes one event a turn of the pool's, and the clock is looked at when it says so.
 *
 * A worker that is alone accepts many connections a turn. Where others share the sockets, one: a
 * connection in our hands waits behind the application, one in the queue is taken by who is idle.
 */
#include "_worker.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#define MAX_EVENTS 128
#define SCRATCH 65536
#define FIRST_HEAD 4096
#define ACCEPT_ALONE 64
#define DEAF_MS 100
#define EMPEROR_BEAT "\x1a" /* byte 26 */

/**
 * gil_take() - hold the GIL from here on
 * @loop:	the loop of the calling thread
 */
void
gil_take(struct loop *loop)
{
    if (loop->thread == NULL)
        return;
    PyEval_RestoreThread(loop->thread);
    loop->thread = NULL;
}

/**
 * gil_drop() - do not hold the GIL from here on
 * @loop:	the loop of the calling thread
 */
void
gil_drop(struct loop *loop)
{
    if (loop->thread == NULL)
        loop->thread = PyEval_SaveThread();
}

/**
 * loop_stop() - make all loops of a worker end
 * @worker:	the worker
 * @how:	GRACEFUL or QUICK; never weakens what was asked before
 * @reason:	what serve() returns, if nothing was asked before
 *
 * Async-signal-safe, and safe from any thread.
 */
void
loop_stop(Worker *worker, enum stopping how, enum stop_reason reason)
{
    int saved = errno;
    int before = atomic_load(&worker->stopping);
    uint64_t one = 1;

    if (before == RUNNING)
        atomic_store(&worker->reason, (int)reason);
    if ((int)how > before)
        atomic_store(&worker->stopping, (int)how);
    ssize_t n = write(worker->pool->stop.fd, &one, sizeof(one));
    (void)n; /* full: it will wake anyway */
    errno = saved;
}

/**
 * loop_deafen() - accept nothing for a moment, as there are no descriptors left
 * @loop:	the loop
 */
void
loop_deafen(struct loop *loop)
{
    struct pool *pool = loop->pool;

    pool_lock(pool);
    if (!pool->deaf && pool_listen(loop, false) == 0) {
        pool->deaf_until = loop->now + DEAF_MS;
        pool_alarm(loop, pool->deaf_until);
    }
    pool_unlock(pool);
}

/** Make the loop ready to turn: as pool_enter(). */
static int
open_loop(struct loop *loop)
{
    loop->scratch_size = loop->worker->buffer_size + SCRATCH;
    loop->scratch = malloc(loop->scratch_size);
    loop->head = malloc(FIRST_HEAD);
    loop->head_cap = FIRST_HEAD;
    if (loop->scratch == NULL || loop->head == NULL)
        return -1;
    return pool_enter(loop);
}

/** Free the loop, with the GIL. */
static void
close_loop(struct loop *loop)
{
    if (loop->start != NULL)
        loop->start->loop = NULL;
    Py_CLEAR(loop->start);
    Py_CLEAR(loop->write);
    free(loop->scratch);
    free(loop->head);
    free(loop);
}

/** Tell the Emperor that this instance is alive. */
static void
beat(struct loop *loop)
{
    struct pool *pool = loop->pool;

    if (pool->next_beat == 0 || loop->now < pool->next_beat)
        return;
    pool->next_beat = loop->now + loop->worker->heartbeat;
    if (write(loop->worker->emperor_fd, EMPEROR_BEAT, 1) < 0)
        pool->next_beat = 0; /* nobody listens any more */
}

/** Do what is due: close what ran out of time, listen again, beat. */
static void
keep_time(struct loop *loop)
{
    struct pool *pool = loop->pool;
    struct conn *conn;

    while ((conn = pool_expired(loop)) != NULL)
        conn_expire(loop, conn);
    pool_lock(pool);
    if (pool->deaf_until != 0 && loop->now >= pool->deaf_until) {
        pool->deaf_until = 0;
        pool_listen(loop, true);
    }
    beat(loop);
    if (pool->shared)
        pool_alarm(loop, pool_first(pool));
    pool_unlock(pool);
}

/** How long epoll may sleep: until the first thing that must happen; -1 for ever. */
static int
sleep_for(const struct loop *loop)
{
    uint64_t first = pool_first(loop->pool);

    if (first == UINT64_MAX)
        return -1;
    /* the coarse clock is up to one tick behind: waking too early would spin */
    return first <= loop->now
               ? 1
               : (int)(first - loop->now < 3600000 ? first - loop->now + 1 : 3600000);
}

/** Empty a pipe or eventfd whose only message is that there is one. */
static void
drain_waker(const struct waker *waker)
{
    char dropped[64];

    while (read(waker->fd, dropped, sizeof(dropped)) == (ssize_t)sizeof(dropped))
        ;
}

/** Wait for one event of the pool; core 0 also for signals. Return: as epoll_wait(2). */
static int
wait_shared(struct loop *loop, struct epoll_event *event)
{
    struct pool *pool = loop->pool;
    struct pollfd fds[] = {{.fd = pool->epoll_fd, .events = POLLIN},
                           {.fd = pool->signal.fd, .events = POLLIN}};

    if (loop->core != 0)
        return epoll_wait(pool->epoll_fd, event, 1, -1);
    if (poll(fds, 2, -1) < 0)
        return -1;
    if (fds[1].revents != 0) {
        loop->signalled = true;
        drain_waker(&pool->signal);
    }
    return fds[0].revents == 0 ? 0 : epoll_wait(pool->epoll_fd, event, 1, 0);
}

/** Wait for events of the only loop. Return: as epoll_wait(2). */
static int
wait_alone(struct loop *loop, struct epoll_event *events)
{
    int epoll_fd = loop->pool->epoll_fd;
    int n = epoll_wait(epoll_fd, events, MAX_EVENTS, 0);

    if (n == 0) {
        int timeout = sleep_for(loop);
        gil_drop(loop);
        n = epoll_wait(epoll_fd, events, MAX_EVENTS, timeout);
        gil_take(loop);
    }
    return n;
}

/** Wait for events. Return: how many; 0 also after a signal. */
static int
wait_events(struct loop *loop, struct epoll_event *events)
{
    int n;

    if (loop->free_gil) {
        gil_drop(loop);
        n = wait_shared(loop, events);
    } else {
        n = wait_alone(loop, events);
    }
    loop->now = pool_now();
    if (n < 0)
        loop->signalled = true; /* EINTR: the only error that can be */
    return n < 0 ? 0 : n;
}

/** Take from a listener, unless it was left meanwhile. */
static void
listen_event(struct loop *loop, struct listener *listener)
{
    struct pool *pool = loop->pool;
    bool alone = loop->worker->processes == 1 && loop->worker->threads == 1;

    pool_lock(pool);
    bool deaf = pool->deaf;
    if (!deaf)
        pool->accepting++;
    pool_unlock(pool);
    if (deaf)
        return;
    accept_some(loop, listener, alone ? ACCEPT_ALONE : 1);
    pool_lock(pool);
    pool->accepting--;
    pool_unlock(pool);
}

static void
act(struct loop *loop, const struct epoll_event *event)
{
    switch (*(enum source *)event->data.ptr) {
    case SOURCE_CONN:
        if (pool_take(loop->pool, event->data.ptr))
            conn_event(loop, event->data.ptr, event->events);
        break;
    case SOURCE_LISTENER:
        listen_event(loop, event->data.ptr);
        break;
    case SOURCE_SIGNAL:
        loop->signalled = true;
        drain_waker(event->data.ptr);
        break;
    case SOURCE_ALARM:
        pool_alarmed(loop->pool);
        keep_time(loop);
        break;
    case SOURCE_END:
        break; /* stays as it is, for the others */
    default:
        drain_waker(event->data.ptr);
    }
}

/** Begin to end gracefully, once for all loops: see the head of _worker.h. */
static void
begin_draining(struct loop *loop)
{
    struct pool *pool = loop->pool;

    pool_lock(pool);
    bool first = !pool->draining;
    if (first) {
        pool->draining = true;
        pool->accepting++;
        pool->deaf_until = 0;
        pool->deadline = loop->now + loop->worker->reload_mercy;
        pool_alarm(loop, pool->deadline);
        if (!pool->deaf)
            pool_listen(loop, false);
    }
    pool_unlock(pool);
    if (!first)
        return;
    for (size_t i = 0; i < loop->worker->listener_count; i++)
        accept_some(loop, &loop->worker->listeners[i], -1);
    pool_lock(pool);
    pool->accepting--;
    pool_unlock(pool);
}

/** Whether the loop has to end now. Who sees it first tells the others. */
static bool
is_over(struct loop *loop)
{
    struct pool *pool = loop->pool;
    int stopping = atomic_load_explicit(&loop->worker->stopping, memory_order_relaxed);
    uint64_t one = 1;

    if (stopping == RUNNING)
        return false;
    if (stopping != QUICK)
        begin_draining(loop);
    pool_lock(pool);
    bool empty = pool->open == 0 && pool->accepting == 0;
    if (!pool->over && (stopping == QUICK || empty || loop->now >= pool->deadline)) {
        pool->over = true;
        pool->mercy = stopping != QUICK && !empty;
        ssize_t n = pool->shared ? write(pool->end.fd, &one, sizeof(one)) : 0;
        (void)n; /* full: it wakes them anyway */
    }
    bool over = pool->over;
    pool_unlock(pool);
    return over;
}

/** Run Python's signal handlers where they can be run; -1 with an exception. */
static int
check_signals(struct loop *loop)
{
    if (loop->core != 0 || (loop->free_gil && !loop->signalled))
        return 0;
    loop->signalled = false;
    gil_take(loop);
    return PyErr_CheckSignals();
}

/** Turn until the end. Return: why, or -1 with an exception. */
static int
turn(struct loop *loop)
{
    struct epoll_event events[MAX_EVENTS];

    for (;;) {
        if (check_signals(loop) < 0)
            return -1;
        if (!loop->pool->shared)
            keep_time(loop);
        if (is_over(loop))
            break;
        int n = wait_events(loop, events);
        for (int i = 0; i < n; i++)
            act(loop, &events[i]);
    }
    return loop->pool->mercy ? MERCY : atomic_load(&loop->worker->reason);
}

/**
 * loop_run() - serve on one core until stopped
 * @worker:	the worker
 * @core:	the core
 *
 * Return: an enum stop_reason, or -1 with an exception.
 */
int
loop_run(Worker *worker, int core)
{
    struct loop *loop = calloc(1, sizeof(*loop));

    if (loop == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    loop->worker = worker;
    loop->module = worker->module;
    loop->core = core;
    loop->stats = worker->cores + (size_t)core * CORE_FIELDS;
    loop->free_gil = worker->threads > 1;
    loop->pool = worker->pool;
    loop->born = loop->now = pool_now();
    int entered = open_loop(loop);
    int result = -1;
    if (entered < 0)
        PyErr_SetFromErrno(PyExc_OSError);
    else
        result = entered > 0 ? turn(loop) : STOPPED;
    PyObject *type = NULL;
    PyObject *value = NULL;
    PyObject *traceback = NULL;
    gil_take(loop);
    PyErr_Fetch(&type, &value, &traceback);
    if (entered > 0)
        pool_leave(loop);
    close_loop(loop);
    PyErr_Restore(type, value, traceback);
    return result;
}
