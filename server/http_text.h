/* http_text.h - classes of bytes, shared by the files of the HTTP parser and by nobody else. */
#ifndef DONJON_HTTP_TEXT_H
#define DONJON_HTTP_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Classes of bytes. */
enum {
    TOKEN = 1,  /* tchar of RFC 9110, 5.6.2 */
    TARGET = 2, /* may stand in a request target */
    VALUE = 4,  /* field-vchar, SP and HTAB */
    HOST = 8,   /* may stand in uri-host [":" port] */
};

/** The classes of each byte. */
extern const uint8_t http_classes[256];

/** Whether `c` is of one of the classes `mask`. */
static inline bool
is_class(char c, uint8_t mask)
{
    return (http_classes[(unsigned char)c] & mask) != 0;
}

/** The length of the run of `mask` bytes at the beginning of [p, end). */
static inline size_t
run_of(const char *p, const char *end, uint8_t mask)
{
    const char *start = p;

    while (p < end && is_class(*p, mask))
        p++;
    return (size_t)(p - start);
}

static inline bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline char
lower_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c | 0x20);
    return c;
}

/** The value of a hexadecimal digit, or -1. */
static inline int
hex_value(char c)
{
    if (is_digit(c))
        return c - '0';
    c = lower_of(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/** Whether `%XX` with two hexadecimal digits, and not a NUL, begins here. */
static inline bool
is_escape(const char *p, size_t len)
{
    if (len < 3 || hex_value(p[1]) < 0 || hex_value(p[2]) < 0)
        return false;
    return p[1] != '0' || p[2] != '0';
}

#endif
