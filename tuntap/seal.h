/* seal.h - the system calls that a router is left with, and who holds links to other hosts. */
#ifndef DONJON_SEAL_H
#define DONJON_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/filter.h>

#define SEAL_MOST 256

size_t seal_program(struct sock_filter program[SEAL_MOST], bool links);

#endif
