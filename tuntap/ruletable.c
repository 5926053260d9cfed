/* ruletable.c - a table of rules from bytes that are not believed. See ruletable.h. */
#include "ruletable.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static_assert(sizeof(struct ruletable_header) == 64, "donjon.tuntap.rules.table packs 64 bytes");
static_assert(sizeof(struct ruletable_rule) == 160, "donjon.tuntap.rules.table packs 160 bytes");
static_assert(sizeof(struct ruletable_network) == 32, "donjon.tuntap.rules.table packs 32 bytes");
static_assert(sizeof(struct ruletable_ports) == 4, "donjon.tuntap.rules.table packs 4 bytes");

/** Protocols whose packets begin with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite. */
static const uint8_t with_ports[] = {6, 17, 33, 132, 136};

enum { ICMP = 1, ICMPV6 = 58 };

static const char *
wrong_head(const struct ruletable_header *head, size_t size)
{
    if (memcmp(head->magic, RULETABLE_MAGIC, sizeof head->magic) != 0)
        return "the table is of another version";
    if (head->size != size)
        return "the table's size is not what it says";
    if (head->rules[0] > RULETABLE_MAX_RULES ||
        head->rules[1] > RULETABLE_MAX_RULES - head->rules[0])
        return "the table has too many rules";
    if (head->networks > RULETABLE_MAX_NETWORKS || head->ports > RULETABLE_MAX_PORTS)
        return "the table's sets are too large";
    if (head->policy[0] > RULE_REJECT || head->policy[1] > RULE_REJECT)
        return "a chain has an unknown policy";
    if (head->connections == 0)
        return NULL;
    if (head->connections < RULETABLE_MIN_CONNECTIONS ||
        head->connections > RULETABLE_MAX_CONNECTIONS ||
        (head->connections & (head->connections - 1)) != 0)
        return "the number of connections is no power of two within its limits";
    if (head->per_jail == 0 || head->per_jail > head->connections)
        return "the connections of one jail are none, or more than all";
    return NULL;
}

static bool
wrong_run(struct ruletable_run run, uint32_t of)
{
    return run.first > of || run.count > of - run.first;
}

static bool
wrong_prefix(const struct ruletable_addresses *addresses)
{
    return (addresses->value[0] & ~addresses->mask[0]) != 0 ||
           (addresses->value[1] & ~addresses->mask[1]) != 0;
}

static int
compare(const uint64_t a[2], const uint64_t b[2])
{
    if (a[0] != b[0])
        return a[0] < b[0] ? -1 : 1;
    return a[1] < b[1] ? -1 : a[1] > b[1];
}

static bool
unsorted_networks(const struct ruletable_network *network, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (compare(network[i].low, network[i].high) > 0 ||
            (i > 0 && compare(network[i - 1].high, network[i].low) >= 0))
            return true;
    return false;
}

static bool
unsorted_ports(const struct ruletable_ports *ports, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (ports[i].low > ports[i].high || (i > 0 && ports[i - 1].high >= ports[i].low))
            return true;
    return false;
}

static bool
protocols_are_of(const struct ruletable_rule *rule, const uint8_t *allowed, size_t count)
{
    for (uint8_t i = 0; i < rule->protocol_count; i++)
        if (memchr(allowed, rule->protocols[i], count) == NULL)
            return false;
    return rule->protocol_count > 0;
}

/** What looks into a packet's payload must know what it finds there. */
static const char *
wrong_payload(const struct ruletable_rule *rule, bool tracks)
{
    static const uint8_t icmp[] = {ICMP};
    static const uint8_t icmpv6[] = {ICMPV6};
    bool ports = (rule->flags & (RULE_SOURCE_PORT | RULE_DESTINATION_PORT)) != 0;
    bool types = (rule->flags & RULE_ICMP_TYPE) != 0;

    if ((ports || types || rule->states != STATE_ANY) && !tracks)
        return "a rule needs connections, but the table tracks none";
    if (ports && !protocols_are_of(rule, with_ports, sizeof with_ports))
        return "a rule asks for ports of a protocol that has none";
    if (types &&
        !(rule->family == 4 ? protocols_are_of(rule, icmp, sizeof icmp)
                            : rule->family == 6 && protocols_are_of(rule, icmpv6, sizeof icmpv6)))
        return "a rule asks for ICMP types of another protocol";
    return NULL;
}

