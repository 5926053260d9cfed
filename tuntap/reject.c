/* reject.c - what a sender is told whose packet a rule rejects: that it may not.
 *
 * A TCP connection is reset, everything else gets an ICMP error "administratively prohibited"
 * (RFC 1812, 5.2.7.1; RFC 4443, 3.1) that quotes the packet. The answer comes as if from where the
 * packet was to go. Nothing is answered to a reset, an ICMP error or a later fragment (RFC 1122,
 * 3.2.2), so that no answer is answered.
 */
#include "reject.h"

#include <netinet/in.h>

#include "checksum.h"

#define V4 20
#define V6 40
#define TCP 20
#define ICMP 8
#define HOPS 64
#define V4_QUOTED 548 /* 576 less both headers: RFC 1812, 4.3.2.3 */

/** Write an IP header of an answer: from the packet's destination to its source. */
static size_t
write_network(uint8_t *answer, const struct flow *flow, uint8_t protocol, size_t payload)
{
    if (flow->family == 6) {
        answer[0] = 0x60;
        store16(answer + 4, (uint16_t)payload);
        answer[6] = protocol;
        answer[7] = HOPS;
        memcpy(answer + 8, flow->destination, 16);
        memcpy(answer + 24, flow->source, 16);
        return V6;
    }
    answer[0] = 0x45;
    store16(answer + 2, (uint16_t)(V4 + payload));
    answer[8] = HOPS;
    answer[9] = protocol;
    memcpy(answer + 12, flow->destination + 12, 4);
    memcpy(answer + 16, flow->source + 12, 4);
    uint16_t check = checksum_fold(checksum_add(0, answer, V4));
    memcpy(answer + 10, &check, sizeof(check));
    return V4;
}

/** Write the checksum of what follows the IP header. */
static void
write_check(uint8_t *answer, const struct flow *flow, uint8_t protocol, size_t at, size_t size,
            size_t place)
{
    uint64_t sum = 0;

    if (protocol != IPPROTO_ICMP)
        sum = checksum_pseudo(answer, flow->family, protocol, size - at);
    uint16_t check = checksum_fold(checksum_add(sum, answer + at, size - at));
    memcpy(answer + at + place, &check, sizeof(check));
}

static size_t
write_reset(const struct packet *packet, const struct flow *flow, const struct layout *layout,
            uint8_t *answer)
{
    uint8_t header[TCP];

    if ((flow->tcp_flags & FLOW_TCP_RST) != 0 ||
        !packet_read(packet, layout->transport, header, sizeof(header)))
        return 0;
    size_t at = write_network(answer, flow, IPPROTO_TCP, TCP);
    uint8_t *tcp = answer + at;
    store16(tcp, flow->destination_port);
    store16(tcp + 2, flow->source_port);
    tcp[12] = 0x50;
    if ((flow->tcp_flags & FLOW_TCP_ACK) != 0) {
        memcpy(tcp + 4, header + 8, 4);
        tcp[13] = FLOW_TCP_RST;
    } else {
        size_t payload = packet->size - layout->transport - layout->transport_length;
        bool counts = (flow->tcp_flags & (FLOW_TCP_SYN | FLOW_TCP_FIN)) != 0;

        store32(tcp + 8, load32(header + 4) + (uint32_t)payload + counts);
        tcp[13] = FLOW_TCP_RST | FLOW_TCP_ACK;
    }
    write_check(answer, flow, IPPROTO_TCP, at, at + TCP, 16);
    return at + TCP;
}

/** Whether an ICMP packet is one that is never answered by an error: anything but a question. */
static bool
is_silent_icmp(const struct flow *flow)
{
    if (flow->family == 6)
        return flow->protocol == IPPROTO_ICMPV6 && flow->icmp_type != 128;
    return flow->protocol == IPPROTO_ICMP && flow->icmp_type != 8;
}

static size_t
write_prohibited(const struct packet *packet, const struct flow *flow, uint8_t *answer)
{
    uint8_t protocol = flow->family == 6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
    size_t most = flow->family == 6 ? REJECT_LARGEST - V6 - ICMP : V4_QUOTED;
    size_t quoted = packet->size < most ? packet->size : most;
    size_t at = write_network(answer, flow, protocol, ICMP + quoted);

    answer[at] = flow->family == 6 ? 1 : 3;
    answer[at + 1] = flow->family == 6 ? 1 : 13;
    if (!packet_read(packet, 0, answer + at + ICMP, quoted))
        return 0;
    write_check(answer, flow, protocol, at, at + ICMP + quoted, 2);
    return at + ICMP + quoted;
}

/**
 * reject_answer() - write the answer to a rejected packet
 * @packet:	the packet
 * @flow:	what it is
 * @layout:	the packet's
 * @answer:	room for it
 *
 * Return: its bytes; 0 where nothing is to be answered
 */
size_t
reject_answer(const struct packet *packet, const struct flow *flow, const struct layout *layout,
              uint8_t answer[REJECT_LARGEST])
{
    if (flow->not_first_fragment || is_silent_icmp(flow))
        return 0;
    memset(answer, 0, REJECT_LARGEST);
    if (flow->protocol == IPPROTO_TCP)
        return write_reset(packet, flow, layout, answer);
    return write_prohibited(packet, flow, answer);
}
