/* test_plane.c - turns of the plane: what each port is given of one. */
#include "plane.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "ruletable.h"

#define SMALLEST 28 /* an IPv4 header and a UDP header */

static struct plane plane;

/** Write a frame with an empty datagram of 10.7.0.`source`. Return: the bytes behind it. */
static uint8_t *
write_frame_of(uint8_t *at, uint8_t source)
{
    static const uint8_t packet[SMALLEST] = {
        0x45, 0, 0, SMALLEST, 0, 1, 0, 0, 64, 17, 0, 0, 10, 7, 0, 0, 10, 7, 0, 1, /* IPv4 */
        0,    9, 0, 9,        0, 8, 0, 0,                                         /* UDP */
    };
    static const uint8_t header[FRAME_HEADER] = {0, SMALLEST, 0, 0};

    memcpy(at, header, sizeof(header));
    memcpy(at + sizeof(header), packet, sizeof(packet));
    at[sizeof(header) + 15] = source;
    return at + sizeof(header) + sizeof(packet);
}

static uint8_t *
write_frame(uint8_t *at)
{
    return write_frame_of(at, 2);
}

enum { PORTS = 3, FRAMES = 1000, SHARE = TURN_SHARE / PACKET_COST + 1 };

/** A router of the host (port 0) and two peers, and the peers' ends. */
struct router {
    struct counters *counters;
    int near[PORTS];
    int far[PORTS];
};

/** Make one whose only rule, of the way out, accepts and has these flags. */
static struct router
make_router(uint32_t flags)
{
    struct router router = {.counters = calloc(PLANE_PORTS, sizeof(*router.counters))};
    struct {
        struct ruletable_header head;
        struct ruletable_rule rule;
    } table;
    const char *why = NULL;

    memset(&table, 0, sizeof(table));
    memcpy(table.head.magic, RULETABLE_MAGIC, sizeof(table.head.magic));
    table.head.size = sizeof(table);
    table.head.rules[OUT] = 1;
    table.rule.states = STATE_ANY;
    table.rule.identity = 7;
    table.rule.flags = flags;
    CHECK(router.counters != NULL && plane_init(&plane, router.counters, 1, false) == 0);
    CHECK(firewall_load(&table, sizeof(table), &plane.firewall, &why) == 0);
    firewall_limit_notes(plane.firewall, NOTE_INTERVAL_NS, NOTE_BURST);
    for (uint32_t i = 0; i < PORTS; i++) {
        uint8_t address[16] = {[10] = 0xff, [11] = 0xff, 10, 7, 0, (uint8_t)(i + 1)};
        int pair[2];

        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
        CHECK(plane_add(&plane, i, pair[0], PORT_STREAM) != NULL);
        CHECK(addresses_add(&plane.addresses, address, i));
        router.near[i] = pair[0];
        router.far[i] = pair[1];
    }
    return router;
}

static void
free_router(struct router *router)
{
    plane_free(&plane);
    for (int i = 0; i < PORTS; i++) {
        close(router->near[i]);
        close(router->far[i]);
    }
    free(router->counters);
}

/** Have a peer send so many datagrams. */
static void
send_frames(const struct router *router, uint32_t port, size_t count)
{
    uint8_t bytes[FRAMES * (FRAME_HEADER + SMALLEST)];
    uint8_t *end = bytes;

    for (size_t i = 0; i < count; i++)
        end = write_frame_of(end, (uint8_t)(port + 1));
    CHECK(send(router->far[port], bytes, (size_t)(end - bytes), MSG_DONTWAIT) == end - bytes);
}

static void
test_a_flood_is_before_a_neighbours_packet_with_one_share_at_most(void)
{
    struct router router = make_router(0);
    struct counters *counters = router.counters;

    send_frames(&router, 1, FRAMES);
    CHECK(plane_turn(&plane) == 0);
    for (uint64_t sent = 1; sent <= 5; sent++) {
        uint64_t before = counters[1].out_packets;

        send_frames(&router, 2, 1);
        for (int turns = 0; turns < 3 && counters[2].out_packets < sent; turns++)
            CHECK(plane_turn(&plane) == 0);
        CHECK(counters[2].out_packets == sent);
        CHECK(counters[1].out_packets - before <= SHARE);
    }
    CHECK(counters[1].out_packets < FRAMES); /* it was a flood all the time */
    free_router(&router);
}

