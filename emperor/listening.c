/* listening.c - plain listening sockets, made as server/sockets.py makes them.
 *
 * What is not plain (a name that must be looked up, a file that is no socket, a queue that the
 * kernel would cut, an owner) fails here with nothing left behind, and is then done, or refused
 * with its reason, by server/sockets.py.
 */
#include "listening.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { TEXT = 256 };

static const char SOMAXCONN_FILE[] = "/proc/sys/net/core/somaxconn";

/* The kernel cuts a longer queue in silence (listen(2)). Return 0, or -1 with errno. */
static int
check_backlog(int backlog)
{
    char digits[32];
    int fd = open(SOMAXCONN_FILE, O_RDONLY | O_CLOEXEC);
    ssize_t count = fd < 0 ? -1 : read(fd, digits, sizeof digits - 1);
    if (fd >= 0) {
        close(fd);
    }
    if (count <= 0) {
        return 0; /* no /proc in this jail: listen(2) decides */
    }
    digits[count] = '\0';
    if (backlog > strtol(digits, NULL, 10)) {
        errno = EINVAL;
        return -1;
    }
    return 0;
}

static int
inet_address(const struct listening *wanted, const char *host, struct sockaddr_storage *address,
             socklen_t *size)
{
    struct sockaddr_in *four = (struct sockaddr_in *)address;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
    void *place = wanted->family == AF_INET ? (void *)&four->sin_addr : (void *)&six->sin6_addr;
    if (inet_pton(wanted->family, host, place) != 1) {
        errno = EINVAL;
        return -1;
    }
    in_port_t port = htons((uint16_t)wanted->port);
    if (wanted->family == AF_INET) {
        four->sin_port = port;
        *size = sizeof *four;
    } else {
        six->sin6_port = port;
        *size = sizeof *six;
    }
    return 0;
}

/* Fill ADDRESS from the LENGTH bytes at BYTES: a path with its NUL, an abstract name that begins
 * with one, or a host with its NUL. Return 0, or -1 with errno. */
static int
fill_address(const struct listening *wanted, const char *bytes, size_t length,
             struct sockaddr_storage *address, socklen_t *size)
{
    memset(address, 0, sizeof *address);
    address->ss_family = (sa_family_t)wanted->family;
    if (wanted->family != AF_UNIX) {
        return inet_address(wanted, bytes, address, size);
    }
    struct sockaddr_un *local = (struct sockaddr_un *)address;
    if (length > sizeof local->sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(local->sun_path, bytes, length);
    *size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    return 0;
}

/* A socket that nobody holds open stays as a file; anything else of that name is no business of
 * ours. Return 0, or -1 with errno. */
static int
remove_stale(const char *path)
{
    struct stat found;
    if (lstat(path, &found) < 0) {
        return errno == ENOENT ? 0 : -1;
    }
    if (!S_ISSOCK(found.st_mode)) {
        errno = EEXIST;
        return -1;
    }
    return unlink(path);
}

static int
set_options(int fd, const struct listening *wanted)
{
    int on = 1;
    if (wanted->family == AF_UNIX) {
        return 0;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) {
        return -1;
    }
    if (wanted->reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0) {
        return -1;
    }
    return wanted->family == AF_INET6 ? setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on)
                                      : 0;
}

/* bind(2) of a file. It is made with the mode of the socket's own inode, less the umask: a
 * chmod(2) of the path could meet a link that somebody has put there by then. */
static int
bind_file(int fd, const struct listening *wanted, const char *path, const struct sockaddr *address,
          socklen_t size, struct listener *listener)
{
    struct stat made;
    if (remove_stale(path) < 0) {
        return -1;
    }
    int32_t mask = wanted->mode >= 0 ? 0 : wanted->umask;
    if (wanted->mode >= 0 && fchmod(fd, (mode_t)wanted->mode) < 0) {
        return -1;
    }
    mode_t before = mask >= 0 ? umask((mode_t)mask) : 0;
    int result = bind(fd, address, size);
    int error = errno;
    if (mask >= 0) {
        (void)umask(before);
    }
    if (result < 0) {
        errno = error;
        return -1;
    }
    if (lstat(path, &made) < 0) {
        return -1;
    }
    listener->device = made.st_dev;
    listener->inode = made.st_ino;
    return 0;
}

