/* fuzz_firewall.c - any bytes as a table and packets: whatever loads, judges without a fault.
 *
 * The first two bytes say how long the table is; packets follow. So that rules are reached often,
 * the size and magic of the table are set right.
 */
#include <stdlib.h>
#include <string.h>

#include "firewall.h"
#include "ruletable.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct firewall *
loaded(const uint8_t *data, size_t size)
{
    struct firewall *firewall = NULL;
    const char *why = NULL;
    uint8_t *table = malloc(size ? size : 1);

    if (table == NULL)
        abort();
    memcpy(table, data, size);
    if (size >= sizeof(struct ruletable_header)) {
        uint32_t whole = (uint32_t)size;
        memcpy(table, RULETABLE_MAGIC, 8);
        memcpy(table + offsetof(struct ruletable_header, size), &whole, sizeof whole);
    }
    if (firewall_load(table, size, &firewall, &why) != 0 && (firewall != NULL || why == NULL))
        abort();
    if (firewall != NULL && firewall_load(table, size / 2, &firewall, &why) == 0)
        abort(); /* half a table */
    if (firewall != NULL && firewall_load(table, size, &firewall, &why) != 0)
        abort();
    free(table);
    return firewall;
}

static void
judge(struct firewall *firewall, const uint8_t *data, size_t size)
{
    struct flow flow;
    struct firewall_note note;
    uint64_t now = 0;

    for (; size > sizeof flow; data += sizeof flow + 1, size -= sizeof flow + 1) {
        memcpy(&flow, data + 1, sizeof flow);
        memset(&flow.first_fragment, data[0] & 1, 1);
        memset(&flow.not_first_fragment, data[0] >> 1 & 1, 1);
        memset(&flow.quoted.present, data[0] >> 2 & 1, 1);
        now += (uint64_t)(data[0] >> 4) << 32;
        enum direction direction = data[0] & 8 ? OUT : IN;
        if (firewall_check(firewall, direction, &flow, now) > REJECT)
            abort();
        if (data[0] == 0xff)
            firewall_forget(firewall, flow.from);
    }
    while (firewall_note(firewall, &note))
        if (note.rule >= firewall_size(firewall))
            abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t table = (size_t)data[0] | (size_t)data[1] << 8;
    data += 2;
    size -= 2;
    if (table > size)
        table = size;
    struct firewall *firewall = loaded(data, table);
    if (firewall == NULL)
        return 0;
    judge(firewall, data + table, size - table);
    firewall_free(firewall);
    return 0;
}
