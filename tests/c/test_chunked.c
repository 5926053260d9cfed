/* test_chunked.c - chunked bodies: whole, in pieces of every size, and broken. */
#include "check.h"
#include "http.h"

struct example {
    const char *body;
    int result;
    const char *payload;
};

static const struct example examples[] = {
    {"0\r\n\r\n", HTTP_DONE, ""},
    {"5\r\nhello\r\n0\r\n\r\n", HTTP_DONE, "hello"},
    {"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", HTTP_DONE, "hello world"},
    {"A\r\n0123456789\r\n000\r\n\r\n", HTTP_DONE, "0123456789"},
    {"5;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n", HTTP_DONE, "hello"},
    {"1\r\nx\r\n0\r\nTrailer: y\r\nZ:\r\n\r\n", HTTP_DONE, "x"},
    {"1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n", HTTP_DONE, "\r\n"},
    {"", HTTP_MORE, ""},
    {"5", HTTP_MORE, ""},
    {"5\r\nhel", HTTP_MORE, "hel"},
    {"5\r\nhello\r\n0\r\n", HTTP_MORE, "hello"},
    {"\r\n", 400, ""},
    {"g\r\n", 400, ""},
    {"+5\r\n", 400, ""},
    {"-5\r\n", 400, ""},
    {"0x5\r\n", 400, ""},
    {" 5\r\n", 400, ""},
    {"5 \r\nhello\r\n", 400, ""},
    {"5\nhello\r\n", 400, ""},
    {"5\rhello\r\n", 400, ""},
    {"5\r\nhelloX\r\n", 400, "hello"},
    {"5\r\nhello\n0\r\n\r\n", 400, "hello"},
    {"5\r\nhello\rX", 400, "hello"},
    {"5;a\nb\r\n", 400, ""},
    {"5;a\0b", HTTP_MORE, ""},
    {"0000000000000000\r\n", 400, ""},
    {"fffffffffffffffff\r\n", 400, ""},
    {"10000000000000000\r\n", 400, ""},
    {"0\r\n\n", 400, ""},
    {"0\r\n\rX", 400, ""},
    {"0\r\nbad trailer\r\n\r\n", 400, ""},
    {"0\r\n: x\r\n\r\n", 400, ""},
    {"0\r\nA: b\nc\r\n\r\n", 400, ""},
    {"0\r\n A: b\r\n\r\n", 400, ""},
};

/** Decode `len` bytes given in pieces of `piece`; what comes after the end is not taken. */
static int
decode(const char *body, size_t len, size_t piece, char *out, size_t *out_len)
{
    struct http_chunked k = {0};
    int result = HTTP_MORE;

    *out_len = 0;
    for (size_t at = 0; at < len && (result == HTTP_MORE || result == HTTP_OK);) {
        size_t n = len - at < piece ? len - at : piece;
        char *copy = exact_copy(body + at, n);
        size_t done = 0;
        do {
            size_t used;
            struct span data;
            result = http_chunked_next(&k, copy + done, n - done, &used, &data);
            CHECK(used <= n - done);
            if (result == HTTP_OK) {
                CHECK(data.len > 0);
                memcpy(out + *out_len, data.ptr, data.len);
                *out_len += data.len;
            }
            done += used;
        } while (result == HTTP_OK);
        if (result == HTTP_MORE)
            CHECK(done == n);
        at += done;
        free(copy);
    }
    return result;
}

static void
test_examples(void)
{
    char out[256];
    size_t out_len;

    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        size_t len = strlen(examples[i].body);
        for (size_t piece = 1; piece <= len + 1; piece++) {
            int result = decode(examples[i].body, len, piece, out, &out_len);
            if (result != examples[i].result)
                fprintf(stderr, "got %d, wanted %d in %zu: %s\n", result, examples[i].result,
                        piece, examples[i].body);
            CHECK(result == examples[i].result);
            CHECK(out_len == strlen(examples[i].payload));
            CHECK(memcmp(out, examples[i].payload, out_len) == 0);
        }
    }
}

static void
test_nul_in_an_extension(void)
{
    char out[16];
    size_t out_len;

    CHECK(decode("5;a\0\r\n", 6, 6, out, &out_len) == 400);
}

static void
test_the_next_request_is_not_taken(void)
{
    static const char body[] = "1\r\nx\r\n0\r\n\r\nGET /";
    struct http_chunked k = {0};
    struct span data;
    size_t used;

    CHECK(http_chunked_next(&k, body, sizeof(body) - 1, &used, &data) == HTTP_OK);
    size_t at = used;
    CHECK(http_chunked_next(&k, body + at, sizeof(body) - 1 - at, &used, &data) == HTTP_DONE);
    CHECK(memcmp(body + at + used, "GET /", 5) == 0);
    CHECK(http_chunked_next(&k, "x", 1, &used, &data) == 400);
}

static void
test_extensions_and_trailers_are_bounded(void)
{
    size_t len = 16384;
    char *body = malloc(len);
    char out[16];
    size_t out_len;

    if (body == NULL)
        abort();
    memset(body, 'a', len);
    memcpy(body, "1;", 2);
    CHECK(decode(body, len, 1000, out, &out_len) == 400);
    memset(body, 'a', len);
    memcpy(body, "0\r\n", 3);
    CHECK(decode(body, len, 1000, out, &out_len) == 400);
    free(body);
}

int
main(void)
{
    test_examples();
    test_nul_in_an_extension();
    test_the_next_request_is_not_taken();
    test_extensions_and_trailers_are_bounded();
    return checked("chunked");
}
