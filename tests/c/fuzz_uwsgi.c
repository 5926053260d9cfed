/* fuzz_uwsgi.c - any bytes as a uwsgi packet: its variables lie inside and fill it exactly. */
#include <stdlib.h>
#include <string.h>

#include "uwsgi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct uwsgi_packet packet;
    const char *buf = (const char *)data;

    if (uwsgi_parse(buf, size, 4096, &packet) != HTTP_OK)
        return 0;
    size_t sum = UWSGI_HEADER;
    for (size_t i = 0; i < packet.count; i++) {
        const struct http_header *var = &packet.vars[i];
        if (var->name.len == 0 || var->name.ptr < buf ||
            var->value.ptr + var->value.len > buf + size)
            abort();
        sum += var->name.len + var->value.len + 4;
        if (uwsgi_find(&packet, var->name.ptr, var->name.len) == NULL)
            abort();
    }
    if (sum != packet.total || packet.total > size)
        abort();
    return 0;
}
