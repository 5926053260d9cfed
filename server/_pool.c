/* _pool.c - what the loops of a worker share: epoll, connections that wait, their time limits.
 *
 * With one thread nothing here locks. With several, an event is only a hint: who gets it takes the
 * connection with the mutex held, and where another one was quicker, the hint is dropped. Hints
 * may be stale, so a connection's memory is kept until the last loop leaves. Who takes a
 * connection parks or closes it later, and epoll looks at it again when it is parked, so nothing
 * is missed.
 *
 * The mutex is the innermost lock: who holds it never takes the GIL.
 */
#include "_worker.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define LINGER_MS 2000
#define MAX_FREE 256

/**
 * pool_now() - the time for deadlines
 *
 * Return: ms, CLOCK_MONOTONIC_COARSE.
 */
uint64_t
pool_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/**
 * pool_new() - make what the loops of a worker share
 * @threads:	how many loops there will be
 *
 * Return: the pool, or NULL with errno.
 */
struct pool *
pool_new(int threads)
{
    struct pool *pool = calloc(1, sizeof(*pool));

    if (pool == NULL)
        return NULL;
    pool->shared = threads > 1;
    pthread_mutex_init(&pool->mutex, NULL);
    pool->epoll_fd = -1;
    for (int i = 0; i < TIMER_COUNT; i++)
        pool->timers[i].prev = pool->timers[i].next = &pool->timers[i];
    pool->signal = (struct waker){SOURCE_SIGNAL, -1};
    pool->stop = (struct waker){SOURCE_STOP, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    pool->end = (struct waker){SOURCE_END, -1};
    pool->alarm = (struct waker){SOURCE_ALARM, -1};
    if (pool->shared) {
        pool->end.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        pool->alarm.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    }
    if (pool->stop.fd >= 0 && (!pool->shared || (pool->end.fd >= 0 && pool->alarm.fd >= 0)))
        return pool;
    int saved = errno;
    pool_free(pool);
    errno = saved;
    return NULL;
}

/**
 * pool_free() - let go of a pool in which no loop is left
 * @pool:	the pool, or NULL
 */
void
pool_free(struct pool *pool)
{
    if (pool == NULL)
        return;
    int fds[] = {pool->stop.fd, pool->end.fd, pool->alarm.fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

static int
watch(struct pool *pool, struct waker *waker)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = waker};

    return epoll_ctl(pool->epoll_fd, EPOLL_CTL_ADD, waker->fd, &event);
}

/**
 * pool_listen() - add or remove the listeners, with the mutex
 * @loop:	the loop
 * @listening:	whether to accept from now on
 *
 * Return: 0, or -1 with errno.
 */
int
pool_listen(struct loop *loop, bool listening)
{
    Worker *worker = loop->worker;

    for (size_t i = 0; i < worker->listener_count; i++) {
        struct listener *listener = &worker->listeners[i];
        struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = listener};
        int op = listening ? EPOLL_CTL_ADD : EPOLL_CTL_DEL;
        if (epoll_ctl(loop->pool->epoll_fd, op, listener->fd, &event) < 0)
            return -1;
    }
    loop->pool->deaf = !listening;
    for (int core = 0; core < worker->threads; core++)
        atomic_store_explicit(&worker->cores[(size_t)core * CORE_FIELDS + CORE_ACCEPTING],
                              listening ? 1 : 0, memory_order_relaxed);
    return 0;
}

/** The first loop is here. */
static int
open_pool(struct loop *loop)
{
    struct pool *pool = loop->pool;
    Worker *worker = loop->worker;

    pool->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (pool->epoll_fd < 0 || watch(pool, &pool->stop) < 0)
        return -1;
    pool->signal.fd = worker->signal_fds[0];
    if (!pool->shared && watch(pool, &pool->signal) < 0)
        return -1;
    if (pool->shared && (watch(pool, &pool->end) < 0 || watch(pool, &pool->alarm) < 0))
        return -1;
    pool->draining = pool->over = pool->mercy = false;
    pool->alarm_at = pool->deaf_until = pool->next_beat = 0;
    if (pool_listen(loop, true) < 0)
        return -1;
    if (worker->heartbeat > 0 && worker->emperor_fd >= 0) {
        pool->next_beat = loop->now + worker->heartbeat;
        pool_alarm(loop, pool->next_beat);
    }
    return 0;
}

/** Close what was opened for the loops, with the mutex. */
static void
close_pool(struct pool *pool)
{
    while (pool->free != NULL) {
        struct conn *conn = pool->free;
        pool->free = conn->next;
        free(conn);
    }
    pool->free_count = 0;
    if (pool->epoll_fd >= 0)
        close(pool->epoll_fd);
    pool->epoll_fd = -1;
}

