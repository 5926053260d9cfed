/* test_acts.c - the packet of a birth, whole and broken, and acts whose payload is not one. */
#include <errno.h>
#include <linux/filter.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "acts.h"
#include "check.h"
#include "faults.h"

enum { ROOM = 512, ANY_RESUME = 7 };

/* A packet under construction. */
struct packet {
    unsigned char bytes[ROOM];
    size_t size;
};

static void
put(struct packet *packet, const void *bytes, size_t size)
{
    if (packet->size + size > ROOM) {
        abort();
    }
    memcpy(packet->bytes + packet->size, bytes, size);
    packet->size += size;
}

/* Put an act that says SIZE and has REAL bytes of 'x' and padding behind it. */
static void
put_act(struct packet *packet, uint16_t kind, uint32_t size, size_t real)
{
    struct act_head head = {.kind = kind, .resume = ANY_RESUME, .size = size};
    unsigned char filler[ROOM];
    memset(filler, 'x', sizeof filler);
    put(packet, &head, sizeof head);
    put(packet, filler, real);
}

/* Walk what was put in a copy that ends where it ends. Return what next_act() said last. */
static int
walk(const struct packet *packet, size_t *count)
{
    unsigned char *copy = (unsigned char *)exact_copy((const char *)packet->bytes, packet->size);
    struct cursor cursor = {copy, packet->size};
    struct act act;
    int found;
    *count = 0;
    while ((found = next_act(&cursor, &act)) == 1) {
        CHECK(act.data >= copy && act.data + act.size <= copy + packet->size);
        CHECK(act.resume == ANY_RESUME);
        ++*count;
    }
    free(copy);
    return found;
}

static int
read_head(struct birth_head head, size_t size)
{
    unsigned char *copy = (unsigned char *)exact_copy((const char *)&head, size);
    struct birth_head got;
    struct cursor acts = {0};
    int result = birth_head(copy, size, &got, &acts);
    if (result == 0) {
        CHECK(acts.at == copy + sizeof head && acts.left == size - sizeof head);
        CHECK(got.number == head.number && got.role_count == head.role_count);
    }
    free(copy);
    return result;
}

static void
heads(void)
{
    struct birth_head good = {.kind = KIND_OF_BIRTH, .role_count = ROLES, .number = -5};
    struct birth_head strange = good;
    struct birth_head crowded = good;
    strange.kind = 'D';
    crowded.role_count = ROLES + 1;
    CHECK(read_head(good, sizeof good) == 0);
    CHECK(read_head(strange, sizeof strange) == -1);
    CHECK(read_head(crowded, sizeof crowded) == -1);
    crowded.role_count = UINT8_MAX;
    CHECK(read_head(crowded, sizeof crowded) == -1);
    for (size_t size = 0; size < sizeof good; size++) {
        CHECK(read_head(good, size) == -1);
    }
}

static void
whole_packets(void)
{
    struct packet packet = {.size = 0};
    struct act act;
    size_t count;
    CHECK(walk(&packet, &count) == 0 && count == 0);
    put_act(&packet, ACT_DUMPABLE, 0, 0);
    CHECK(walk(&packet, &count) == 0 && count == 1);
    put_act(&packet, ACT_DIRECTORY, 1, 8);
    put_act(&packet, ACT_LIMIT, 16, 16);
    put_act(&packet, UINT16_MAX, 8, 8);
    CHECK(walk(&packet, &count) == 0 && count == 4);
    struct cursor cursor = {packet.bytes, packet.size};
    CHECK(find_act(cursor, ACT_LIMIT, &act) == 1 && act.size == 16);
    CHECK(find_act(cursor, ACT_DUMPABLE, &act) == 1 && act.size == 0);
    CHECK(find_act(cursor, ACT_RECORD, &act) == 0);
    CHECK(cursor.left == packet.size);
}

static void
broken_packets(void)
{
    static const struct {
        uint32_t size;
        size_t real;
    } broken[] = {
        {1, 0},
        {1, 1},
        {1, 7},
        {7, 7},
        {8, 7},
        {9, 9},
        {9, 15},
        {16, 8},
        {UINT32_MAX, 0},
        {UINT32_MAX, 64},
        {INT32_MAX, 64},
        {0x80000000, 8},
        {UINT32_MAX - 7, 8},
        {65, 64},
    };
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        struct packet packet = {.size = 0};
        struct act act;
        size_t count;
        put_act(&packet, ACT_DUMPABLE, 0, 0);
        put_act(&packet, ACT_RECORD, broken[i].size, broken[i].real);
        CHECK(walk(&packet, &count) == -1 && count == 1);
        CHECK(find_act((struct cursor){packet.bytes, packet.size}, ACT_RECORD, &act) == -1);
        CHECK(find_act((struct cursor){packet.bytes, packet.size}, ACT_DUMPABLE, &act) == 1);
    }
    for (size_t left = 1; left < sizeof(struct act_head); left++) {
        struct packet packet = {.size = 0};
        size_t count;
        put_act(&packet, ACT_DUMPABLE, 0, 0);
        packet.size = left;
        CHECK(walk(&packet, &count) == -1 && count == 0);
    }
}

