/* test_firewall.c - tables that are refused, replacement, and connections when there are too many.
 */
#include "check.h"
#include "connections.h"
#include "firewall.h"
#include "ruletable.h"

#define SECOND UINT64_C(1000000000)
enum { TCP = 6, SOME = 2 };

/** A table of two rules of OUT, one network and one range of ports. */
struct example {
    struct ruletable_header head;
    struct ruletable_rule rules[SOME];
    struct ruletable_network network;
    struct ruletable_ports ports;
    uint8_t beyond[4]; /* padding, not part of the table */
};

enum { EXAMPLE = offsetof(struct example, beyond) };

static struct example
example(uint32_t connections, uint32_t per_jail)
{
    struct example e;

    memset(&e, 0, sizeof e);
    memcpy(e.head.magic, RULETABLE_MAGIC, sizeof e.head.magic);
    e.head.size = EXAMPLE;
    e.head.rules[OUT] = SOME;
    e.head.networks = e.head.ports = 1;
    e.head.connections = connections;
    e.head.per_jail = per_jail;
    e.head.policy[IN] = e.head.policy[OUT] = RULE_DROP;
    e.head.seed[0] = 1;
    for (int i = 0; i < SOME; i++) {
        e.rules[i].states = STATE_ANY;
        e.rules[i].identity = 100 + (uint64_t)i;
        e.rules[i].verdict = RULE_ACCEPT;
    }
    e.rules[0].protocols[0] = TCP;
    e.rules[0].protocol_count = 1;
    e.rules[0].flags = RULE_DESTINATION_PORT;
    e.rules[0].destination_ports.count = 1;
    e.rules[0].verdict = RULE_REJECT;
    e.ports = (struct ruletable_ports){25, 25};
    return e;
}

static int
load(const struct example *e, size_t size, struct firewall **firewall)
{
    const char *why = NULL;
    char *exact = exact_copy((const char *)e, size);
    int result = firewall_load(exact, size, firewall, &why);

    CHECK((result == 0) == (why == NULL));
    free(exact);
    return result;
}

static struct flow
packet(uint32_t from, uint16_t source_port, uint16_t destination_port)
{
    struct flow flow = {.from = from, .family = 4, .protocol = TCP, .length = 40};

    flow.source[10] = flow.source[11] = flow.destination[10] = flow.destination[11] = 0xff;
    flow.source[12] = 10;
    flow.source[14] = (uint8_t)(from >> 8);
    flow.source[15] = (uint8_t)from;
    flow.destination[12] = 192;
    flow.source_port = source_port;
    flow.destination_port = destination_port;
    flow.tcp_flags = FLOW_TCP_SYN;
    return flow;
}

static struct flow
answer(struct flow flow)
{
    struct flow back = flow;

    memcpy(back.source, flow.destination, 16);
    memcpy(back.destination, flow.source, 16);
    back.source_port = flow.destination_port;
    back.destination_port = flow.source_port;
    back.from = flow.to;
    back.to = flow.from;
    back.tcp_flags = FLOW_TCP_SYN | FLOW_TCP_ACK;
    return back;
}

#define REFUSED(change)                                                                           \
    do {                                                                                          \
        struct example e = example(16, 4);                                                        \
        change;                                                                                   \
        CHECK(load(&e, EXAMPLE, &firewall) == -1);                                                \
    } while (0)

