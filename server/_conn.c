/* _conn.c - connections: reading requests, collecting bodies, and what comes after an answer.
 *
 * Bytes are always looked at in the loop's scratch buffer: what a connection kept from before is
 * put in front of what was received. Each step takes some bytes off the front and says how to go
 * on; what no step can use yet is kept with the connection.
 */
#include "_worker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOW_HEAD 10 /* a head may take this many times socket-timeout, if it goes on coming */

/** How process() goes on after a step. */
enum step { STEP_AGAIN, STEP_WAIT, STEP_GONE };

/** Wait for events on a connection; it is closed if epoll refuses. The last thing to do with it.
 */
static void
want(struct loop *loop, struct conn *conn, uint32_t events)
{
    if (pool_park(loop, conn, events) == 0)
        return;
    logline_error("cannot wait for a connection: epoll_ctl: %s", strerror(errno));
    conn_close(loop, conn);
}

/** Everything was sent: close, or first take what the client still sends. */
static void
finish(struct loop *loop, struct conn *conn)
{
    if (!conn->linger || conn->broken || shutdown(conn->fd, SHUT_WR) < 0) {
        conn_close(loop, conn);
        return;
    }
    conn->state = CONN_LINGER;
    conn_arm(loop, conn, TIMER_LINGER);
    want(loop, conn, EPOLLIN);
}

/** Act on what an exchange left in the connection. STEP_WAIT: the caller waits for EPOLLOUT. */
static enum step
settle(struct loop *loop, struct conn *conn)
{
    if (conn->broken) {
        conn_close(loop, conn);
        return STEP_GONE;
    }
    if (conn->out != NULL) {
        conn->state = CONN_WRITE;
        conn_arm(loop, conn, TIMER_IO);
        return STEP_WAIT;
    }
    if (conn->close) {
        finish(loop, conn);
        return STEP_GONE;
    }
    conn->state = CONN_READ;
    conn->since = loop->now;
    return STEP_AGAIN;
}

/** The peer's address for a log line. */
static const char *
peer_name(const struct conn *conn, char *text, socklen_t size)
{
    const char *name = NULL;

    if (conn->peer.any.sa_family == AF_INET)
        name = inet_ntop(AF_INET, &conn->peer.in.sin_addr, text, size);
    else if (conn->peer.any.sa_family == AF_INET6)
        name = inet_ntop(AF_INET6, &conn->peer.in6.sin6_addr, text, size);
    return name != NULL ? name : "a unix socket";
}

/** Refuse a request. The uwsgi protocol has no way to say so: it is closed. */
static enum step
refuse(struct loop *loop, struct conn *conn, int status)
{
    char text[INET6_ADDRSTRLEN];

    core_add(loop, CORE_READ_ERRORS, 1);
    if (status == 431 || status == 414)
        logline_error("invalid HTTP request size (max %zu)...skip", loop->worker->buffer_size);
    else
        logline_error("refused a request of %s: %d %s", peer_name(conn, text, sizeof(text)),
                      status, http_reason(status));
    if (conn->listener->protocol == PROTO_UWSGI) {
        conn_close(loop, conn);
        return STEP_GONE;
    }
    loop->x = (struct exchange){.conn = conn, .protocol = {"HTTP/1.1", 8}};
    response_page(loop, status, http_reason(status), strlen(http_reason(status)));
    loop->x.conn = NULL;
    conn->close = conn->linger = true;
    return settle(loop, conn) == STEP_WAIT ? STEP_WAIT : STEP_GONE;
}

/** No memory or no disk for a request. */
static enum step
give_up(struct loop *loop, struct conn *conn)
{
    if (loop->thread == NULL)
        PyErr_Clear(); /* the line below says it */
    logline_error("cannot keep a request body: %s", strerror(errno));
    return refuse(loop, conn, 500);
}

/** Give a whole request, head at `head`, to the application. */
static enum step
dispatch(struct loop *loop, struct conn *conn, const char *head, size_t len, PyObject *input,
         uint64_t body_len)
{
    if (conn->listener->protocol == PROTO_UWSGI) {
        if (uwsgi_parse(head, len, loop->worker->buffer_size, &loop->packet) != HTTP_OK)
            return refuse(loop, conn, 400);
        exchange_uwsgi(loop, conn, &loop->packet, input, body_len);
    } else {
        if (http_parse(head, len, &loop->request) != HTTP_OK)
            return refuse(loop, conn, 400);
        exchange_http(loop, conn, &loop->request, input, body_len);
    }
    return settle(loop, conn);
}

