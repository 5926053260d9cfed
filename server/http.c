/* http.c - HTTP/1.x requests: strict, bounded, without allocation and without Python. See http.h.
 */
#include "http.h"
#include "http_text.h"

#include <string.h>

/** Whether all of `s` is of class `mask`. */
static bool
all_of(struct span s, uint8_t mask)
{
    return run_of(s.ptr, s.ptr + s.len, mask) == s.len;
}

#define NAME_IS(name, word) http_name_is(name, word, sizeof(word) - 1)

/** Take white space off both ends (OWS of RFC 9110, 5.6.3). */
static struct span
trimmed(struct span s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/** Cut the first element of a comma separated list off `list`; false when there is none left. */
static bool
next_element(struct span *list, struct span *element)
{
    if (list->ptr == NULL)
        return false;
    const char *comma = list->len ? memchr(list->ptr, ',', list->len) : NULL;
    if (comma == NULL) {
        *element = trimmed(*list);
        list->ptr = NULL;
        return true;
    }
    size_t len = (size_t)(comma - list->ptr);
    *element = trimmed((struct span){list->ptr, len});
    list->ptr += len + 1;
    list->len -= len + 1;
    return true;
}

/** uri-host [":" port] with digits only in the port. May be empty (RFC 9112, 3.2). */
static bool
valid_host(struct span host)
{
    if (!all_of(host, HOST))
        return false;
    const char *from = host.ptr;
    if (host.len > 0 && host.ptr[0] == '[') {
        from = memchr(host.ptr, ']', host.len);
        if (from == NULL)
            return false;
    }
    const char *end = host.ptr + host.len;
    const char *colon = host.len ? memchr(from, ':', (size_t)(end - from)) : NULL;
    if (colon == NULL)
        return from == host.ptr || from + 1 == end;
    for (const char *p = colon + 1; p < end; p++) {
        if (!is_digit(*p))
            return false;
    }
    return from == host.ptr || from + 1 == colon;
}

/** Divide an origin-form target into path and query, and see whether the path needs decoding. */
static int
parse_origin(struct http_request *r, struct span target)
{
    const char *mark = memchr(target.ptr, '?', target.len);

    r->path = target;
    r->query = (struct span){target.ptr + target.len, 0};
    if (mark != NULL) {
        r->path.len = (size_t)(mark - target.ptr);
        r->query = (struct span){mark + 1, target.len - r->path.len - 1};
    }
    r->plain_path = true;
    for (size_t i = 0; i < r->path.len; i++) {
        char c = r->path.ptr[i];
        if (c == '%' && !is_escape(r->path.ptr + i, r->path.len - i))
            return 400;
        if (c == '%' || (c == '.' && r->path.ptr[i - 1] == '/'))
            r->plain_path = false;
    }
    return HTTP_OK;
}

/** absolute-form: the authority replaces Host (RFC 9112, 3.2.2). No userinfo, http and https only.
 */
static int
parse_absolute(struct http_request *r)
{
    static const char root[] = "/";
    size_t scheme = 0;

    if (r->target.len > 7 && NAME_IS(((struct span){r->target.ptr, 7}), "http://"))
        scheme = 7;
    else if (r->target.len > 8 && NAME_IS(((struct span){r->target.ptr, 8}), "https://"))
        scheme = 8;
    else
        return 400;
    const char *start = r->target.ptr + scheme;
    const char *end = r->target.ptr + r->target.len;
    const char *p = start;
    while (p < end && *p != '/' && *p != '?')
        p++;
    r->authority = (struct span){start, (size_t)(p - start)};
    if (r->authority.len == 0 || !valid_host(r->authority))
        return 400;
    if (p < end && *p == '/')
        return parse_origin(r, (struct span){p, (size_t)(end - p)});
    r->path = (struct span){root, 1};
    r->plain_path = true;
    r->query = (struct span){end, 0};
    if (p < end)
        r->query = (struct span){p + 1, (size_t)(end - p) - 1};
    return HTTP_OK;
}

/** Which of the four forms the target has (RFC 9112, 3.2), and whether the method allows it. */
static int
parse_target(struct http_request *r)
{
    if (r->target.ptr[0] == '/')
        return parse_origin(r, r->target);
    if (r->target.len == 1 && r->target.ptr[0] == '*') {
        r->path = r->query = (struct span){r->target.ptr, 0};
        r->plain_path = true;
        return r->method.len == 7 && memcmp(r->method.ptr, "OPTIONS", 7) == 0 ? HTTP_OK : 400;
    }
    if (r->method.len == 7 && memcmp(r->method.ptr, "CONNECT", 7) == 0)
        return valid_host(r->target) ? 501 : 400;
    return parse_absolute(r);
}

/** Length of a request line's parts; HTTP_MORE, HTTP_OK or a status. `*at` moves behind the CRLF.
 */
static int
parse_request_line(const char **at, const char *end, struct http_request *r)
{
    const char *p = *at;
    size_t n = run_of(p, end, TOKEN);

    if (p + n == end)
        return n > 32 ? 400 : HTTP_MORE;
    if (n == 0 || n > 32 || p[n] != ' ')
        return 400;
    r->method = (struct span){p, n};
    p += n + 1;
    n = run_of(p, end, TARGET);
    if (p + n == end)
        return HTTP_MORE;
    if (n == 0 || p[n] != ' ')
        return 400;
    r->target = (struct span){p, n};
    p += n + 1;
    size_t have = (size_t)(end - p);
    if (memcmp(p, "HTTP/", have < 5 ? have : 5) != 0)
        return 400;
    if (have < 10)
        return HTTP_MORE;
    if (!is_digit(p[5]) || p[6] != '.' || !is_digit(p[7]) || p[8] != '\r' || p[9] != '\n')
        return 400;
    if (p[5] != '1' || p[7] > '1')
        return 505;
    r->minor = (uint8_t)(p[7] - '0');
    *at = p + 10;
    return parse_target(r);
}

/** Content-Length: digits, once, and at most 18 of them so that no sum overflows. */
static int
take_length(struct http_request *r, struct span value)
{
    if (r->has_length || value.len == 0 || value.len > 18)
        return 400;
    uint64_t total = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (!is_digit(value.ptr[i]))
            return 400;
        total = total * 10 + (uint64_t)(value.ptr[i] - '0');
    }
    r->has_length = true;
    r->content_length = total;
    return HTTP_OK;
}

