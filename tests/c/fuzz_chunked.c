/* fuzz_chunked.c - any bytes as a chunked body, whole and byte by byte: both must agree. */
#include <stdlib.h>
#include <string.h>

#include "http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** How a decoding ended, and a sum over what it produced. */
struct outcome {
    int result;
    size_t used;
    size_t len;
    uint32_t sum;
};

static struct outcome
decode(const char *in, size_t size, size_t piece)
{
    struct http_chunked k = {0};
    struct outcome o = {.result = HTTP_MORE};

    while (o.used < size && (o.result == HTTP_MORE || o.result == HTTP_OK)) {
        size_t n = size - o.used < piece ? size - o.used : piece;
        size_t used;
        struct span span;
        o.result = http_chunked_next(&k, in + o.used, n, &used, &span);
        if (used > n || span.len > n)
            abort();
        if (o.result == HTTP_OK) {
            for (size_t i = 0; i < span.len; i++)
                o.sum = o.sum * 31 + (unsigned char)span.ptr[i];
            o.len += span.len;
        }
        o.used += used;
    }
    if (o.result == HTTP_OK)
        o.result = HTTP_MORE;
    return o;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole = decode((const char *)data, size, size ? size : 1);
    struct outcome bytes = decode((const char *)data, size, 1);

    if (whole.result != bytes.result || whole.used != bytes.used || whole.len != bytes.len ||
        whole.sum != bytes.sum)
        abort();
    return 0;
}
