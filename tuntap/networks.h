/* networks.h - networks that belong to a port: few, looked through one after the other. */
#ifndef DONJON_NETWORKS_H
#define DONJON_NETWORKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MOST_NETWORKS 256

/** The addresses that begin with `bits` bits of `address`; IPv4 as ::ffff:a.b.c.d. */
struct prefix {
    uint8_t address[16];
    uint8_t bits; /* 0 to 128 */
};

/** Networks of which every address is its owner's, or nobody's. */
struct networks {
    struct {
        struct prefix prefix;
        uint32_t owner;
    } list[MOST_NETWORKS];
    size_t count;
};

bool prefix_holds(const struct prefix *prefix, const uint8_t address[16]);
bool networks_add(struct networks *networks, const struct prefix *prefix, uint32_t owner);
void networks_forget(struct networks *networks, uint32_t owner);
uint32_t networks_owner(const struct networks *networks, const uint8_t address[16]);
bool networks_let(const struct networks *networks, const uint8_t address[16], uint32_t owner);

#endif
