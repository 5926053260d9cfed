/* packet.c - what a packet says of itself, or why it is refused.
 *
 * DOC: Theory of Operation
 *
 * Whatever a later reader (the firewall, the segmenter, the kernel of the receiver) could
 * understand in another way than we do is refused here, so that a rule is never asked about
 * another packet than the one that arrives:
 *
 * - Lengths must agree exactly: the header's total is the number of bytes.
 * - IPv4 options that route (LSRR, SSRR: RFC 791) hide the real destination.
 * - A first fragment must hold the whole transport header, a later one must not reach into it
 *   (RFC 1858, RFC 3128), and none may end beyond 65,535 bytes.
 * - Of IPv6 a short chain of hop-by-hop and destination options and one fragment header may come
 *   before the transport header; nothing but that header may follow a fragment header.
 * - IPv4-mapped addresses do not exist on a wire (RFC 4291, 2.5.5.2).
 */
#include "packet.h"

#include <netinet/in.h>

#define V4_HEADER 20
#define V6_HEADER 40
#define TCP_HEADER 20
#define UDP_HEADER 8
#define ICMP_HEADER 8
#define MOST_EXTENSIONS 4
#define LONGEST_CHAIN 256

static const uint8_t MAPPED[12] = {[10] = 0xff, [11] = 0xff};

/** Where the walk through the headers is. */
struct cursor {
    size_t at;
    uint8_t protocol;
    bool more;       /* fragments follow */
    uint16_t offset; /* of this fragment, bytes */
    uint32_t id;
};

/**
 * packet_read() - copy bytes out of a packet
 * @packet:	the packet
 * @offset:	where they are
 * @out:	where they go
 * @size:	how many
 *
 * Return: whether the packet has so many
 */
bool
packet_read(const struct packet *packet, size_t offset, void *out, size_t size)
{
    if (offset > packet->size || size > packet->size - offset)
        return false;
    memcpy(out, packet->bytes + offset, size);
    return true;
}

/** Whether the options of an IPv4 header are well formed and route nowhere. */
static bool
options_are_plain(const struct packet *packet, size_t end)
{
    size_t at = V4_HEADER;

    while (at < end) {
        uint8_t option[2];

        if (!packet_read(packet, at, option, 1))
            return false;
        if (option[0] == 0)
            return true; /* end of the list */
        if (option[0] == 1) {
            at++;
            continue;
        }
        if (end - at < 2 || !packet_read(packet, at, option, 2))
            return false;
        if (option[0] == 131 || option[0] == 137 || option[1] < 2 || option[1] > end - at)
            return false;
        at += option[1];
    }
    return true;
}

/** Note an IPv4 address as ::ffff:a.b.c.d. */
static void
map_address(uint8_t out[16], const uint8_t *in)
{
    memcpy(out, MAPPED, sizeof(MAPPED));
    memcpy(out + sizeof(MAPPED), in, 4);
}

static enum drop
parse_v4(const struct packet *packet, struct flow *flow, struct cursor *cursor)
{
    uint8_t header[V4_HEADER];

    if (!packet_read(packet, 0, header, sizeof(header)))
        return DROP_MALFORMED;
    size_t length = (size_t)(header[0] & 15) * 4;
    if (length < V4_HEADER || length > packet->size || load16(header + 2) != packet->size ||
        !options_are_plain(packet, length))
        return DROP_MALFORMED;
    flow->family = 4;
    map_address(flow->source, header + 12);
    map_address(flow->destination, header + 16);
    uint16_t fragment = load16(header + 6);
    *cursor = (struct cursor){
        .at = length,
        .protocol = header[9],
        .more = (fragment & 0x2000) != 0,
        .offset = (uint16_t)((fragment & 0x1fff) * 8),
        .id = load16(header + 4),
    };
    return DROP_NOT;
}

/** Step over one options header of IPv6. */
static enum drop
skip_options(const struct packet *packet, struct cursor *cursor)
{
    uint8_t start[2];

    if (!packet_read(packet, cursor->at, start, sizeof(start)))
        return DROP_MALFORMED;
    size_t length = ((size_t)start[1] + 1) * 8;
    if (length > packet->size - cursor->at)
        return DROP_MALFORMED;
    cursor->at += length;
    cursor->protocol = start[0];
    return cursor->at - V6_HEADER > LONGEST_CHAIN ? DROP_EXTENSION : DROP_NOT;
}

/** Step over the fragment header of IPv6, after which nothing but the transport header may come.
 */