/**
 * pool_enter() - begin to serve
 * @loop:	the loop
 *
 * Return: 1; 0 if all is just ending; -1 with errno.
 */
int
pool_enter(struct loop *loop)
{
    struct pool *pool = loop->pool;
    int result = 1;

    pool_lock(pool);
    if (pool->closing)
        result = 0;
    else if (pool->loops == 0 && open_pool(loop) < 0)
        result = -1;
    if (result < 0)
        close_pool(pool);
    if (result > 0)
        pool->loops++;
    pool_unlock(pool);
    return result;
}

/**
 * pool_leave() - end; the last loop closes what is left
 * @loop:	the loop, which holds the GIL
 */
void
pool_leave(struct loop *loop)
{
    struct pool *pool = loop->pool;

    pool_lock(pool);
    pool->closing = --pool->loops == 0;
    bool last = pool->closing;
    pool_unlock(pool);
    core_set(loop, CORE_ACCEPTING, 0);
    if (!last)
        return;
    for (int i = 0; i < TIMER_COUNT; i++) {
        while (pool->timers[i].next != &pool->timers[i])
            conn_close(loop, pool->timers[i].next);
    }
    gil_take(loop);
    pool_lock(pool);
    close_pool(pool);
    pool->closing = false;
    pool_unlock(pool);
}

/**
 * pool_take() - take the connection of an event, if it is still there to be taken
 * @pool:	the pool
 * @conn:	the connection
 *
 * Return: whether it is the caller's now.
 */
bool
pool_take(struct pool *pool, struct conn *conn)
{
    if (!pool->shared)
        return true;
    pool_lock(pool);
    bool ours = conn->holder != HELD;
    conn->holder = HELD;
    pool_unlock(pool);
    return ours;
}

/**
 * pool_park() - wait for events on a connection that the loop holds
 * @loop:	the loop
 * @conn:	the connection; with several threads not to be touched afterwards, unless this
 * fails
 * @events:	of epoll
 *
 * Return: 0, or -1 with errno.
 */
int
pool_park(struct loop *loop, struct conn *conn, uint32_t events)
{
    struct pool *pool = loop->pool;
    struct epoll_event event = {.events = events, .data.ptr = conn};

    if (!pool->shared && conn->events == events)
        return 0;
    int op = conn->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (pool->shared)
        event.events |= EPOLLONESHOT;
    pool_lock(pool);
    conn->events = events;
    conn->holder = PARKED;
    pool_alarm(loop, conn->deadline);
    int result = epoll_ctl(pool->epoll_fd, op, conn->fd, &event);
    if (result < 0)
        conn->holder = HELD;
    pool_unlock(pool);
    return result;
}

/** Whether a client did its part in time, and waits for a thread to be free. */
static bool
is_ready(const struct conn *conn)
{
    struct pollfd pollfd = {.fd = conn->fd, .events = (short)conn->events};

    return conn->state != CONN_LINGER && poll(&pollfd, 1, 0) > 0;
}

/**
 * pool_expired() - take a connection that ran out of time
 * @loop:	the loop
 *
 * Return: the connection, held; or NULL when there is none.
 */
struct conn *
pool_expired(struct loop *loop)
{
    struct pool *pool = loop->pool;
    struct conn *found = NULL;

    pool_lock(pool);
    for (int i = 0; i < TIMER_COUNT && found == NULL; i++) {
        struct conn *head = &pool->timers[i];
        for (struct conn *conn = head->next; conn != head && conn->deadline <= loop->now;
             conn = conn->next) {
            if (pool->shared && conn->holder == PARKED && is_ready(conn))
                conn->holder = LATE;
            if (pool->shared && conn->holder != PARKED)
                continue;
            found = conn;
            found->holder = HELD;
            break;
        }
    }
    pool_unlock(pool);
    return found;
}

/**
 * pool_first() - the first thing that must happen at a time, with the mutex
 * @pool:	the pool
 *
 * Return: when (ms), or UINT64_MAX.
 */
uint64_t
pool_first(const struct pool *pool)
{
    uint64_t first = UINT64_MAX;

    for (int i = 0; i < TIMER_COUNT; i++) {
        const struct conn *head = &pool->timers[i];
        const struct conn *conn = head->next;
        while (pool->shared && conn != head && conn->holder != PARKED)
            conn = conn->next;
        if (conn != head && conn->deadline < first)
            first = conn->deadline;
    }
    if (pool->draining && pool->deadline < first)
        first = pool->deadline;
    if (pool->deaf_until != 0 && pool->deaf_until < first)
        first = pool->deaf_until;
    if (pool->next_beat != 0 && pool->next_beat < first)
        first = pool->next_beat;
    return first;
}

