/* capture.c - see capture.h. */
#include "capture.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <time.h>

#include "addresses.h"

/** Before each packet of a pcap file with times in nanoseconds (pcap-savefile(5)). */
struct record {
    uint32_t seconds;
    uint32_t nanoseconds;
    uint32_t kept;
    uint32_t length;
};

/**
 * capture_end() - have the reader see the end
 * @capture:	the capture; nothing happens if there is none
 */
void
capture_end(struct capture *capture)
{
    if (capture->port != NOBODY)
        shutdown(capture->fd, SHUT_RDWR);
    capture->port = NOBODY;
}

/** Send a record. Return: whether it went; else errno says why. */
static bool
send_record(int fd, struct record *record, const uint8_t *bytes)
{
    struct iovec parts[2] = {
        {record, sizeof(*record)},
        {(void *)(uintptr_t)bytes, record->kept}, /* sendmsg(2) changes nothing of it */
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

    return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

/**
 * capture_packet() - give a packet to who reads, if the capture's bounds allow
 * @capture:	a capture that is
 * @now:	the time, plane_clock()
 * @bytes:	the packet
 * @size:	its bytes
 */
void
capture_packet(struct capture *capture, uint64_t now, const uint8_t *bytes, size_t size)
{
    struct record record = {.kept = (uint32_t)size, .length = (uint32_t)size};
    struct timespec time;

    if (now >= capture->until || capture->packets_left == 0 ||
        capture->bytes_left < sizeof(record) + size) {
        capture_end(capture);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &time);
    record.seconds = (uint32_t)time.tv_sec;
    record.nanoseconds = (uint32_t)time.tv_nsec;
    if (send_record(capture->fd, &record, bytes)) {
        capture->captured++;
        capture->packets_left--;
        capture->bytes_left -= sizeof(record) + size;
    } else if (errno == EAGAIN || errno == ENOBUFS) {
        capture->lost++;
    } else {
        capture_end(capture); /* the reader is gone */
    }
}
