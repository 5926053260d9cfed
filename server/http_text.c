/* http_text.c - bytes of HTTP: their classes, names, paths and phrases. See http.h. */
#include "http.h"
#include "http_text.h"

#include <string.h>

/* One row per byte. Bytes from 0x80 on are obs-text: allowed in values, and in targets because
 * browsers and links send UTF-8 there. '#' is no part of a target. Controls are of no class. */
#define ALNUM (TOKEN | TARGET | VALUE | HOST)
#define OBS (TARGET | VALUE)
const uint8_t http_classes[256] = {
    ['\t'] = VALUE,
    [' '] = VALUE,
    ['!'] = ALNUM,
    ['"'] = TARGET | VALUE,
    ['#'] = TOKEN | VALUE,
    ['$'] = ALNUM,
    ['%'] = ALNUM,
    ['&'] = ALNUM,
    ['\''] = ALNUM,
    ['('] = TARGET | VALUE | HOST,
    [')'] = TARGET | VALUE | HOST,
    ['*'] = ALNUM,
    ['+'] = ALNUM,
    [','] = TARGET | VALUE | HOST,
    ['-'] = ALNUM,
    ['.'] = ALNUM,
    ['/'] = TARGET | VALUE,
    ['0' ... '9'] = ALNUM,
    [':'] = TARGET | VALUE | HOST,
    [';'] = TARGET | VALUE | HOST,
    ['<'] = TARGET | VALUE,
    ['='] = TARGET | VALUE | HOST,
    ['>'] = TARGET | VALUE,
    ['?'] = TARGET | VALUE,
    ['@'] = TARGET | VALUE,
    ['A' ... 'Z'] = ALNUM,
    ['['] = TARGET | VALUE | HOST,
    ['\\'] = TARGET | VALUE,
    [']'] = TARGET | VALUE | HOST,
    ['^'] = TOKEN | TARGET | VALUE,
    ['_'] = ALNUM,
    ['`'] = TOKEN | TARGET | VALUE,
    ['a' ... 'z'] = ALNUM,
    ['{'] = TARGET | VALUE,
    ['|'] = TOKEN | TARGET | VALUE,
    ['}'] = TARGET | VALUE,
    ['~'] = ALNUM,
    [0x80 ... 0xff] = OBS,
};

/**
 * http_name_is() - compare a header name or token with a lower case word
 * @name:	what was received
 * @lower:	the word
 * @len:	its length
 *
 * Return: true if they are the same but for the case of ASCII letters.
 */
bool
http_name_is(struct span name, const char *lower, size_t len)
{
    if (name.len != len)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (lower_of(name.ptr[i]) != lower[i])
            return false;
    }
    return true;
}

/**
 * http_valid_text() - whether bytes may stand in a header value or reason phrase
 * @text:	the bytes
 * @len:	how many
 *
 * Return: false if there is a CR, LF, NUL or another control among them.
 */
bool
http_valid_text(const char *text, size_t len)
{
    return run_of(text, text + len, VALUE) == len;
}

/**
 * http_valid_token() - whether bytes are a token (RFC 9110, 5.6.2), so may be a header's name
 * @text:	the bytes
 * @len:	how many
 *
 * Return: false if empty or not a token.
 */
bool
http_valid_token(const char *text, size_t len)
{
    return len > 0 && run_of(text, text + len, TOKEN) == len;
}

/** Resolve `.` and `..` segments in place (RFC 3986, 5.2.4); nothing climbs above the root. */
static size_t
remove_dot_segments(char *path, size_t len)
{
    size_t out = 0;
    size_t in = 0;

    while (in < len) { /* path[in] is a slash here */
        size_t next = in + 1;
        while (next < len && path[next] != '/')
            next++;
        size_t segment = next - in - 1;
        bool dot = segment == 1 && path[in + 1] == '.';
        bool dots = segment == 2 && path[in + 1] == '.' && path[in + 2] == '.';
        if (dots) {
            while (out > 0 && path[--out] != '/')
                ;
        } else if (!dot) {
            memmove(path + out, path + in, segment + 1);
            out += segment + 1;
        }
        if ((dot || dots) && next == len)
            path[out++] = '/';
        in = next;
    }
    return out;
}

/**
 * http_decode_path() - decode the escapes of a path and resolve its dot segments
 * @path:	the encoded path: empty, or beginning with a slash
 * @out:	room for at least @path.len bytes
 *
 * Return: the number of bytes written; -1 for a broken escape or an encoded NUL.
 */
ptrdiff_t
http_decode_path(struct span path, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < path.len; i++) {
        char c = path.ptr[i];
        if (c == '%') {
            if (!is_escape(path.ptr + i, path.len - i))
                return -1;
            c = (char)(hex_value(path.ptr[i + 1]) * 16 + hex_value(path.ptr[i + 2]));
            i += 2;
        }
        out[n++] = c;
    }
    return (ptrdiff_t)remove_dot_segments(out, n);
}

/**
 * http_reason() - the reason phrase of a status that the server itself sends
 * @status:	the status
 *
 * Return: the phrase; never NULL.
 */
const char *
http_reason(int status)
{
    switch (status) {
    case 400:
        return "Bad Request";
    case 408:
        return "Request Timeout";
    case 413:
        return "Content Too Large";
    case 414:
        return "URI Too Long";
    case 417:
        return "Expectation Failed";
    case 431:
        return "Request Header Fields Too Large";
    case 501:
        return "Not Implemented";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Internal Server Error";
    }
}
