/* gateway.c - the port that is a socket of UDP: a datagram is a packet, as it is.
 *
 * Nobody vouches for who sends them. So what comes is as strange as what comes from outside: it
 * may not have an address that is anybody's here, and goes to a jail alone, through the chain in.
 */
#include "gateway.h"

#include <errno.h>
#include <sys/socket.h>

#include "plane.h"

static_assert(sizeof(struct packed_route) == 56, "as ROUTE of settings.py");

/**
 * routes_add() - add a route
 * @routes:	the list
 * @packed:	the route
 *
 * Return: whether it makes sense and there is room
 */
bool
routes_add(struct routes *routes, const struct packed_route *packed)
{
    struct route route = {.source.bits = packed->source_bits,
                          .destination.bits = packed->destination_bits};

    if (routes->count == MOST_ROUTES || packed->source_bits > 128 ||
        packed->destination_bits > 128)
        return false;
    memcpy(route.source.address, packed->source, 16);
    memcpy(route.destination.address, packed->destination, 16);
    if (packed->family == 4) {
        route.target.four.sin_family = AF_INET;
        memcpy(&route.target.four.sin_addr, packed->target, 4);
        memcpy(&route.target.four.sin_port, packed->port, 2);
        route.length = sizeof(route.target.four);
    } else {
        route.target.six.sin6_family = AF_INET6;
        memcpy(&route.target.six.sin6_addr, packed->target, 16);
        memcpy(&route.target.six.sin6_port, packed->port, 2);
        route.length = sizeof(route.target.six);
    }
    routes->list[routes->count++] = route;
    return true;
}

/**
 * routes_find() - find a packet's route
 * @routes:	the list
 * @flow:	the packet
 *
 * Return: the first that matches, or NULL
 */
const struct route *
routes_find(const struct routes *routes, const struct flow *flow)
{
    for (size_t i = 0; i < routes->count; i++) {
        const struct route *route = &routes->list[i];

        if (prefix_holds(&route->source, flow->source) &&
            prefix_holds(&route->destination, flow->destination))
            return route;
    }
    return NULL;
}

/**
 * gateway_read() - pass on a share of the datagrams that came
 * @plane:	the plane
 * @port:	the gateway's port
 */
void
gateway_read(struct plane *plane, struct port *port)
{
    long share = TURN_SHARE;

    while (share > 0) {
        struct virtio_net_hdr none = {0};
        ssize_t size = recv(port->fd, plane->buffer, LARGEST_PACKET, MSG_DONTWAIT);

        if (size < 0)
            return; /* no more, or a receiver of ours is not there (ICMP) */
        share -= size + PACKET_COST;
        forward(plane, port, &none, plane->buffer, (size_t)size);
    }
}

/**
 * gateway_write() - send a packet to whom its route says, or drop and count it
 * @plane:	the plane
 * @port:	the gateway's port
 * @flow:	what the packet is
 * @bytes:	the packet, or a part of it that is one
 * @size:	its bytes
 *
 * Return: whether it was sent
 */
bool
gateway_write(struct plane *plane, struct port *port, const struct flow *flow,
              const uint8_t *bytes, size_t size)
{
    const struct route *route = routes_find(&plane->routes, flow);

    if (size > LARGEST_FRAME) {
        plane_drop(plane, port->number, DROP_TOO_BIG);
        return false;
    }
    if (route != NULL && sendto(port->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL,
                                &route->target.any, route->length) == (ssize_t)size) {
        plane_received(plane, port, size);
        return true;
    }
    plane_drop(plane, port->number, route != NULL && errno == EAGAIN ? DROP_FULL : DROP_REFUSED);
    return false;
}
