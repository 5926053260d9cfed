/* forward.c - one packet: what it is, whether it may come from there, where it goes. */
#include "plane.h"
#include "reject.h"

/** Where a super-packet is cut up for a stream of frames, or a gateway. */
struct cutting {
    struct plane *plane;
    struct port *port;
    const struct flow *flow;
};

/** Whether an address can be nobody's own: a jail's first packets often come from such. */
static bool
is_no_home(const uint8_t address[16], uint8_t family)
{
    const uint8_t *v4 = address + 12;
    static const uint8_t zeros[16];

    if (family == 6) /* multicast, link-local, unspecified, loopback */
        return address[0] == 0xff || (address[0] == 0xfe && (address[1] & 0xc0) == 0x80) ||
               (memcmp(address, zeros, 15) == 0 && address[15] < 2);
    return v4[0] == 0 || v4[0] == 127 || v4[0] >= 224 || (v4[0] == 169 && v4[1] == 254);
}

/** What is known of a packet on its way. */
struct way {
    struct packet packet;
    struct flow flow;
    struct layout layout;
    uint32_t to;         /* the port that it goes to */
    uint32_t counted_at; /* the port that a drop is counted at */
    bool rejected;       /* the sender is to be told */
    bool claims;         /* the source is nobody's, and may become the sender's */
};

/** Whether a source may be that of a stranger: it is nobody's here, and nobody's there. */
static enum drop
check_stranger(const struct plane *plane, const struct flow *flow)
{
    if (addresses_owner(&plane->addresses, flow->source) != NOBODY ||
        networks_owner(&plane->allotted, flow->source) != NOBODY)
        return DROP_CLAIMED;
    return is_no_home(flow->source, flow->family) ? DROP_UNREGISTERED : DROP_NOT;
}

/** Whether the source is the port's, or may become it. */
static enum drop
check_source(const struct plane *plane, const struct port *from, struct way *way)
{
    const struct flow *flow = &way->flow;
    uint32_t owner = addresses_owner(&plane->addresses, flow->source);

    if (from->kind == PORT_GATEWAY)
        return check_stranger(plane, flow);
    if (owner == from->number)
        return DROP_NOT;
    if (owner != NOBODY)
        return DROP_CLAIMED;
    if (is_no_home(flow->source, flow->family))
        return DROP_UNREGISTERED;
    way->claims = from->learns && !from->learnt[flow->family == 6];
    return way->claims ? DROP_NOT : DROP_SPOOFED;
}

/** Give the source to the port, now that it may send from there. Return: whether it is its. */
static bool
learn(struct plane *plane, struct port *from, const struct flow *flow)
{
    bool *learnt = &from->learnt[flow->family == 6];

    *learnt = plane_own(plane, from->number, flow->source);
    return *learnt;
}

/**
 * The port for a packet that is for no port's own address. What is in a network of another
 * router's and not there now is for nobody: the outside has no business with it.
 */
static uint32_t
way_out(const struct plane *plane, const struct flow *flow)
{
    if (networks_owner(&plane->allotted, flow->destination) != NOBODY)
        return NOBODY;
    if (plane->gateway != NOBODY && routes_find(&plane->routes, flow) != NULL)
        return plane->gateway;
    return 0;
}

/** The port that a packet is for, or NOBODY. */
static uint32_t
receiver_of(const struct plane *plane, const struct port *from, const struct flow *flow)
{
    uint32_t to = addresses_owner(&plane->addresses, flow->destination);

    if (to == NOBODY && !from->outside)
        to = way_out(plane, flow);
    if (to == NOBODY || to == from->number || plane->ports[to] == NULL)
        return NOBODY;
    return from->outside && plane->ports[to]->outside ? NOBODY : to;
}

/** Ask the rules: of the way out of a jail, then of the way into one. */
static enum drop
ask_firewall(struct plane *plane, struct way *way)
{
    const struct flow *flow = &way->flow;
    enum verdict verdict = ACCEPT;

    if (plane->firewall == NULL)
        return flow->from != 0 ? DROP_FIREWALL_OUT : DROP_FIREWALL_IN;
    if (flow->from != 0)
        verdict = firewall_check(plane->firewall, OUT, flow, plane->now);
    way->rejected = verdict == REJECT;
    if (verdict != ACCEPT)
        return firewall_had_no_room(plane->firewall) ? DROP_CONNECTIONS : DROP_FIREWALL_OUT;
    if (flow->to == 0)
        return DROP_NOT;
    way->counted_at = flow->to;
    verdict = firewall_check(plane->firewall, IN, flow, plane->now);
    way->rejected = verdict == REJECT;
    if (verdict == ACCEPT)
        return DROP_NOT;
    return firewall_had_no_room(plane->firewall) ? DROP_CONNECTIONS : DROP_FIREWALL_IN;
}

