/* checksum.h - the Internet checksum (RFC 1071), in the order in which bytes lie in memory. */
#ifndef DONJON_CHECKSUM_H
#define DONJON_CHECKSUM_H

#include "packet.h"

/** Add bytes to a sum. All but the last part must be a multiple of 4 long. */
static inline uint64_t
checksum_add(uint64_t sum, const uint8_t *bytes, size_t size)
{
    uint32_t word = 0;

    for (; size >= 4; size -= 4, bytes += 4) {
        memcpy(&word, bytes, sizeof(word));
        sum += word;
    }
    if (size > 0) {
        word = 0;
        memcpy(&word, bytes, size);
        sum += word;
    }
    return sum;
}

/** Sum the pseudo-header of a packet for `length` bytes of a transport protocol. */
static inline uint64_t
checksum_pseudo(const uint8_t *packet, uint8_t family, uint8_t protocol, size_t length)
{
    uint8_t rest[8] = {[7] = protocol};

    store32(rest, (uint32_t)length);
    uint64_t sum = family == 4 ? checksum_add(0, packet + 12, 8) : checksum_add(0, packet + 8, 32);
    return checksum_add(sum, rest, sizeof(rest));
}

/** Fold a sum to the 16 bits that are written. */
static inline uint16_t
checksum_fold(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

#endif
