/* bucket.c - a packet passes while there are tokens at all, and may leave a debt.
 *
 * So the size of a packet, up to a super-packet of 64 KiB, never has to fit into the burst, and
 * over time exactly `rate` passes.
 */
#include "bucket.h"

#define SECOND 1000000000U
#define SHORTEST_BURST 3000U

/** Bytes that `nanoseconds` bring. */
static uint64_t
earned(uint64_t rate, uint64_t nanoseconds)
{
    return (uint64_t)((unsigned __int128)rate * nanoseconds / SECOND);
}

/**
 * bucket_init() - set a limit
 * @bucket:	the bucket, full from now on
 * @rate:	bytes per second; 0 is none
 * @burst:	bytes; 0 is what 20 ms bring
 * @now:	the time
 */
void
bucket_init(struct bucket *bucket, uint64_t rate, uint64_t burst, uint64_t now)
{
    if (burst == 0)
        burst = rate / 50;
    if (burst < SHORTEST_BURST)
        burst = SHORTEST_BURST;
    *bucket = (struct bucket){rate, burst, (int64_t)burst, now};
}

/**
 * bucket_is_open() - whether the next packet may pass
 * @bucket:	the bucket
 * @now:	the time
 */
bool
bucket_is_open(struct bucket *bucket, uint64_t now)
{
    if (bucket->rate == 0)
        return true;
    uint64_t passed = now - bucket->filled;
    uint64_t bytes = passed > 60ULL * SECOND ? bucket->burst : earned(bucket->rate, passed);

    if (bytes > 0) { /* else so little time passed that nothing is lost by waiting */
        bucket->filled = now;
        bucket->tokens += (int64_t)bytes;
        if (bucket->tokens > (int64_t)bucket->burst)
            bucket->tokens = (int64_t)bucket->burst;
    }
    return bucket->tokens > 0;
}

/**
 * bucket_take() - a packet passed
 * @bucket:	the bucket
 * @bytes:	its size
 */
void
bucket_take(struct bucket *bucket, uint64_t bytes)
{
    if (bucket->rate != 0)
        bucket->tokens -= (int64_t)bytes;
}
