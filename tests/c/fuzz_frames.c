/* fuzz_frames.c - a stream of frames through a bridge: what comes out is frames, whatever came in.
 */
#include "plane.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static struct plane plane;

static void
look_at(int fd)
{
    static uint8_t bytes[1 << 20];
    ssize_t size = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    for (ssize_t at = 0; at < size;) {
        size_t length = (size_t)(bytes[at + 1] | bytes[at + 2] << 8);

        if (bytes[at] != 0 || bytes[at + 3] != 0 || length < 20)
            abort();
        at += (ssize_t)length + FRAME_HEADER;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct counters *counters;
    int from[2];
    int to[2];

    if (counters == NULL) {
        counters = calloc(PLANE_PORTS, sizeof(*counters));
        if (counters == NULL || plane_init(&plane, counters, 1, true) < 0 ||
            plane_watch(&plane, eventfd(1, EFD_CLOEXEC)) < 0) /* so that no turn ever waits */
            abort();
    }
    if (size == 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, from) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM, 0, to) < 0)
        return 0;
    if (plane_add(&plane, 0, from[0], PORT_STREAM) == NULL ||
        plane_add(&plane, 1, to[0], PORT_STREAM) == NULL)
        abort();
    size_t half = size / 2; /* in two pieces, so that frames arrive split */
    if (send(from[1], data, half, MSG_DONTWAIT) >= 0 && half > 0)
        plane_turn(&plane);
    if (send(from[1], data + half, size - half, MSG_DONTWAIT) > 0)
        plane_turn(&plane);
    look_at(to[1]);
    plane_remove(&plane, 0);
    plane_remove(&plane, 1);
    for (int i = 0; i < 2; i++) {
        close(from[i]);
        close(to[i]);
    }
    return 0;
}
