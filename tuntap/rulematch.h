/* rulematch.h - whether the conditions of one rule hold for one packet. No state, no side effect.
 */
#ifndef DONJON_RULEMATCH_H
#define DONJON_RULEMATCH_H

#include "flow.h"
#include "ruletable.h"

/** A packet as rules compare it: its addresses as words, its state as a bit. */
struct seen {
    const struct flow *flow;
    uint64_t source[2];
    uint64_t destination[2];
    uint8_t state; /* one of STATE_NEW ... */
};

void rulematch_words(const uint8_t address[16], uint64_t words[2]);
bool rulematch(const struct ruletable *table, const struct ruletable_rule *rule,
               const struct seen *seen);

#endif
