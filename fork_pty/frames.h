/* Packets of a framed client that only types (uwsgi-facts 4.2). */
#ifndef DONJON_FRAMES_H
#define DONJON_FRAMES_H

#include <stddef.h>
#include <stdint.h>

#define FRAMES_MORE SIZE_MAX
#define FRAMES_HEADER 4

size_t frames_keys(const uint8_t *data, size_t size, uint8_t *keys);
void frames_head(uint8_t *packet, uint16_t size);

#endif