/** Transfer-Encoding: exactly `chunked`, once, in HTTP/1.1. Other codings are not implemented. */
static int
take_coding(struct http_request *r, struct span value)
{
    if (r->chunked || r->minor == 0)
        return 400;
    if (NAME_IS(value, "chunked")) {
        r->chunked = true;
        return HTTP_OK;
    }
    struct span element = {value.ptr, 0};
    while (next_element(&value, &element)) {
        if (!http_valid_token(element.ptr, element.len) || NAME_IS(element, "identity"))
            return 400;
        if (NAME_IS(element, "chunked") && value.ptr != NULL)
            return 400; /* chunked is not the last coding: where the body ends is a guess */
    }
    return NAME_IS(element, "chunked") ? 501 : 400;
}

/** Connection: only `close` concerns us. */
static int
take_connection(struct http_request *r, struct span value)
{
    struct span element;

    while (next_element(&value, &element)) {
        if (NAME_IS(element, "close"))
            r->close = true;
    }
    return HTTP_OK;
}

/** The headers that decide how a request is framed; all others are the application's. */
static int
take_header(struct http_request *r, const struct http_header *h, unsigned *hosts)
{
    switch (h->name.len) {
    case 4:
        if (!NAME_IS(h->name, "host"))
            return HTTP_OK;
        return ++*hosts > 1 || !valid_host(h->value) ? 400 : HTTP_OK;
    case 6:
        if (!NAME_IS(h->name, "expect"))
            return HTTP_OK;
        if (!NAME_IS(h->value, "100-continue"))
            return 417;
        r->expect = r->minor == 1;
        return HTTP_OK;
    case 10:
        return NAME_IS(h->name, "connection") ? take_connection(r, h->value) : HTTP_OK;
    case 14:
        return NAME_IS(h->name, "content-length") ? take_length(r, h->value) : HTTP_OK;
    case 17:
        return NAME_IS(h->name, "transfer-encoding") ? take_coding(r, h->value) : HTTP_OK;
    default:
        return HTTP_OK;
    }
}

/** One `name: value CRLF`. `*at` moves behind it. */
static int
parse_header(const char **at, const char *end, struct http_header *h)
{
    const char *p = *at;
    size_t n = run_of(p, end, TOKEN);

    if (p + n == end)
        return HTTP_MORE;
    if (n == 0 || p[n] != ':') /* obs-fold and space before the colon end here, too */
        return 400;
    h->name = (struct span){p, n};
    p += n + 1;
    n = run_of(p, end, VALUE);
    h->value = trimmed((struct span){p, n});
    p += n;
    if (p == end)
        return HTTP_MORE;
    if (*p != '\r')
        return 400;
    if (end - p < 2)
        return HTTP_MORE;
    if (p[1] != '\n')
        return 400;
    *at = p + 2;
    return HTTP_OK;
}

/** What is only known when all headers are. */
static int
check_whole(struct http_request *r, unsigned hosts)
{
    if (r->minor == 1 && hosts == 0)
        return 400;
    if (r->chunked && r->has_length)
        return 400;
    return HTTP_OK;
}

/**
 * http_parse() - parse a request head
 * @buf:	all bytes of the request received so far
 * @len:	how many
 * @request:	filled if HTTP_OK is returned; its spans point into @buf
 *
 * Return: HTTP_OK, HTTP_MORE if the head is not complete, or the status (400, 417, 431, 501, 505)
 *	   with which the request must be refused and the connection closed.
 */
int
http_parse(const char *buf, size_t len, struct http_request *request)
{
    const char *at = buf;
    const char *end = buf + len;
    unsigned hosts = 0;

    memset(request, 0, offsetof(struct http_request, headers));
    /* one empty line before a request is forgiven (RFC 9112, 2.2) */
    if (len > 0 && at[0] == '\r') {
        if (len == 1)
            return HTTP_MORE;
        if (at[1] != '\n')
            return 400;
        at += 2;
    }
    if (at == end)
        return HTTP_MORE;
    int result = parse_request_line(&at, end, request);
    if (result != HTTP_OK)
        return result;
    request->close = request->minor == 0;
    for (;;) {
        if (at == end)
            return HTTP_MORE;
        if (*at == '\r') {
            if (end - at < 2)
                return HTTP_MORE;
            if (at[1] != '\n')
                return 400;
            request->head_len = (size_t)(at + 2 - buf);
            return check_whole(request, hosts);
        }
        if (request->count == HTTP_MAX_HEADERS)
            return 431;
        struct http_header *h = &request->headers[request->count];
        result = parse_header(&at, end, h);
        if (result == HTTP_OK)
            result = take_header(request, h, &hosts);
        if (result != HTTP_OK)
            return result;
        request->count++;
    }
}