/* Say what is bound; flat.py lets no name through that cannot be printed. */
static void
announce(size_t index, const struct listening *wanted, const char *bytes, int fd)
{
    char line[TEXT + 128];
    struct sockaddr_storage local = {0};
    socklen_t size = sizeof local;
    if (wanted->family == AF_UNIX) {
        const char *at = bytes[0] == '\0' ? "@" : "";
        const char *name = bytes[0] == '\0' ? bytes + 1 : bytes;
        (void)snprintf(line, sizeof line, "uwsgi socket %zu bound to UNIX address %s%s fd %d\n",
                       index, at, name, fd);
    } else {
        const struct sockaddr_in *four = (const struct sockaddr_in *)&local;
        (void)getsockname(fd, (struct sockaddr *)&local, &size); /* the port the kernel chose */
        (void)snprintf(line, sizeof line,
                       wanted->family == AF_INET
                           ? "uwsgi socket %zu bound to TCP address %s:%u fd %d\n"
                           : "uwsgi socket %zu bound to TCP address [%s]:%u fd %d\n",
                       index, bytes, (unsigned)ntohs(four->sin_port), fd);
    }
    ssize_t written = write(2, line, strlen(line));
    (void)written; /* a full or closed log stops nobody */
}

/* Make, bind and listen. Return the descriptor, or -1 with errno and nothing left. */
static int
open_listener(const struct listening *wanted, const char *bytes, size_t length,
              struct listener *listener)
{
    struct sockaddr_storage address;
    socklen_t size;
    if (check_backlog(wanted->backlog) < 0 ||
        fill_address(wanted, bytes, length, &address, &size) < 0) {
        return -1;
    }
    int fd = socket(wanted->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -1;
    }
    const struct sockaddr *where = (const struct sockaddr *)&address;
    bool is_file = wanted->family == AF_UNIX && bytes[0] != '\0';
    if (set_options(fd, wanted) < 0 ||
        (is_file ? bind_file(fd, wanted, bytes, where, size, listener) : bind(fd, where, size)) <
            0 ||
        listen(fd, wanted->backlog) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/**
 * listen_on() - open one listener.
 * @newborn: gets it.
 * @act: struct listening and the address.
 *
 * Return: 0, or -1 with errno; then none of the newborn's listeners is left.
 */
int
listen_on(struct newborn *newborn, const struct act *act)
{
    struct listening wanted;
    const char *bytes = (const char *)act->data + sizeof wanted;
    struct listener *listener = &newborn->listeners[newborn->listener_count];
    if (act->size <= sizeof wanted || act->data[act->size - 1] != '\0' ||
        newborn->listener_count == LISTENERS) {
        close_listeners(newborn);
        errno = EINVAL;
        return -1;
    }
    memcpy(&wanted, act->data, sizeof wanted);
    size_t length = act->size - sizeof wanted;
    *listener = (struct listener){.fd = -1};
    listener->fd = open_listener(&wanted, bytes, length, listener);
    if (listener->fd < 0) {
        int error = errno;
        close_listeners(newborn);
        errno = error;
        return -1;
    }
    announce(newborn->listener_count++, &wanted, bytes, listener->fd);
    return 0;
}

/**
 * close_listeners() - give all of them up; the files of unix sockets stay, as stale ones.
 * @newborn: whose.
 */
void
close_listeners(struct newborn *newborn)
{
    while (newborn->listener_count > 0) {
        close(newborn->listeners[--newborn->listener_count].fd);
    }
}
