/* Packets of a framed client that only types. All others are read in Python (protocol.py). */
#include "frames.h"

#include <string.h>

enum { STDIN = 0, OURS = 0xD0 };

/*
 * Take the bodies out of whole packets for the terminal.
 * @data: what came, beginning with a packet
 * @keys: room for size bytes
 * Return: how many bytes are for the terminal; FRAMES_MORE where data is anything else, also where
 * its last packet is not whole.
 */
size_t
frames_keys(const uint8_t *data, size_t size, uint8_t *keys)
{
    size_t at = 0, found = 0;

    while (at < size) {
        if (size - at < FRAMES_HEADER || data[at] == OURS || data[at + 3] != STDIN)
            return FRAMES_MORE;
        size_t body = (size_t)data[at + 1] | (size_t)data[at + 2] << 8;
        at += FRAMES_HEADER;
        if (body > size - at)
            return FRAMES_MORE;
        memcpy(keys + found, data + at, body);
        found += body;
        at += body;
    }
    return found;
}

/*
 * Write the header of a packet for the terminal.
 * @size: of the body that follows it
 */
void
frames_head(uint8_t *packet, uint16_t size)
{
    packet[0] = 0;
    packet[1] = (uint8_t)(size & 0xFF);
    packet[2] = (uint8_t)(size >> 8);
    packet[3] = STDIN;
}
