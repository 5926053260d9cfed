/* firewall.h - rules compiled to a table, asked about one packet at a time.
 *
 * DOC: Theory of Operation
 *
 * A table is bytes that donjon.tuntap.rules made from text: two chains of rules of a fixed size,
 * and the sets of addresses and ports that they point into. firewall_load() believes none of it:
 * every count, index and enumeration is checked, and the table is in force whole or not at all.
 * The first rule whose conditions all hold decides; where none does, the chain's policy.
 *
 * A packet passes the chain OUT when it leaves a jail (from != 0) and the chain IN when it enters
 * one (to != 0); between two jails it passes OUT, then IN, and both must accept it.
 *
 * Connections are remembered in a flat table of fixed size: see connections.h. A connection also
 * remembers which rule decided about it, so that its packets cost the same with 4 rules and with
 * 4,000; a table that looks at addresses and protocols only remembers nothing at all. A later
 * fragment has no ports to look at: it goes the way of the first fragment of its packet, and is
 * dropped where that was not accepted or not seen.
 *
 * Nothing here allocates but firewall_load(), makes a system call, or reads a clock.
 */
#ifndef DONJON_FIREWALL_H
#define DONJON_FIREWALL_H

#include <stddef.h>
#include <stdint.h>

#include "flow.h"

enum verdict { ACCEPT, DROP, REJECT };

/** As in the specification (TUN-05): OUT from a client to the router, IN towards the client. */
enum direction { IN, OUT };

struct firewall;

/** What a rule decided about, since its identity is known; restarts included if restored. */
struct firewall_count {
    uint64_t identity;
    uint64_t packets;
    uint64_t bytes;
};

/** What all rules did. All but `connections` only grow. */
struct firewall_totals {
    uint64_t accepted;
    uint64_t dropped; /* with those of the causes below */
    uint64_t rejected;
    uint64_t impossible; /* dropped: IPv4 in IPv6 addresses, to oneself, jails out of range */
    uint64_t orphan_fragments; /* dropped: later fragments whose first was not accepted */
    uint64_t no_room;          /* dropped: no place for another connection */
    uint64_t evicted;          /* connections forgotten early, for others */
    uint64_t notes_lost;       /* packets to be logged that were too many, or found no room */
    uint64_t connections;      /* remembered now, the expired ones that lie about included */
};

/** A packet that a rule with `log` matched. */
struct firewall_note {
    uint64_t now_ns;
    uint64_t identity;
    uint32_t rule; /* index, as for firewall_count() */
    enum direction direction;
    enum verdict verdict; /* what became of it in the chain, by this rule or by another one */
    struct flow flow;
};

int firewall_load(const void *bytes, size_t size, struct firewall **firewall, const char **why);
void firewall_free(struct firewall *firewall);
enum verdict firewall_check(struct firewall *firewall, enum direction direction,
                            const struct flow *flow, uint64_t now_ns);
void firewall_forget(struct firewall *firewall, uint32_t jail);
void firewall_caps(struct firewall *firewall, const uint32_t *caps);
bool firewall_had_no_room(const struct firewall *firewall);

size_t firewall_size(const struct firewall *firewall);
int firewall_count(const struct firewall *firewall, size_t rule, struct firewall_count *count);
int firewall_restore(struct firewall *firewall, const struct firewall_count *count);
void firewall_totals(const struct firewall *firewall, struct firewall_totals *totals);
bool firewall_note(struct firewall *firewall, struct firewall_note *note);
void firewall_limit_notes(struct firewall *firewall, uint64_t interval_ns, uint32_t burst);
void firewall_lose_note(struct firewall *firewall, uint32_t rule);
bool firewall_has_notes(const struct firewall *firewall);
uint64_t firewall_lost_notes(const struct firewall *firewall);
uint64_t firewall_take_lost(struct firewall *firewall, size_t rule);
void firewall_put_lost(struct firewall *firewall, size_t rule, uint64_t lost);

#endif
