/* offload.h - virtio headers (linux/virtio_net.h): checked, and done in software where needed. */
#ifndef DONJON_OFFLOAD_H
#define DONJON_OFFLOAD_H

#include <linux/virtio_net.h>

#include "packet.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4 /* 6.2 */
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

/** Receives one finished packet. Return: whether to go on. */
typedef bool (*segment_sink)(void *context, const uint8_t *bytes, size_t size);

bool offload_check(struct virtio_net_hdr *header, const struct flow *flow,
                   const struct layout *layout, bool trusted);
void offload_finish(const struct virtio_net_hdr *header, const struct flow *flow,
                    const struct layout *layout, const uint8_t *bytes, uint8_t *scratch,
                    segment_sink sink, void *context);

/** Whether a packet is not finished: a checksum or a segmentation is still to be done. */
static inline bool
offload_is_pending(const struct virtio_net_hdr *header)
{
    return (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0 ||
           header->gso_type != VIRTIO_NET_HDR_GSO_NONE;
}

#endif
