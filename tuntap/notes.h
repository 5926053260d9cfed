/* notes.h - what rules with `log` matched, on its way to the supervisor.
 *
 * At most NOTE_BURST packets of a rule at once and one each NOTE_INTERVAL_NS are told; how many
 * more there were is told once a second. A message is an array of struct note. It is sent without
 * waiting: what finds no room is counted as the rest is.
 */
#ifndef DONJON_NOTES_H
#define DONJON_NOTES_H

#include "firewall.h"

#define NOTE_INTERVAL_NS 100000000U
#define NOTE_BURST 10U
#define NOTES_AT_ONCE 64U
#define LOST_EVERY_NS 1000000000U

struct plane;

/** A packet that a rule noted; or, without a family, how many more of the rule were not told. */
struct note {
    uint64_t identity; /* the rule's */
    uint64_t more;
    uint8_t direction; /* enum direction */
    uint8_t verdict;   /* enum verdict */
    uint16_t zero;
    struct flow flow;
};

void notes_send(struct plane *plane);
int notes_patience(const struct plane *plane, int patience);

#endif
