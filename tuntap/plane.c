/* plane.c - ports come and go, turns, waiting. See plane.h. */
#include "plane.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define FOREIGN (1ULL << 32) /* of epoll's data: a descriptor of the caller's */
#define LOOKING 20000U       /* ns */
#define MOST_DOUBT 6U
#define SHORTEST_QUEUE (256U << 10)
#define LONGEST_QUEUE (4U << 20)
#define FRAME_QUEUE (256U << 10)

/**
 * plane_clock() - the time that buckets and connections go by
 *
 * Return: nanoseconds
 */
uint64_t
plane_clock(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

/**
 * plane_init() - make a plane without ports
 * @plane:	the plane
 * @counters:	PLANE_PORTS of them, lent
 * @secret:	random
 * @bridge:	join ports 0 and 1 and ask nothing
 *
 * Return: 0, or -1 with errno
 */
int
plane_init(struct plane *plane, struct counters *counters, uint64_t secret, bool bridge)
{
    plane->bridge = bridge;
    plane->unserved = plane->brisk = false;
    plane->doubt = plane->unlooked = 0;
    plane->counters = counters;
    plane->firewall = NULL;
    plane->notes = -1;
    plane->lost_since = 0;
    plane->allotted.count = plane->routes.count = 0;
    plane->gateway = NOBODY;
    plane->capture = (struct capture){.port = NOBODY};
    plane->waiting_count = plane->dirty_count = plane->event_count = 0;
    plane->ports = calloc(PLANE_PORTS, sizeof(struct port *));
    plane->waiting = calloc(PLANE_PORTS, sizeof(uint32_t));
    plane->waited = calloc(PLANE_PORTS, sizeof(uint32_t));
    plane->dirty = calloc(PLANE_PORTS, sizeof(uint32_t));
    plane->caps = calloc(PLANE_PORTS, sizeof(uint32_t));
    plane->epoll = epoll_create1(EPOLL_CLOEXEC);
    plane->now = plane_clock();
    if (addresses_init(&plane->addresses, secret) < 0 || plane->epoll < 0 ||
        plane->ports == NULL || plane->waiting == NULL || plane->waited == NULL ||
        plane->dirty == NULL || plane->caps == NULL)
        return -1;
    return 0;
}

/**
 * plane_free() - free what the plane holds; descriptors are the caller's
 * @plane:	the plane
 */
void
plane_free(struct plane *plane)
{
    for (uint32_t i = 0; plane->ports != NULL && i < PLANE_PORTS; i++)
        plane_remove(plane, i);
    free(plane->ports);
    free(plane->waiting);
    free(plane->waited);
    free(plane->dirty);
    addresses_free(&plane->addresses);
    if (plane->firewall != NULL)
        firewall_free(plane->firewall);
    free(plane->caps);
    if (plane->epoll >= 0)
        close(plane->epoll);
}

/**
 * plane_watch() - return from plane_turn() when a descriptor of the caller's is readable
 * @plane:	the plane
 * @fd:		the descriptor
 *
 * Return: 0, or -1 with errno
 */
int
plane_watch(struct plane *plane, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = FOREIGN | (uint32_t)fd};

    return epoll_ctl(plane->epoll, EPOLL_CTL_ADD, fd, &event);
}

/**
 * plane_unwatch() - do not, any more
 * @plane:	the plane
 * @fd:		the descriptor
 *
 * Return: 0, or -1 with errno
 */
int
plane_unwatch(struct plane *plane, int fd)
{
    return epoll_ctl(plane->epoll, EPOLL_CTL_DEL, fd, NULL);
}

static void
free_port(struct port *port)
{
    queue_free(&port->queue);
    free(port->partial);
    free(port);
}

/**
 * plane_add() - add a port
 * @plane:	the plane
 * @number:	a free one
 * @fd:		its descriptor, not blocking, lent until plane_remove()
 * @kind:	what it is
 *
 * Return: the port, or NULL with errno
 */
