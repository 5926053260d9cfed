/* notes.c - see notes.h. */
#include "notes.h"

#include <assert.h>
#include <sys/socket.h>

#include "plane.h"

#define MILLISECOND_NS 1000000U

static_assert(sizeof(struct note) == 120, "donjon.tuntap.notes unpacks 120 bytes");

/** Send what was gathered. Return: whether it was taken. */
static bool
send_notes(const struct plane *plane, const struct note *notes, size_t count)
{
    size_t size = count * sizeof(*notes);

    return send(plane->notes, notes, size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size;
}

/** Send the packets that were noted, as far as they are taken. */
static void
send_packets(struct plane *plane)
{
    struct note notes[NOTES_AT_ONCE];
    uint32_t rules[NOTES_AT_ONCE];
    struct firewall_note taken;
    size_t count = 0;

    while (count < NOTES_AT_ONCE && firewall_note(plane->firewall, &taken)) {
        rules[count] = taken.rule;
        notes[count++] = (struct note){
            .identity = taken.identity,
            .direction = (uint8_t)taken.direction,
            .verdict = (uint8_t)taken.verdict,
            .flow = taken.flow,
        };
    }
    if (send_notes(plane, notes, count))
        return;
    for (size_t i = 0; i < count; i++)
        firewall_lose_note(plane->firewall, rules[i]);
}

/** Send how many more there were of each rule. What is not taken is said the next time. */
static void
send_lost(struct plane *plane)
{
    size_t rules = firewall_size(plane->firewall);

    for (size_t rule = 0; rule < rules; rule++) {
        struct firewall_count count;
        struct note note = {.more = firewall_take_lost(plane->firewall, rule)};

        if (note.more == 0 || firewall_count(plane->firewall, rule, &count) < 0)
            continue;
        note.identity = count.identity;
        if (!send_notes(plane, &note, 1)) {
            firewall_put_lost(plane->firewall, rule, note.more);
            return;
        }
    }
}

/**
 * notes_send() - tell the supervisor what rules noted; called at the end of each turn
 * @plane:	the plane
 */
void
notes_send(struct plane *plane)
{
    if (plane->notes < 0 || plane->firewall == NULL)
        return;
    if (firewall_has_notes(plane->firewall))
        send_packets(plane);
    if (firewall_lost_notes(plane->firewall) == 0)
        return;
    if (plane->lost_since == 0)
        plane->lost_since = plane->now;
    if (plane->now - plane->lost_since < LOST_EVERY_NS)
        return;
    plane->lost_since = 0;
    send_lost(plane);
    if (firewall_lost_notes(plane->firewall) != 0)
        plane->lost_since = plane->now;
}

/**
 * notes_patience() - how long a turn may sleep
 * @plane:	the plane
 * @patience:	milliseconds that it would, without notes; -1 is for ever
 *
 * Return: the same, or less where something is still to be told
 */
int
notes_patience(const struct plane *plane, int patience)
{
    if (plane->notes < 0 || plane->firewall == NULL)
        return patience;
    if (firewall_has_notes(plane->firewall))
        return 0;
    if (plane->lost_since == 0)
        return patience;
    uint64_t due = plane->lost_since + LOST_EVERY_NS;
    uint64_t now = plane_clock();
    int left = due <= now ? 0 : (int)((due - now) / MILLISECOND_NS + 1);

    return patience < 0 || left < patience ? left : patience;
}
