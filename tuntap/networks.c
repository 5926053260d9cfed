/* networks.c - see networks.h. */
#include "networks.h"

#include <string.h>

#include "addresses.h"

/**
 * prefix_holds() - whether an address is in a network
 * @prefix:	the network
 * @address:	the address
 *
 * Return: whether it is
 */
bool
prefix_holds(const struct prefix *prefix, const uint8_t address[16])
{
    size_t whole = prefix->bits / 8U;
    unsigned int rest = prefix->bits % 8U;

    if (memcmp(prefix->address, address, whole) != 0)
        return false;
    return rest == 0 || ((prefix->address[whole] ^ address[whole]) >> (8U - rest)) == 0;
}

/**
 * networks_add() - give a network to a port
 * @networks:	the list
 * @prefix:	the network
 * @owner:	the port
 *
 * Return: whether it is the port's: not if it overlaps with another one's, or the list is full
 */
bool
networks_add(struct networks *networks, const struct prefix *prefix, uint32_t owner)
{
    if (networks->count == MOST_NETWORKS || prefix->bits > 128)
        return false;
    for (size_t i = 0; i < networks->count; i++) {
        const struct prefix *other = &networks->list[i].prefix;

        if (networks->list[i].owner != owner &&
            (prefix_holds(other, prefix->address) || prefix_holds(prefix, other->address)))
            return false;
    }
    networks->list[networks->count].prefix = *prefix;
    networks->list[networks->count].owner = owner;
    networks->count++;
    return true;
}

/**
 * networks_forget() - take all networks from a port
 * @networks:	the list
 * @owner:	the port
 */
void
networks_forget(struct networks *networks, uint32_t owner)
{
    size_t kept = 0;

    for (size_t i = 0; i < networks->count; i++) {
        if (networks->list[i].owner != owner)
            networks->list[kept++] = networks->list[i];
    }
    networks->count = kept;
}

/**
 * networks_owner() - look up an address
 * @networks:	the list
 * @address:	the address
 *
 * Return: the port in whose network it is, or NOBODY
 */
uint32_t
networks_owner(const struct networks *networks, const uint8_t address[16])
{
    for (size_t i = 0; i < networks->count; i++) {
        if (prefix_holds(&networks->list[i].prefix, address))
            return networks->list[i].owner;
    }
    return NOBODY;
}

/**
 * networks_let() - whether a port may own an address
 * @networks:	the list
 * @address:	the address
 * @owner:	the port
 *
 * Return: whether it is in a network of the port's; of one that has none, whether it is in
 * nobody's
 */
bool
networks_let(const struct networks *networks, const uint8_t address[16], uint32_t owner)
{
    uint32_t found = networks_owner(networks, address);

    if (found != NOBODY)
        return found == owner;
    for (size_t i = 0; i < networks->count; i++) {
        if (networks->list[i].owner == owner)
            return false;
    }
    return true;
}
