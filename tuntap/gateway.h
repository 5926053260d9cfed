/* gateway.h - routes to others over UDP, as the original has them (uwsgi-facts 5.5). */
#ifndef DONJON_GATEWAY_H
#define DONJON_GATEWAY_H

#include <netinet/in.h>

#include "flow.h"
#include "networks.h"

#define MOST_ROUTES 64

/** Packets between two networks go to an address of UDP. */
struct route {
    struct prefix source;
    struct prefix destination;
    union {
        struct sockaddr any;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
    } target;
    socklen_t length; /* of the target */
};

struct routes {
    struct route list[MOST_ROUTES];
    size_t count;
};

/** A route as Python writes it: settings.py. */
struct packed_route {
    uint8_t source[16];
    uint8_t destination[16];
    uint8_t target[16]; /* IPv4 in the first 4 bytes */
    uint8_t source_bits;
    uint8_t destination_bits;
    uint8_t port[2]; /* network order */
    uint32_t family; /* 4 or 6 */
};

bool routes_add(struct routes *routes, const struct packed_route *packed);
const struct route *routes_find(const struct routes *routes, const struct flow *flow);

#endif
