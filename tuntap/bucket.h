/* bucket.h - a token bucket: bytes per second, with a burst, in nanoseconds of a monotonic clock.
 */
#ifndef DONJON_BUCKET_H
#define DONJON_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

/** No limit where `rate` is 0. */
struct bucket {
    uint64_t rate;   /* bytes per second */
    uint64_t burst;  /* bytes */
    int64_t tokens;  /* bytes; below 0 after a packet larger than what was left */
    uint64_t filled; /* when, ns */
};

void bucket_init(struct bucket *bucket, uint64_t rate, uint64_t burst, uint64_t now);
bool bucket_is_open(struct bucket *bucket, uint64_t now);
void bucket_take(struct bucket *bucket, uint64_t bytes);

#endif