static void
test_a_wrong_table_is_refused(void)
{
    struct firewall *firewall = NULL;
    struct example good = example(16, 4);

    for (size_t size = 0; size < EXAMPLE; size++)
        CHECK(load(&good, size, &firewall) == -1);
    CHECK(load(&good, EXAMPLE + 1, &firewall) == -1);
    REFUSED(e.head.magic[7]++);
    REFUSED(e.head.rules[IN] = UINT32_MAX);
    REFUSED(e.head.rules[OUT] = UINT32_MAX);
    REFUSED(e.head.networks = UINT32_MAX);
    REFUSED(e.head.ports = 2);
    REFUSED(e.head.connections = 17);
    REFUSED(e.head.connections = 1u << 31);
    REFUSED(e.head.per_jail = 0);
    REFUSED(e.head.per_jail = 17);
    REFUSED(e.head.policy[IN] = RULE_CONTINUE);
    REFUSED(e.head.connections = 0);
    REFUSED(e.rules[1].verdict = 4);
    REFUSED(e.rules[1].states = 16);
    REFUSED(e.rules[1].flags = RULE_FLAGS + 1);
    REFUSED(e.rules[1].family = 5);
    REFUSED(e.rules[1].protocol_count = RULETABLE_PROTOCOLS + 1);
    REFUSED(e.rules[1].flags = RULE_SOURCE_PORT);
    REFUSED(e.rules[1].flags = RULE_ICMP_TYPE);
    REFUSED(e.rules[1].source.value[0] = 1);
    REFUSED(e.rules[1].source_set.count = 2);
    REFUSED(e.rules[1].destination_set.first = UINT32_MAX);
    REFUSED(e.rules[1].source_ports.first = 2);
    REFUSED(e.rules[1].interval_ns = 1);
    REFUSED(e.rules[1].interval_ns = UINT64_MAX; e.rules[1].burst = 1);
    REFUSED(e.rules[1].source_set.count = 1; e.network.low[1] = 1);
    REFUSED(e.ports.low = 26);
    CHECK(firewall == NULL);
}

static void
test_a_bad_table_leaves_the_old_one_in_force(void)
{
    struct firewall *firewall = NULL;
    struct example good = example(16, 4);
    struct example bad = example(16, 4);
    struct flow flow = packet(1, 1000, 80);
    struct firewall_count count;

    bad.rules[1].verdict = 9;
    CHECK(load(&good, EXAMPLE, &firewall) == 0);
    CHECK(firewall_check(firewall, OUT, &flow, SECOND) == ACCEPT);
    CHECK(load(&bad, EXAMPLE, &firewall) == -1);
    CHECK(firewall_check(firewall, OUT, &flow, SECOND) == ACCEPT);
    CHECK(firewall_count(firewall, 1, &count) == 0);
    CHECK(count.packets == 2 && count.bytes == 80);
    firewall_free(firewall);
}

static void
test_rules_go_on_counting_in_the_next_table(void)
{
    struct firewall *firewall = NULL;
    struct example first = example(16, 4);
    struct example second = example(16, 4);
    struct flow flow = packet(1, 1000, 80);
    struct firewall_count count;

    CHECK(load(&first, EXAMPLE, &firewall) == 0);
    firewall_check(firewall, OUT, &flow, SECOND);
    second.rules[0] = first.rules[1];
    second.rules[1] = first.rules[0];
    CHECK(load(&second, EXAMPLE, &firewall) == 0);
    CHECK(firewall_count(firewall, 0, &count) == 0);
    CHECK(count.identity == 101 && count.packets == 1);
    CHECK(firewall_count(firewall, 1, &count) == 0);
    CHECK(count.identity == 100 && count.packets == 0);
    CHECK(firewall_restore(firewall, &(struct firewall_count){100, 7, 70}) == 0);
    CHECK(firewall_count(firewall, 1, &count) == 0);
    CHECK(count.packets == 7 && count.bytes == 70);
    CHECK(firewall_restore(firewall, &(struct firewall_count){99, 7, 70}) == -1);
    CHECK(firewall_count(firewall, firewall_size(firewall), &count) == -1);
    firewall_free(firewall);
}

/** The same, whose only rule of IN lets answers through. */
static struct example
stateful(uint32_t connections, uint32_t per_jail)
{
    struct example e = example(connections, per_jail);

    e.head.rules[IN] = e.head.rules[OUT] = 1;
    e.rules[0].flags = 0;
    e.rules[0].states = STATE_ESTABLISHED;
    e.rules[0].verdict = RULE_ACCEPT;
    return e;
}

