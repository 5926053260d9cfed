/* ruletable.h - the compiled form of rules: the bytes of donjon.tuntap.rules.table, checked.
 *
 * A header, the rules of the chain IN, those of the chain OUT, networks, ranges of ports; nothing
 * between and nothing behind. Numbers are in this machine's order: a table is made where it is
 * used. An address is two words, the first four groups of IPv6 first, so that words compare as
 * addresses do. A set of addresses or ports is a run of disjoint intervals, lowest first.
 */
#ifndef DONJON_RULETABLE_H
#define DONJON_RULETABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RULETABLE_MAGIC "donjonF1"
#define RULETABLE_MAX_RULES 4096     /* in both chains together */
#define RULETABLE_MAX_NETWORKS 65536 /* in all sets together */
#define RULETABLE_MAX_PORTS 16384
#define RULETABLE_MIN_CONNECTIONS 16
#define RULETABLE_MAX_CONNECTIONS (1u << 20)
#define RULETABLE_PROTOCOLS 4 /* of one rule */

/** Bits of `states`. */
enum {
    STATE_NEW = 1,
    STATE_ESTABLISHED = 2,
    STATE_RELATED = 4,
    STATE_INVALID = 8,
    STATE_ANY = 15
};

/** Bits of `flags`. */
enum {
    RULE_LOG = 1,
    RULE_OVER = 2,       /* the limit matches what exceeds it */
    RULE_NOT_SOURCE = 4, /* negations, of the four conditions that may be negated */
    RULE_NOT_DESTINATION = 8,
    RULE_NOT_SOURCE_PORT = 16,
    RULE_NOT_DESTINATION_PORT = 32,
    RULE_SOURCE_SET = 64, /* else a prefix */
    RULE_DESTINATION_SET = 128,
    RULE_SOURCE_PORT = 256, /* there is a condition */
    RULE_DESTINATION_PORT = 512,
    RULE_ICMP_TYPE = 1024,
    RULE_FLAGS = 2047,
};

/** What a rule does with its packet; the first three are enum verdict. */
enum { RULE_ACCEPT, RULE_DROP, RULE_REJECT, RULE_CONTINUE };

struct ruletable_header {
    char magic[8];
    uint32_t size; /* bytes of the whole table */
    uint32_t rules[2];
    uint32_t networks;
    uint32_t ports;
    uint32_t connections; /* slots of the connection table: a power of two; or 0, to track none */
    uint32_t per_jail;    /* connections of one jail */
    uint8_t policy[2];
    uint8_t zero[2];
    uint64_t zeros;
    uint64_t seed[2]; /* of the connection table's hash: secret */
};

/** Addresses whose `mask`ed bits are `value`; or, if the rule's flag says set, a run of networks.
 */
struct ruletable_addresses {
    uint64_t value[2];
    uint64_t mask[2];
};

struct ruletable_run {
    uint32_t first;
    uint32_t count;
};

/** A rule: all conditions must hold. What a packet is most often refused for stands first. */
struct ruletable_rule {
    uint8_t protocols[RULETABLE_PROTOCOLS];
    uint8_t protocol_count; /* 0: any */
    uint8_t family;         /* 4, 6, or 0: any */
    uint8_t states;
    uint8_t verdict;
    struct ruletable_addresses source;
    struct ruletable_addresses destination;
    struct ruletable_run source_set;
    struct ruletable_run destination_set;
    struct ruletable_run source_ports;
    struct ruletable_run destination_ports;
    uint32_t flags;
    uint32_t burst;         /* packets */
    uint64_t interval_ns;   /* of a limit: a packet in this time; or 0, no limit */
    uint64_t identity;      /* the same rule in the next table has the same */
    uint64_t icmp_types[4]; /* a bit each */
};

/** Addresses from `low` to `high`, both included. */
struct ruletable_network {
    uint64_t low[2];
    uint64_t high[2];
};

struct ruletable_ports {
    uint16_t low;
    uint16_t high;
};

/** A table in memory of its own; all arrays point into it. */
struct ruletable {
    struct ruletable_header head;
    const struct ruletable_rule *rules; /* chain IN, then chain OUT */
    const struct ruletable_network *networks;
    const struct ruletable_ports *ports;
    uint64_t bytes[];
};

struct ruletable *ruletable_make(const void *bytes, size_t size, const char **why);

/** ruletable_rules() - Return: how many rules both chains have. */
static inline uint32_t
ruletable_rules(const struct ruletable *table)
{
    return table->head.rules[0] + table->head.rules[1];
}

#endif