static enum drop
skip_fragment(const struct packet *packet, struct cursor *cursor)
{
    uint8_t header[8];

    if (!packet_read(packet, cursor->at, header, sizeof(header)))
        return DROP_MALFORMED;
    cursor->at += sizeof(header);
    cursor->protocol = header[0];
    cursor->more = (header[3] & 1) != 0;
    cursor->offset = load16(header + 2) & 0xfff8;
    cursor->id = load32(header + 4);
    return DROP_NOT;
}

/** Whether a next-header value is an extension that we never walk over. */
static bool
is_refused_extension(uint8_t protocol)
{
    return protocol == IPPROTO_ROUTING || protocol == IPPROTO_MH || protocol == 139 ||
           protocol == 140 || protocol == 253 || protocol == 254;
}

static enum drop
walk_extensions(const struct packet *packet, struct cursor *cursor)
{
    bool fragment = false;

    for (int count = 0; count < MOST_EXTENSIONS + 1; count++) {
        enum drop drop = DROP_NOT;

        if (is_refused_extension(cursor->protocol))
            return DROP_EXTENSION;
        bool options = cursor->protocol == IPPROTO_DSTOPTS || cursor->protocol == IPPROTO_HOPOPTS;
        if (!options && cursor->protocol != IPPROTO_FRAGMENT)
            return DROP_NOT;
        if (fragment || (cursor->protocol == IPPROTO_HOPOPTS && count > 0))
            return DROP_EXTENSION;
        fragment = cursor->protocol == IPPROTO_FRAGMENT;
        drop = fragment ? skip_fragment(packet, cursor) : skip_options(packet, cursor);
        if (drop != DROP_NOT)
            return drop;
    }
    return DROP_EXTENSION;
}

static enum drop
parse_v6(const struct packet *packet, struct flow *flow, struct cursor *cursor)
{
    uint8_t header[V6_HEADER];

    if (!packet_read(packet, 0, header, sizeof(header)) ||
        load16(header + 4) != packet->size - V6_HEADER)
        return DROP_MALFORMED;
    flow->family = 6;
    memcpy(flow->source, header + 8, 16);
    memcpy(flow->destination, header + 24, 16);
    if (memcmp(flow->source, MAPPED, sizeof(MAPPED)) == 0 ||
        memcmp(flow->destination, MAPPED, sizeof(MAPPED)) == 0)
        return DROP_MALFORMED;
    *cursor = (struct cursor){.at = V6_HEADER, .protocol = header[6]};
    return walk_extensions(packet, cursor);
}

/** Read the ports that a quoted packet began with. */
static bool
read_quoted_ports(const struct packet *packet, size_t at, struct flow_quoted *quoted)
{
    uint8_t start[8];

    if (quoted->protocol == IPPROTO_ICMP || quoted->protocol == IPPROTO_ICMPV6) {
        if (!packet_read(packet, at, start, 8))
            return false;
        bool echo = start[0] == 8 || start[0] == 0 || start[0] == 128 || start[0] == 129;
        quoted->source_port = echo ? load16(start + 4) : 0;
        quoted->destination_port = quoted->source_port;
        return true;
    }
    if (quoted->protocol != IPPROTO_TCP && quoted->protocol != IPPROTO_UDP)
        return true;
    if (!packet_read(packet, at, start, 4))
        return false;
    quoted->source_port = load16(start);
    quoted->destination_port = load16(start + 2);
    return true;
}

/** Note the packet that an ICMP error quotes, which may be cut off. */
static void
read_quoted(const struct packet *packet, size_t at, uint8_t family, struct flow_quoted *quoted)
{
    uint8_t header[V6_HEADER];
    size_t length = V6_HEADER;

    if (!packet_read(packet, at, header, family == 4 ? V4_HEADER : V6_HEADER) ||
        header[0] >> 4 != family)
        return;
    if (family == 4) {
        length = (size_t)(header[0] & 15) * 4;
        if (length < V4_HEADER || (load16(header + 6) & 0x1fff) != 0)
            return;
        quoted->protocol = header[9];
        map_address(quoted->source, header + 12);
        map_address(quoted->destination, header + 16);
    } else {
        quoted->protocol = header[6];
        memcpy(quoted->source, header + 8, 16);
        memcpy(quoted->destination, header + 24, 16);
    }
    quoted->present = read_quoted_ports(packet, at + length, quoted);
}

static enum drop
parse_tcp(const struct packet *packet, struct flow *flow, struct layout *layout)
{
    uint8_t header[TCP_HEADER];

    if (!packet_read(packet, layout->transport, header, sizeof(header)))
        return flow->first_fragment ? DROP_FRAGMENT : DROP_MALFORMED;
    size_t length = (size_t)(header[12] >> 4) * 4;
    if (length < TCP_HEADER)
        return DROP_MALFORMED;
    if (length > packet->size - layout->transport)
        return flow->first_fragment ? DROP_FRAGMENT : DROP_MALFORMED;
    layout->transport_length = length;
    flow->source_port = load16(header);
    flow->destination_port = load16(header + 2);
    flow->tcp_flags = header[13];
    return DROP_NOT;
}

