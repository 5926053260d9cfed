/* firewall.c - a packet's way through the rules. See firewall.h. */
#include "firewall.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "connections.h"
#include "rulematch.h"
#include "ruletable.h"
#include "tracking.h"

enum { NOTES = 256, POLICIES = 2, NOBODY_DECIDED = 0 };

static_assert((int)RULE_ACCEPT == ACCEPT && (int)RULE_DROP == DROP && (int)RULE_REJECT == REJECT,
              "a rule's verdict is the firewall's");

/** What changes of a rule while it is in force. The policies of IN and OUT follow the rules. */
struct account {
    struct firewall_count count;
    uint64_t full_ns;  /* of a limit: when its bucket is full again */
    uint64_t noted_ns; /* the same of its notes */
    uint64_t lost;     /* packets that were to be noted and were not, nor were they told of */
};

struct firewall {
    struct ruletable *table;
    struct account *accounts;
    struct connections *connections; /* NULL: the table tracks none */
    const uint32_t *caps;            /* of connections, for each jail; NULL: none */
    struct firewall_totals totals;
    bool had_no_room; /* for a connection, when it was asked last */
    uint32_t generation;
    uint64_t note_interval_ns; /* 0: notes have no limit but room */
    uint32_t note_burst;
    uint64_t lost; /* of all accounts */
    uint32_t first_note;
    uint32_t note_count;
    struct firewall_note notes[NOTES];
};

/** The identities of the policies; a rule's are hashes. */
static const uint64_t policy_identity[POLICIES] = {1, 2};

static uint32_t
account_count(const struct ruletable *table)
{
    return ruletable_rules(table) + POLICIES;
}

static struct account *
make_accounts(const struct ruletable *table)
{
    uint32_t rules = ruletable_rules(table);
    struct account *accounts = calloc(account_count(table), sizeof *accounts);

    if (accounts == NULL)
        return NULL;
    for (uint32_t i = 0; i < rules; i++)
        accounts[i].count.identity = table->rules[i].identity;
    for (uint32_t i = 0; i < POLICIES; i++)
        accounts[rules + i].count.identity = policy_identity[i];
    return accounts;
}

/** Let rules that were in the old table go on counting. Most stand where they stood, or nearly. */
static void
carry_over(const struct firewall *old, struct account *accounts, uint32_t count)
{
    uint32_t old_count = account_count(old->table);
    uint32_t at = 0;

    for (uint32_t i = 0; i < count; i++)
        for (uint32_t tries = 0; tries < old_count; tries++) {
            const struct account *before = &old->accounts[at];
            at = at + 1 == old_count ? 0 : at + 1;
            if (before->count.identity == accounts[i].count.identity) {
                accounts[i] = *before;
                break;
            }
        }
}

static uint64_t
lost_of(const struct account *accounts, uint32_t count)
{
    uint64_t lost = 0;

    for (uint32_t i = 0; i < count; i++)
        lost += accounts[i].lost;
    return lost;
}

/** Return: the connections for a new table: the old ones where it wants as many. NULL: no memory.
 */
static struct connections *
connections_for(const struct firewall *old, const struct ruletable_header *head)
{
    if (old->connections != NULL && connections_size(old->connections) == head->connections)
        return old->connections;
    return connections_make(head->connections, head->per_jail, head->seed);
}

/** Put a checked table in force. Return: false without memory; then nothing has changed. */
static bool
put_in_force(struct firewall *firewall, struct ruletable *table)
{
    struct connections *connections = NULL;
    struct account *accounts = make_accounts(table);

    if (accounts == NULL)
        return false;
    if (table->head.connections != 0) {
        connections = connections_for(firewall, &table->head);
        if (connections == NULL) {
            free(accounts);
            return false;
        }
        connections_limit(connections, table->head.per_jail);
        connections_caps(connections, firewall->caps);
    }
    if (firewall->table != NULL)
        carry_over(firewall, accounts, account_count(table));
    firewall->lost = lost_of(accounts, account_count(table));
    if (connections != firewall->connections)
        connections_free(firewall->connections);
    free(firewall->accounts);
    free(firewall->table);
    firewall->connections = connections;
    firewall->accounts = accounts;
    firewall->table = table;
    firewall->generation++;
    firewall->first_note = firewall->note_count = 0; /* they name rules by their old places */
    return true;
}

