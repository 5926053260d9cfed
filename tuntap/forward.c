/* forward.c - one packet: what it is, whether it may come from there, where it goes. */
#include "plane.h"

#include <netinet/in.h>

/** Where a super-packet is cut up for a stream of frames. */
struct cutting {
    struct plane *plane;
    struct port *port;
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

/** Whether the source is the port's, or becomes it. */
static enum drop
check_source(struct plane *plane, struct port *from, const struct flow *flow)
{
    uint32_t owner = addresses_owner(&plane->addresses, flow->source);
    bool *learnt = &from->learnt[flow->family == 6];

    if (owner == from->number)
        return DROP_NOT;
    if (owner != NOBODY)
        return DROP_CLAIMED;
    if (is_no_home(flow->source, flow->family))
        return DROP_UNREGISTERED;
    if (!from->learns || *learnt)
        return DROP_SPOOFED;
    *learnt = addresses_add(&plane->addresses, flow->source, from->number);
    return *learnt ? DROP_NOT : DROP_SPOOFED;
}

/** The port that a packet is for, or NOBODY. */
static uint32_t
receiver_of(const struct plane *plane, const struct port *from, const struct flow *flow)
{
    uint32_t to = addresses_owner(&plane->addresses, flow->destination);

    if (to == NOBODY && from->number != 0)
        to = 0;
    if (to == NOBODY || to == from->number || plane->ports[to] == NULL)
        return NOBODY;
    return to;
}

/** Ask the rules: of the way out of a jail, then of the way into one. */
static enum drop
ask_firewall(struct plane *plane, const struct flow *flow, uint32_t *counted_at)
{
    *counted_at = flow->from;
    if (plane->firewall == NULL)
        return flow->from != 0 ? DROP_FIREWALL_OUT : DROP_FIREWALL_IN;
    if (flow->from != 0 && firewall_check(plane->firewall, OUT, flow, plane->now) != ACCEPT)
        return DROP_FIREWALL_OUT;
    *counted_at = flow->to;
    if (flow->to != 0 && firewall_check(plane->firewall, IN, flow, plane->now) != ACCEPT)
        return DROP_FIREWALL_IN;
    return DROP_NOT;
}

static bool
write_segment(void *context, const uint8_t *bytes, size_t size)
{
    struct cutting *cutting = context;

    return frames_write(cutting->plane, cutting->port, bytes, size);
}

static void
deliver(struct plane *plane, struct port *to, const struct virtio_net_hdr *header,
        const struct flow *flow, const struct layout *layout, const uint8_t *bytes)
{
    if (to->gone) {
        plane_drop(plane, to->number, DROP_REFUSED);
    } else if (to->kind == PORT_TUN) {
        tunnel_write(plane, to, header, bytes, flow->length);
    } else if (offload_is_pending(header)) {
        struct cutting cutting = {plane, to};

        offload_finish(header, flow, layout, bytes, plane->scratch, write_segment, &cutting);
    } else {
        frames_write(plane, to, bytes, flow->length);
    }
}

/** Find out where a packet goes; flow->to is set. */
static enum drop
route(struct plane *plane, struct port *from, struct flow *flow, uint32_t *counted_at)
{
    enum drop drop = from->number == 0 ? DROP_NOT : check_source(plane, from, flow);

    *counted_at = from->number;
    if (drop != DROP_NOT)
        return drop;
    uint32_t to = receiver_of(plane, from, flow);
    if (to == NOBODY)
        return DROP_NO_RECEIVER;
    flow->from = from->number;
    flow->to = to;
    return ask_firewall(plane, flow, counted_at);
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
    struct packet packet = {bytes, size};
    struct flow flow;
    struct layout layout;
    uint32_t counted_at = from->number;
    enum drop drop = packet_parse(&packet, &flow, &layout);

    if (drop == DROP_NOT && !offload_check(header, &flow, &layout, from->number == 0))
        drop = DROP_OFFLOAD;
    if (drop == DROP_NOT && plane->bridge) {
        flow.to = from->number == 0;
        drop = plane->ports[flow.to] == NULL ? DROP_NO_RECEIVER : DROP_NOT;
    } else if (drop == DROP_NOT) {
        drop = route(plane, from, &flow, &counted_at);
    }
    if (drop != DROP_NOT) {
        plane_drop(plane, counted_at, drop);
        return;
    }
    plane->counters[from->number].out_packets++;
    plane->counters[from->number].out_bytes += size;
    deliver(plane, plane->ports[flow.to], header, &flow, &layout, bytes);
}