/**
 * pool_alarm() - have some idle thread look at the clock at a time, with the mutex
 * @loop:	the loop
 * @when:	ms; UINT64_MAX for never
 *
 * Only with several threads: one that is alone knows how long it may sleep.
 */
void
pool_alarm(struct loop *loop, uint64_t when)
{
    struct pool *pool = loop->pool;

    if (!pool->shared || when == UINT64_MAX || (pool->alarm_at != 0 && pool->alarm_at <= when))
        return;
    /* one more: the coarse clock is up to a tick behind, waking too early would spin */
    uint64_t ms = when > loop->now ? when - loop->now + 1 : 1;
    struct itimerspec time = {
        .it_value = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000}};
    pool->alarm_at = when;
    timerfd_settime(pool->alarm.fd, 0, &time, NULL);
}

/**
 * pool_alarmed() - the alarm went off
 * @pool:	the pool
 */
void
pool_alarmed(struct pool *pool)
{
    uint64_t times;

    pool_lock(pool);
    if (read(pool->alarm.fd, &times, sizeof(times)) == (ssize_t)sizeof(times))
        pool->alarm_at = 0;
    pool_unlock(pool);
}

static void
unlink_timer(struct conn *conn)
{
    conn->prev->next = conn->next;
    conn->next->prev = conn->prev;
    conn->prev = conn->next = conn;
}

/**
 * conn_arm() - start a time limit anew
 * @loop:	the loop
 * @conn:	the connection
 * @timer:	the kind
 */
void
conn_arm(struct loop *loop, struct conn *conn, enum timer timer)
{
    struct conn *head = &loop->pool->timers[timer];
    uint64_t limits[TIMER_COUNT] = {
        [TIMER_IO] = loop->worker->socket_timeout,
        [TIMER_IDLE] = loop->worker->keepalive_timeout,
        [TIMER_LINGER] = LINGER_MS,
    };

    pool_lock(loop->pool);
    if (loop->pool->shared)
        loop->now = pool_now(); /* the lists are in order only if no loop's clock is behind */
    unlink_timer(conn);
    conn->timer = (uint8_t)timer;
    conn->deadline = loop->now + limits[timer];
    conn->next = head;
    conn->prev = head->prev;
    head->prev->next = conn;
    head->prev = conn;
    pool_unlock(loop->pool);
}

/** Count the open connections of all loops, in the block of core 0. */
static void
show_open(struct loop *loop)
{
    atomic_store_explicit(&loop->worker->cores[CORE_CONNECTIONS], loop->pool->open,
                          memory_order_relaxed);
}

/**
 * conn_close() - close a connection and forget it
 * @loop:	the loop
 * @conn:	the connection, held; not to be used afterwards
 */
void
conn_close(struct loop *loop, struct conn *conn)
{
    struct pool *pool = loop->pool;

    output_clear(loop, conn);
    body_clear(&conn->body);
    free(conn->in);
    free(conn->head);
    if (conn->remote_addr != NULL) {
        gil_take(loop);
        Py_CLEAR(conn->remote_addr);
        Py_CLEAR(conn->remote_port);
    }
    close(conn->fd);
    pool_lock(pool);
    unlink_timer(conn);
    pool->open--;
    show_open(loop);
    if (!pool->shared && pool->free_count >= MAX_FREE) {
        free(conn);
        return;
    }
    conn->next = pool->free;
    pool->free = conn;
    pool->free_count++;
    pool_unlock(pool);
}

/**
 * conn_new() - begin with an accepted connection
 * @loop:	the loop
 * @listener:	from where it came
 * @fd:		its descriptor; taken over
 *
 * Return: the connection, or NULL without memory.
 */
struct conn *
conn_new(struct loop *loop, const struct listener *listener, int fd)
{
    struct pool *pool = loop->pool;

    pool_lock(pool);
    struct conn *conn = pool->free;
    if (conn != NULL) {
        pool->free = conn->next;
        pool->free_count--;
    } else {
        conn = malloc(sizeof(*conn));
        if (conn == NULL) {
            pool_unlock(pool);
            return NULL;
        }
    }
    /* a stale event may look at `source` and, with the mutex, at `holder` meanwhile: both are 0 */
    *conn = (struct conn){.source = SOURCE_CONN,
                          .holder = HELD,
                          .fd = fd,
                          .listener = listener,
                          .since = loop->now,
                          .body = {.fd = -1}};
    conn->prev = conn->next = conn;
    pool->open++;
    show_open(loop);
    pool_unlock(pool);
    return conn;
}
