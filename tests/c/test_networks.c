/* test_networks.c - whose networks are whose, and which route a packet has. */
#include "networks.h"

#include <string.h>

#include "addresses.h"
#include "check.h"
#include "gateway.h"

/** 10.N.0.H as ::ffff:10.N.0.H. */
static void
address_of(uint8_t address[16], uint8_t network, uint8_t host)
{
    const uint8_t made[16] = {[10] = 0xff, 0xff, 10, network, 0, host};

    memcpy(address, made, sizeof(made));
}

static struct prefix
prefix_of(uint8_t network, uint8_t bits)
{
    struct prefix prefix = {.bits = (uint8_t)(96 + bits)};

    address_of(prefix.address, network, 0);
    return prefix;
}

static bool
holds(uint8_t bits, uint8_t network, uint8_t host)
{
    struct prefix prefix = prefix_of(0, bits);
    uint8_t address[16];

    address_of(address, network, host);
    return prefix_holds(&prefix, address);
}

static void
test_a_prefix_holds_what_begins_with_its_bits(void)
{
    CHECK(holds(32, 0, 0) && !holds(32, 0, 1));
    CHECK(holds(31, 0, 1) && !holds(31, 0, 2));
    CHECK(holds(15, 1, 9) && !holds(16, 1, 9) && !holds(15, 2, 9));
    CHECK(holds(0, 255, 255));

    struct prefix all = {.bits = 0};
    struct prefix one = {.bits = 128};
    uint8_t other[16] = {[15] = 1};
    CHECK(prefix_holds(&all, other) && !prefix_holds(&one, other));
}

static void
test_a_network_is_its_owners_alone(void)
{
    static struct networks networks;
    struct prefix wide = prefix_of(2, 15);
    struct prefix narrow = prefix_of(3, 24);
    struct prefix apart = prefix_of(4, 24);
    uint8_t inside[16];
    uint8_t outside[16];

    address_of(inside, 3, 9);
    address_of(outside, 9, 9);
    CHECK(networks_add(&networks, &wide, 7));
    CHECK(!networks_add(&networks, &narrow, 8) && networks_add(&networks, &narrow, 7));
    CHECK(networks_add(&networks, &apart, 8));
    CHECK(networks_owner(&networks, inside) == 7 && networks_owner(&networks, outside) == NOBODY);
    CHECK(networks_let(&networks, inside, 7) && !networks_let(&networks, inside, 8));
    CHECK(!networks_let(&networks, inside, 9) && networks_let(&networks, outside, 9));
    CHECK(!networks_let(&networks, outside, 7)); /* it has networks: only of these */
    networks_forget(&networks, 7);
    CHECK(networks.count == 1 && networks_owner(&networks, inside) == NOBODY);
    CHECK(networks_add(&networks, &narrow, 8));
}

static void
test_a_list_of_networks_is_bounded(void)
{
    static struct networks networks;
    struct prefix prefix = prefix_of(1, 24);

    for (size_t i = 0; i < MOST_NETWORKS; i++)
        CHECK(networks_add(&networks, &prefix, 1));
    CHECK(!networks_add(&networks, &prefix, 1));
    prefix.bits = 129;
    networks.count = 0;
    CHECK(!networks_add(&networks, &prefix, 1));
}

static void
test_the_first_route_that_matches_is_taken(void)
{
    static struct routes routes;
    struct packed_route packed = {.source_bits = 0, .destination_bits = 120, .family = 4};
    struct flow flow = {.family = 4};

    address_of(packed.destination, 5, 0);
    packed.port[1] = 1;
    CHECK(routes_add(&routes, &packed));
    packed.destination_bits = 104;
    packed.port[1] = 2;
    packed.family = 6;
    CHECK(routes_add(&routes, &packed));
    address_of(flow.destination, 5, 9);
    CHECK(routes_find(&routes, &flow) == &routes.list[0]);
    CHECK(routes.list[0].target.four.sin_port == htons(1));
    address_of(flow.destination, 6, 9);
    CHECK(routes_find(&routes, &flow) == &routes.list[1]);
    CHECK(routes.list[1].target.six.sin6_port == htons(2));
    flow.destination[12] = 11;
    CHECK(routes_find(&routes, &flow) == NULL);
    packed.source_bits = 129;
    CHECK(!routes_add(&routes, &packed));
    packed.source_bits = 0;
    while (routes.count < MOST_ROUTES)
        CHECK(routes_add(&routes, &packed));
    CHECK(!routes_add(&routes, &packed));
}

int
main(void)
{
    test_a_prefix_holds_what_begins_with_its_bits();
    test_a_network_is_its_owners_alone();
    test_a_list_of_networks_is_bounded();
    test_the_first_route_that_matches_is_taken();
    return checked("networks");
}