static enum drop
parse_udp(const struct packet *packet, struct flow *flow, struct layout *layout)
{
    uint8_t header[UDP_HEADER];

    if (!packet_read(packet, layout->transport, header, sizeof(header)))
        return flow->first_fragment ? DROP_FRAGMENT : DROP_MALFORMED;
    uint16_t length = load16(header + 4);
    if (length < UDP_HEADER ||
        (!flow->first_fragment && length > packet->size - layout->transport))
        return DROP_MALFORMED;
    layout->transport_length = UDP_HEADER;
    flow->source_port = load16(header);
    flow->destination_port = load16(header + 2);
    return DROP_NOT;
}

/** Whether an ICMP type tells of a packet that was not delivered. */
static bool
is_icmp_error(uint8_t family, uint8_t type)
{
    if (family == 6)
        return type < 128;
    return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

static enum drop
parse_icmp(const struct packet *packet, struct flow *flow, const struct layout *layout)
{
    uint8_t header[ICMP_HEADER];
    size_t needed = flow->family == 6 ? 4 : ICMP_HEADER; /* RFC 4443: 4 and a body */

    memset(header, 0, sizeof(header));
    if (!packet_read(packet, layout->transport, header, sizeof(header)) &&
        !packet_read(packet, layout->transport, header, needed))
        return flow->first_fragment ? DROP_FRAGMENT : DROP_MALFORMED;
    flow->icmp_type = header[0];
    flow->icmp_code = header[1];
    uint8_t echo = flow->family == 6 ? 128 : 8;
    uint8_t reply = flow->family == 6 ? 129 : 0;
    if (header[0] == echo || header[0] == reply) {
        flow->source_port = load16(header + 4);
        flow->destination_port = flow->source_port;
    } else if (is_icmp_error(flow->family, header[0])) {
        read_quoted(packet, layout->transport + ICMP_HEADER, flow->family, &flow->quoted);
    }
    return DROP_NOT;
}

/** Note whether it is a fragment, and refuse one that hides something. */
static enum drop
check_fragment(const struct packet *packet, struct flow *flow, const struct cursor *cursor)
{
    size_t payload = packet->size - cursor->at;

    if (!cursor->more && cursor->offset == 0)
        return DROP_NOT;
    flow->fragment_id = cursor->id;
    flow->first_fragment = cursor->offset == 0;
    flow->not_first_fragment = cursor->offset != 0;
    if (payload == 0 || (cursor->more && payload % 8 != 0) ||
        payload + cursor->offset > 65535 - V4_HEADER)
        return DROP_FRAGMENT;
    size_t covered = cursor->protocol == IPPROTO_TCP ? TCP_HEADER : UDP_HEADER;
    return cursor->offset != 0 && cursor->offset < covered ? DROP_FRAGMENT : DROP_NOT;
}

/**
 * packet_parse() - say what a packet is
 * @packet:	an IPv4 or IPv6 packet, from its header on
 * @flow:	filled in, but for the ports of the router (from, to)
 * @layout:	filled in
 *
 * Return: DROP_NOT, or why nobody may see it
 */
enum drop
packet_parse(const struct packet *packet, struct flow *flow, struct layout *layout)
{
    struct cursor cursor = {0};
    enum drop drop = DROP_MALFORMED;
    uint8_t version = 0;

    memset(flow, 0, sizeof(*flow));
    memset(layout, 0, sizeof(*layout));
    if (!packet_read(packet, 0, &version, 1))
        return DROP_MALFORMED;
    if (version >> 4 == 4)
        drop = parse_v4(packet, flow, &cursor);
    else if (version >> 4 == 6)
        drop = parse_v6(packet, flow, &cursor);
    if (drop != DROP_NOT)
        return drop;
    flow->length = (uint32_t)packet->size;
    flow->protocol = cursor.protocol;
    layout->transport = cursor.at;
    drop = check_fragment(packet, flow, &cursor);
    if (drop != DROP_NOT || flow->not_first_fragment)
        return drop;
    if (cursor.protocol == IPPROTO_TCP)
        return parse_tcp(packet, flow, layout);
    if (cursor.protocol == IPPROTO_UDP)
        return parse_udp(packet, flow, layout);
    if (cursor.protocol == (flow->family == 6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
        return parse_icmp(packet, flow, layout);
    return DROP_NOT;
}