static bool
write_segment(void *context, const uint8_t *bytes, size_t size)
{
    struct cutting *cutting = context;

    if (cutting->port->kind == PORT_GATEWAY)
        return gateway_write(cutting->plane, cutting->port, cutting->flow, bytes, size);
    return frames_write(cutting->plane, cutting->port, bytes, size);
}

static void
deliver(struct plane *plane, struct port *to, const struct virtio_net_hdr *header,
        const struct flow *flow, const struct layout *layout, const uint8_t *bytes)
{
    if (to->number == plane->capture.port)
        capture_packet(&plane->capture, plane->now, bytes, flow->length);
    if (to->gone) {
        plane_drop(plane, to->number, DROP_REFUSED);
    } else if (to->kind == PORT_TUN) {
        tunnel_write(plane, to, header, bytes, flow->length);
    } else {
        struct cutting cutting = {plane, to, flow};

        if (offload_is_pending(header))
            offload_finish(header, flow, layout, bytes, plane->scratch, write_segment, &cutting);
        else
            write_segment(&cutting, bytes, flow->length);
    }
}

/** Find out where a packet goes. */
static enum drop
route(struct plane *plane, struct port *from, struct way *way)
{
    enum drop drop = from->number == 0 ? DROP_NOT : check_source(plane, from, way);

    if (drop != DROP_NOT)
        return drop;
    uint32_t to = receiver_of(plane, from, &way->flow);
    if (to == NOBODY)
        return DROP_NO_RECEIVER;
    way->to = to;
    way->flow.from = from->outside ? 0 : from->number;
    way->flow.to = plane->ports[to]->outside ? 0 : to;
    drop = ask_firewall(plane, way);
    bool left = drop != DROP_FIREWALL_OUT && drop != DROP_CONNECTIONS;
    if (way->claims && left && !learn(plane, from, &way->flow))
        return DROP_SPOOFED;
    return drop;
}

/** Find out what a packet is, and where it goes. */
static enum drop
judge(struct plane *plane, struct port *from, struct virtio_net_hdr *header, struct way *way)
{
    enum drop drop = packet_parse(&way->packet, &way->flow, &way->layout);

    if (drop != DROP_NOT)
        return drop;
    if (!offload_check(header, &way->flow, &way->layout, from->number == 0))
        return DROP_OFFLOAD;
    if (!plane->bridge)
        return route(plane, from, way);
    way->to = from->number == 0;
    return plane->ports[way->to] == NULL ? DROP_NO_RECEIVER : DROP_NOT;
}

/** Tell the sender of a packet that a rule rejected it. */
static void
tell_rejected(struct plane *plane, struct port *from, const struct way *way)
{
    const struct virtio_net_hdr none = {0};
    struct flow flow = {.length = 0};
    uint8_t answer[REJECT_LARGEST];
    size_t size = reject_answer(&way->packet, &way->flow, &way->layout, answer);

    flow.length = (uint32_t)size;
    memcpy(flow.source, way->flow.destination,
           sizeof(flow.source)); /* by which a route is found */
    memcpy(flow.destination, way->flow.source, sizeof(flow.destination));
    if (size > 0)
        deliver(plane, from, &none, &flow, &way->layout, answer);
}

/**
 * forward() - pass a packet on, or drop and count it
 * @plane:	the plane
 * @from:	the port that it was read from
 * @header:	its virtio header; changed
 * @bytes:	the packet
 * @size:	its bytes
 */
void
forward(struct plane *plane, struct port *from, struct virtio_net_hdr *header,
        const uint8_t *bytes, size_t size)
{
    struct way way = {.packet = {bytes, size}, .counted_at = from->number};

    if (from->number == plane->capture.port)
        capture_packet(&plane->capture, plane->now, bytes, size);
    enum drop drop = judge(plane, from, header, &way);
    if (drop != DROP_NOT) {
        plane_drop(plane, way.counted_at, drop);
        if (way.rejected)
            tell_rejected(plane, from, &way);
        return;
    }
    plane->counters[from->number].out_packets++;
    plane->counters[from->number].out_bytes += size;
    deliver(plane, plane->ports[way.to], header, &way.flow, &way.layout, bytes);
}