/**
 * firewall_load() - put a table in force.
 * @firewall: NULL, and one is made; or one whose table is replaced: rules that both have (by their
 *            identity) go on counting, and connections stay if their number does
 * @why: where that fails, the reason, a string that stays
 *
 * Return: 0; or -1, and nothing has changed.
 */
int
firewall_load(const void *bytes, size_t size, struct firewall **firewall, const char **why)
{
    struct ruletable *table = ruletable_make(bytes, size, why);

    if (table == NULL)
        return -1;
    struct firewall *loaded = *firewall != NULL ? *firewall : calloc(1, sizeof *loaded);
    if (loaded != NULL && put_in_force(loaded, table)) {
        *firewall = loaded;
        return 0;
    }
    if (loaded != *firewall)
        free(loaded);
    free(table);
    *why = "there is no memory for the firewall";
    return -1;
}

/** firewall_free() - give a firewall back; NULL is nothing. */
void
firewall_free(struct firewall *firewall)
{
    if (firewall == NULL)
        return;
    connections_free(firewall->connections);
    free(firewall->accounts);
    free(firewall->table);
    free(firewall);
}

static bool
is_mapped(const uint64_t words[2])
{
    return words[0] == 0 && words[1] >> 32 == 0xffff;
}

/** Whether there can be such a packet. An IPv4 address in IPv6 would pass for the other family;
 * what one sends to oneself is on no wire. */
static bool
is_possible(const struct seen *seen)
{
    const struct flow *flow = seen->flow;

    if (flow->from >= FLOW_JAILS || flow->to >= FLOW_JAILS ||
        memcmp(seen->source, seen->destination, sizeof seen->source) == 0)
        return false;
    if (flow->family == 4)
        return is_mapped(seen->source) && is_mapped(seen->destination);
    return flow->family == 6 && !is_mapped(seen->source) && !is_mapped(seen->destination);
}

/** Whether a limit lets a rule match. Its bucket leaks a packet in interval_ns, and holds burst.
 */
static bool
within_limit(const struct ruletable_rule *rule, struct account *account, uint64_t now_ns)
{
    uint64_t full_ns = account->full_ns > now_ns ? account->full_ns : now_ns;
    bool within = full_ns - now_ns <= (rule->burst - 1) * rule->interval_ns;

    if (within)
        account->full_ns = full_ns + rule->interval_ns;
    return within != ((rule->flags & RULE_OVER) != 0);
}

/** firewall_lose_note() - a packet that a rule would have noted is only counted.
 * @rule: an index, as for firewall_count() */
void
firewall_lose_note(struct firewall *firewall, uint32_t rule)
{
    firewall->totals.notes_lost++;
    firewall->accounts[rule].lost++;
    firewall->lost++;
}

/** Whether a rule may note another packet. Its bucket is as that of a limit. */
static bool
may_note(const struct firewall *firewall, struct account *account, uint64_t now_ns)
{
    uint64_t interval_ns = firewall->note_interval_ns;
    uint64_t full_ns = account->noted_ns > now_ns ? account->noted_ns : now_ns;

    if (firewall->note_count == NOTES)
        return false;
    if (interval_ns == 0)
        return true;
    if (full_ns - now_ns > (firewall->note_burst - 1) * interval_ns)
        return false;
    account->noted_ns = full_ns + interval_ns;
    return true;
}

static void
note(struct firewall *firewall, uint32_t rule, enum direction direction, const struct flow *flow,
     uint64_t now_ns)
{
    struct account *account = &firewall->accounts[rule];

    if (!may_note(firewall, account, now_ns)) {
        firewall_lose_note(firewall, rule);
        return;
    }
    firewall->notes[(firewall->first_note + firewall->note_count++) % NOTES] =
        (struct firewall_note){.now_ns = now_ns,
                               .identity = account->count.identity,
                               .rule = rule,
                               .direction = direction,
                               .flow = *flow};
}

static void
count(struct firewall *firewall, uint32_t rule, const struct flow *flow)
{
    firewall->accounts[rule].count.packets++;
    firewall->accounts[rule].count.bytes += flow->length;
}

/** A rule matched: do what it does beside its verdict. */
static void
matched(struct firewall *firewall, uint32_t rule, enum direction direction,
        const struct flow *flow, uint64_t now_ns)
{
    count(firewall, rule, flow);
    if (firewall->table->rules[rule].flags & RULE_LOG)
        note(firewall, rule, direction, flow, now_ns);
}

/**
 * Go through a chain. Return: the index of what decided, a rule or the policy.
 * @lasting: set where a like packet of the same connection and state will meet the same
 */
