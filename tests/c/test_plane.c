/* test_plane.c - turns of the plane: what each port is given of one. */
#include "plane.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

#define SMALLEST 28 /* an IPv4 header and a UDP header */

static struct plane plane;

/** Write a frame with an empty datagram. Return: the bytes behind it. */
static uint8_t *
write_frame(uint8_t *at)
{
    static const uint8_t packet[SMALLEST] = {
        0x45, 0, 0, SMALLEST, 0, 1, 0, 0, 64, 17, 0, 0, 10, 7, 0, 2, 10, 7, 0, 1, /* IPv4 */
        0,    9, 0, 9,        0, 8, 0, 0,                                         /* UDP */
    };
    static const uint8_t header[FRAME_HEADER] = {0, SMALLEST, 0, 0};

    memcpy(at, header, sizeof(header));
    memcpy(at + sizeof(header), packet, sizeof(packet));
    return at + sizeof(header) + sizeof(packet);
}

static void
test_a_stream_of_small_packets_is_given_its_share_of_a_turn(void)
{
    enum { FRAMES = 1000, SHARE = TURN_SHARE / PACKET_COST + 1 };
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
    return checked("plane");
}
