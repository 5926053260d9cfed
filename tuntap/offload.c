/* offload.c - what a virtio header leaves to others: a checksum, cutting a super-packet up.
 *
 * A virtio header is an order to the receiver's kernel to write two bytes at a place of its
 * choice, after every rule was asked. So the place must be that of the checksum of the transport
 * header that the rules saw, and nothing else.
 */
#include "offload.h"

#include <netinet/in.h>

#include "checksum.h"

#define MOST_SEGMENTS 2048 /* 64 KiB at a segment of 32 bytes */
#define TCP_CHECK 16       /* where the checksum is in the header */
#define UDP_CHECK 6
#define TCP_FIN_PSH 0x09
#define TCP_CWR 0x80

/** What cutting a super-packet up needs to know. */
struct cut {
    const uint8_t *bytes;
    size_t headers; /* bytes before the payload */
    size_t transport;
    uint8_t family;
    uint8_t protocol;
};

/** Whether a kind of segmentation fits a packet. */
static bool
fits(uint8_t kind, const struct flow *flow)
{
    if (flow->protocol == IPPROTO_UDP)
        return kind == VIRTIO_NET_HDR_GSO_UDP_L4;
    kind &= (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
    return kind == (flow->family == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6);
}

/** Whether the order to cut is one that can be carried out. */
static bool
check_gso(const struct virtio_net_hdr *header, const struct flow *flow,
          const struct layout *layout)
{
    size_t payload = flow->length - layout->transport - layout->transport_length;

    if (!fits(header->gso_type, flow) || (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) == 0)
        return false;
    if (flow->first_fragment || flow->not_first_fragment)
        return false;
    return header->gso_size != 0 && payload / header->gso_size <= MOST_SEGMENTS;
}

/**
 * offload_check() - see that a virtio header fits its packet, and leave in it what does
 * @header:	the header; made anew from what was checked
 * @flow:	the packet
 * @layout:	the packet's
 * @trusted:	its word that checksums were looked at counts
 *
 * Return: whether it fits
 */
bool
offload_check(struct virtio_net_hdr *header, const struct flow *flow, const struct layout *layout,
              bool trusted)
{
    struct virtio_net_hdr made = {0};

    if ((header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0) {
        size_t place = flow->protocol == IPPROTO_TCP ? TCP_CHECK : UDP_CHECK;

        if (layout->transport_length == 0 || flow->first_fragment ||
            header->csum_start != layout->transport || header->csum_offset != place)
            return false;
        made.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        made.csum_start = header->csum_start;
        made.csum_offset = header->csum_offset;
    } else if (trusted) {
        made.flags = header->flags & VIRTIO_NET_HDR_F_DATA_VALID;
    }
    if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
        if (layout->transport_length == 0 || !check_gso(header, flow, layout))
            return false;
        made.gso_type = header->gso_type;
        made.gso_size = header->gso_size;
        made.hdr_len = (uint16_t)(layout->transport + layout->transport_length);
    }
    *header = made;
    return true;
}

/** Write the checksum of the transport header, pseudo-header included. */
static void
finish_transport(const struct cut *cut, uint8_t *bytes, size_t size)
{
    size_t length = size - cut->transport;
    uint8_t *place =
        bytes + cut->transport + (cut->protocol == IPPROTO_TCP ? TCP_CHECK : UDP_CHECK);

    memset(place, 0, 2);
    uint64_t sum = checksum_pseudo(bytes, cut->family, cut->protocol, length);
    uint16_t check = checksum_fold(checksum_add(sum, bytes + cut->transport, length));
    if (check == 0 && cut->protocol == IPPROTO_UDP)
        check = 0xffff; /* 0 means none: RFC 768 */
    memcpy(place, &check, sizeof(check));
}

/** Give a segment the lengths and the number of its own. */
static void
finish_network(const struct cut *cut, uint8_t *bytes, size_t size, size_t index)
{
    if (cut->family == 6) {
        store16(bytes + 4, (uint16_t)(size - 40));
        return;
    }
    size_t header = (size_t)(bytes[0] & 15) * 4;
    store16(bytes + 2, (uint16_t)size);
    store16(bytes + 4, (uint16_t)(load16(cut->bytes + 4) + index));
    memset(bytes + 10, 0, 2);
    uint16_t check = checksum_fold(checksum_add(0, bytes, header));
    memcpy(bytes + 10, &check, sizeof(check));
}

/** Give a segment the place of its own in the stream, or its length as a datagram. */
static void
place_segment(const struct cut *cut, uint8_t *bytes, size_t size, size_t offset, bool last)
{
    uint8_t *transport = bytes + cut->transport;

    if (cut->protocol == IPPROTO_UDP) {
        store16(transport + 4, (uint16_t)(size - cut->transport));
        return;
    }
    store32(transport + 4, load32(cut->bytes + cut->transport + 4) + (uint32_t)offset);
    if (!last)
        transport[13] &= (uint8_t)~TCP_FIN_PSH;
    if (offset != 0)
        transport[13] &= (uint8_t)~TCP_CWR;
}

/**
 * offload_finish() - make of a packet what a receiver without offloads understands
 * @header:	a header that offload_check() accepted
 * @flow:	the packet
 * @layout:	the packet's
 * @bytes:	the packet
 * @scratch:	room for flow->length bytes
 * @sink:	is given each finished packet
 * @context:	passed to it
 */
void
offload_finish(const struct virtio_net_hdr *header, const struct flow *flow,
               const struct layout *layout, const uint8_t *bytes, uint8_t *scratch,
               segment_sink sink, void *context)
{
    struct cut cut = {
        .bytes = bytes,
        .headers = layout->transport + layout->transport_length,
        .transport = layout->transport,
        .family = flow->family,
        .protocol = flow->protocol,
    };
    size_t payload = flow->length - cut.headers;
    size_t step = header->gso_type == VIRTIO_NET_HDR_GSO_NONE ? payload : header->gso_size;
    size_t offset = 0;

    for (size_t index = 0; index == 0 || offset < payload; index++) {
        size_t part = step < payload - offset ? step : payload - offset;
        size_t size = cut.headers + part;

        memcpy(scratch, bytes, cut.headers);
        memcpy(scratch + cut.headers, bytes + cut.headers + offset, part);
        if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
            finish_network(&cut, scratch, size, index);
            place_segment(&cut, scratch, size, offset, offset + part == payload);
        }
        finish_transport(&cut, scratch, size);
        if (!sink(context, scratch, size))
            return;
        offset += part;
    }
}