struct port *
plane_add(struct plane *plane, uint32_t number, int fd, enum port_kind kind)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = number};
    struct port *port = NULL;

    if (number >= PLANE_PORTS || plane->ports[number] != NULL) {
        errno = EEXIST;
        return NULL;
    }
    port = calloc(1, sizeof(*port));
    if (port == NULL)
        return NULL;
    *port = (struct port){
        .number = number, .fd = fd, .kind = kind, .outside = number == 0 || kind == PORT_GATEWAY};
    if (kind == PORT_STREAM) {
        port->partial = malloc(FRAME_HEADER + LARGEST_PACKET);
        if (port->partial == NULL || queue_init(&port->queue, FRAME_QUEUE) < 0)
            goto fail;
    }
    if (epoll_ctl(plane->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        goto fail;
    plane->ports[number] = port;
    if (kind == PORT_GATEWAY)
        plane->gateway = number;
    return port;
fail:
    free_port(port);
    return NULL;
}

/**
 * plane_cap() - how many connections a port may have at once
 * @plane:	the plane
 * @number:	the port's
 * @connections:	so many; 0 is what the rules say of all
 */
void
plane_cap(struct plane *plane, uint32_t number, uint32_t connections)
{
    if (number < PLANE_PORTS)
        plane->caps[number] = connections;
}

/**
 * plane_limit() - limit the bandwidth of a tun device's port, before its first packet
 * @port:	the port
 * @limits:	bytes per second and burst, from it and to it; 0 is none
 *
 * Return: 0, or -1 without memory
 */
int
plane_limit(struct port *port, const uint64_t limits[4])
{
    size_t room = (size_t)(limits[2] / 20); /* 50 ms */

    bucket_init(&port->out, limits[0], limits[1], plane_clock());
    bucket_init(&port->into, limits[2], limits[3], plane_clock());
    if (limits[2] == 0)
        return 0;
    if (room < SHORTEST_QUEUE)
        room = SHORTEST_QUEUE;
    return queue_init(&port->queue, room > LONGEST_QUEUE ? LONGEST_QUEUE : room);
}

static void
take_off(uint32_t *list, size_t *count, uint32_t number)
{
    for (size_t i = 0; i < *count; i++) {
        if (list[i] == number) {
            list[i] = list[--*count];
            return;
        }
    }
}

/**
 * plane_remove() - forget a port, its addresses and its connections
 * @plane:	the plane
 * @number:	the port's; nothing happens if there is none
 *
 * A descriptor that is duplicated elsewhere would stay in epoll, so it is taken out by hand.
 */
void
plane_remove(struct plane *plane, uint32_t number)
{
    struct port *port = number < PLANE_PORTS ? plane->ports[number] : NULL;

    if (port == NULL)
        return;
    if (!port->gone)
        epoll_ctl(plane->epoll, EPOLL_CTL_DEL, port->fd, NULL);
    take_off(plane->waiting, &plane->waiting_count, number);
    take_off(plane->dirty, &plane->dirty_count, number);
    if (number == plane->capture.port)
        capture_end(&plane->capture);
    addresses_forget(&plane->addresses, number);
    if (plane->firewall != NULL)
        firewall_forget(plane->firewall, number);
    plane->caps[number] = 0;
    plane->ports[number] = NULL;
    if (plane->gateway == number)
        plane->gateway = NOBODY;
    free_port(port);
}

/**
 * plane_own() - give an address to a port
 * @plane:	the plane
 * @number:	the port's
 * @address:	the address
 *
 * Return: whether it is the port's now: not if it is another's, in a network that is another's, or
 * outside the port's own networks. The host's addresses are the host's, whatever is said of them
 */
bool
plane_own(struct plane *plane, uint32_t number, const uint8_t address[16])
{
    return (number == 0 || networks_let(&plane->allotted, address, number)) &&
           addresses_add(&plane->addresses, address, number);
}

/**
 * plane_drop() - count a packet that ends here
 * @plane:	the plane
 * @number:	the port that it is counted at
 * @cause:	why
 */
void
plane_drop(struct plane *plane, uint32_t number, enum drop cause)
{
    plane->counters[number].drops[cause]++;
}

/** Note something for the caller. Return: whether there was room; else the next turn sees it. */
static bool
tell(struct plane *plane, bool gone, uint32_t number)
{
    if (plane->event_count == MOST_EVENTS)
        return false;
    plane->events[plane->event_count++] = (struct plane_event){gone, number};
    return true;
}

/**
 * plane_gone() - tell the caller that a port is dead
 * @plane:	the plane
 * @port:	the port; it is silent from now on
 */
void
plane_gone(struct plane *plane, struct port *port)
{
    if (port->gone || !tell(plane, true, port->number))
        return;
    port->gone = true;
    epoll_ctl(plane->epoll, EPOLL_CTL_DEL, port->fd, NULL);
}

/**
 * plane_arm() - have epoll wait for what the port waits for
 * @plane:	the plane
 * @port:	the port
 *
 * Return: 0, or -1 with errno
 */
int
plane_arm(struct plane *plane, struct port *port)
{
    struct epoll_event event = {.data.u64 = port->number};

    if (!port->paused)
        event.events |= EPOLLIN;
    if (port->blocked)
        event.events |= EPOLLOUT;
    return port->gone ? 0 : epoll_ctl(plane->epoll, EPOLL_CTL_MOD, port->fd, &event);
}

/**
 * plane_wait() - serve a port when its bandwidth allows, or in the next turn
 * @plane:	the plane
 * @port:	the port
 */
void
plane_wait(struct plane *plane, struct port *port)
{
    if (port->waiting)
        return;
    port->waiting = true;
    plane->waiting[plane->waiting_count++] = port->number;
}

/** Have an empty list of ports that wait. Return: how many were in that which is `waited` now. */
static size_t
begin_waiting(struct plane *plane)
{
    uint32_t *waited = plane->waiting;
    size_t count = plane->waiting_count;

    plane->waiting = plane->waited;
    plane->waited = waited;
    plane->waiting_count = 0;
    plane->unserved = false;
    return count;
}

/** Serve the ports that waited already, as far as they may; who must go on is listed again. */
static void
serve_waited(struct plane *plane, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct port *port = plane->ports[plane->waited[i]];

        port->waiting = false;
        if (port->kind == PORT_TUN)
            tunnel_serve(plane, port);
        else
            frames_serve(plane, port);
    }
}

