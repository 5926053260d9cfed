/* tracking.c - the state of a packet, and what it leaves behind. See tracking.h. */
#include "tracking.h"

#include <string.h>

enum { ICMP = 1, TCP = 6, UDP = 17, DCCP = 33, ICMPV6 = 58, SCTP = 132, UDPLITE = 136 };
enum { SYN = FLOW_TCP_SYN, ACK = FLOW_TCP_ACK, FIN = FLOW_TCP_FIN, RST = FLOW_TCP_RST };
enum icmp_class { NOT_ICMP, ECHO_REQUEST, ECHO_REPLY, ICMP_ERROR, OTHER_ICMP };

#define SECONDS(n) ((uint64_t)(n)*UINT64_C(1000000000))

static enum icmp_class
class_of(uint8_t family, uint8_t protocol, uint8_t type)
{
    if (family == 4 && protocol == ICMP)
        return type == 8                               ? ECHO_REQUEST
               : type == 0                             ? ECHO_REPLY
               : type == 3 || type == 11 || type == 12 ? ICMP_ERROR
                                                       : OTHER_ICMP;
    if (family == 6 && protocol == ICMPV6)
        return type == 128              ? ECHO_REQUEST
               : type == 129            ? ECHO_REPLY
               : type >= 1 && type <= 4 ? ICMP_ERROR
                                        : OTHER_ICMP;
    return NOT_ICMP;
}

static bool
has_ports(uint8_t protocol)
{
    return protocol == TCP || protocol == UDP || protocol == DCCP || protocol == SCTP ||
           protocol == UDPLITE;
}

/** One end of a conversation. */
struct end {
    uint64_t address[2];
    uint32_t jail;
    uint16_t port;
};

static bool
comes_first(const struct end *a, const struct end *b)
{
    if (a->address[0] != b->address[0])
        return a->address[0] < b->address[0];
    if (a->address[1] != b->address[1])
        return a->address[1] < b->address[1];
    if (a->jail != b->jail)
        return a->jail < b->jail;
    return a->port <= b->port;
}

/** Put both ends in the key, in an order of their own. Return: which of them speaks. */
static uint8_t
make_key(const struct end *speaker, const struct end *other, uint8_t protocol,
         struct connection_key *key)
{
    uint8_t end = comes_first(speaker, other) ? 0 : 1;
    const struct end *ends[2] = {end == 0 ? speaker : other, end == 0 ? other : speaker};

    *key = (struct connection_key){.protocol = protocol};
    for (int i = 0; i < 2; i++) {
        memcpy(key->address[i], ends[i]->address, sizeof key->address[i]);
        key->jail[i] = ends[i]->jail;
        key->port[i] = ends[i]->port;
    }
    return end;
}

static void
key_of_flow(const struct seen *seen, uint16_t source_port, uint16_t destination_port,
            struct standing *standing)
{
    const struct flow *flow = seen->flow;
    struct end speaker = {.jail = flow->from, .port = source_port};
    struct end other = {.jail = flow->to, .port = destination_port};

    memcpy(speaker.address, seen->source, sizeof speaker.address);
    memcpy(other.address, seen->destination, sizeof other.address);
    standing->end = make_key(&speaker, &other, flow->protocol, &standing->key);
    standing->keyed = true;
}

static bool
is_opening(const struct flow *flow, enum icmp_class icmp)
{
    if (flow->protocol == TCP) {
        uint8_t flags = flow->tcp_flags & (SYN | ACK | FIN | RST);
        return flags == SYN || flags == ACK;
    }
    return icmp != ECHO_REPLY;
}

static bool
is_over(const struct connection *connection)
{
    return connection->reset || connection->finished == (1 << FORTH | 1 << BACK);
}

/** Whether the opening packet passed every chain on its way: OUT of a jail, IN to another. */
static bool
is_confirmed(const struct connection *connection)
{
    const uint32_t *jail = connection->key.jail;
    uint8_t needed = (uint8_t)((jail[connection->opener] != 0 ? 1u << OUT : 0) |
                               (jail[!connection->opener] != 0 ? 1u << IN : 0));

    return (needed & ~connection->passed) == 0;
}