static void
test_a_flood_takes_from_the_flooder_only(void)
{
    struct firewall *firewall = NULL;
    struct example e = stateful(1024, 256);
    struct flow quiet = packet(2, 1, 80);
    struct flow reply = answer(quiet);
    struct firewall_totals totals;

    e.rules[1].states = STATE_NEW;
    CHECK(load(&e, EXAMPLE, &firewall) == 0);
    CHECK(firewall_check(firewall, OUT, &quiet, SECOND) == ACCEPT);
    CHECK(firewall_check(firewall, IN, &reply, SECOND) == ACCEPT);
    for (uint32_t i = 0; i < 1000000; i++) {
        struct flow flood = packet(1, (uint16_t)i, (uint16_t)(1000 + (i >> 16)));
        firewall_check(firewall, OUT, &flood, SECOND);
    }
    firewall_totals(firewall, &totals);
    CHECK(totals.connections <= 257);
    CHECK(firewall_check(firewall, IN, &reply, SECOND) == ACCEPT);
    for (uint32_t jail = 3; jail < 100; jail++) {
        struct flow neighbour = packet(jail, 5, 80);
        struct flow its_reply = answer(neighbour);
        CHECK(firewall_check(firewall, OUT, &neighbour, SECOND) == ACCEPT);
        CHECK(firewall_check(firewall, IN, &its_reply, SECOND) == ACCEPT);
    }
    firewall_free(firewall);
}

/** Let a jail speak to a port of a server, and have its answer where `answered`. */
static enum verdict
talk(struct firewall *firewall, uint32_t jail, uint16_t port, bool answered, uint64_t now)
{
    struct flow flow = packet(jail, port, 80);
    struct flow reply = answer(flow);
    enum verdict verdict = firewall_check(firewall, OUT, &flow, now);

    if (answered && verdict == ACCEPT)
        CHECK(firewall_check(firewall, IN, &reply, now) == ACCEPT);
    return verdict;
}

static void
test_a_jail_at_its_own_cap_loses_its_new_connections_only(void)
{
    static uint32_t caps[FLOW_JAILS] = {[1] = 2, [4] = 2};
    struct firewall *firewall = NULL;
    struct example e = stateful(1024, 256);
    struct flow ends = packet(1, 10, 80);
    struct flow first = packet(1, 11, 80);

    CHECK(load(&e, EXAMPLE, &firewall) == 0);
    firewall_caps(firewall, caps);
    CHECK(talk(firewall, 1, 10, true, SECOND) == ACCEPT);
    CHECK(talk(firewall, 1, 11, true, SECOND) == ACCEPT);
    for (uint16_t port = 12; port < 100; port++) {
        CHECK(talk(firewall, 1, port, true, SECOND) == DROP);
        CHECK(firewall_had_no_room(firewall));
    }
    CHECK(talk(firewall, 2, 10, true, SECOND) == ACCEPT); /* another jail, without a cap */
    CHECK(!firewall_had_no_room(firewall));
    CHECK(firewall_check(firewall, OUT, &first, SECOND) == ACCEPT);
    ends.tcp_flags = FLOW_TCP_RST | FLOW_TCP_ACK;
    CHECK(firewall_check(firewall, OUT, &ends, SECOND) == ACCEPT);
    CHECK(talk(firewall, 1, 12, true, SECOND) == ACCEPT); /* one is over */
    CHECK(talk(firewall, 1, 13, true, SECOND) == DROP);
    CHECK(talk(firewall, 1, 13, true, 8000 * SECOND) == ACCEPT); /* time is over */
    for (uint16_t port = 20; port < 100; port++) /* nobody answers: the oldest makes room */
        CHECK(talk(firewall, 4, port, false, SECOND) == ACCEPT);
    e = stateful(2048, 256);
    CHECK(load(&e, EXAMPLE, &firewall) == 0); /* with another table of connections */
    for (uint16_t port = 10; port < 12; port++)
        CHECK(talk(firewall, 1, port, true, SECOND) == ACCEPT);
    CHECK(talk(firewall, 1, 12, true, SECOND) == DROP);
    firewall_free(firewall);
}

static void
test_notes_of_a_rule_have_a_rate_and_the_rest_is_counted(void)
{
    struct firewall *firewall = NULL;
    struct example e = example(16, 4);
    struct flow flow = packet(1, 1000, 80);
    struct flow refused = packet(1, 1000, 25);
    struct firewall_note note;
    int notes = 0;

    e.rules[0].flags |= RULE_LOG;
    e.rules[1].flags = RULE_LOG;
    CHECK(load(&e, EXAMPLE, &firewall) == 0);
    firewall_limit_notes(firewall, SECOND / 10, 10);
    for (uint64_t i = 0; i < 1000; i++) /* in a second */
        CHECK(firewall_check(firewall, OUT, &flow, SECOND + i * SECOND / 1000) == ACCEPT);
    CHECK(firewall_check(firewall, OUT, &refused, 2 * SECOND) == REJECT);
    while (firewall_note(firewall, &note)) {
        notes++;
        CHECK(note.identity == 100 + note.rule);
        CHECK(note.verdict == (note.rule == 0 ? REJECT : ACCEPT));
    }
    CHECK(notes == 19 + 1);
    CHECK(!firewall_has_notes(firewall));
    CHECK(firewall_lost_notes(firewall) == 981);
    CHECK(load(&e, EXAMPLE, &firewall) == 0); /* the same rules go on */
    CHECK(firewall_take_lost(firewall, 0) == 0);
    CHECK(firewall_take_lost(firewall, 1) == 981);
    CHECK(firewall_lost_notes(firewall) == 0);
    firewall_put_lost(firewall, 1, 3);
    CHECK(firewall_lost_notes(firewall) == 3);
    firewall_free(firewall);
}

