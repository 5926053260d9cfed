/* _loop.c - the event loop of one core.
 *
 * One turn: look at the stop flag, close what ran out of time, wait, act. With one thread the loop
 * first asks epoll without waiting, so that a busy worker never gives up the GIL for nothing.
 *
 * A worker that is alone accepts many connections a turn. Where others share the sockets, one: a
 * connection in our hands waits behind the application, one in the queue is taken by who is idle.
 */
#include "_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <time.h>
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

static uint64_t
now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
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
    for (int i = 0; i < worker->threads; i++) {
        if (write(worker->wakers[i], &one, sizeof(one)) < 0)
            break; /* full: it will wake anyway */
    }
    errno = saved;
}

/** Add or remove the listeners. */
static int
set_listening(struct loop *loop, bool listening)
{
    Worker *worker = loop->worker;

    for (size_t i = 0; i < worker->listener_count; i++) {
        struct listener *listener = &worker->listeners[i];
        struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = listener};
        int op = listening ? EPOLL_CTL_ADD : EPOLL_CTL_DEL;
        if (epoll_ctl(loop->epoll_fd, op, listener->fd, &event) < 0)
            return -1;
    }
    loop->deaf = !listening;
    core_set(loop, CORE_ACCEPTING, listening ? 1 : 0);
    return 0;
}

/**
 * loop_deafen() - accept nothing for a moment, as there are no descriptors left
 * @loop:	the loop
 */
void
loop_deafen(struct loop *loop)
{
    if (loop->deaf || set_listening(loop, false) < 0)
        return;
    loop->deaf_until = loop->now + DEAF_MS;
}

static int
watch(struct loop *loop, struct waker *waker, enum source source, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = waker};

    *waker = (struct waker){source, fd};
    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

/** Make the loop ready to turn; -1 with errno. */
static int
open_loop(struct loop *loop)
{
    Worker *worker = loop->worker;

    loop->scratch_size = worker->buffer_size + SCRATCH;
    loop->scratch = malloc(loop->scratch_size);
    loop->head = malloc(FIRST_HEAD);
    loop->head_cap = FIRST_HEAD;
    if (loop->scratch == NULL || loop->head == NULL)
        return -1;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0 ||
        watch(loop, &loop->waker, SOURCE_WAKER, worker->wakers[loop->core]) < 0)
        return -1;
    if (loop->core == 0 && watch(loop, &loop->signal, SOURCE_SIGNAL, worker->signal_fds[0]) < 0)
        return -1;
    return set_listening(loop, true);
}

/** Close what is left, with the GIL. */
static void
close_loop(struct loop *loop)
{
    for (int i = 0; i < TIMER_COUNT; i++) {
        while (loop->timers[i].next != &loop->timers[i])
            conn_close(loop, loop->timers[i].next);
    }
    gil_take(loop);
    while (loop->free != NULL) {
        struct conn *conn = loop->free;
        loop->free = conn->next;
        free(conn);
    }
    if (loop->start != NULL)
        loop->start->loop = NULL;
    Py_CLEAR(loop->start);
    Py_CLEAR(loop->write);
    core_set(loop, CORE_ACCEPTING, 0);
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    free(loop->scratch);
    free(loop->head);
    free(loop);
}

/** Close what ran out of time. */
static void
expire(struct loop *loop)
{
    for (int i = 0; i < TIMER_COUNT; i++) {
        struct conn *head = &loop->timers[i];
        while (head->next != head && head->next->deadline <= loop->now)
            conn_expire(loop, head->next);
    }
}

/** Tell the Emperor that this instance is alive. */
static void
beat(struct loop *loop)
{
    if (loop->next_beat == 0 || loop->now < loop->next_beat)
        return;
    loop->next_beat = loop->now + loop->worker->heartbeat;
    if (write(loop->worker->emperor_fd, EMPEROR_BEAT, 1) < 0)
        loop->next_beat = 0; /* nobody listens any more */
}

