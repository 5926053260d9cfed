/* queue.c - see queue.h. What waits is always in one piece; it moves to the front when the end of
 * the memory is reached. The memory is twice what may wait, so at least as much has left by then
 * as is moved: a queue that stays full costs no more for each byte than another. */
#include "queue.h"

#include <stdlib.h>
#include <string.h>

/**
 * queue_init() - make an empty queue
 * @queue:	the queue
 * @size:	bytes that may wait
 *
 * Return: 0, or -1 without memory
 */
int
queue_init(struct queue *queue, size_t size)
{
    *queue = (struct queue){.bytes = malloc(2 * size), .size = size};
    return queue->bytes == NULL ? -1 : 0;
}

/**
 * queue_free() - free its memory
 * @queue:	the queue
 */
void
queue_free(struct queue *queue)
{
    free(queue->bytes);
    queue->bytes = NULL;
}

/**
 * queue_room() - a place behind what waits, to write to; it waits from now on too
 * @queue:	the queue
 * @size:	bytes
 *
 * Return: the place, or NULL where there is no room
 */
uint8_t *
queue_room(struct queue *queue, size_t size)
{
    size_t length = queue_length(queue);

    if (size > queue->size - length)
        return NULL;
    if (size > 2 * queue->size - queue->tail) {
        memcpy(queue->bytes, queue->bytes + queue->head, length);
        queue->head = 0;
        queue->tail = length;
    }
    uint8_t *place = queue->bytes + queue->tail;
    queue->tail += size;
    return place;
}

/**
 * queue_drop() - take bytes off the front
 * @queue:	the queue
 * @size:	at most what waits
 */
void
queue_drop(struct queue *queue, size_t size)
{
    queue->head += size;
    if (queue->head == queue->tail)
        queue->head = queue->tail = 0;
}
