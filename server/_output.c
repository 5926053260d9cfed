/* _output.c - sending, and what is left when the socket is full.
 *
 * A connection's queue holds segments in order. An object's bytes are not copied: the segment
 * keeps a reference. Files go out by sendfile(2) with an offset of their own, so that the
 * description's is not moved. All functions return 0, or -1 when the peer is gone (and set
 * conn->broken).
 */
#include "_worker.h"

#include <errno.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_VECTORS 16
#define MAX_SENDFILE ((size_t)1 << 20)

/** Mark the peer as gone. */
static int
lost(struct loop *loop, struct conn *conn)
{
    if (!conn->broken)
        core_add(loop, CORE_WRITE_ERRORS, 1);
    conn->broken = true;
    return -1;
}

/** Whether errno says that the socket is full. */
static bool
would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static void
append(struct conn *conn, struct segment *segment)
{
    segment->next = NULL;
    if (conn->out_last != NULL)
        conn->out_last->next = segment;
    else
        conn->out = segment;
    conn->out_last = segment;
    conn->out_len += segment->len;
}

/** Queue what is left of a piece. */
static int
keep(struct loop *loop, struct conn *conn, const char *ptr, size_t len, PyObject *owner)
{
    struct segment *s = malloc(sizeof(*s) + (owner == NULL ? len : 0));

    if (s == NULL)
        return lost(loop, conn);
    *s = (struct segment){.ptr = ptr, .len = len, .fd = -1};
    if (owner != NULL) {
        gil_take(loop);
        s->owner = Py_NewRef(owner);
    } else {
        memcpy(s->copy, ptr, len);
        s->ptr = s->copy;
    }
    append(conn, s);
    return 0;
}

/** Take the first segment off the queue and let go of what it holds. */
static void
drop_first(struct loop *loop, struct conn *conn)
{
    struct segment *s = conn->out;

    conn->out = s->next;
    if (conn->out == NULL)
        conn->out_last = NULL;
    conn->out_len -= s->len;
    if (s->owner != NULL) {
        gil_take(loop);
        Py_DECREF(s->owner);
    }
    if (s->fd >= 0)
        close(s->fd);
    free(s);
}

/**
 * output_clear() - drop everything that waits
 * @loop:	the loop
 * @conn:	the connection
 */
void
output_clear(struct loop *loop, struct conn *conn)
{
    while (conn->out != NULL)
        drop_first(loop, conn);
}