/** Whether a packet starts a conversation anew, where one between the same ends is over. */
static bool
starts_anew(const struct connection *connection, const struct flow *flow)
{
    return flow->protocol == TCP && (flow->tcp_flags & (SYN | ACK | RST | FIN)) == SYN &&
           is_over(connection);
}

/** What a packet can be without a connection. */
static void
stand_alone(struct standing *standing, const struct flow *flow, enum icmp_class icmp)
{
    standing->connection = NULL;
    standing->state = is_opening(flow, icmp) ? STATE_NEW : STATE_INVALID;
}

static void
stand_in_talk(struct connections *table, const struct seen *seen, enum icmp_class icmp,
              uint64_t now_ns, struct standing *standing)
{
    const struct flow *flow = seen->flow;
    bool ports = has_ports(flow->protocol) || icmp != NOT_ICMP;

    key_of_flow(seen, ports ? flow->source_port : 0, ports ? flow->destination_port : 0, standing);
    uint8_t asker = icmp == ECHO_REPLY ? !standing->end : standing->end;
    if (icmp != NOT_ICMP)
        standing->key.kind = asker == 0 ? ECHO_BY_FIRST : ECHO_BY_SECOND;
    struct connection *connection = connections_find(table, &standing->key, now_ns);
    if (connection == NULL || starts_anew(connection, flow)) {
        stand_alone(standing, flow, icmp);
        return;
    }
    standing->way = connection->opener == standing->end ? FORTH : BACK;
    standing->connection = connection;
    if (standing->way == BACK && !is_confirmed(connection))
        stand_alone(standing, flow, icmp);
    else
        standing->state =
            standing->way == BACK || connection->replied ? STATE_ESTABLISHED : STATE_NEW;
}

static bool
is_remembered(struct connections *table, const struct connection_key *key, uint64_t now_ns)
{
    const struct connection *connection = connections_find(table, key, now_ns);

    return connection != NULL && is_confirmed(connection);
}

/** Whether an ICMP error speaks to the sender of a packet that we let through. */
static bool
is_related(struct connections *table, const struct flow *flow, uint64_t now_ns)
{
    const struct flow_quoted *quoted = &flow->quoted;
    bool icmp = quoted->protocol == (flow->family == 4 ? ICMP : ICMPV6);
    bool ports = has_ports(quoted->protocol) || icmp;
    struct end speaker = {.jail = flow->to, .port = ports ? quoted->source_port : 0};
    struct end other = {.jail = flow->from, .port = ports ? quoted->destination_port : 0};
    struct connection_key key;

    if (!quoted->present || memcmp(quoted->source, flow->destination, 16) != 0)
        return false;
    rulematch_words(quoted->source, speaker.address);
    rulematch_words(quoted->destination, other.address);
    make_key(&speaker, &other, quoted->protocol, &key);
    if (!icmp)
        return is_remembered(table, &key, now_ns);
    key.kind = ECHO_BY_FIRST;
    if (is_remembered(table, &key, now_ns))
        return true;
    key.kind = ECHO_BY_SECOND;
    return is_remembered(table, &key, now_ns);
}

/** tracking_stand() - find out where a packet stands; nothing is remembered yet. */
void
tracking_stand(struct connections *table, const struct seen *seen, uint64_t now_ns,
               struct standing *standing)
{
    const struct flow *flow = seen->flow;
    enum icmp_class icmp = class_of(flow->family, flow->protocol, flow->icmp_type);

    standing->connection = NULL;
    standing->keyed = false;
    if (icmp == OTHER_ICMP)
        standing->state = STATE_NEW;
    else if (icmp == ICMP_ERROR)
        standing->state = is_related(table, flow, now_ns) ? STATE_RELATED : STATE_INVALID;
    else
        stand_in_talk(table, seen, icmp, now_ns, standing);
}

/** How long a connection lives after a packet: RFC 5382 asks for 2 h 4 min of TCP, RFC 4787 for
 * two minutes of UDP. */