static uint32_t
walk(struct firewall *firewall, enum direction direction, const struct seen *seen, uint64_t now_ns,
     bool *lasting)
{
    const struct ruletable *table = firewall->table;
    uint32_t first = direction == IN ? 0 : table->head.rules[IN];
    uint32_t end = first + table->head.rules[direction];

    *lasting = true;
    for (uint32_t i = first; i < end; i++) {
        const struct ruletable_rule *rule = &table->rules[i];
        if (!rulematch(table, rule, seen))
            continue;
        if (rule->interval_ns != 0) {
            *lasting = false;
            if (!within_limit(rule, &firewall->accounts[i], now_ns))
                continue;
        }
        matched(firewall, i, direction, seen->flow, now_ns);
        if (rule->verdict != RULE_CONTINUE)
            return i;
        *lasting = false;
    }
    count(firewall, ruletable_rules(table) + direction, seen->flow);
    return ruletable_rules(table) + direction;
}

static enum verdict
verdict_of(const struct ruletable *table, uint32_t decided)
{
    uint32_t rules = ruletable_rules(table);

    if (decided >= rules)
        return (enum verdict)table->head.policy[decided - rules];
    return (enum verdict)table->rules[decided].verdict;
}

/** Where a connection remembers what decided about such a packet. */
static uint16_t *
memory_of(struct firewall *firewall, enum direction direction, const struct standing *standing)
{
    struct connection *connection = standing->connection;

    if (connection->generation != firewall->generation) {
        memset(connection->decided, 0, sizeof connection->decided);
        connection->generation = firewall->generation;
    }
    return &connection->decided[direction][standing->way];
}

/** As walk(), but a packet like one before goes straight to the rule that decided about that. */
static uint32_t
decide(struct firewall *firewall, enum direction direction, const struct seen *seen,
       const struct standing *standing, uint64_t now_ns)
{
    bool lasting;

    if (standing->connection == NULL)
        return walk(firewall, direction, seen, now_ns, &lasting);
    uint16_t *memory = memory_of(firewall, direction, standing);
    if (*memory == NOBODY_DECIDED) {
        uint32_t decided = walk(firewall, direction, seen, now_ns, &lasting);
        if (lasting)
            *memory = (uint16_t)(decided + 1);
        return decided;
    }
    uint32_t decided = *memory - 1u;
    if (decided < ruletable_rules(firewall->table))
        matched(firewall, decided, direction, seen->flow, now_ns);
    else
        count(firewall, decided, seen->flow);
    return decided;
}

static enum verdict
check_tracked(struct firewall *firewall, enum direction direction, struct seen *seen,
              uint64_t now_ns)
{
    struct connections *table = firewall->connections;
    const struct flow *flow = seen->flow;
    struct standing standing;

    if (flow->not_first_fragment) {
        if (tracking_later_fragment(table, seen, direction, now_ns))
            return ACCEPT;
        firewall->totals.orphan_fragments++;
        return DROP;
    }
    tracking_stand(table, seen, now_ns, &standing);
    seen->state = standing.state;
    uint32_t decided = decide(firewall, direction, seen, &standing, now_ns);
    enum verdict verdict = verdict_of(firewall->table, decided);
    if (verdict != ACCEPT)
        return verdict;
    if (tracking_pass(table, &standing, flow, direction, now_ns) &&
        (!flow->first_fragment || tracking_first_fragment(table, seen, direction, now_ns)))
        return ACCEPT;
    firewall->totals.no_room++;
    firewall->had_no_room = true;
    return DROP;
}

static enum verdict
check(struct firewall *firewall, enum direction direction, const struct flow *flow,
      uint64_t now_ns)
{
    struct seen seen = {.flow = flow, .state = STATE_NEW};
    bool lasting;

    rulematch_words(flow->source, seen.source);
    rulematch_words(flow->destination, seen.destination);
    if (!is_possible(&seen)) {
        firewall->totals.impossible++;
        return DROP;
    }
    if (firewall->connections != NULL)
        return check_tracked(firewall, direction, &seen, now_ns);
    return verdict_of(firewall->table, walk(firewall, direction, &seen, now_ns, &lasting));
}

/**
 * firewall_check() - ask about one packet.
 * @now_ns: a clock that does not go back
 *
 * Return: what becomes of it.
 */
