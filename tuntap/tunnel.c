/* tunnel.c - ports that are tun devices: reading a share, writing, waiting for bandwidth. */
#include "plane.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#define HEADER sizeof(struct virtio_net_hdr)

/** Before each packet that waits for bandwidth. */
struct waiting {
    struct virtio_net_hdr header;
    uint32_t size;
};

/**
 * tunnel_read() - pass on a share of what a device has
 * @plane:	the plane
 * @port:	the device's port
 */
void
tunnel_read(struct plane *plane, struct port *port)
{
    long share = TURN_SHARE;

    while (share > 0) {
        if (!bucket_is_open(&port->out, plane->now)) {
            plane->counters[port->number].waits++;
            port->paused = true;
            plane_arm(plane, port);
            plane_wait(plane, port);
            return;
        }
        ssize_t size = read(port->fd, plane->buffer, sizeof(plane->buffer));
        if (size < 0) {
            if (errno == EBADFD)
                plane_gone(plane, port); /* the device was deleted */
            return;
        }
        share -= size + PACKET_COST;
        if ((size_t)size < HEADER) {
            plane_drop(plane, port->number, DROP_MALFORMED);
            continue;
        }
        struct virtio_net_hdr header;
        memcpy(&header, plane->buffer, HEADER);
        bucket_take(&port->out, (size_t)size - HEADER);
        forward(plane, port, &header, plane->buffer + HEADER, (size_t)size - HEADER);
        if (!plane->brisk)
            return; /* a lone packet, mostly: look for its answer first, epoll tells of others */
    }
}

/** Write a packet behind its header: one that stands where it was read needs no second piece. */
static ssize_t
write_packet(struct plane *plane, int fd, const struct virtio_net_hdr *header,
             const uint8_t *bytes, size_t size)
{
    struct virtio_net_hdr sent = *header;
    struct iovec parts[2] = {
        {&sent, HEADER}, {(void *)(uintptr_t)bytes, size}, /* writev(2) changes nothing of it */
    };

    if (bytes != plane->buffer + HEADER)
        return writev(fd, parts, 2);
    memcpy(plane->buffer, header, HEADER);
    return write(fd, plane->buffer, HEADER + size);
}

/** Give a packet to the device. */
static void
write_now(struct plane *plane, struct port *port, const struct virtio_net_hdr *header,
          const uint8_t *bytes, size_t size)
{
    if (write_packet(plane, port->fd, header, bytes, size) >= 0)
        plane_received(plane, port, size);
    else
        plane_drop(plane, port->number,
                   errno == EAGAIN || errno == ENOBUFS ? DROP_FULL : DROP_REFUSED);
}

/**
 * tunnel_write() - give a packet to a device, now or when its bandwidth allows
 * @plane:	the plane
 * @port:	the device's port
 * @header:	the packet's virtio header
 * @bytes:	the packet
 * @size:	its bytes
 */
void
tunnel_write(struct plane *plane, struct port *port, const struct virtio_net_hdr *header,
             const uint8_t *bytes, size_t size)
{
    if (port->into.rate == 0) {
        write_now(plane, port, header, bytes, size);
        return;
    }
    if (queue_length(&port->queue) == 0 && bucket_is_open(&port->into, plane->now)) {
        bucket_take(&port->into, size);
        write_now(plane, port, header, bytes, size);
        return;
    }
    struct waiting waiting = {*header, (uint32_t)size};
    uint8_t *room = queue_room(&port->queue, sizeof(waiting) + size);
    if (room == NULL) {
        plane_drop(plane, port->number, DROP_BANDWIDTH);
        return;
    }
    memcpy(room, &waiting, sizeof(waiting));
    memcpy(room + sizeof(waiting), bytes, size);
    plane_wait(plane, port);
}

/** Give the device what waited, as far as its bandwidth allows. */
static void
drain(struct plane *plane, struct port *port)
{
    while (queue_length(&port->queue) > 0 && bucket_is_open(&port->into, plane->now)) {
        const uint8_t *at = port->queue.bytes + port->queue.head;
        struct waiting waiting;

        memcpy(&waiting, at, sizeof(waiting));
        bucket_take(&port->into, waiting.size);
        write_now(plane, port, &waiting.header, at + sizeof(waiting), waiting.size);
        queue_drop(&port->queue, sizeof(waiting) + waiting.size);
    }
    if (queue_length(&port->queue) > 0)
        plane_wait(plane, port);
}

/**
 * tunnel_serve() - look again at a device that waited for bandwidth
 * @plane:	the plane
 * @port:	the device's port
 */
void
tunnel_serve(struct plane *plane, struct port *port)
{
    if (port->paused && bucket_is_open(&port->out, plane->now)) {
        port->paused = false;
        plane_arm(plane, port);
    }
    if (port->paused)
        plane_wait(plane, port);
    drain(plane, port);
}
