/* test_packet.c - packets: what is believed, what is refused and why, checksums, segments. */
#include "addresses.h"
#include "bucket.h"
#include "check.h"
#include "offload.h"
#include "queue.h"
#include "reject.h"

#include <netinet/in.h>

static struct flow flow;
static struct layout layout;

/** Parse bytes that end where they end. */
static enum drop
parse(const uint8_t *bytes, size_t size)
{
    char *copy = exact_copy((const char *)bytes, size);
    struct packet packet = {(const uint8_t *)copy, size};
    enum drop drop = packet_parse(&packet, &flow, &layout);

    free(copy);
    return drop;
}

/** An IPv4 packet of `size` bytes from 10.0.0.2 to 10.0.0.1. */
static void
make_v4(uint8_t *bytes, size_t size, uint8_t protocol)
{
    static const uint8_t ends[8] = {10, 0, 0, 2, 10, 0, 0, 1};

    memset(bytes, 0, size);
    bytes[0] = 0x45;
    store16(bytes + 2, (uint16_t)size);
    bytes[8] = 64;
    bytes[9] = protocol;
    memcpy(bytes + 12, ends, sizeof(ends));
}

static void
make_tcp(uint8_t *bytes, size_t size)
{
    make_v4(bytes, size, IPPROTO_TCP);
    store16(bytes + 20, 1000);
    store16(bytes + 22, 80);
    bytes[32] = 0x50;
    bytes[33] = FLOW_TCP_SYN;
}

static void
test_lengths(void)
{
    uint8_t bytes[60];

    make_tcp(bytes, 60);
    CHECK(parse(bytes, 60) == DROP_NOT);
    CHECK(flow.source_port == 1000 && flow.destination_port == 80);
    CHECK(flow.tcp_flags == FLOW_TCP_SYN && flow.length == 60);
    for (size_t size = 0; size < 60; size++)
        CHECK(parse(bytes, size) == DROP_MALFORMED);
    bytes[0] = 0x44;
    CHECK(parse(bytes, 60) == DROP_MALFORMED);
    bytes[0] = 0x4f; /* 40 bytes of options, all the end of the list: then there is no TCP */
    CHECK(parse(bytes, 60) == DROP_MALFORMED);
    bytes[0] = 0x75;
    CHECK(parse(bytes, 60) == DROP_MALFORMED);
    make_tcp(bytes, 60);
    bytes[32] = 0x40;
    CHECK(parse(bytes, 60) == DROP_MALFORMED);
    bytes[32] = 0xf0;
    CHECK(parse(bytes, 60) == DROP_MALFORMED);
}

static void
test_source_routes(void)
{
    uint8_t bytes[48];

    for (unsigned kind = 0; kind < 256; kind++) {
        make_v4(bytes, 48, 200);
        bytes[0] = 0x47;
        bytes[20] = (uint8_t)kind;
        bytes[21] = 8;
        enum drop wanted = kind == 131 || kind == 137 ? DROP_MALFORMED : DROP_NOT;
        if (kind == 1) /* after it comes an option that has no length */
            wanted = DROP_MALFORMED;
        CHECK(parse(bytes, 48) == wanted);
    }
    bytes[20] = 7;
    bytes[21] = 9; /* beyond the header */
    CHECK(parse(bytes, 48) == DROP_MALFORMED);
}

static void
test_fragments(void)
{
    uint8_t bytes[60];

    make_tcp(bytes, 60);
    store16(bytes + 6, 0x2000);
    CHECK(parse(bytes, 60) == DROP_NOT && flow.first_fragment);
    make_tcp(bytes, 36); /* 16 bytes of TCP */
    store16(bytes + 6, 0x2000);
    CHECK(parse(bytes, 36) == DROP_FRAGMENT);
    for (uint16_t offset = 1; offset < 5; offset++) {
        make_v4(bytes, 60, IPPROTO_TCP);
        store16(bytes + 6, offset);
        CHECK(parse(bytes, 60) == (offset < 3 ? DROP_FRAGMENT : DROP_NOT));
    }
    CHECK(flow.not_first_fragment && flow.source_port == 0);
    store16(bytes + 6, 0x1fff); /* it would end beyond 65,535 */
    CHECK(parse(bytes, 60) == DROP_FRAGMENT);
    store16(bytes + 6, 0x2003);
    CHECK(parse(bytes, 60) == DROP_NOT);
    make_v4(bytes, 59, IPPROTO_UDP); /* more to come, and no multiple of 8 */
    store16(bytes + 6, 0x2003);
    CHECK(parse(bytes, 59) == DROP_FRAGMENT);
}

