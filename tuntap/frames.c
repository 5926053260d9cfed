/* frames.c - ports that are streams of frames, as the original's (uwsgi-facts 5.2).
 *
 * A frame is {0, size (16 bits, little endian), kind} and an IP packet; kind 0 is a packet. Kind 1
 * are rules that a peer would have the router obey: they are counted and ignored, as rules come
 * from the operator alone. Anything else is no peer of ours, and its stream is given up.
 */
#include "plane.h"

#include <errno.h>
#include <sys/socket.h>

enum { KIND_PACKET = 0, KIND_RULES = 1 };

/** Act on one frame. Return: whether the stream makes sense. */
static bool
take_frame(struct plane *plane, struct port *port, const uint8_t *header, size_t size)
{
    struct virtio_net_hdr none = {0};

    if (header[3] == KIND_RULES)
        plane_drop(plane, port->number, DROP_CONTROL);
    else if (header[3] == KIND_PACKET)
        forward(plane, port, &none, header + FRAME_HEADER, size);
    return header[3] == KIND_RULES || header[3] == KIND_PACKET;
}

/**
 * Act on the frames that are whole, for a share; keep the rest, which the next turn serves.
 * Return: whether the stream makes sense.
 */
static bool
take_frames(struct plane *plane, struct port *port)
{
    long share = TURN_SHARE;
    size_t at = 0;

    while (port->have - at >= FRAME_HEADER && !port->gone) {
        const uint8_t *header = port->partial + at;
        size_t size = (size_t)(header[1] | header[2] << 8);

        if (header[0] != 0)
            return false;
        if (port->have - at - FRAME_HEADER < size)
            break;
        if (share <= 0) {
            plane->unserved = true;
            plane_wait(plane, port);
            break;
        }
        share -= (long)size + PACKET_COST;
        if (!take_frame(plane, port, header, size))
            return false;
        at += FRAME_HEADER + size;
    }
    port->have -= at;
    memmove(port->partial, port->partial + at, port->have);
    return true;
}

/**
 * frames_serve() - pass on a share of what was read of a peer
 * @plane:	the plane
 * @port:	the peer's port
 */
void
frames_serve(struct plane *plane, struct port *port)
{
    if (!take_frames(plane, port))
        plane_gone(plane, port);
}

/**
 * frames_read() - read what a peer sent, and pass on a share of it
 * @plane:	the plane
 * @port:	the peer's port
 */
void
frames_read(struct plane *plane, struct port *port)
{
    size_t room = FRAME_HEADER + LARGEST_PACKET - port->have;
    ssize_t size = recv(port->fd, port->partial + port->have, room, MSG_DONTWAIT);

    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size <= 0) {
        plane_gone(plane, port);
        return;
    }
    port->have += (size_t)size;
    frames_serve(plane, port);
}

/**
 * frames_write() - send a peer a packet, at the end of the turn
 * @plane:	the plane
 * @port:	the peer's port
 * @bytes:	the packet
 * @size:	its bytes
 *
 * Return: whether there was room for it
 */
bool
frames_write(struct plane *plane, struct port *port, const uint8_t *bytes, size_t size)
{
    if (size > LARGEST_FRAME) {
        plane_drop(plane, port->number, DROP_TOO_BIG);
        return false;
    }
    uint8_t *room = queue_room(&port->queue, FRAME_HEADER + size);
    if (room == NULL) {
        frames_flush(plane, port);
        room = queue_room(&port->queue, FRAME_HEADER + size);
    }
    if (room == NULL) {
        plane_drop(plane, port->number, DROP_FULL);
        return false;
    }
    room[0] = 0;
    room[1] = (uint8_t)size;
    room[2] = (uint8_t)(size >> 8);
    room[3] = KIND_PACKET;
    memcpy(room + FRAME_HEADER, bytes, size);
    plane_received(plane, port, size);
    if (!port->dirty) {
        port->dirty = true;
        plane->dirty[plane->dirty_count++] = port->number;
    }
    return true;
}

/**
 * frames_flush() - send what waits, as far as the peer takes it
 * @plane:	the plane
 * @port:	the peer's port
 */
void
frames_flush(struct plane *plane, struct port *port)
{
    while (!port->blocked && !port->gone && queue_length(&port->queue) > 0) {
        ssize_t size = send(port->fd, port->queue.bytes + port->queue.head,
                            queue_length(&port->queue), MSG_DONTWAIT | MSG_NOSIGNAL);

        if (size > 0) {
            queue_drop(&port->queue, (size_t)size);
        } else if (errno == EAGAIN) {
            port->blocked = true;
            plane_arm(plane, port);
        } else if (errno != EINTR) {
            plane_gone(plane, port);
            return;
        }
    }
}
