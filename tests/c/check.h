/* check.h - what the unit tests share: checks that name what they wanted, and a count. */
#ifndef DONJON_CHECK_H
#define DONJON_CHECK_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;
static int checks;

/** Count a check; say where and what if it does not hold. */
static inline void
check(bool holds, const char *file, int line, const char *what)
{
    checks++;
    if (holds)
        return;
    failures++;
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
}

#define CHECK(condition) check((condition), __FILE__, __LINE__, #condition)

/** A copy that ends where its bytes end, so that ASan sees a read beyond them. */
static inline char *
exact_copy(const char *bytes, size_t len)
{
    char *copy = malloc(len ? len : 1);

    if (copy == NULL)
        abort();
    memcpy(copy, bytes, len);
    return copy;
}

/** Say how it went. Return: the exit status. */
static inline int
checked(const char *name)
{
    printf("%s: %d checks, %d failures\n", name, checks, failures);
    return failures ? 1 : 0;
}

#endif