/** An IPv6 packet whose chain is `chain`, each of 8 bytes, and then UDP. */
static enum drop
parse_chain(const uint8_t *chain, size_t count)
{
    uint8_t bytes[40 + 8 * 40 + 8] = {0x60};
    size_t size = 40 + 8 * count + 8;

    store16(bytes + 4, (uint16_t)(size - 40));
    bytes[6] = count ? chain[0] : IPPROTO_UDP;
    bytes[8] = bytes[24] = 0xfd;
    for (size_t i = 0; i < count; i++)
        bytes[40 + 8 * i] = i + 1 < count ? chain[i + 1] : IPPROTO_UDP;
    store16(bytes + size - 4, 8);
    return parse(bytes, size);
}

static void
test_extensions(void)
{
    CHECK(parse_chain(NULL, 0) == DROP_NOT && layout.transport == 40);
    CHECK(parse_chain((uint8_t[]){0, 60}, 2) == DROP_NOT && layout.transport == 56);
    CHECK(parse_chain((uint8_t[]){60, 0}, 2) == DROP_EXTENSION);
    CHECK(parse_chain((uint8_t[]){43}, 1) == DROP_EXTENSION);
    CHECK(parse_chain((uint8_t[]){44}, 1) == DROP_NOT); /* an atomic fragment: RFC 6946 */
    CHECK(parse_chain((uint8_t[]){44, 60}, 2) == DROP_EXTENSION);
    CHECK(parse_chain((uint8_t[]){44, 44}, 2) == DROP_EXTENSION);
    CHECK(parse_chain((uint8_t[]){60, 60, 60, 60}, 4) == DROP_NOT);
    CHECK(parse_chain((uint8_t[]){60, 60, 60, 60, 60}, 5) == DROP_EXTENSION);
}

static void
test_mapped_addresses(void)
{
    uint8_t bytes[48] = {0x60, [5] = 8, [6] = 17, [18] = 0xff, [19] = 0xff, [24] = 0xfd, [45] = 8};

    CHECK(parse(bytes, 48) == DROP_MALFORMED);
    bytes[18] = 0;
    CHECK(parse(bytes, 48) == DROP_NOT);
}

static void
test_checksum_places(void)
{
    uint8_t bytes[60];
    struct virtio_net_hdr header = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 20, .csum_offset = 16};
    struct virtio_net_hdr wanted = header;

    make_tcp(bytes, 60);
    CHECK(parse(bytes, 60) == DROP_NOT);
    CHECK(offload_check(&header, &flow, &layout, false));
    CHECK(memcmp(&header, &wanted, sizeof(header)) == 0);
    header.csum_start = 0; /* the sum would be written over the source */
    header.csum_offset = 12;
    CHECK(!offload_check(&header, &flow, &layout, false));
    header = wanted;
    header.gso_type = VIRTIO_NET_HDR_GSO_TCPV6;
    header.gso_size = 10;
    CHECK(!offload_check(&header, &flow, &layout, false));
    header.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
    CHECK(offload_check(&header, &flow, &layout, false));
    header.gso_size = 0;
    CHECK(!offload_check(&header, &flow, &layout, false));
}

static void
test_congestion_is_said_of_tcp_alone(void)
{
    uint8_t bytes[60];
    struct virtio_net_hdr tcp = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                 .gso_type = VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN,
                                 .gso_size = 10,
                                 .csum_start = 20,
                                 .csum_offset = 16};
    struct virtio_net_hdr udp = tcp;

    make_tcp(bytes, 60);
    CHECK(parse(bytes, 60) == DROP_NOT);
    CHECK(offload_check(&tcp, &flow, &layout, false));
    make_v4(bytes, 60, IPPROTO_UDP);
    store16(bytes + 24, 40);
    CHECK(parse(bytes, 60) == DROP_NOT);
    udp.csum_offset = 6;
    udp.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4 | VIRTIO_NET_HDR_GSO_ECN;
    CHECK(!offload_check(&udp, &flow, &layout, false));
    udp.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
    CHECK(offload_check(&udp, &flow, &layout, false));
}

/** The Internet checksum, slowly: of what is right the sum is all ones. */
static uint16_t
slow_sum(const uint8_t *bytes, size_t size, uint32_t sum)
{
    for (size_t i = 0; i < size; i++)
        sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

struct seen {
    size_t count;
    size_t payload;
    uint32_t sequence;
    uint8_t last_flags;
};

static bool
see_segment(void *context, const uint8_t *bytes, size_t size)
{
    struct seen *seen = context;
    uint32_t pseudo = slow_sum(bytes + 12, 8, IPPROTO_TCP + (uint32_t)(size - 20));

    CHECK(load16(bytes + 2) == size);
    CHECK(load16(bytes + 4) == seen->count);
    CHECK(load32(bytes + 24) == 100 + seen->payload);
    CHECK(slow_sum(bytes, 20, 0) == 0xffff);
    CHECK(slow_sum(bytes + 20, size - 20, pseudo) == 0xffff);
    seen->count++;
    seen->payload += size - 40;
    seen->last_flags = bytes[33];
    return true;
}

static void
test_segments(void)
{
    uint8_t bytes[40 + 3001];
    uint8_t scratch[sizeof(bytes)];
    struct virtio_net_hdr header = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                    .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                    .gso_size = 1000,
                                    .csum_start = 20,
                                    .csum_offset = 16};
    struct seen seen = {0};

    make_tcp(bytes, sizeof(bytes));
    for (size_t i = 40; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7);
    store32(bytes + 24, 100);
    bytes[33] = 0x19;
    CHECK(parse(bytes, sizeof(bytes)) == DROP_NOT);
    CHECK(offload_check(&header, &flow, &layout, false));
    offload_finish(&header, &flow, &layout, bytes, scratch, see_segment, &seen);
    CHECK(seen.count == 4 && seen.payload == 3001 && seen.last_flags == 0x19);
}

