/* tracking.h - the state of a packet: what conversation it belongs to, and what it means there.
 *
 * As in nf_conntrack(4): NEW is what opens a conversation, and all that its opener sends before
 * the other end answered; ESTABLISHED is the answer and everything after it; RELATED is an ICMP
 * error about a packet of a conversation; INVALID is what can open none and belongs to none.
 * Differently from there, a conversation counts only when its first packet passed every chain on
 * its way, so that nobody can answer what never reached him.
 *
 * A TCP segment with ACK and without SYN may open a conversation: one that began before the router
 * did. Sequence numbers are not looked at.
 */
#ifndef DONJON_TRACKING_H
#define DONJON_TRACKING_H

#include "connections.h"
#include "firewall.h"
#include "rulematch.h"

/** Where a packet stands. */
struct standing {
    struct connection *connection; /* NULL: none that counts */
    struct connection_key key;
    uint8_t end;   /* of the key: who speaks */
    uint8_t way;   /* if there is a connection */
    uint8_t state; /* STATE_NEW ... */
    bool keyed;    /* it may be remembered */
};

void tracking_stand(struct connections *table, const struct seen *seen, uint64_t now_ns,
                    struct standing *standing);
bool tracking_pass(struct connections *table, struct standing *standing, const struct flow *flow,
                   enum direction direction, uint64_t now_ns);

bool tracking_first_fragment(struct connections *table, const struct seen *seen,
                             enum direction direction, uint64_t now_ns);
bool tracking_later_fragment(struct connections *table, const struct seen *seen,
                             enum direction direction, uint64_t now_ns);

#endif
