/* test_http.c - request heads: what is understood, and what is refused with which status. */
#include "check.h"
#include "http.h"

/** A head and what http_parse() has to say about it. */
struct example {
    const char *head;
    int result;
};

static const struct example examples[] = {
    /* plain requests */
    {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_OK},
    {"GET / HTTP/1.0\r\n\r\n", HTTP_OK},
    {"\r\nGET / HTTP/1.0\r\n\r\n", HTTP_OK},
    {"M-SEARCH /x HTTP/1.1\r\nHost: a:80\r\nX:\r\n\r\n", HTTP_OK},
    {"GET /\xc3\xa9 HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", HTTP_OK},
    {"GET /a%2Fb?q=%zz HTTP/1.1\r\nHost:\r\n\r\n", HTTP_OK},
    {"GET / HTTP/1.1\r\nHost: a\r\nX: tab\tin\xff side\t \r\n\r\n", HTTP_OK},
    {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_OK},
    {"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", HTTP_OK},
    {"GET HTTPS://a:8?x HTTP/1.1\r\nHost: b\r\n\r\n", HTTP_OK},
    /* incomplete */
    {"", HTTP_MORE},
    {"\r", HTTP_MORE},
    {"\r\n", HTTP_MORE},
    {"G", HTTP_MORE},
    {"GET /", HTTP_MORE},
    {"GET / HTTP/1", HTTP_MORE},
    {"GET / HTTP/1.1\r", HTTP_MORE},
    {"GET / HTTP/1.1\r\nHost", HTTP_MORE},
    {"GET / HTTP/1.1\r\nHost: a\r", HTTP_MORE},
    {"GET / HTTP/1.1\r\nHost: a\r\n\r", HTTP_MORE},
    /* request line */
    {"\r\n\r\nGET / HTTP/1.0\r\n\r\n", 400},
    {"\nGET / HTTP/1.0\r\n\r\n", 400},
    {" GET / HTTP/1.0\r\n\r\n", 400},
    {"GET  / HTTP/1.0\r\n\r\n", 400},
    {"GET /  HTTP/1.0\r\n\r\n", 400},
    {"GET\t/ HTTP/1.0\r\n\r\n", 400},
    {"GET / HTTP/1.0 \r\n\r\n", 400},
    {"GET / HTTP/1.0\n\n", 400},
    {"GET / HTTP/1.0\r\r\n", 400},
    {"GET / http/1.0\r\n\r\n", 400},
    {"GET / HTTP/11\r\n\r\n", 400},
    {"GET / HTTP/1.01\r\n", 400},
    {"GET / HTTP/1.2\r\n\r\n", 505},
    {"GET / HTTP/2.0\r\n\r\n", 505},
    {"GET / HTTP/0.9\r\n\r\n", 505},
    {"GET /\r\n\r\n", 400},
    {"GARBAGE\r\n\r\n", 400},
    {"G@T / HTTP/1.0\r\n\r\n", 400},
    {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.0\r\n\r\n", 400},
    {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 400},
    {"GET /a\x01 HTTP/1.0\r\n\r\n", 400},
    {"GET /a\x7f HTTP/1.0\r\n\r\n", 400},
    {"GET /#a HTTP/1.0\r\n\r\n", 400},
    {"GET a HTTP/1.0\r\n\r\n", 400},
    {"GET * HTTP/1.0\r\n\r\n", 400},
    {"GET /%0 HTTP/1.0\r\n\r\n", 400},
    {"GET /%zz HTTP/1.0\r\n\r\n", 400},
    {"GET /%00 HTTP/1.0\r\n\r\n", 400},
    {"GET ftp://a/ HTTP/1.0\r\n\r\n", 400},
    {"GET http:/// HTTP/1.0\r\n\r\n", 400},
    {"GET http://u@a/ HTTP/1.0\r\n\r\n", 400},
    {"GET http://a:b/ HTTP/1.0\r\n\r\n", 400},
    {"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 501},
    {"CONNECT a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
    /* headers */
    {"GET / HTTP/1.0\r\nX : a\r\n\r\n", 400},
    {"GET / HTTP/1.0\r\n X: a\r\n\r\n", 400},
    {"GET / HTTP/1.0\r\nX: a\r\n b\r\n\r\n", 400},
    {"GET / HTTP/1.0\r\nX: a\r\n\tb\r\n\r\n", 400},
    {"GET / HTTP/1.0\r\nX\r\n\r\n", 400},
    {"GET / HTTP/1.0\r\n: a\r\n\r\n", 400},
    {"GET / HTTP/1.0\r\nX: a\nY: b\r\n\r\n", 400},
    {"GET / HTTP/1.0\r\nX: a\rY: b\r\n\r\n", 400},
    {"GET / HTTP/1.0\r\nX: a\r\r\n\r\n", 400},
    {"GET / HTTP/1.0\r\nX: a\r\n\n", 400},
    {"GET / HTTP/1.0\r\nX: a\x01\r\n\r\n", 400},
    {"GET / HTTP/1.0\r\nX\xe9: a\r\n\r\n", 400},
    {"GET / HTTP/1.0\r\nX(: a\r\n\r\n", 400},
    /* Host */
    {"GET / HTTP/1.1\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n", 400},
    {"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a:1b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", 400},
    /* lengths and codings */
    {"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n", HTTP_OK},
    {"POST / HTTP/1.0\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 400},
    {"POST / HTTP/1.0\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400},
    {"POST / HTTP/1.0\r\nContent-Length: 5, 5\r\n\r\n", 400},
    {"POST / HTTP/1.0\r\nContent-Length: +5\r\n\r\n", 400},
    {"POST / HTTP/1.0\r\nContent-Length: -5\r\n\r\n", 400},
    {"POST / HTTP/1.0\r\nContent-Length: 0x5\r\n\r\n", 400},
    {"POST / HTTP/1.0\r\nContent-Length: 5 5\r\n\r\n", 400},
    {"POST / HTTP/1.0\r\nContent-Length: 5_000\r\n\r\n", 400},
    {"POST / HTTP/1.0\r\nContent-Length:\r\n\r\n", 400},
    {"POST / HTTP/1.0\r\nContent-Length: 1000000000000000000\r\n\r\n", 400},
    {"POST / HTTP/1.0\r\nContent-Length: 18446744073709551621\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_OK},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED \r\n\r\n", HTTP_OK},
    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
     "Transfer-Encoding: chunked\r\n\r\n",
     400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
     "Transfer-Encoding: identity\r\n\r\n",
     400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\x0b: chunked\r\n\r\n", 400},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0b"
     "chunked\r\n\r\n",
     400},
    /* expectations */
    {"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", HTTP_OK},
    {"POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417},
};

static void
test_examples(void)
{
    static struct http_request r;

    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        size_t len = strlen(examples[i].head);
        char *copy = exact_copy(examples[i].head, len);
        int result = http_parse(copy, len, &r);
        if (result != examples[i].result)
            fprintf(stderr, "got %d, wanted %d: %s\n", result, examples[i].result, copy);
        CHECK(result == examples[i].result);
        free(copy);
    }
}

/* Byte by byte, a good head is MORE until it is OK, and a refusal stays a refusal. */
static void
test_every_prefix(void)
{
    static struct http_request r;

    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        size_t len = strlen(examples[i].head);
        int last = HTTP_MORE;
        for (size_t n = 0; n <= len; n++) {
            char *copy = exact_copy(examples[i].head, n);
            int result = http_parse(copy, n, &r);
            CHECK(last == HTTP_MORE || result == last);
            last = result;
            free(copy);
        }
        CHECK(last == examples[i].result);
    }
}

static bool
span_is(struct span s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.ptr, text, s.len) == 0;
}

static void
test_parts(void)
{
    static const char head[] =
        "POST /a/b%20c?x=1&y HTTP/1.1\r\nHost:  a \r\nContent-Length: 12\r\n"
        "Connection: foo, Close\r\nExpect: 100-Continue\r\n\r\nbody";
    static struct http_request r;

    CHECK(http_parse(head, sizeof(head) - 1, &r) == HTTP_OK);
    CHECK(span_is(r.method, "POST"));
    CHECK(span_is(r.target, "/a/b%20c?x=1&y"));
    CHECK(span_is(r.path, "/a/b%20c"));
    CHECK(span_is(r.query, "x=1&y"));
    CHECK(!r.plain_path);
    CHECK(r.minor == 1 && r.close && r.expect && r.has_length && !r.chunked);
    CHECK(r.content_length == 12);
    CHECK(r.count == 4);
    CHECK(span_is(r.headers[0].value, "a"));
    CHECK(span_is((struct span){head + r.head_len, 4}, "body"));
}

static void
test_absolute_targets(void)
{
    static const char head[] = "GET http://h:81?q HTTP/1.1\r\nHost: x\r\n\r\n";
    static struct http_request r;

    CHECK(http_parse(head, sizeof(head) - 1, &r) == HTTP_OK);
    CHECK(span_is(r.authority, "h:81"));
    CHECK(span_is(r.path, "/"));
    CHECK(span_is(r.query, "q"));
}

static void
test_too_many_headers(void)
{
    static char head[HTTP_MAX_HEADERS * 8 + 64];
    static struct http_request r;
    size_t n = (size_t)sprintf(head, "GET / HTTP/1.0\r\n");

    for (int i = 0; i < HTTP_MAX_HEADERS; i++)
        n += (size_t)sprintf(head + n, "X: y\r\n");
    size_t full = n + (size_t)sprintf(head + n, "\r\n");
    CHECK(http_parse(head, full, &r) == HTTP_OK);
    CHECK(r.count == HTTP_MAX_HEADERS);
    full = n + (size_t)sprintf(head + n, "X: y\r\n\r\n");
    CHECK(http_parse(head, full, &r) == 431);
}

static void
test_paths(void)
{
    static const char *const paths[][2] = {
        {"/", "/"},
        {"/a/./b", "/a/b"},
        {"/a/../b", "/b"},
        {"/../../b", "/b"},
        {"/a/..", "/"},
        {"/a/b/.", "/a/b/"},
        {"/a/b/..", "/a/"},
        {"/%2e%2E/%61", "/a"},
        {"/a%2f..%2Fb", "/b"},
        {"/a//../b", "/a/b"},
        {"/...", "/..."},
        {"/.a/..b", "/.a/..b"},
        {"/%c3%a9", "/\xc3\xa9"},
        {"", ""},
    };

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        size_t len = strlen(paths[i][0]);
        char *in = exact_copy(paths[i][0], len);
        char *out = exact_copy(paths[i][0], len);
        ptrdiff_t n = http_decode_path((struct span){in, len}, out);
        CHECK(n >= 0 && span_is((struct span){out, (size_t)n}, paths[i][1]));
        free(in);
        free(out);
    }
    char out[8];
    CHECK(http_decode_path((struct span){"/%4", 3}, out) == -1);
    CHECK(http_decode_path((struct span){"/%4x", 4}, out) == -1);
    CHECK(http_decode_path((struct span){"/%00", 4}, out) == -1);
}

static void
test_tokens_and_text(void)
{
    CHECK(http_valid_token("X-Ab_1", 6));
    CHECK(!http_valid_token("", 0));
    CHECK(!http_valid_token("a b", 3));
    CHECK(http_valid_text("a\tb \xe9", 5));
    CHECK(!http_valid_text("a\r\n", 3));
    CHECK(!http_valid_text("a\0b", 3));
    CHECK(strcmp(http_reason(400), "Bad Request") == 0);
    for (int status = 400; status < 600; status++)
        CHECK(http_reason(status)[0] != '\0');
}

int
main(void)
{
    test_examples();
    test_every_prefix();
    test_parts();
    test_absolute_targets();
    test_too_many_headers();
    test_paths();
    test_tokens_and_text();
    return checked("http");
}
