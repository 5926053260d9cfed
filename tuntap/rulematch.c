/* rulematch.c - the conditions of a rule. See rulematch.h. */
#include "rulematch.h"

#include <string.h>

static uint64_t
big_endian(const uint8_t bytes[8])
{
    uint64_t word;

    memcpy(&word, bytes, sizeof word);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/** rulematch_words() - an address as two words that compare as addresses do. */
void
rulematch_words(const uint8_t address[16], uint64_t words[2])
{
    words[0] = big_endian(address);
    words[1] = big_endian(address + 8);
}

static bool
below(const uint64_t a[2], const uint64_t b[2])
{
    return a[0] != b[0] ? a[0] < b[0] : a[1] < b[1];
}

static bool
in_networks(const struct ruletable_network *networks, uint32_t count, const uint64_t address[2])
{
    uint32_t low = 0;
    uint32_t high = count;

    while (low < high) { /* the first network that does not end below the address */
        uint32_t middle = low + (high - low) / 2;
        if (below(networks[middle].high, address))
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && !below(address, networks[low].low);
}

static bool
in_ports(const struct ruletable_ports *ports, uint32_t count, uint16_t port)
{
    uint32_t low = 0;
    uint32_t high = count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (ports[middle].high < port)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && ports[low].low <= port;
}

static bool
in_prefix(const struct ruletable_addresses *prefix, const uint64_t address[2])
{
    return (((address[0] & prefix->mask[0]) ^ prefix->value[0]) |
            ((address[1] & prefix->mask[1]) ^ prefix->value[1])) == 0;
}

static bool
is_of(const struct ruletable_rule *rule, const struct flow *flow)
{
    if (rule->family != 0 && rule->family != flow->family)
        return false;
    if (rule->protocol_count == 0)
        return true;
    for (uint8_t i = 0; i < rule->protocol_count; i++)
        if (rule->protocols[i] == flow->protocol)
            return true;
    return false;
}

static bool
comes_from(const struct ruletable *table, const struct ruletable_rule *rule,
           const uint64_t address[2])
{
    bool in = rule->flags & RULE_SOURCE_SET ? in_networks(table->networks + rule->source_set.first,
                                                          rule->source_set.count, address)
                                            : in_prefix(&rule->source, address);
    return in != ((rule->flags & RULE_NOT_SOURCE) != 0);
}

static bool
goes_to(const struct ruletable *table, const struct ruletable_rule *rule,
        const uint64_t address[2])
{
    bool in = rule->flags & RULE_DESTINATION_SET
                  ? in_networks(table->networks + rule->destination_set.first,
                                rule->destination_set.count, address)
                  : in_prefix(&rule->destination, address);
    return in != ((rule->flags & RULE_NOT_DESTINATION) != 0);
}

static bool
has_ports(const struct ruletable *table, const struct ruletable_rule *rule,
          const struct flow *flow)
{
    if ((rule->flags & RULE_SOURCE_PORT) &&
        in_ports(table->ports + rule->source_ports.first, rule->source_ports.count,
                 flow->source_port) == ((rule->flags & RULE_NOT_SOURCE_PORT) != 0))
        return false;
    return !(rule->flags & RULE_DESTINATION_PORT) ||
           in_ports(table->ports + rule->destination_ports.first, rule->destination_ports.count,
                    flow->destination_port) != ((rule->flags & RULE_NOT_DESTINATION_PORT) != 0);
}

static bool
has_type(const struct ruletable_rule *rule, const struct flow *flow)
{
    return !(rule->flags & RULE_ICMP_TYPE) ||
           (rule->icmp_types[flow->icmp_type / 64] >> flow->icmp_type % 64 & 1) != 0;
}

/** rulematch() - Return: whether all conditions but the limit hold. */
bool
rulematch(const struct ruletable *table, const struct ruletable_rule *rule,
          const struct seen *seen)
{
    return (rule->states & seen->state) != 0 && is_of(rule, seen->flow) &&
           comes_from(table, rule, seen->source) && goes_to(table, rule, seen->destination) &&
           has_ports(table, rule, seen->flow) && has_type(rule, seen->flow);
}
