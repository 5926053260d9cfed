/* test_terminal.c - packets of one who types, whole and cut, and all other kinds. */
#include "check.h"
#include "frames.h"

static uint8_t keys[64];

/** Take the keys out of exactly `len` bytes. */
static size_t
take(const char *bytes, size_t len)
{
    char *copy = exact_copy(bytes, len);
    size_t found = frames_keys((const uint8_t *)copy, len, keys);

    free(copy);
    return found;
}

int
main(void)
{
    CHECK(take("", 0) == 0);
    CHECK(take("\0\1\0\0x", 5) == 1 && keys[0] == 'x');
    CHECK(take("\7\1\0\0x", 5) == 1); /* modifier1 is ignored, as the original does */
    CHECK(take("\0\1\0\0x\0\2\0\0yz", 11) == 3 && memcmp(keys, "xyz", 3) == 0);
    CHECK(take("\0\0\0\0", 4) == 0);
    for (size_t cut = 1; cut < 5; cut++)
        CHECK(take("\0\1\0\0x", cut) == FRAMES_MORE);
    CHECK(take("\0\377\377\0x", 5) == FRAMES_MORE);
    CHECK(take("\0\30\0\144", 4) == FRAMES_MORE);       /* rows */
    CHECK(take("\0\0\0\2", 4) == FRAMES_MORE);          /* a signal */
    CHECK(take("\320\1\0\0x", 5) == FRAMES_MORE);       /* ours */
    CHECK(take("\0\1\0\0x\0\0\0\2", 9) == FRAMES_MORE); /* keys, and a signal after them */
    frames_head(keys, 513);
    CHECK(memcmp(keys, "\0\1\2\0", FRAMES_HEADER) == 0);
    return checked("terminal");
}