/** The body is whole. */
static enum step
body_done(struct loop *loop, struct conn *conn, bool more)
{
    uint64_t len = conn->body.len;
    PyObject *input = NULL;

    gil_take(loop);
    if (len > 0) {
        input = input_from_body(loop->module, &conn->body);
        if (input == NULL)
            return give_up(loop, conn);
    }
    char *head = conn->head;
    size_t head_len = conn->head_len;
    conn->head = NULL;
    conn->linger = more;
    enum step step = dispatch(loop, conn, head, head_len, input, len);
    free(head);
    return step;
}

/** Add to the body, within limit-post. Return: 0, or the status of a refusal. */
static int
body_add(struct loop *loop, struct conn *conn, struct span data)
{
    uint64_t limit = loop->worker->limit_post;

    if (limit > 0 && data.len > limit - conn->body.len)
        return 413;
    return body_append(&conn->body, data.ptr, data.len, loop->worker->body_in_memory) < 0 ? 500
                                                                                          : 0;
}

/** Take bytes of a chunked body. */
static enum step
step_chunked(struct loop *loop, struct conn *conn, const char *p, size_t len, size_t *used)
{
    struct span data;
    size_t taken;
    int result = HTTP_OK;

    while (result == HTTP_OK) {
        result = http_chunked_next(&conn->body.decoder, p + *used, len - *used, &taken, &data);
        *used += taken;
        int status = result == HTTP_OK ? body_add(loop, conn, data) : 0;
        if (status != 0)
            return status == 500 ? give_up(loop, conn) : refuse(loop, conn, status);
    }
    if (result == HTTP_MORE)
        return STEP_WAIT;
    return result == HTTP_DONE ? body_done(loop, conn, len > *used) : refuse(loop, conn, result);
}

/** Take bytes of a body with a length. */
static enum step
step_length(struct loop *loop, struct conn *conn, const char *p, size_t len, size_t *used)
{
    size_t n = (uint64_t)len < conn->body.left ? len : (size_t)conn->body.left;

    *used = n;
    if (body_add(loop, conn, (struct span){p, n}) != 0)
        return give_up(loop, conn);
    conn->body.left -= n;
    return conn->body.left > 0 ? STEP_WAIT : body_done(loop, conn, len > n);
}

/** A request with a body: answer if it is here already, else keep the head and collect. */
static enum step
begin_body(struct loop *loop, struct conn *conn, const char *p, size_t len, size_t *used,
           uint64_t length)
{
    const struct http_request *r = &loop->request;
    bool http = conn->listener->protocol != PROTO_UWSGI;
    bool chunked = http && r->chunked;
    size_t head_len = *used;

    if (loop->worker->limit_post > 0 && length > loop->worker->limit_post)
        return refuse(loop, conn, 413);
    if (!chunked && length <= len - head_len && length <= loop->worker->body_in_memory) {
        *used += (size_t)length;
        gil_take(loop);
        PyObject *input = input_from_bytes(loop->module, p + head_len, (size_t)length);
        if (input == NULL)
            return give_up(loop, conn);
        conn->linger = len > *used;
        return dispatch(loop, conn, p, head_len, input, length);
    }
    conn->head = malloc(head_len);
    if (conn->head == NULL)
        return give_up(loop, conn);
    memcpy(conn->head, p, head_len);
    conn->head_len = head_len;
    conn->body = (struct body){.fd = -1, .left = length, .chunked = chunked};
    conn->state = CONN_BODY;
    if (http && r->expect && len == head_len) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        struct piece piece = {go_on, sizeof(go_on) - 1, NULL};
        output_send(loop, conn, &piece, 1);
    }
    return STEP_AGAIN;
}