/** How long epoll may sleep: until the first thing that must happen; -1 for ever. */
static int
sleep_for(const struct loop *loop)
{
    uint64_t first = UINT64_MAX;

    for (int i = 0; i < TIMER_COUNT; i++) {
        const struct conn *head = &loop->timers[i];
        if (head->next != head && head->next->deadline < first)
            first = head->next->deadline;
    }
    if (loop->draining && loop->deadline < first)
        first = loop->deadline;
    if (loop->deaf_until != 0 && loop->deaf_until < first)
        first = loop->deaf_until;
    if (loop->next_beat != 0 && loop->next_beat < first)
        first = loop->next_beat;
    if (first == UINT64_MAX)
        return -1;
    /* the coarse clock is up to one tick behind: waking too early would spin */
    return first <= loop->now
               ? 1
               : (int)(first - loop->now < 3600000 ? first - loop->now + 1 : 3600000);
}

/** Wait for events. Return: how many; 0 also after a signal. */
static int
wait_events(struct loop *loop, struct epoll_event *events)
{
    int n = 0;

    if (loop->free_gil)
        gil_drop(loop);
    else
        n = epoll_wait(loop->epoll_fd, events, MAX_EVENTS, 0);
    if (n == 0) {
        int timeout = sleep_for(loop);
        gil_drop(loop);
        n = epoll_wait(loop->epoll_fd, events, MAX_EVENTS, timeout);
        if (!loop->free_gil)
            gil_take(loop);
    }
    loop->now = now_ms();
    if (n < 0)
        loop->signalled = true; /* EINTR: the only error that can be */
    return n < 0 ? 0 : n;
}

/** Empty a pipe or eventfd whose only message is that there is one. */
static void
drain_waker(const struct waker *waker)
{
    char dropped[64];

    while (read(waker->fd, dropped, sizeof(dropped)) == (ssize_t)sizeof(dropped))
        ;
}

static void
act(struct loop *loop, const struct epoll_event *event)
{
    bool alone = loop->worker->processes == 1 && loop->worker->threads == 1;

    switch (*(enum source *)event->data.ptr) {
    case SOURCE_CONN:
        conn_event(loop, event->data.ptr, event->events);
        break;
    case SOURCE_LISTENER:
        if (!loop->deaf)
            accept_some(loop, event->data.ptr, alone ? ACCEPT_ALONE : 1);
        break;
    case SOURCE_SIGNAL:
        loop->signalled = true;
        drain_waker(event->data.ptr);
        break;
    default:
        drain_waker(event->data.ptr);
    }
}

/** Begin to end gracefully: see the head of _worker.h. */
static void
begin_draining(struct loop *loop)
{
    loop->draining = true;
    loop->deaf_until = 0;
    loop->deadline = loop->now + loop->worker->reload_mercy;
    if (!loop->deaf)
        set_listening(loop, false);
    for (size_t i = 0; i < loop->worker->listener_count; i++)
        accept_some(loop, &loop->worker->listeners[i], -1);
}

/** Whether the loop has to end now. */
static bool
is_over(struct loop *loop)
{
    int stopping = atomic_load_explicit(&loop->worker->stopping, memory_order_relaxed);

    if (stopping == RUNNING)
        return false;
    if (stopping == QUICK)
        return true;
    if (!loop->draining)
        begin_draining(loop);
    return loop->open == 0 || loop->now >= loop->deadline;
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
        expire(loop);
        if (is_over(loop))
            break;
        if (loop->deaf_until != 0 && loop->now >= loop->deaf_until) {
            loop->deaf_until = 0;
            set_listening(loop, true);
        }
        beat(loop);
        int n = wait_events(loop, events);
        for (int i = 0; i < n; i++)
            act(loop, &events[i]);
    }
    return loop->draining && loop->open > 0 && atomic_load(&loop->worker->stopping) != QUICK
               ? MERCY
               : atomic_load(&loop->worker->reason);
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
    loop->epoll_fd = -1;
    loop->born = loop->now = now_ms();
    for (int i = 0; i < TIMER_COUNT; i++)
        loop->timers[i].prev = loop->timers[i].next = &loop->timers[i];
    if (core == 0 && worker->heartbeat > 0 && worker->emperor_fd >= 0)
        loop->next_beat = loop->now + worker->heartbeat;
    int result = -1;
    if (open_loop(loop) < 0)
        PyErr_SetFromErrno(PyExc_OSError);
    else
        result = turn(loop);
    PyObject *type = NULL;
    PyObject *value = NULL;
    PyObject *traceback = NULL;
    gil_take(loop);
    PyErr_Fetch(&type, &value, &traceback);
    close_loop(loop);
    PyErr_Restore(type, value, traceback);
    return result;
}
