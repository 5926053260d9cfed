/* addresses.c - see addresses.h. To look allocates nothing; to add may, where more come. */
#include "addresses.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS 64

static size_t
place_of(const struct addresses *addresses, const uint8_t address[16])
{
    uint64_t halves[2];

    memcpy(halves, address, sizeof(halves));
    uint64_t hash = (halves[0] ^ addresses->secret) * 0x9e3779b97f4a7c15U;
    hash = (hash ^ (hash >> 29) ^ halves[1]) * 0xbf58476d1ce4e5b9U;
    hash = (hash ^ (hash >> 32) ^ addresses->secret) * 0x94d049bb133111ebU;
    return (size_t)(hash ^ (hash >> 31)) & addresses->mask;
}

/** The slot of an address, or the free one where it would be. */
static struct address_slot *
find(const struct addresses *addresses, const uint8_t address[16])
{
    size_t at = place_of(addresses, address);

    for (;; at = (at + 1) & addresses->mask) {
        struct address_slot *slot = &addresses->slots[at];

        if (slot->owner == NOBODY || memcmp(slot->address, address, 16) == 0)
            return slot;
    }
}

static struct address_slot *
make_slots(size_t count)
{
    struct address_slot *slots = calloc(count, sizeof(*slots));

    for (size_t i = 0; slots != NULL && i < count; i++)
        slots[i].owner = NOBODY;
    return slots;
}

/** Put what was in `old` into new slots. */
static void
refill(struct addresses *addresses, const struct address_slot *old, size_t size)
{
    addresses->count = 0;
    for (size_t i = 0; i < size; i++) {
        if (old[i].owner == NOBODY)
            continue;
        *find(addresses, old[i].address) = old[i];
        addresses->count++;
    }
}

/**
 * addresses_init() - make an empty table
 * @addresses:	the table
 * @secret:	random
 *
 * Return: 0, or -1 without memory
 */
int
addresses_init(struct addresses *addresses, uint64_t secret)
{
    *addresses = (struct addresses){
        .slots = make_slots(FIRST_SLOTS), .mask = FIRST_SLOTS - 1, .secret = secret};
    return addresses->slots == NULL ? -1 : 0;
}

/**
 * addresses_free() - free what the table holds
 * @addresses:	the table
 */
void
addresses_free(struct addresses *addresses)
{
    free(addresses->slots);
    addresses->slots = NULL;
}

/** Have room for one address more. Return: 0, or -1 without memory. */
static int
grow(struct addresses *addresses)
{
    size_t size = addresses->mask + 1;
    struct address_slot *old = addresses->slots;

    if ((addresses->count + 1) * 2 <= size)
        return 0;
    struct address_slot *slots = make_slots(size * 2);
    if (slots == NULL)
        return -1;
    addresses->slots = slots;
    addresses->mask = size * 2 - 1;
    refill(addresses, old, size);
    free(old);
    return 0;
}

/**
 * addresses_owner() - look up an address
 * @addresses:	the table
 * @address:	the address
 *
 * Return: the port that owns it, or NOBODY
 */
uint32_t
addresses_owner(const struct addresses *addresses, const uint8_t address[16])
{
    return find(addresses, address)->owner;
}

/**
 * addresses_add() - give an address to a port
 * @addresses:	the table
 * @address:	the address
 * @owner:	the port
 *
 * Return: whether it is the port's now: not if it was another one's, or without memory
 */
bool
addresses_add(struct addresses *addresses, const uint8_t address[16], uint32_t owner)
{
    uint32_t before = addresses_owner(addresses, address);

    if (before != NOBODY)
        return before == owner;
    if (grow(addresses) < 0)
        return false;
    struct address_slot *slot = find(addresses, address);
    memcpy(slot->address, address, 16);
    slot->owner = owner;
    addresses->count++;
    return true;
}

/** Free a slot. What follows it may have been pushed on by it, so that run is put in anew. */
static void
remove_at(struct addresses *addresses, size_t hole)
{
    addresses->slots[hole].owner = NOBODY;
    addresses->count--;
    for (size_t at = (hole + 1) & addresses->mask; addresses->slots[at].owner != NOBODY;
         at = (at + 1) & addresses->mask) {
        struct address_slot moved = addresses->slots[at];

        addresses->slots[at].owner = NOBODY;
        *find(addresses, moved.address) = moved;
    }
}

/**
 * addresses_forget() - take all addresses from a port
 * @addresses:	the table
 * @owner:	the port
 */
void
addresses_forget(struct addresses *addresses, uint32_t owner)
{
    size_t i = 0;

    while (i <= addresses->mask) {
        if (addresses->slots[i].owner == owner)
            remove_at(addresses, i); /* another one may be here now: look again */
        else
            i++;
    }
}
