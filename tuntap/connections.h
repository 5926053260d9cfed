/* connections.h - which conversations were let through: a flat table of fixed size.
 *
 * DOC: Theory of Operation
 *
 * A key names both ends of a conversation in an order that does not depend on who speaks, so that
 * one look finds it in either direction. An end is an address, a port and the jail behind it: an
 * address that another jail gets later meets none of the old conversations.
 *
 * The table is an array of buckets of BUCKET slots. A key belongs to one bucket, chosen by a hash
 * with a secret seed: looking costs one bucket at most, whatever a tenant sends. What expired is
 * passed over, and swept away a little with each new connection.
 *
 * A connection is on the account of the jail that opened it, or to which it was opened from
 * outside. A jail at the cap that all have forgets its own: first what is over, then what nobody
 * answered, the longest unused first. One at a cap of its own forgets these two kinds only, and is
 * refused another one where all the rest are in use. In a full bucket the jail that holds most
 * gives way to one that holds less. So a flood takes from the flooder only.
 */
#ifndef DONJON_CONNECTIONS_H
#define DONJON_CONNECTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "flow.h"

/** What a key names. An echo's says which end asks: two that ping each other are two. */
enum connection_kind {
    TALK,
    ECHO_BY_FIRST,
    ECHO_BY_SECOND,
    FRAGMENTS_OF_FIRST,
    FRAGMENTS_OF_SECOND
};

struct connection_key {
    uint64_t address[2][2];
    uint32_t jail[2];
    uint16_t port[2];
    uint8_t protocol;
    uint8_t kind;
    uint16_t zero;
};

/** The way of a packet, seen from the end that opened the connection. */
enum connection_way { FORTH, BACK };

struct connection {
    struct connection_key key;
    uint64_t expires_ns;
    uint32_t owner;
    uint32_t older; /* slots of the same account, in the order of their use */
    uint32_t newer;
    uint32_t used_s;
    uint32_t generation;    /* of the rules that `decided` speaks of */
    uint16_t decided[2][2]; /* by direction and way: 1 + index of the rule, or 0 */
    uint8_t opener;         /* which end of the key */
    uint8_t passed;         /* directions in which the opening packet was accepted, a bit each */
    uint8_t finished;       /* ways on which TCP said FIN, a bit each */
    bool replied;
    bool over; /* TCP ended it */
    bool reset;
};

struct connections;

struct connections *connections_make(uint32_t size, uint32_t per_jail, const uint64_t seed[2]);
void connections_free(struct connections *table);
uint32_t connections_size(const struct connections *table);
uint32_t connections_count(const struct connections *table);
uint64_t connections_evicted(const struct connections *table);
void connections_limit(struct connections *table, uint32_t per_jail);
void connections_caps(struct connections *table, const uint32_t *caps);

struct connection *connections_find(struct connections *table, const struct connection_key *key,
                                    uint64_t now_ns);
struct connection *connections_add(struct connections *table, const struct connection_key *key,
                                   uint32_t owner, uint64_t now_ns);
void connections_use(struct connections *table, struct connection *connection, uint64_t now_ns,
                     uint64_t expires_ns);
void connections_reply(struct connections *table, struct connection *connection);
void connections_end(struct connections *table, struct connection *connection);
void connections_remove(struct connections *table, struct connection *connection);
void connections_forget(struct connections *table, uint32_t jail);

#endif