/** How long to sleep, milliseconds; -1 for ever. */
static int
sleep_for(const struct plane *plane)
{
    return notes_patience(plane, plane->waiting_count > 0 ? 1 : -1);
}

/** Send the frames that a turn made. */
static void
flush_dirty(struct plane *plane)
{
    for (size_t i = 0; i < plane->dirty_count; i++) {
        struct port *port = plane->ports[plane->dirty[i]];

        port->dirty = false;
        frames_flush(plane, port);
    }
    plane->dirty_count = 0;
}

static void
serve_event(struct plane *plane, const struct epoll_event *event)
{
    if ((event->data.u64 & FOREIGN) != 0) {
        tell(plane, false, (uint32_t)event->data.u64);
        return;
    }
    struct port *port = plane->ports[event->data.u64];
    if (port == NULL || port->gone)
        return;
    if (port->kind == PORT_TUN) {
        if ((event->events & EPOLLERR) != 0)
            plane_gone(plane, port); /* its network namespace ended: tun_chr_poll() */
        else if (!port->paused)
            tunnel_read(plane, port);
        return;
    }
    if (port->kind == PORT_GATEWAY) {
        gateway_read(plane, port);
        return;
    }
    if ((event->events & EPOLLOUT) != 0) {
        port->blocked = false;
        frames_flush(plane, port);
        plane_arm(plane, port);
    }
    if ((event->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !port->gone && !port->waiting)
        frames_read(plane, port);
}

/** Look again for a while. Return: how many events there are, -1 with errno. */
static int
look(struct plane *plane, struct epoll_event events[PLANE_EVENTS])
{
    uint64_t end = plane_clock() + LOOKING;
    int count = epoll_wait(plane->epoll, events, PLANE_EVENTS, 0);

    while (count == 0 && plane_clock() < end)
        count = epoll_wait(plane->epoll, events, PLANE_EVENTS, 0);
    if (count != 0) {
        plane->doubt = 0;
        return count;
    }
    if (plane->doubt < MOST_DOUBT)
        plane->doubt++;
    plane->unlooked = (1U << plane->doubt) - 1;
    return 0;
}

/** Sleep until there are events, and note whether that was for a moment only. */
static int
nap(struct plane *plane, struct epoll_event events[PLANE_EVENTS])
{
    uint64_t since = plane_clock();
    int count = epoll_wait(plane->epoll, events, PLANE_EVENTS, sleep_for(plane));

    plane->brisk = plane_clock() - since < LOOKING;
    if (plane->brisk && plane->unlooked > 0)
        plane->unlooked--;
    return count;
}

/**
 * Wait for events. Where they come in quick succession it looks again for a while before it
 * sleeps: to be woken costs more than that, and costs the sender too. After a lone packet it does
 * not, as who waits for the answer may need this very processor; and where looking was for nothing
 * it is tried less and less often.
 */
static int
await(struct plane *plane, struct epoll_event events[PLANE_EVENTS])
{
    if (plane->unserved)
        return epoll_wait(plane->epoll, events, PLANE_EVENTS, 0);
    int count = plane->brisk && plane->unlooked == 0 ? look(plane, events) : 0;
    return count != 0 ? count : nap(plane, events);
}

/**
 * plane_turn() - wait for something and do it
 * @plane:	the plane
 *
 * Return: 0; plane->events says what the caller must look at. -1 with errno, EINTR among others
 */
int
plane_turn(struct plane *plane)
{
    struct epoll_event events[PLANE_EVENTS];
    int count = await(plane, events);

    plane->event_count = 0;
    if (count < 0)
        return -1;
    plane->now = plane_clock();
    size_t waited = begin_waiting(plane);
    for (int i = 0; i < count; i++)
        serve_event(plane, &events[i]);
    serve_waited(plane, waited);
    if (plane->dirty_count > 0)
        flush_dirty(plane);
    notes_send(plane);
    return 0;
}