/* Do one act with a payload of our own. Return do_acts(); errno and RESUME are its own. */
static int
act_out(uint16_t kind, const void *payload, size_t size, unsigned *resume)
{
    static const unsigned char padding[8];
    struct faults none = {0};
    struct newborn newborn = {.head.emperor_pid = getppid(), .maps_fd = -1, .faults = &none};
    struct act_head head = {.kind = kind, .resume = ANY_RESUME, .size = (uint32_t)size};
    struct packet packet = {.size = 0};
    put(&packet, &head, sizeof head);
    put(&packet, payload, size);
    put(&packet, padding, (8 - size % 8) % 8);
    unsigned char *copy = (unsigned char *)exact_copy((const char *)packet.bytes, packet.size);
    *resume = 0;
    errno = 0;
    int result = do_acts(&newborn, NULL, (struct cursor){copy, packet.size}, resume);
    int error = errno;
    free(copy);
    errno = error;
    return result;
}

static void
refused(uint16_t kind, const void *payload, size_t size, int error)
{
    unsigned resume;
    CHECK(act_out(kind, payload, size, &resume) == -1);
    CHECK(errno == error);
    CHECK(resume == ANY_RESUME);
}

static void
payloads(void)
{
    static const uint16_t texts[] = {ACT_DIRECTORY, ACT_COMMAND_LINE, ACT_HOSTNAME};
    static const uint16_t numbers[] = {ACT_BOUND, ACT_RESTRICT, ACT_PRIORITY};
    const uint64_t words[4] = {0};
    for (size_t i = 0; i < 3; i++) {
        refused(texts[i], "", 0, EINVAL);
        refused(texts[i], "no end", 6, EINVAL);
        refused(numbers[i], words, 0, EINVAL);
        refused(numbers[i], words, 7, EINVAL);
        refused(numbers[i], words, 16, EINVAL);
    }
    for (size_t size = 0; size <= sizeof words; size++) {
        if (size != 24) {
            refused(ACT_HOLD_CAPS, words, size, EINVAL);
            refused(ACT_LIMIT, words, size, EINVAL);
        }
    }
    refused(ACT_DIRECTORY, "/no/such\0/tmp", 14, ENOENT);
    refused(ACT_WAIT_FOR_MAPS, "", 0, EPERM);
    refused(ACT_LIMIT, (uint64_t[]){RLIM_NLIMITS, 1, 1}, 24, EINVAL);
    refused(ACT_SECCOMP, "", 0, EINVAL);
    refused(ACT_SECCOMP, "1234567", sizeof(struct sock_filter) - 1, EINVAL);
    refused(0, "", 0, EINVAL);
    refused(ACT_RECORD + 1, "", 0, EINVAL);
    refused(UINT16_MAX, "", 0, EINVAL);
}

static void
identities(void)
{
    static const int64_t counts[] = {1, 2, 1025, INT64_MAX, INT32_MAX, 1LL << 62};
    struct identity who = {-1, -1, 0};
    refused(ACT_BECOME, &who, 0, EINVAL);
    refused(ACT_BECOME, &who, sizeof who - 1, EINVAL);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        who.groups = counts[i];
        refused(ACT_BECOME, &who, sizeof who, EINVAL);
    }
}

static void
addresses(void)
{
    struct {
        struct listening wanted;
        char address[120];
    } one = {.wanted = {AF_UNIX, 0, 1, -1, -1, 0}};
    const size_t head = sizeof one.wanted;
    memset(one.address, 'a', sizeof one.address);
    refused(ACT_LISTEN, &one, 0, EINVAL);
    refused(ACT_LISTEN, &one, head, EINVAL);
    refused(ACT_LISTEN, &one, head + 5, EINVAL);
    one.address[109] = '\0';
    refused(ACT_LISTEN, &one, head + 110, ENAMETOOLONG);
    one.wanted.family = AF_INET;
    memcpy(one.address, "no address", 11);
    refused(ACT_LISTEN, &one, head + 11, EINVAL);
    memcpy(one.address, "::1", 4);
    refused(ACT_LISTEN, &one, head + 4, EINVAL);
    one.wanted.family = AF_INET6;
    memcpy(one.address, "127.0.0.1", 10);
    refused(ACT_LISTEN, &one, head + 10, EINVAL);
}

static void
too_many_listeners(void)
{
    struct {
        struct act_head head;
        struct listening wanted;
        char name[8];
    } act = {
        {ACT_LISTEN, ANY_RESUME, sizeof act - sizeof act.head}, {AF_UNIX, 0, 1, -1, -1, 0}, ""};
    struct faults none = {0};
    struct newborn newborn = {.listener_count = LISTENERS, .faults = &none};
    unsigned resume;
    for (size_t i = 0; i < LISTENERS; i++) {
        newborn.listeners[i].fd = -1;
    }
    struct cursor cursor = {(const unsigned char *)&act, sizeof act};
    CHECK(do_acts(&newborn, NULL, cursor, &resume) == -1 && errno == EINVAL);
    CHECK(newborn.listener_count == 0);
}

int
main(void)
{
    heads();
    whole_packets();
    broken_packets();
    payloads();
    identities();
    addresses();
    too_many_listeners();
    return checked("acts");
}
