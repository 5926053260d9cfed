/* connections.c - the table of conversations. See connections.h. */
#include "connections.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKET = 16, SWEEP = 2 * BUCKET, LOOK = 64 };
enum { OVER, UNANSWERED, ANSWERED, LISTS };
#define NOBODY UINT32_MAX
#define SECOND_NS UINT64_C(1000000000)

static_assert(sizeof(struct connection_key) == 48, "keys are hashed and compared as six words");

/** What a jail holds: lists by use. Who must go is the oldest of the first that is not empty. */
struct account {
    uint32_t count;
    uint32_t oldest[LISTS];
    uint32_t newest[LISTS];
    bool open; /* the lists mean something */
};

struct connections {
    uint64_t seed[2];
    uint64_t evicted;
    uint32_t size;
    uint32_t count;
    uint32_t per_jail;
    const uint32_t *caps; /* of each jail, 0 where it has none of its own; NULL: no jail has */
    uint32_t hand;        /* where sweeping goes on */
    uint16_t *tags;       /* of each slot: bits of the key's hash, or 0 where it is free */
    struct connection *slots;
    struct account *accounts;
};

/**
 * connections_make() - a table without connections.
 * @size: slots; a power of two, at least one bucket
 * @per_jail: the most that one jail may hold, at least 1
 * @seed: secret, so that no tenant can choose his bucket
 *
 * Return: the table, or NULL without memory.
 */
struct connections *
connections_make(uint32_t size, uint32_t per_jail, const uint64_t seed[2])
{
    struct connections *table = calloc(1, sizeof *table);

    if (table == NULL)
        return NULL;
    table->tags = calloc(size, sizeof *table->tags);
    table->slots = calloc(size, sizeof *table->slots);
    table->accounts = calloc(FLOW_JAILS, sizeof *table->accounts);
    if (table->tags == NULL || table->slots == NULL || table->accounts == NULL) {
        connections_free(table);
        return NULL;
    }
    table->size = size;
    table->per_jail = per_jail;
    memcpy(table->seed, seed, sizeof table->seed);
    return table;
}

/** connections_free() - give the table back; NULL is nothing. */
void
connections_free(struct connections *table)
{
    if (table == NULL)
        return;
    free(table->tags);
    free(table->slots);
    free(table->accounts);
    free(table);
}

/** connections_size() - Return: the slots of the table. */
uint32_t
connections_size(const struct connections *table)
{
    return table->size;
}

/** connections_count() - Return: what is remembered, expired ones not yet swept included. */
uint32_t
connections_count(const struct connections *table)
{
    return table->count;
}

/** connections_evicted() - Return: how many were forgotten before their time, ever. */
uint64_t
connections_evicted(const struct connections *table)
{
    return table->evicted;
}

/** connections_limit() - another cap for each jail; who holds more loses them as he opens others.
 */
void
connections_limit(struct connections *table, uint32_t per_jail)
{
    table->per_jail = per_jail;
}

/**
 * connections_caps() - caps of single jails, lower than the one that all have.
 * @caps: FLOW_JAILS of them, lent; 0 is none
 */
void
connections_caps(struct connections *table, const uint32_t *caps)
{
    table->caps = caps;
}

/** Return: the cap of its own that a jail has, or 0. */
static uint32_t
own_cap(const struct connections *table, uint32_t owner)
{
    return table->caps == NULL || owner >= FLOW_JAILS ? 0 : table->caps[owner];
}

