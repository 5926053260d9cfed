/* test_uwsgi.c - uwsgi packets: the example of the specification, limits, and broken ones. */
#include "check.h"
#include "uwsgi.h"

static struct uwsgi_packet packet;

/** Parse exactly `len` bytes. The spans are dead afterwards: what is looked at is counted here. */
static int
parse(const char *bytes, size_t len)
{
    char *copy = exact_copy(bytes, len);
    int result = uwsgi_parse(copy, len, 4096, &packet);

    if (result == HTTP_OK) {
        for (size_t i = 0; i < packet.count; i++) {
            CHECK(packet.vars[i].name.ptr >= copy);
            CHECK(packet.vars[i].value.ptr + packet.vars[i].value.len <= copy + len);
        }
    }
    free(copy);
    return result;
}

static void
test_the_example_of_the_specification(void)
{
    static const char bytes[] = "\x11\x0e\x00\x00\x05\x00hello\x05\x00world";

    CHECK(uwsgi_parse(bytes, sizeof(bytes) - 1, 4096, &packet) == HTTP_OK);
    CHECK(packet.modifier1 == 17 && packet.modifier2 == 0);
    CHECK(packet.total == sizeof(bytes) - 1);
    CHECK(packet.count == 1);
    const struct span *value = uwsgi_find(&packet, "hello", 5);
    CHECK(value != NULL && value->len == 5 && memcmp(value->ptr, "world", 5) == 0);
    CHECK(uwsgi_find(&packet, "hell", 4) == NULL);
    for (size_t n = 0; n < sizeof(bytes) - 1; n++)
        CHECK(parse(bytes, n) == HTTP_MORE);
}

static void
test_edges(void)
{
    CHECK(parse("\x64\x00\x00\x00", 4) == HTTP_OK);
    CHECK(packet.modifier1 == UWSGI_PING && packet.count == 0);
    CHECK(parse("\x00\x04\x00\x00\x00\x00\x00\x00", 8) == 400); /* empty key */
    CHECK(parse("\x00\x01\x00\x00\x01", 5) == 400);             /* half a length */
    CHECK(parse("\x00\x04\x00\x00\x03\x00"
                "ab",
                8) == 400); /* key overruns */
    CHECK(parse("\x00\x03\x00\x00\x01\x00"
                "a",
                7) == 400); /* no value */
    CHECK(parse("\x00\x05\x00\x00\x01\x00"
                "a\x01\x00",
                9) == 400); /* value overruns */
    CHECK(parse("\x00\x05\x00\x00\xff\xff"
                "aaa",
                9) == 400); /* key overruns far */
    CHECK(parse("\x00\x05\x00\x00\x01\x00"
                "a\x00\x00",
                9) == HTTP_OK); /* empty value */
    CHECK(parse("\x00\x05\x00\x00\x01\x00"
                "a\x00\x00rest",
                13) == HTTP_OK);
    CHECK(packet.total == 9);
    CHECK(parse("\x00\x01\x10\x00", 4) == 431); /* one over the limit: refused before it comes */
    CHECK(parse("\x00\x00\x10\x00", 4) == HTTP_MORE);
}

static void
test_the_last_of_a_repeated_key_counts(void)
{
    static const char bytes[] = "\x00\x0c\x00\x00\x01\x00"
                                "a\x01\x00"
                                "1\x01\x00"
                                "a\x01\x00"
                                "2";

    CHECK(uwsgi_parse(bytes, sizeof(bytes) - 1, 4096, &packet) == HTTP_OK);
    CHECK(*uwsgi_find(&packet, "a", 1)->ptr == '2');
}

static void
test_too_many_variables(void)
{
    char bytes[4 + 5 * (UWSGI_MAX_VARS + 1)];
    size_t size = 5 * (UWSGI_MAX_VARS + 1);

    for (size_t i = 0; i < UWSGI_MAX_VARS + 1; i++)
        memcpy(bytes + 4 + 5 * i,
               "\x01\x00"
               "a\x00\x00",
               5);
    memcpy(bytes, "\0\0\0\0", 4);
    bytes[1] = (char)(size & 0xff);
    bytes[2] = (char)(size >> 8);
    CHECK(parse(bytes, sizeof(bytes)) == 431);
    size -= 5;
    bytes[1] = (char)(size & 0xff);
    bytes[2] = (char)(size >> 8);
    CHECK(parse(bytes, sizeof(bytes) - 5) == HTTP_OK);
}

int
main(void)
{
    test_the_example_of_the_specification();
    test_edges();
    test_the_last_of_a_repeated_key_counts();
    test_too_many_variables();
    return checked("uwsgi");
}
