/* sitter.h - the master of a quiet instance: it waits, and needs no interpreter for that.
 *
 * States: LOADING until worker 1 has loaded the application, STARTING until every worker accepts,
 * SERVING from then on. What is more than that (a byte of the Emperor's, a signal, a worker that
 * ends, any other message) is left where it is and wakes the interpreter, which takes over with
 * all it needs to know; it never goes back to sleep.
 */
#ifndef DONJON_EMPEROR_SITTER_H
#define DONJON_EMPEROR_SITTER_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

enum { SITTER_WORKERS = 64, PACKET = 4096 };

struct sitter_worker {
    unsigned slot; /* counts from 1 */
    pid_t pid;
    int pidfd;
    bool accepting;
    bool once; /* the hooks that run once did so */
    struct timespec born;
};

struct sitter {
    int emperor_fd;
    int launch_fd;  /* no worker's */
    int error_fd;   /* closed when the application is loaded */
    int channel[2]; /* a pipe in packet mode, as server/channel.py has it */
    struct sitter_worker workers[SITTER_WORKERS];
    size_t count;
    size_t wanted;
    unsigned threads; /* of each worker, for the log */
    bool loaded;
    bool serving;
    unsigned char *environment; /* what worker 1 made of it */
    size_t environment_size;
    unsigned char packet[PACKET]; /* one that was read and is not for the sitter */
    size_t packet_size;
};

int sitter_begin(struct sitter *sitter);
int sitter_fork(struct sitter *sitter);
int sitter_wait(struct sitter *sitter);
uint64_t sitter_signals(void);
void sitter_default_signals(void);

#endif
