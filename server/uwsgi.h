/* uwsgi.h - the uwsgi packet: strict, bounded, without allocation and without Python.
 *
 * u8 modifier1, u16 size (little endian on every machine), u8 modifier2, then `size` bytes of
 * variables: u16 key length, key, u16 value length, value, repeated. The request body follows.
 */
#ifndef DONJON_UWSGI_H
#define DONJON_UWSGI_H

#include "http.h"

#define UWSGI_HEADER 4
#define UWSGI_MAX_VARS 256

/** The modifiers that a worker knows (modifier1). */
enum uwsgi_modifier {
    UWSGI_WSGI = 0,
    UWSGI_MANAGE_PATH_INFO = 30,
    UWSGI_PING = 100,
};

/** A packet. All spans point into the bytes given to uwsgi_parse(). */
struct uwsgi_packet {
    size_t total; /* bytes of header and variables */
    size_t count;
    uint8_t modifier1;
    uint8_t modifier2;
    struct http_header vars[UWSGI_MAX_VARS];
};

int uwsgi_parse(const char *buf, size_t len, size_t limit, struct uwsgi_packet *packet);
const struct span *uwsgi_find(const struct uwsgi_packet *packet, const char *key, size_t len);

#endif