static uint64_t
life_of(const struct connection *connection)
{
    switch (connection->key.protocol) {
    case TCP:
        return is_over(connection) ? SECONDS(10) : SECONDS(connection->replied ? 7440 : 60);
    case UDP:
    case UDPLITE:
        return SECONDS(connection->replied ? 180 : 30);
    case ICMP:
    case ICMPV6:
        return SECONDS(30);
    default:
        return SECONDS(connection->replied ? 600 : 60);
    }
}

static uint32_t
owner_of(const struct flow *flow)
{
    return flow->from != 0 ? flow->from : flow->to;
}

/** Remember a conversation that this packet opens, in the place of one that is over or never came
 * about. */
static struct connection *
open_talk(struct connections *table, const struct standing *standing, const struct flow *flow,
          uint64_t now_ns)
{
    struct connection *old = connections_find(table, &standing->key, now_ns);

    if (old != NULL)
        connections_remove(table, old);
    struct connection *opened = connections_add(table, &standing->key, owner_of(flow), now_ns);
    if (opened != NULL)
        opened->opener = standing->end;
    return opened;
}

/**
 * tracking_pass() - remember that a packet was accepted.
 * @standing: from tracking_stand() of the same packet; its connection is set
 *
 * Return: false where it opens a conversation for which there is no room.
 */
bool
tracking_pass(struct connections *table, struct standing *standing, const struct flow *flow,
              enum direction direction, uint64_t now_ns)
{
    struct connection *connection = standing->connection;

    if (!standing->keyed || (connection == NULL && standing->state != STATE_NEW))
        return true;
    if (connection == NULL) {
        connection = open_talk(table, standing, flow, now_ns);
        if (connection == NULL)
            return false;
        standing->connection = connection;
        standing->way = FORTH;
    }
    if (standing->way == FORTH)
        connection->passed |= (uint8_t)(1u << direction);
    else if (!connection->replied && direction == (flow->to != 0 ? IN : OUT)) {
        connections_reply(table, connection);
        memset(connection->decided, 0, sizeof connection->decided); /* the state is another */
    }
    if (flow->protocol == TCP) {
        connection->reset |= (flow->tcp_flags & RST) != 0;
        if (flow->tcp_flags & FIN)
            connection->finished |= (uint8_t)(1u << standing->way);
        if (is_over(connection))
            connections_end(table, connection);
    }
    connections_use(table, connection, now_ns, now_ns + life_of(connection));
    return true;
}

/** All fragments of a packet have one key: the addresses, the protocol, and its number. */
static void
stand_in_fragments(const struct seen *seen, struct standing *standing)
{
    uint32_t number = seen->flow->fragment_id;

    key_of_flow(seen, 0, 0, standing);
    standing->key.port[0] = (uint16_t)(number >> 16);
    standing->key.port[1] = (uint16_t)number;
    standing->key.kind = standing->end == 0 ? FRAGMENTS_OF_FIRST : FRAGMENTS_OF_SECOND;
}

/** tracking_first_fragment() - let the others follow. Return: false without room for that. */
bool
tracking_first_fragment(struct connections *table, const struct seen *seen,
                        enum direction direction, uint64_t now_ns)
{
    struct standing standing;

    stand_in_fragments(seen, &standing);
    struct connection *fragments = connections_find(table, &standing.key, now_ns);
    if (fragments == NULL)
        fragments = connections_add(table, &standing.key, owner_of(seen->flow), now_ns);
    if (fragments == NULL)
        return false;
    fragments->passed |= (uint8_t)(1u << direction);
    connections_use(table, fragments, now_ns, now_ns + SECONDS(30));
    return true;
}

/** tracking_later_fragment() - Return: whether the first one was accepted in this direction. */
bool
tracking_later_fragment(struct connections *table, const struct seen *seen,
                        enum direction direction, uint64_t now_ns)
{
    struct standing standing;

    stand_in_fragments(seen, &standing);
    const struct connection *fragments = connections_find(table, &standing.key, now_ns);
    return fragments != NULL && (fragments->passed >> direction & 1) != 0;
}
