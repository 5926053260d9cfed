/* uwsgi.c - the uwsgi packet: strict, bounded, without allocation and without Python. See uwsgi.h.
 */
#include "uwsgi.h"

#include <string.h>

/** The little endian u16 at `p`. */
static size_t
le16(const char *p)
{
    return (size_t)(unsigned char)p[0] | (size_t)(unsigned char)p[1] << 8;
}

/** Take a length and as many bytes off `rest`; false if they are not all there. */
static bool
take(struct span *rest, struct span *out)
{
    if (rest->len < 2)
        return false;
    size_t n = le16(rest->ptr);
    if (n > rest->len - 2)
        return false;
    *out = (struct span){rest->ptr + 2, n};
    rest->ptr += n + 2;
    rest->len -= n + 2;
    return true;
}

/**
 * uwsgi_parse() - parse a packet
 * @buf:	all bytes received so far
 * @len:	how many
 * @limit:	the most bytes of variables that are taken (buffer-size)
 * @packet:	filled if HTTP_OK is returned; its spans point into @buf
 *
 * Return: HTTP_OK, HTTP_MORE if the packet is not complete, 431 if it is too long or has too many
 *	   variables, 400 if it is malformed. There is no way to answer: the connection is closed.
 */
int
uwsgi_parse(const char *buf, size_t len, size_t limit, struct uwsgi_packet *packet)
{
    packet->count = 0;
    if (len < UWSGI_HEADER)
        return HTTP_MORE;
    packet->modifier1 = (uint8_t)buf[0];
    packet->modifier2 = (uint8_t)buf[3];
    size_t size = le16(buf + 1);
    if (size > limit)
        return 431;
    if (len - UWSGI_HEADER < size)
        return HTTP_MORE;
    packet->total = UWSGI_HEADER + size;
    struct span rest = {buf + UWSGI_HEADER, size};
    while (rest.len > 0) {
        if (packet->count == UWSGI_MAX_VARS)
            return 431;
        struct http_header *var = &packet->vars[packet->count];
        if (!take(&rest, &var->name) || var->name.len == 0 || !take(&rest, &var->value))
            return 400;
        packet->count++;
    }
    return HTTP_OK;
}

/**
 * uwsgi_find() - a variable by name
 * @packet:	the packet
 * @key:	the name
 * @len:	its length
 *
 * Return: the value of the last variable with this name, or NULL.
 */
const struct span *
uwsgi_find(const struct uwsgi_packet *packet, const char *key, size_t len)
{
    for (size_t i = packet->count; i-- > 0;) {
        const struct http_header *var = &packet->vars[i];
        if (var->name.len == len && memcmp(var->name.ptr, key, len) == 0)
            return &var->value;
    }
    return NULL;
}