static void
test_what_a_rule_notes_is_sent_and_what_finds_no_room_is_counted(void)
{
    struct router router = make_router(RULE_LOG);
    struct note notes[NOTES_AT_ONCE];
    int told[2];

    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, told) == 0);
    plane.notes = told[0];
    send_frames(&router, 1, 3);
    CHECK(plane_turn(&plane) == 0);
    CHECK(recv(told[1], notes, sizeof(notes), MSG_DONTWAIT) == 3 * (ssize_t)sizeof(notes[0]));
    CHECK(notes[2].identity == 7 && notes[2].more == 0 && notes[2].flow.from == 1);
    CHECK(notes[2].direction == OUT && notes[2].verdict == ACCEPT);
    while (send(told[0], notes, sizeof(notes), MSG_DONTWAIT) > 0)
        ; /* nobody reads */
    send_frames(&router, 2, 20);
    CHECK(plane_turn(&plane) == 0);
    CHECK(router.counters[2].out_packets == 20);
    CHECK(firewall_lost_notes(plane.firewall) == 20);
    CHECK(notes_patience(&plane, -1) > 0 && notes_patience(&plane, -1) <= 1001);
    CHECK(notes_patience(&plane, 1) == 1);
    while (recv(told[1], notes, sizeof(notes), MSG_DONTWAIT) > 0)
        ;
    plane.now += LOST_EVERY_NS;
    notes_send(&plane);
    CHECK(recv(told[1], notes, sizeof(notes), MSG_DONTWAIT) == (ssize_t)sizeof(notes[0]));
    CHECK(notes[0].identity == 7 && notes[0].more == 20 && notes[0].flow.family == 0);
    CHECK(firewall_lost_notes(plane.firewall) == 0);
    CHECK(notes_patience(&plane, -1) == -1);
    free_router(&router);
    close(told[0]);
    close(told[1]);
}

static void
test_a_stream_of_small_packets_is_given_its_share_of_a_turn(void)
{
    struct counters *counters = calloc(PLANE_PORTS, sizeof(*counters));
    uint8_t bytes[FRAMES * (FRAME_HEADER + SMALLEST)];
    uint8_t *end = bytes;
    int from[2];
    int to[2];

    CHECK(counters != NULL && plane_init(&plane, counters, 1, true) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, from) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, to) == 0);
    CHECK(plane_add(&plane, 0, from[0], PORT_STREAM) != NULL);
    CHECK(plane_add(&plane, 1, to[0], PORT_STREAM) != NULL);
    for (int i = 0; i < FRAMES; i++)
        end = write_frame(end);
    CHECK(send(from[1], bytes, sizeof(bytes), MSG_DONTWAIT) == (ssize_t)sizeof(bytes));
    for (uint64_t before = 0, now = 0; now < FRAMES; before = now) {
        CHECK(plane_turn(&plane) == 0);
        now = counters[1].in_packets;
        CHECK(now > before && now - before <= SHARE);
        if (now == before)
            break;
    }
    plane_free(&plane);
    for (int i = 0; i < 2; i++) {
        close(from[i]);
        close(to[i]);
    }
    free(counters);
}

/** Read a record from a capture. Return: its bytes, 0 at the end. */
static size_t
read_record(int fd, uint8_t record[16 + SMALLEST])
{
    ssize_t size = recv(fd, record, 16 + SMALLEST, MSG_DONTWAIT);

    return size < 0 ? SIZE_MAX : (size_t)size;
}

static void
test_a_capture_gives_records_until_its_bound_and_loses_what_is_not_read(void)
{
    uint8_t packet[SMALLEST] = {0x45};
    uint8_t record[16 + SMALLEST];
    struct capture capture = {
        .port = 7, .packets_left = UINT32_MAX, .bytes_left = UINT32_MAX, .until = 100};
    int room = 4096;
    int ends[2];

    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
    CHECK(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)) == 0);
    capture.fd = ends[0];
    for (int i = 0; i < 1000; i++)
        capture_packet(&capture, 99, packet, sizeof(packet));
    CHECK(capture.captured > 0 && capture.lost > 0 && capture.captured + capture.lost == 1000);
    for (uint64_t i = 0; i < capture.captured; i++)
        CHECK(read_record(ends[1], record) == sizeof(record) &&
              memcmp(record + 16, packet, sizeof(packet)) == 0);
    CHECK(read_record(ends[1], record) == SIZE_MAX && capture.port == 7);
    capture.bytes_left = sizeof(record);
    capture_packet(&capture, 99, packet, sizeof(packet));
    CHECK(capture.bytes_left == 0 && capture.port == 7);
    capture_packet(&capture, 99, packet, sizeof(packet));
    CHECK(capture.port == NOBODY);
    CHECK(read_record(ends[1], record) == sizeof(record) && read_record(ends[1], record) == 0);
    for (int i = 0; i < 2; i++)
        close(ends[i]);
}

static void
test_a_capture_ends_at_its_time_and_with_its_reader(void)
{
    uint8_t packet[SMALLEST] = {0x45};

    for (int gone = 0; gone < 2; gone++) {
        struct capture capture = {.port = 7, .packets_left = 9, .bytes_left = 999, .until = 100};
        int ends[2];

        CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
        capture.fd = ends[0];
        if (gone)
            close(ends[1]);
        capture_packet(&capture, gone ? 99 : 100, packet, sizeof(packet));
        CHECK(capture.port == NOBODY && capture.captured == 0 && capture.lost == 0);
        capture_end(&capture);
        close(ends[0]);
        if (!gone)
            close(ends[1]);
    }
}

int
main(void)
{
    test_a_capture_gives_records_until_its_bound_and_loses_what_is_not_read();
    test_a_capture_ends_at_its_time_and_with_its_reader();
    test_a_stream_of_small_packets_is_given_its_share_of_a_turn();
    test_a_flood_is_before_a_neighbours_packet_with_one_share_at_most();
    test_what_a_rule_notes_is_sent_and_what_finds_no_room_is_counted();
    return checked("plane");
}
