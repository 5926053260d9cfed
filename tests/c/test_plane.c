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

int
main(void)
{
    test_a_stream_of_small_packets_is_given_its_share_of_a_turn();
    return checked("plane");
}