/** Parse an HTTP request head and begin its exchange. */
static enum step
step_http(struct loop *loop, struct conn *conn, const char *p, size_t len, size_t *used)
{
    struct http_request *r = &loop->request;
    int result = http_parse(p, len, r);

    if (result == HTTP_MORE && len < loop->worker->buffer_size)
        return STEP_WAIT;
    if (result == HTTP_MORE || (result == HTTP_OK && r->head_len > loop->worker->buffer_size))
        return refuse(loop, conn, memchr(p, '\n', loop->worker->buffer_size) ? 431 : 414);
    if (result != HTTP_OK)
        return refuse(loop, conn, result);
    *used = r->head_len;
    if (r->chunked || r->content_length > 0)
        return begin_body(loop, conn, p, len, used, r->content_length);
    conn->linger = len > r->head_len;
    exchange_http(loop, conn, r, NULL, 0);
    return settle(loop, conn);
}

/** CONTENT_LENGTH of a packet; -1 if it is not a number. An empty one is none. */
static int64_t
packet_length(const struct uwsgi_packet *packet)
{
    const struct span *value = uwsgi_find(packet, "CONTENT_LENGTH", 14);
    int64_t total = 0;

    if (value == NULL)
        return 0;
    if (value->len > 18)
        return -1;
    for (size_t i = 0; i < value->len; i++) {
        if (value->ptr[i] < '0' || value->ptr[i] > '9')
            return -1;
        total = total * 10 + (value->ptr[i] - '0');
    }
    return total;
}

/** Answer a packet that is no request. */
static enum step
step_modifier(struct loop *loop, struct conn *conn)
{
    static const char pong[] = {UWSGI_PING, 0, 0, 1};
    struct piece piece = {pong, sizeof(pong), NULL};

    conn->close = true;
    if (loop->packet.modifier1 == UWSGI_PING)
        output_send(loop, conn, &piece, 1);
    else
        logline_error("no handler for the uwsgi modifier %u", loop->packet.modifier1);
    return settle(loop, conn);
}

/** Parse a uwsgi packet and begin its exchange. */
static enum step
step_uwsgi(struct loop *loop, struct conn *conn, const char *p, size_t len, size_t *used)
{
    struct uwsgi_packet *packet = &loop->packet;
    int result = uwsgi_parse(p, len, loop->worker->buffer_size, packet);

    if (result == HTTP_MORE)
        return STEP_WAIT;
    if (result != HTTP_OK)
        return refuse(loop, conn, result);
    *used = packet->total;
    if (packet->modifier1 != UWSGI_WSGI && packet->modifier1 != UWSGI_MANAGE_PATH_INFO)
        return step_modifier(loop, conn);
    int64_t length = packet_length(packet);
    if (length < 0)
        return refuse(loop, conn, 400);
    if (length > 0)
        return begin_body(loop, conn, p, len, used, (uint64_t)length);
    conn->linger = len > *used;
    exchange_uwsgi(loop, conn, packet, NULL, 0);
    return settle(loop, conn);
}

/** One step with the bytes at hand. */
static enum step
take_step(struct loop *loop, struct conn *conn, const char *p, size_t len, size_t *used)
{
    *used = 0;
    if (conn->state == CONN_BODY)
        return conn->body.chunked ? step_chunked(loop, conn, p, len, used)
                                  : step_length(loop, conn, p, len, used);
    if (len == 0)
        return STEP_WAIT;
    return conn->listener->protocol == PROTO_UWSGI ? step_uwsgi(loop, conn, p, len, used)
                                                   : step_http(loop, conn, p, len, used);
}

/** Keep bytes that cannot be used yet. */
static bool
keep(struct conn *conn, const char *p, size_t len)
{
    free(conn->in);
    conn->in = NULL;
    conn->in_len = 0;
    if (len == 0)
        return true;
    conn->in = malloc(len);
    if (conn->in == NULL)
        return false;
    memcpy(conn->in, p, len);
    conn->in_len = len;
    return true;
}

/** Set the time limit for what is awaited next. */
static void
rearm(struct loop *loop, struct conn *conn, bool served)
{
    if (conn->state == CONN_WRITE)
        return; /* set by settle() */
    if (conn->state == CONN_READ && conn->in_len == 0 && served)
        conn_arm(loop, conn, TIMER_IDLE);
    else if (conn->state == CONN_BODY ||
             loop->now - conn->since < SLOW_HEAD * loop->worker->socket_timeout)
        conn_arm(loop, conn, TIMER_IO);
}

