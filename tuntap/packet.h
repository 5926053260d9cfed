/* packet.h - the bytes of an IP packet, read once and checked. */
#ifndef DONJON_PACKET_H
#define DONJON_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "counters.h"
#include "flow.h"

/** Bytes of somebody else's making. packet_read() is the only way to them. */
struct packet {
    const uint8_t *bytes;
    size_t size;
};

/** Where things are in a packet that packet_parse() accepted. */
struct layout {
    size_t transport;        /* the transport header */
    size_t transport_length; /* of a TCP or UDP header, else 0 */
};

bool packet_read(const struct packet *packet, size_t offset, void *out, size_t size);
enum drop packet_parse(const struct packet *packet, struct flow *flow, struct layout *layout);

/** Read two bytes in network order. */
static inline uint16_t
load16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

/** Write two bytes in network order. */
static inline void
store16(uint8_t *bytes, uint16_t value)
{
    bytes[0] = (uint8_t)(value >> 8);
    bytes[1] = (uint8_t)value;
}

/** Read four bytes in network order. */
static inline uint32_t
load32(const uint8_t *bytes)
{
    return (uint32_t)load16(bytes) << 16 | load16(bytes + 2);
}

/** Write four bytes in network order. */
static inline void
store32(uint8_t *bytes, uint32_t value)
{
    store16(bytes, (uint16_t)(value >> 16));
    store16(bytes + 2, (uint16_t)value);
}

#endif
