/* queue.h - bytes that wait for a receiver, in memory of a fixed size. */
#ifndef DONJON_QUEUE_H
#define DONJON_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queue {
    uint8_t *bytes; /* memory of twice the size */
    size_t size;    /* what may wait */
    size_t head;    /* of what waits */
    size_t tail;
};

int queue_init(struct queue *queue, size_t size);
void queue_free(struct queue *queue);
uint8_t *queue_room(struct queue *queue, size_t size);
void queue_drop(struct queue *queue, size_t size);

/** What waits, bytes. */
static inline size_t
queue_length(const struct queue *queue)
{
    return queue->tail - queue->head;
}

#endif
