/* fuzz_request.c - any bytes as a request head. Beyond the sanitizers it holds the parser to this:
 * a head that is understood is understood the same with anything behind it, each prefix of it is
 * incomplete, its spans lie inside, and its path can be decoded into its own length. */
#include <stdlib.h>
#include <string.h>

#include "http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct http_request request;
static struct http_request again;

static void
must(bool holds)
{
    if (!holds)
        abort();
}

static void
inside(struct span s, const char *buf, size_t len)
{
    if (s.len > 0)
        must((s.ptr >= buf && s.ptr + s.len <= buf + len) || (s.len == 1 && *s.ptr == '/'));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *buf = (const char *)data;

    int result = http_parse(buf, size, &request);
    must(result == HTTP_OK || result == HTTP_MORE || (result >= 400 && result < 600));
    if (result != HTTP_OK)
        return 0;
    must(request.head_len <= size && request.count <= HTTP_MAX_HEADERS);
    must(memcmp(buf + request.head_len - 4, "\r\n\r\n", 4) == 0);
    must(!(request.chunked && request.has_length));
    inside(request.method, buf, size);
    inside(request.path, buf, size);
    inside(request.query, buf, size);
    for (size_t i = 0; i < request.count; i++) {
        inside(request.headers[i].name, buf, size);
        inside(request.headers[i].value, buf, size);
        must(http_valid_text(request.headers[i].value.ptr, request.headers[i].value.len));
    }
    must(http_parse(buf, request.head_len, &again) == HTTP_OK && again.count == request.count);
    must(http_parse(buf, request.head_len - 1, &again) == HTTP_MORE);
    char *path = malloc(request.path.len ? request.path.len : 1);
    if (path != NULL) {
        ptrdiff_t n = http_decode_path(request.path, path);
        must(n >= 0 && (size_t)n <= request.path.len);
        must(request.path.len == 0 || path[0] == '/');
        must(memmem(path, (size_t)n, "/../", 4) == NULL);
    }
    free(path);
    return 0;
}