static void
test_a_full_bucket_gives_to_who_holds_less(void)
{
    uint64_t seed[2] = {1, 2};
    struct connections *table = connections_make(16, 16, seed);
    struct connection_key key;

    memset(&key, 0, sizeof key);
    CHECK(table != NULL);
    for (uint16_t i = 0; table != NULL && i < 16; i++) {
        key.port[0] = i;
        struct connection *added = connections_add(table, &key, i < 14 ? 1 : 2, SECOND);
        CHECK(added != NULL);
        connections_use(table, added, SECOND, 100 * SECOND);
    }
    key.port[0] = 16;
    struct connection *third = connections_add(table, &key, 3, SECOND);
    CHECK(third != NULL);
    connections_use(table, third, SECOND, 100 * SECOND);
    CHECK(connections_evicted(table) == 1);
    for (uint16_t i = 14; i < 17; i++) {
        key.port[0] = i;
        CHECK(connections_find(table, &key, SECOND) != NULL);
    }
    CHECK(connections_find(table, &key, 101 * SECOND) == NULL);
    connections_forget(table, 0);
    CHECK(connections_count(table) == 0);
    connections_free(table);
}

static void
test_a_jail_that_is_gone_is_forgotten(void)
{
    struct firewall *firewall = NULL;
    struct example e = example(16, 4);
    struct flow flow = packet(1, 1000, 80);
    struct firewall_totals totals;

    CHECK(load(&e, EXAMPLE, &firewall) == 0);
    firewall_check(firewall, OUT, &flow, SECOND);
    firewall_totals(firewall, &totals);
    CHECK(totals.connections == 1);
    firewall_forget(firewall, 1);
    firewall_totals(firewall, &totals);
    CHECK(totals.connections == 0);
    firewall_free(firewall);
}

static void
test_what_cannot_be_is_dropped(void)
{
    struct firewall *firewall = NULL;
    struct example e = example(16, 4);
    struct flow flow = packet(1, 1000, 80);
    struct flow wrong;
    struct firewall_totals totals;

    CHECK(load(&e, EXAMPLE, &firewall) == 0);
    wrong = flow;
    wrong.family = 6;
    CHECK(firewall_check(firewall, OUT, &wrong, SECOND) == DROP);
    wrong = flow;
    wrong.family = 0;
    CHECK(firewall_check(firewall, OUT, &wrong, SECOND) == DROP);
    wrong = flow;
    wrong.from = FLOW_JAILS;
    CHECK(firewall_check(firewall, OUT, &wrong, SECOND) == DROP);
    wrong = flow;
    memcpy(wrong.source, wrong.destination, 16);
    CHECK(firewall_check(firewall, OUT, &wrong, SECOND) == DROP);
    firewall_totals(firewall, &totals);
    CHECK(totals.impossible == 4 && totals.dropped == 4 && totals.accepted == 0);
    firewall_free(firewall);
}

int
main(void)
{
    test_a_wrong_table_is_refused();
    test_a_bad_table_leaves_the_old_one_in_force();
    test_rules_go_on_counting_in_the_next_table();
    test_a_flood_takes_from_the_flooder_only();
    test_a_jail_at_its_own_cap_loses_its_new_connections_only();
    test_notes_of_a_rule_have_a_rate_and_the_rest_is_counted();
    test_a_full_bucket_gives_to_who_holds_less();
    test_a_jail_that_is_gone_is_forgotten();
    test_what_cannot_be_is_dropped();
    return checked("firewall");
}
