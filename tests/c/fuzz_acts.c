/* fuzz_acts.c - any bytes as the packet of a birth: it is walked, and nothing in it is done. */
#include <stdlib.h>

#include "acts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Read every byte of the act, which lies between FIRST and END. Return a sum of them. */
static unsigned
look_at(const struct act *act, const unsigned char *first, const unsigned char *end)
{
    unsigned sum = 0;
    if (act->data < first || act->data > end || act->size > (size_t)(end - act->data))
        abort();
    for (size_t i = 0; i < act->size; i++)
        sum = sum * 31 + act->data[i];
    return sum;
}

/* The first act of KIND is the one that a walk meets first. */
static void
agree(struct cursor acts, const struct act *met)
{
    struct act found;
    if (find_act(acts, met->kind, &found) != 1 || found.data > met->data)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct birth_head head;
    struct cursor acts;
    volatile unsigned sum = 0;
    struct act act;
    int found;

    if (birth_head(data, size, &head, &acts) < 0)
        return 0;
    if (head.role_count > ROLES || acts.at + acts.left != data + size)
        abort();
    struct cursor cursor = acts;
    while ((found = next_act(&cursor, &act)) == 1) {
        sum = sum + look_at(&act, acts.at, data + size);
        agree(acts, &act);
        if (cursor.at + cursor.left != data + size)
            abort();
    }
    if (found == 0 && cursor.left != 0)
        abort();
    return 0;
}