enum verdict
firewall_check(struct firewall *firewall, enum direction direction, const struct flow *flow,
               uint64_t now_ns)
{
    uint32_t noted = firewall->note_count;

    firewall->had_no_room = false;
    enum verdict verdict = check(firewall, direction, flow, now_ns);

    for (; noted < firewall->note_count; noted++)
        firewall->notes[(firewall->first_note + noted) % NOTES].verdict = verdict;
    firewall->totals.accepted += verdict == ACCEPT;
    firewall->totals.dropped += verdict == DROP;
    firewall->totals.rejected += verdict == REJECT;
    return verdict;
}

/** firewall_forget() - a jail is gone, or changed its address: forget its connections. */
void
firewall_forget(struct firewall *firewall, uint32_t jail)
{
    if (firewall->connections != NULL)
        connections_forget(firewall->connections, jail);
}

/**
 * firewall_caps() - how many connections single jails may have, in tables to come too.
 * @caps: FLOW_JAILS of them, lent; 0 is what all may have
 */
void
firewall_caps(struct firewall *firewall, const uint32_t *caps)
{
    firewall->caps = caps;
    if (firewall->connections != NULL)
        connections_caps(firewall->connections, caps);
}

/** firewall_had_no_room() - Return: whether the last packet was dropped for a cap, or for want of
 * a place for its connection. */
bool
firewall_had_no_room(const struct firewall *firewall)
{
    return firewall->had_no_room;
}

/** firewall_size() - Return: the rules of IN, then those of OUT, then both policies, IN first. */
size_t
firewall_size(const struct firewall *firewall)
{
    return account_count(firewall->table);
}

/** firewall_count() - what a rule or policy counted. Return: 0, or -1 if there is none such. */
int
firewall_count(const struct firewall *firewall, size_t rule, struct firewall_count *counted)
{
    if (rule >= firewall_size(firewall))
        return -1;
    *counted = firewall->accounts[rule].count;
    return 0;
}

/** firewall_restore() - add what the rule of that identity counted before a restart.
 * Return: 0, or -1 if there is none such. */
int
firewall_restore(struct firewall *firewall, const struct firewall_count *counted)
{
    for (uint32_t i = 0; i < account_count(firewall->table); i++) {
        struct firewall_count *own = &firewall->accounts[i].count;
        if (own->identity != counted->identity)
            continue;
        own->packets += counted->packets;
        own->bytes += counted->bytes;
        return 0;
    }
    return -1;
}

/** firewall_totals() - what all rules did. */
void
firewall_totals(const struct firewall *firewall, struct firewall_totals *totals)
{
    *totals = firewall->totals;
    if (firewall->connections == NULL)
        return;
    totals->evicted = connections_evicted(firewall->connections);
    totals->connections = connections_count(firewall->connections);
}

/** firewall_note() - take the oldest packet to be logged. Return: false if there is none. */
bool
firewall_note(struct firewall *firewall, struct firewall_note *taken)
{
    if (firewall->note_count == 0)
        return false;
    *taken = firewall->notes[firewall->first_note];
    firewall->first_note = (firewall->first_note + 1) % NOTES;
    firewall->note_count--;
    return true;
}

/** firewall_limit_notes() - note no more packets of one rule than that, in tables to come too.
 * @interval_ns: of a packet; 0, as at the start, is no limit
 * @burst: so many at once, at least 1 */
void
firewall_limit_notes(struct firewall *firewall, uint64_t interval_ns, uint32_t burst)
{
    firewall->note_interval_ns = interval_ns;
    firewall->note_burst = burst;
}

/** firewall_has_notes() - Return: whether firewall_note() has something to give. */
bool
firewall_has_notes(const struct firewall *firewall)
{
    return firewall->note_count > 0;
}

/** firewall_lost_notes() - Return: how many were lost of all rules that nobody was told of. */
uint64_t
firewall_lost_notes(const struct firewall *firewall)
{
    return firewall->lost;
}

/** firewall_take_lost() - how many a rule lost since it was asked last.
 * @rule: an index, as for firewall_count() */
uint64_t
firewall_take_lost(struct firewall *firewall, size_t rule)
{
    struct account *account = &firewall->accounts[rule];
    uint64_t lost = account->lost;

    account->lost = 0;
    firewall->lost -= lost;
    return lost;
}

/** firewall_put_lost() - nobody could be told what firewall_take_lost() returned. */
void
firewall_put_lost(struct firewall *firewall, size_t rule, uint64_t lost)
{
    firewall->accounts[rule].lost += lost;
    firewall->lost += lost;
}
