/* listening.h - sockets of a newborn. */
#ifndef DONJON_EMPEROR_LISTENING_H
#define DONJON_EMPEROR_LISTENING_H

#include "acts.h"

int listen_on(struct newborn *newborn, const struct act *act);
void close_listeners(struct newborn *newborn);

#endif