static void
test_answers_to_rejected(void)
{
    uint8_t bytes[60];
    uint8_t answer[REJECT_LARGEST];
    uint8_t scratch[REJECT_LARGEST];
    struct packet packet = {bytes, sizeof(bytes)};

    make_tcp(bytes, 60);
    store32(bytes + 24, 100);
    CHECK(parse(bytes, 60) == DROP_NOT);
    CHECK(reject_answer(&packet, &flow, &layout, answer) == 40);
    CHECK(answer[33] == (FLOW_TCP_RST | FLOW_TCP_ACK) && load32(answer + 28) == 121);
    CHECK(slow_sum(answer, 20, 0) == 0xffff);
    CHECK(slow_sum(answer + 20, 20, slow_sum(answer + 12, 8, IPPROTO_TCP + 20)) == 0xffff);
    CHECK(parse(answer, 40) == DROP_NOT && flow.source_port == 80);
    CHECK(reject_answer(&(struct packet){answer, 40}, &flow, &layout, scratch) == 0);

    make_v4(bytes, 60, IPPROTO_UDP);
    store16(bytes + 24, 40);
    CHECK(parse(bytes, 60) == DROP_NOT);
    CHECK(reject_answer(&packet, &flow, &layout, answer) == 20 + 8 + 60);
    CHECK(answer[20] == 3 && answer[21] == 13 && slow_sum(answer + 20, 68, 0) == 0xffff);
    CHECK(parse(answer, 88) == DROP_NOT && flow.quoted.present);
    CHECK(reject_answer(&(struct packet){answer, 88}, &flow, &layout, answer) == 0);
}

static void
test_addresses(void)
{
    struct addresses addresses;
    uint8_t address[16] = {0};

    CHECK(addresses_init(&addresses, 7) == 0);
    for (uint32_t i = 0; i < 3000; i++) {
        store32(address, i);
        CHECK(addresses_add(&addresses, address, i % 100));
        CHECK(!addresses_add(&addresses, address, i % 100 + 1));
    }
    addresses_forget(&addresses, 42);
    for (uint32_t i = 0; i < 3000; i++) {
        store32(address, i);
        CHECK(addresses_owner(&addresses, address) == (i % 100 == 42 ? NOBODY : i % 100));
    }
    addresses_free(&addresses);
}

static void
test_bucket(void)
{
    struct bucket bucket;
    uint64_t passed = 0;

    bucket_init(&bucket, 1000000, 0, 0);
    for (uint64_t now = 0; now < 5000000000U; now += 100000) {
        while (bucket_is_open(&bucket, now)) {
            bucket_take(&bucket, 60000);
            passed += 60000;
        }
    }
    CHECK(passed > 4950000 && passed < 5100000);
}

static void
test_queue(void)
{
    struct queue queue;
    uint8_t in = 0;
    uint8_t out = 0;
    int moves = 0;

    CHECK(queue_init(&queue, 100) == 0);
    CHECK(queue_room(&queue, 60) != NULL && queue_room(&queue, 41) == NULL);
    CHECK(queue_room(&queue, 40) != NULL && queue_length(&queue) == 100);
    while (in < 100) {
        queue.bytes[in] = in;
        in++;
    }
    for (int i = 0; i < 5000; i++) { /* it stays full, and yet it is seldom moved */
        CHECK(queue.bytes[queue.head] == out++);
        queue_drop(&queue, 1);
        uint8_t *place = queue_room(&queue, 1);
        CHECK(place != NULL);
        *place = in++;
        moves += queue.head == 0;
    }
    CHECK(moves > 0 && moves <= 5000 / 100);
    queue_drop(&queue, 100);
    CHECK(queue.tail == 0);
    queue_free(&queue);
}

int
main(void)
{
    test_lengths();
    test_source_routes();
    test_fragments();
    test_extensions();
    test_mapped_addresses();
    test_checksum_places();
    test_congestion_is_said_of_tcp_alone();
    test_segments();
    test_answers_to_rejected();
    test_addresses();
    test_bucket();
    test_queue();
    return checked("packet");
}
