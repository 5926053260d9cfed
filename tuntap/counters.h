/* counters.h - what is counted of a port. Python reads the same memory: counters.py. */
#ifndef DONJON_COUNTERS_H
#define DONJON_COUNTERS_H

#include <assert.h>
#include <stdint.h>

/** Why a packet was dropped; counters.py has the names and says what they mean. */
enum drop {
    DROP_MALFORMED,
    DROP_FRAGMENT,
    DROP_EXTENSION,
    DROP_OFFLOAD,
    DROP_SPOOFED,
    DROP_CLAIMED,
    DROP_UNREGISTERED,
    DROP_NO_RECEIVER,
    DROP_CONTROL,
    DROP_FIREWALL_OUT,
    DROP_FIREWALL_IN,
    DROP_FULL,
    DROP_BANDWIDTH,
    DROP_TOO_BIG,
    DROP_REFUSED,
    DROP_CONNECTIONS,
    DROP_CAUSES,
    DROP_NOT = -1,
};

/** One port; bytes are those of IP packets. */
struct counters {
    uint64_t out_packets; /* from the jail */
    uint64_t out_bytes;
    uint64_t in_packets; /* to the jail */
    uint64_t in_bytes;
    uint64_t waits; /* times that reading paused for the bandwidth */
    uint64_t drops[DROP_CAUSES];
    uint64_t unused[11];
};

static_assert(sizeof(struct counters) == 256, "as SIZE of counters.py");

#endif
