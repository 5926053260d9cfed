/* _accept.c - taking connections from the listeners. */
#include "_worker.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_NS 1000000

/**
 * Give a connection a moment to send its request, where other workers share the listeners. Without
 * it this one would go on to accept the next one, and whose request comes second waits in our
 * hands while the application answers the first, though another worker is idle. A client that
 * stays silent costs us this moment, once.
 */
static void
await_request(struct loop *loop, int fd)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    struct timespec moment = {.tv_nsec = PATIENCE_NS};

    if (loop->worker->processes > 1)
        (void)ppoll(&pollfd, 1, &moment, NULL); /* whatever it says, what follows is the same */
}

/** Accept one connection and, as its request is usually here already, read at once; or `park` it
 *  for the next free thread. */
static bool
accept_one(struct loop *loop, struct listener *listener, bool park)
{
    union address peer = {.any.sa_family = AF_UNSPEC};
    socklen_t size = sizeof(peer);
    int fd = accept4(listener->fd, &peer.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0) {
        int error = errno;
        if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
            logline_error("cannot accept a connection: %s", strerror(error));
            loop_deafen(loop);
        }
        return error == ECONNABORTED || error == EINTR;
    }
    struct conn *conn = conn_new(loop, listener, fd);
    if (conn == NULL) {
        close(fd);
        return false;
    }
    conn->peer = peer;
    if (park) {
        conn_await(loop, conn);
        return true;
    }
    await_request(loop, fd);
    conn_receive(loop, conn);
    return true;
}

/**
 * accept_some() - accept connections
 * @loop:	the loop
 * @listener:	from where
 * @budget:	at most this many; negative: all there are
 */
void
accept_some(struct loop *loop, struct listener *listener, int budget)
{
    bool park = budget < 0 && loop->pool->shared; /* one thread takes all, all threads serve */

    while (budget-- != 0 && accept_one(loop, listener, park))
        ;
}