/** Send some of the bytes at the head of the queue. 1: go on, 0: the socket is full, -1: gone. */
static int
flush_bytes(struct loop *loop, struct conn *conn)
{
    struct iovec iov[MAX_VECTORS];
    struct msghdr msg = {.msg_iov = iov};

    for (struct segment *s = conn->out; s != NULL && s->fd < 0; s = s->next) {
        if (msg.msg_iovlen == MAX_VECTORS)
            break;
        iov[msg.msg_iovlen++] = (struct iovec){(void *)(uintptr_t)s->ptr, s->len};
    }
    if (loop->free_gil)
        gil_drop(loop);
    ssize_t n = sendmsg(conn->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return would_block() ? 0 : lost(loop, conn);
    size_t sent = (size_t)n;
    while (conn->out != NULL && conn->out->fd < 0 && sent >= conn->out->len) {
        sent -= conn->out->len;
        drop_first(loop, conn);
    }
    if (sent > 0 && conn->out != NULL) {
        conn->out->ptr += sent;
        conn->out->len -= sent;
        conn->out_len -= sent;
    }
    return 1;
}

/** Send some of the file at the head of the queue; as flush_bytes(). */
static int
flush_file(struct loop *loop, struct conn *conn)
{
    struct segment *s = conn->out;

    if (loop->free_gil)
        gil_drop(loop);
    ssize_t n =
        sendfile(conn->fd, s->fd, &s->offset, s->len < MAX_SENDFILE ? s->len : MAX_SENDFILE);
    if (n < 0)
        return would_block() ? 0 : lost(loop, conn);
    if (n == 0) /* the file became shorter: the length we promised cannot be kept */
        return lost(loop, conn);
    s->len -= (size_t)n;
    conn->out_len -= (size_t)n;
    if (s->len == 0)
        drop_first(loop, conn);
    return 1;
}

/**
 * output_flush() - send as much as the socket takes
 * @loop:	the loop
 * @conn:	the connection
 *
 * Return: 0 (look at conn->out for what is left), or -1 when the peer is gone.
 */
int
output_flush(struct loop *loop, struct conn *conn)
{
    int went = 1;

    while (went > 0 && conn->out != NULL)
        went = conn->out->fd >= 0 ? flush_file(loop, conn) : flush_bytes(loop, conn);
    return went < 0 ? -1 : 0;
}

/**
 * output_send() - send pieces in one call, and queue what does not fit
 * @loop:	the loop
 * @conn:	the connection
 * @pieces:	what to send, in order
 * @count:	how many, at most MAX_VECTORS
 *
 * Return: 0, or -1 when the peer is gone.
 */
int
output_send(struct loop *loop, struct conn *conn, const struct piece *pieces, size_t count)
{
    struct iovec iov[MAX_VECTORS];
    size_t sent = 0;

    if (conn->broken)
        return -1;
    if (conn->out == NULL) {
        for (size_t i = 0; i < count; i++)
            iov[i] = (struct iovec){(void *)(uintptr_t)pieces[i].ptr, pieces[i].len};
        if (loop->free_gil)
            gil_drop(loop);
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = count};
        ssize_t n = count == 1
                        ? send(conn->fd, pieces[0].ptr, pieces[0].len, MSG_NOSIGNAL | MSG_DONTWAIT)
                        : sendmsg(conn->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && !would_block())
            return lost(loop, conn);
        sent = n < 0 ? 0 : (size_t)n;
    }
    for (size_t i = 0; i < count; i++) {
        size_t skip = sent < pieces[i].len ? sent : pieces[i].len;
        sent -= skip;
        if (skip < pieces[i].len &&
            keep(loop, conn, pieces[i].ptr + skip, pieces[i].len - skip, pieces[i].owner) < 0)
            return -1;
    }
    return 0;
}

/**
 * output_file() - queue part of a file and send as much as the socket takes
 * @loop:	the loop
 * @conn:	the connection
 * @fd:		the file; taken over, closed when sent
 * @offset:	where to begin
 * @len:	how many bytes
 *
 * Return: 0, or -1 when the peer is gone.
 */
int
output_file(struct loop *loop, struct conn *conn, int fd, off_t offset, size_t len)
{
    struct segment *s = malloc(sizeof(*s));

    if (s == NULL || conn->broken || len == 0) {
        free(s);
        close(fd);
        return len == 0 ? 0 : lost(loop, conn);
    }
    *s = (struct segment){.len = len, .fd = fd, .offset = offset};
    append(conn, s);
    return output_flush(loop, conn);
}

/**
 * output_wait() - sleep until no more than a bound waits to be sent
 * @loop:	the loop
 * @conn:	the connection
 * @bound:	bytes
 *
 * For answers whose next part only the application can make: it must not run ahead of a slow
 * reader without limit. Should: be called within a request. The reader has socket-timeout for
 * every step.
 *
 * Return: 0, or -1 when the peer is gone or too slow.
 */
int
output_wait(struct loop *loop, struct conn *conn, size_t bound)
{
    struct pollfd pollfd = {.fd = conn->fd, .events = POLLOUT};

    while (!conn->broken && conn->out_len > bound) {
        gil_drop(loop);
        int n = poll(&pollfd, 1, (int)loop->worker->socket_timeout);
        if (n == 0)
            return lost(loop, conn);
        output_flush(loop, conn);
    }
    return conn->broken ? -1 : 0;
}
