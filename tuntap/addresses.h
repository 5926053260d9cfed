/* addresses.h - whose an address is: a flat hash table, one look whatever the number of ports. */
#ifndef DONJON_ADDRESSES_H
#define DONJON_ADDRESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NOBODY UINT32_MAX

struct address_slot {
    uint8_t address[16]; /* IPv4 as ::ffff:a.b.c.d */
    uint32_t owner;
};

/** Open addressing, never more than half full. */
struct addresses {
    struct address_slot *slots;
    size_t mask;
    size_t count;
    uint64_t secret; /* so that nobody can choose addresses that collide */
};

int addresses_init(struct addresses *addresses, uint64_t secret);
void addresses_free(struct addresses *addresses);
uint32_t addresses_owner(const struct addresses *addresses, const uint8_t address[16]);
bool addresses_add(struct addresses *addresses, const uint8_t address[16], uint32_t owner);
void addresses_forget(struct addresses *addresses, uint32_t owner);

#endif