static const char *
wrong_sets(const struct ruletable *table, const struct ruletable_rule *rule)
{
    uint32_t networks = table->head.networks;
    uint32_t ports = table->head.ports;

    if (wrong_run(rule->source_set, networks) || wrong_run(rule->destination_set, networks) ||
        wrong_run(rule->source_ports, ports) || wrong_run(rule->destination_ports, ports))
        return "a rule's set lies outside the table";
    if (unsorted_networks(table->networks + rule->source_set.first, rule->source_set.count) ||
        unsorted_networks(table->networks + rule->destination_set.first,
                          rule->destination_set.count) ||
        unsorted_ports(table->ports + rule->source_ports.first, rule->source_ports.count) ||
        unsorted_ports(table->ports + rule->destination_ports.first,
                       rule->destination_ports.count))
        return "a rule's set is not in order";
    return NULL;
}

static const char *
wrong_rule(const struct ruletable *table, const struct ruletable_rule *rule)
{
    static const uint64_t longest_ns = UINT64_C(86400000000000); /* a packet a day */

    if (rule->verdict > RULE_CONTINUE || rule->states > STATE_ANY || rule->flags > RULE_FLAGS)
        return "a rule has an unknown verdict, state or flag";
    if (rule->protocol_count > RULETABLE_PROTOCOLS)
        return "a rule has too many protocols";
    if (rule->family != 0 && rule->family != 4 && rule->family != 6)
        return "a rule is of an unknown family";
    if (wrong_prefix(&rule->source) || wrong_prefix(&rule->destination))
        return "a rule's address has bits beyond its mask";
    if (rule->interval_ns > longest_ns ||
        (rule->interval_ns != 0 && (rule->burst == 0 || rule->burst > UINT16_MAX)))
        return "a rule's limit is out of range";
    const char *why = wrong_payload(rule, table->head.connections != 0);
    return why != NULL ? why : wrong_sets(table, rule);
}

static const char *
wrong_rules(const struct ruletable *table)
{
    for (uint32_t i = 0; i < ruletable_rules(table); i++) {
        const char *why = wrong_rule(table, &table->rules[i]);
        if (why != NULL)
            return why;
    }
    return NULL;
}

static struct ruletable *
copy(const struct ruletable_header *head, const void *bytes, size_t size)
{
    struct ruletable *table = malloc(sizeof *table + size);

    if (table == NULL)
        return NULL;
    table->head = *head;
    memcpy(table->bytes, bytes, size);
    table->rules = (const void *)(table->bytes + sizeof *head / sizeof *table->bytes);
    table->networks = (const void *)(table->rules + ruletable_rules(table));
    table->ports = (const void *)(table->networks + head->networks);
    return table;
}

/**
 * ruletable_make() - check a table and copy it.
 * @why: where nothing is made, the reason, a string that stays
 *
 * Return: the table, for free(); or NULL.
 */
struct ruletable *
ruletable_make(const void *bytes, size_t size, const char **why)
{
    struct ruletable_header head;

    *why = "the table is shorter than its head";
    if (size < sizeof head)
        return NULL;
    memcpy(&head, bytes, sizeof head);
    *why = wrong_head(&head, size);
    if (*why != NULL)
        return NULL;
    *why = "the table's parts do not fill it";
    if (size - sizeof head != (head.rules[0] + head.rules[1]) * sizeof(struct ruletable_rule) +
                                  head.networks * sizeof(struct ruletable_network) +
                                  head.ports * sizeof(struct ruletable_ports))
        return NULL;
    *why = "there is no memory for the table";
    struct ruletable *table = copy(&head, bytes, size);
    if (table == NULL)
        return NULL;
    *why = wrong_rules(table);
    if (*why == NULL)
        return table;
    free(table);
    return NULL;
}