static uint64_t
mix(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t
hash(const struct connections *table, const struct connection_key *key)
{
    uint64_t words[6];
    uint64_t sum = table->seed[0];

    memcpy(words, key, sizeof words);
    for (size_t i = 0; i < 6; i += 2)
        sum = mix(words[i] ^ sum, words[i + 1] ^ table->seed[1]) + sum;
    return mix(sum ^ UINT64_C(0x9e3779b97f4a7c15), table->seed[1] | 1);
}

static uint16_t
tag_of(uint64_t hashed)
{
    return (uint16_t)(hashed >> 48 | 1);
}

static uint32_t
bucket_of(const struct connections *table, uint64_t hashed)
{
    return (uint32_t)hashed & (table->size - 1) & ~(uint32_t)(BUCKET - 1);
}

static uint32_t
slot_of(const struct connections *table, const struct connection *connection)
{
    return (uint32_t)(connection - table->slots);
}

static struct account *
account_of(struct connections *table, uint32_t owner)
{
    struct account *account = &table->accounts[owner % FLOW_JAILS];

    if (!account->open) {
        for (int i = 0; i < LISTS; i++)
            account->oldest[i] = account->newest[i] = NOBODY;
        account->open = true;
    }
    return account;
}

static int
list_of(const struct connection *connection)
{
    if (connection->over)
        return OVER;
    return connection->replied ? ANSWERED : UNANSWERED;
}

static void
unlink_slot(struct connections *table, uint32_t slot)
{
    struct connection *c = &table->slots[slot];
    struct account *account = account_of(table, c->owner);

    if (c->older == NOBODY)
        account->oldest[list_of(c)] = c->newer;
    else
        table->slots[c->older].newer = c->newer;
    if (c->newer == NOBODY)
        account->newest[list_of(c)] = c->older;
    else
        table->slots[c->newer].older = c->older;
}

static void
link_slot(struct connections *table, uint32_t slot)
{
    struct connection *c = &table->slots[slot];
    struct account *account = account_of(table, c->owner);

    c->older = account->newest[list_of(c)];
    c->newer = NOBODY;
    if (c->older == NOBODY)
        account->oldest[list_of(c)] = slot;
    else
        table->slots[c->older].newer = slot;
    account->newest[list_of(c)] = slot;
}

static void
remove_slot(struct connections *table, uint32_t slot)
{
    unlink_slot(table, slot);
    account_of(table, table->slots[slot].owner)->count--;
    table->count--;
    table->tags[slot] = 0;
}

static void
evict(struct connections *table, uint32_t slot, uint64_t now_ns)
{
    table->evicted += table->slots[slot].expires_ns > now_ns;
    remove_slot(table, slot);
}

/** connections_remove() - forget one; the pointer means nothing afterwards. */
void
connections_remove(struct connections *table, struct connection *connection)
{
    remove_slot(table, slot_of(table, connection));
}

/** connections_find() - Return: the connection that did not expire, or NULL. */
struct connection *
connections_find(struct connections *table, const struct connection_key *key, uint64_t now_ns)
{
    uint64_t hashed = hash(table, key);
    uint16_t tag = tag_of(hashed);
    uint32_t first = bucket_of(table, hashed);

    for (uint32_t slot = first; slot < first + BUCKET; slot++) {
        if (table->tags[slot] != tag || memcmp(&table->slots[slot].key, key, sizeof *key) != 0)
            continue;
        if (table->slots[slot].expires_ns > now_ns)
            return &table->slots[slot];
        remove_slot(table, slot);
        return NULL;
    }
    return NULL;
}

static void
sweep(struct connections *table, uint64_t now_ns)
{
    for (int i = 0; i < SWEEP; i++) {
        uint32_t slot = table->hand;
        table->hand = (slot + 1) & (table->size - 1);
        if (table->tags[slot] != 0 && table->slots[slot].expires_ns <= now_ns)
            remove_slot(table, slot);
    }
}

/** Return: an answered connection of a jail whose time is over, among its oldest; or NOBODY. */
static uint32_t
expired_of(const struct connections *table, const struct account *account, uint64_t now_ns)
{
    uint32_t slot = account->oldest[ANSWERED];

    for (int i = 0; i < LOOK && slot != NOBODY; i++) {
        if (table->slots[slot].expires_ns <= now_ns)
            return slot;
        slot = table->slots[slot].newer;
    }
    return NOBODY;
}

/** Make room for one more below a jail's own cap, of what nobody needs. Return: whether there is;
 * where the cap was lowered, what is in use stays. */
static bool
keep_to_own_cap(struct connections *table, uint32_t owner, uint32_t cap, uint64_t now_ns)
{
    const struct account *account = account_of(table, owner);

    for (int i = 0; i < 2 && account->count >= cap; i++) {
        uint32_t goes = account->oldest[OVER];
        if (goes == NOBODY)
            goes = account->oldest[UNANSWERED];
        if (goes == NOBODY)
            goes = expired_of(table, account, now_ns);
        if (goes == NOBODY)
            return false;
        evict(table, goes, now_ns);
    }
    return account->count < cap;
}

/** Make room for one more; for two where the cap was lowered meanwhile. */
static void
keep_to_the_cap(struct connections *table, uint32_t owner, uint64_t now_ns)
{
    const struct account *account = account_of(table, owner);

    for (int i = 0; i < 2 && account->count >= table->per_jail; i++) {
        int list = OVER;

        while (list < ANSWERED && account->oldest[list] == NOBODY)
            list++;
        evict(table, account->oldest[list], now_ns);
    }
}

/** Whether `a` should rather be forgotten than `b`: it expired, its jail holds more, or nobody
 * answered it. */
static bool
gives_way(struct connections *table, uint32_t a, uint32_t b, uint64_t now_ns)
{
    const struct connection *first = &table->slots[a];
    const struct connection *second = &table->slots[b];
    bool first_expired = first->expires_ns <= now_ns;
    uint32_t first_holds = account_of(table, first->owner)->count;
    uint32_t second_holds = account_of(table, second->owner)->count;

    if (first_expired != (second->expires_ns <= now_ns))
        return first_expired;
    if (first_holds != second_holds)
        return first_holds > second_holds;
    if (first->replied != second->replied)
        return second->replied;
    return first->used_s < second->used_s;
}

/** Return: a free slot of the bucket, made free where that is just; or NOBODY. */
static uint32_t
place(struct connections *table, uint32_t first, uint32_t owner, uint64_t now_ns)
{
    uint32_t worst = first;

    for (uint32_t slot = first; slot < first + BUCKET; slot++)
        if (table->tags[slot] == 0)
            return slot;
    for (uint32_t slot = first + 1; slot < first + BUCKET; slot++)
        if (gives_way(table, slot, worst, now_ns))
            worst = slot;
    const struct connection *loser = &table->slots[worst];
    uint32_t holds = account_of(table, owner)->count;
    if (loser->expires_ns > now_ns && loser->owner != owner &&
        account_of(table, loser->owner)->count <= holds)
        return NOBODY;
    evict(table, worst, now_ns);
    return worst;
}

/**
 * connections_add() - remember a conversation that is not in the table.
 * @owner: the jail on whose account it is
 *
 * Return: the connection, all zeros but its key and owner, to be given its time with
 * connections_use(); or NULL where no place could be had.
 */
struct connection *
connections_add(struct connections *table, const struct connection_key *key, uint32_t owner,
                uint64_t now_ns)
{
    uint64_t hashed = hash(table, key);
    uint32_t cap = own_cap(table, owner);

    sweep(table, now_ns);
    if (cap != 0 && !keep_to_own_cap(table, owner, cap, now_ns))
        return NULL;
    keep_to_the_cap(table, owner, now_ns);
    uint32_t slot = place(table, bucket_of(table, hashed), owner, now_ns);
    if (slot == NOBODY)
        return NULL;
    table->tags[slot] = tag_of(hashed);
    table->slots[slot] = (struct connection){.key = *key, .owner = owner};
    table->count++;
    account_of(table, owner)->count++;
    link_slot(table, slot);
    return &table->slots[slot];
}

/** connections_use() - a packet passed: it lives on until `expires_ns`. */
void
connections_use(struct connections *table, struct connection *connection, uint64_t now_ns,
                uint64_t expires_ns)
{
    uint32_t now_s = (uint32_t)(now_ns / SECOND_NS);

    connection->expires_ns = expires_ns;
    if (connection->used_s == now_s)
        return; /* the order of use is kept to the second: most packets touch no neighbours */
    connection->used_s = now_s;
    unlink_slot(table, slot_of(table, connection));
    link_slot(table, slot_of(table, connection));
}

/** connections_reply() - the other end answered: it is among those forgotten last. */
void
connections_reply(struct connections *table, struct connection *connection)
{
    unlink_slot(table, slot_of(table, connection));
    connection->replied = true;
    link_slot(table, slot_of(table, connection));
}

/** connections_end() - it is over: it is among those forgotten first. */
void
connections_end(struct connections *table, struct connection *connection)
{
    if (connection->over)
        return;
    unlink_slot(table, slot_of(table, connection));
    connection->over = true;
    link_slot(table, slot_of(table, connection));
}

/** connections_forget() - forget whatever a jail is an end of. */
void
connections_forget(struct connections *table, uint32_t jail)
{
    for (uint32_t slot = 0; slot < table->size; slot++) {
        const struct connection *c = &table->slots[slot];
        if (table->tags[slot] != 0 && (c->key.jail[0] == jail || c->key.jail[1] == jail))
            remove_slot(table, slot);
    }
}