/** Make the most of the bytes at hand, then wait for what is missing. */
static void
process(struct loop *loop, struct conn *conn, const char *p, size_t len)
{
    bool served = conn->timer == TIMER_IDLE && conn->deadline != 0;
    enum step step = STEP_AGAIN;
    size_t used;

    if (served && len > 0)
        conn->since = loop->now;
    while (step == STEP_AGAIN) {
        step = take_step(loop, conn, p, len, &used);
        p += used;
        len -= used;
        served = served || step == STEP_AGAIN;
    }
    if (step == STEP_GONE)
        return;
    if (!keep(conn, p, len)) {
        conn_close(loop, conn);
        return;
    }
    rearm(loop, conn, served);
    want(loop, conn, conn->state == CONN_WRITE ? EPOLLOUT : EPOLLIN);
}

/**
 * conn_await() - wait for the first request of a new connection
 * @loop:	the loop
 * @conn:	the connection; not to be used afterwards
 */
void
conn_await(struct loop *loop, struct conn *conn)
{
    conn_arm(loop, conn, TIMER_IO);
    want(loop, conn, EPOLLIN);
}

/**
 * conn_receive() - receive, behind what was kept, and act on it
 * @loop:	the loop
 * @conn:	the connection; may be closed afterwards
 */
void
conn_receive(struct loop *loop, struct conn *conn)
{
    size_t have = conn->in_len;

    if (have > 0)
        memcpy(loop->scratch, conn->in, have);
    ssize_t n = recv(conn->fd, loop->scratch + have, loop->scratch_size - have, MSG_DONTWAIT);
    if (n > 0) {
        process(loop, conn, loop->scratch, have + (size_t)n);
        return;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (conn->deadline == 0)
            conn_arm(loop, conn, TIMER_IO);
        want(loop, conn, EPOLLIN);
        return;
    }
    if (have > 0 || conn->state == CONN_BODY)
        core_add(loop, CORE_READ_ERRORS, 1);
    conn_close(loop, conn);
}

/** Send what is left of an answer, then go on with requests that came meanwhile. */
static void
writable(struct loop *loop, struct conn *conn)
{
    output_flush(loop, conn);
    enum step step = settle(loop, conn);
    if (step == STEP_WAIT)
        want(loop, conn, EPOLLOUT);
    if (step != STEP_AGAIN)
        return;
    if (conn->in_len > 0)
        memcpy(loop->scratch, conn->in, conn->in_len);
    conn->timer = TIMER_IDLE; /* a request was served: what comes next may take its time */
    process(loop, conn, loop->scratch, conn->in_len);
}

/** Drop what a client still sends, until it closes. */
static void
drain(struct loop *loop, struct conn *conn)
{
    ssize_t n = recv(conn->fd, loop->scratch, loop->scratch_size, MSG_DONTWAIT);

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        conn_close(loop, conn);
    else
        want(loop, conn, EPOLLIN);
}

/**
 * conn_event() - act on what epoll reported
 * @loop:	the loop
 * @conn:	the connection; may be closed afterwards
 * @events:	what was reported
 */
void
conn_event(struct loop *loop, struct conn *conn, uint32_t events)
{
    (void)events; /* errors show in the call that follows */
    switch (conn->state) {
    case CONN_WRITE:
        writable(loop, conn);
        break;
    case CONN_LINGER:
        drain(loop, conn);
        break;
    default:
        conn_receive(loop, conn);
    }
}

/** A request did not come in time. */
static void
expire_request(struct loop *loop, struct conn *conn)
{
    if (refuse(loop, conn, 408) == STEP_WAIT)
        want(loop, conn, EPOLLOUT);
}

/**
 * conn_expire() - act on a time limit that passed
 * @loop:	the loop
 * @conn:	the connection, held; closed afterwards, or in another state with another limit
 */
void
conn_expire(struct loop *loop, struct conn *conn)
{
    if (conn->state == CONN_WRITE)
        core_add(loop, CORE_WRITE_ERRORS, 1);
    if (conn->state == CONN_BODY || (conn->state == CONN_READ && conn->in_len > 0))
        expire_request(loop, conn);
    else
        conn_close(loop, conn);
}
