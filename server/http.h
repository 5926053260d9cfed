/* http.h - HTTP/1.x requests: strict, bounded, without allocation and without Python.
 *
 * DOC: Theory of Operation
 *
 * A request head is parsed where it lies: http_parse() is given all the bytes received so far and
 * either says that there are too few, or names the status with which the request must be refused,
 * or fills a struct http_request whose spans point into the caller's bytes. It keeps no state
 * between calls, so that there is no state to confuse: more bytes mean parsing again from the
 * first (a head is bounded by the caller's buffer-size).
 *
 * Everything that two parsers could read in two ways is refused (RFC 9112, sections 2.2, 3, 5, 6
 * and 11.2): a bare CR or LF, obs-fold, space before the colon, two lengths, a length beside a
 * transfer coding, signs and lists in a length, two Hosts. A request that got through means the
 * same to every other reader of the standard.
 *
 * Chunked bodies are decoded by a struct http_chunked, which does keep state: bodies are not
 * bounded by a buffer.
 */
#ifndef DONJON_HTTP_H
#define DONJON_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Bytes that lie in a buffer of somebody else's. */
struct span {
    const char *ptr;
    size_t len;
};

/** What http_parse() and http_chunked_next() return, unless it is a status from 400 on. */
enum http_result {
    HTTP_OK = 0,   /* parsed; or here is payload */
    HTTP_MORE = 1, /* all input was used and more is needed */
    HTTP_DONE = 2, /* the chunked body is complete */
};

#define HTTP_MAX_HEADERS 128

struct http_header {
    struct span name;
    struct span value;
};

/** A request head. All spans point into the bytes given to http_parse(). */
struct http_request {
    struct span method;
    struct span target;    /* as it was sent */
    struct span path;      /* still %-encoded; empty for `OPTIONS *` */
    struct span query;     /* after the `?`; empty without one */
    struct span authority; /* of an absolute target, which replaces Host; else empty */
    uint64_t content_length;
    size_t head_len; /* bytes up to and with the empty line */
    size_t count;
    uint8_t minor;   /* HTTP/1.minor */
    bool has_length; /* there was a Content-Length */
    bool chunked;    /* Transfer-Encoding: chunked */
    bool close;      /* Connection: close, or HTTP/1.0 */
    bool expect;     /* Expect: 100-continue */
    bool plain_path; /* path has neither escapes nor dot segments: it is its own decoding */
    struct http_header headers[HTTP_MAX_HEADERS];
};

/** A chunked body being decoded; starts as all zeros. */
struct http_chunked {
    uint64_t left;  /* payload bytes of this chunk still to come */
    uint32_t extra; /* bytes of extensions and trailers so far, which are dropped and bounded */
    uint8_t state;
    uint8_t digits;
};

int http_parse(const char *buf, size_t len, struct http_request *request);
int http_chunked_next(struct http_chunked *chunked, const char *in, size_t len, size_t *used,
                      struct span *data);
ptrdiff_t http_decode_path(struct span path, char *out);
bool http_name_is(struct span name, const char *lower, size_t len);
const char *http_reason(int status);
bool http_valid_text(const char *text, size_t len);
bool http_valid_token(const char *text, size_t len);

#endif
