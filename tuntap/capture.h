/* capture.h - the packets of one port for its operator, as records of a pcap file.
 *
 * Each record is one message to a SEQPACKET socket (unix(7)): it goes whole, or not at all where
 * the reader is slow. So nothing waits and nothing is kept here; what was lost is counted.
 */
#ifndef DONJON_CAPTURE_H
#define DONJON_CAPTURE_H

#include <stddef.h>
#include <stdint.h>

/** One capture. While there is none, `port` is NOBODY: no packet is of that. */
struct capture {
    uint32_t port;
    int fd; /* lent */
    uint64_t packets_left;
    uint64_t bytes_left; /* of records */
    uint64_t until;      /* of plane_clock() */
    uint64_t captured;
    uint64_t lost;
};

void capture_packet(struct capture *capture, uint64_t now, const uint8_t *bytes, size_t size);
void capture_end(struct capture *capture);

#endif
