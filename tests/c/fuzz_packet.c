/* fuzz_packet.c - a virtio header and a packet: parsed, checked, and cut up as for a frame. */
#include "offload.h"
#include "reject.h"

#include <stdlib.h>

static size_t finished;

static bool
count_segment(void *context, const uint8_t *bytes, size_t size)
{
    const struct flow *whole = context;
    struct packet packet = {bytes, size};
    struct flow flow;
    struct layout layout;

    finished += size;
    /* what is cut off a packet that we believe is one that we believe */
    if (packet_parse(&packet, &flow, &layout) != DROP_NOT ||
        memcmp(flow.source, whole->source, 16) != 0 || flow.source_port != whole->source_port)
        abort();
    return true;
}

/** An answer is a packet too, and is never answered. */
static void
answer_it(const struct packet *packet, const struct flow *flow, const struct layout *layout)
{
    uint8_t bytes[REJECT_LARGEST];
    uint8_t again[REJECT_LARGEST];
    struct packet answer = {bytes, reject_answer(packet, flow, layout, bytes)};
    struct flow seen;
    struct layout places;

    if (answer.size == 0)
        return;
    if (packet_parse(&answer, &seen, &places) != DROP_NOT ||
        reject_answer(&answer, &seen, &places, again) != 0)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct virtio_net_hdr header;
    struct flow flow;
    struct layout layout;

    if (size < sizeof(header) || size - sizeof(header) > 65535)
        return 0;
    memcpy(&header, data, sizeof(header));
    struct packet packet = {data + sizeof(header), size - sizeof(header)};
    if (packet_parse(&packet, &flow, &layout) != DROP_NOT)
        return 0;
    answer_it(&packet, &flow, &layout);
    if (!offload_check(&header, &flow, &layout, false) || !offload_is_pending(&header))
        return 0;
    uint8_t *scratch = malloc(flow.length);
    if (scratch == NULL)
        abort();
    offload_finish(&header, &flow, &layout, packet.bytes, scratch, count_segment, &flow);
    free(scratch);
    return 0;
}
