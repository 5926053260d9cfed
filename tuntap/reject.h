/* reject.h - the answer to a packet that a rule rejects. */
#ifndef DONJON_REJECT_H
#define DONJON_REJECT_H

#include "packet.h"

#define REJECT_LARGEST 1280 /* RFC 4443: an error is no longer than the smallest MTU */

size_t reject_answer(const struct packet *packet, const struct flow *flow,
                     const struct layout *layout, uint8_t answer[REJECT_LARGEST]);

#endif
