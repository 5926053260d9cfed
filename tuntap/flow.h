/* flow.h - what a packet says of itself, and nothing of its bytes: all that the firewall sees.
 *
 * Whoever reads the packet fills it in, once, with every field checked against the packet's
 * length. An IPv4 address a.b.c.d is ::ffff:a.b.c.d here, so that one comparison serves both
 * families; an IPv6 packet that carries such an address is no packet of this world, and the
 * firewall drops it.
 */
#ifndef DONJON_FLOW_H
#define DONJON_FLOW_H

#include <stdbool.h>
#include <stdint.h>

/** Ports of jails are numbered 1 .. FLOW_JAILS - 1; 0 is the router's own device. */
#define FLOW_JAILS 65536

#define FLOW_TCP_FIN 0x01
#define FLOW_TCP_SYN 0x02
#define FLOW_TCP_RST 0x04
#define FLOW_TCP_ACK 0x10

/** The packet that an ICMP error quotes: the one that could not be delivered, as it was sent. */
struct flow_quoted {
    uint8_t source[16];
    uint8_t destination[16];
    uint16_t source_port; /* host order; of an ICMP echo, as in struct flow */
    uint16_t destination_port;
    uint8_t protocol;
    bool present; /* false: not an ICMP error, or one that quotes too little */
};

/** A packet. Start from all zeros: what a protocol does not have stays 0. */
struct flow {
    uint8_t source[16];
    uint8_t destination[16];
    uint32_t length; /* bytes of the whole packet, from its IP header on */
    uint32_t from;   /* the jail it comes from; 0: the router's own device */
    uint32_t to;     /* the jail it goes to; 0: the router's own device */
    uint32_t fragment_id;
    uint16_t source_port;      /* host order; of an ICMP echo or its reply, the identifier */
    uint16_t destination_port; /* host order; of an ICMP echo or its reply, the identifier */
    uint8_t family;            /* 4 or 6 */
    uint8_t protocol;          /* IPv6: of the last header of the chain */
    uint8_t tcp_flags;         /* the byte of the header */
    uint8_t icmp_type;
    uint8_t icmp_code;
    bool first_fragment;     /* offset 0 and more to come: it has ports, and others follow */
    bool not_first_fragment; /* it has no ports, flags and types */
    struct flow_quoted quoted;
};

#endif
