/* faults.c - the seam for tests: a named call fails on demand. */
#include "faults.h"

#include <errno.h>
#include <string.h>

/**
 * faults_trip() - whether a call is to fail now.
 * @faults: those that are armed.
 * @name: the call's name.
 *
 * Return: true with errno set where a fault was injected and its turn has come.
 */
bool
faults_trip(struct faults *faults, const char *name)
{
    for (int i = 0; i < faults->armed; i++) {
        struct fault *fault = &faults->each[i];
        if (fault->times == 0 || strcmp(fault->name, name) != 0) {
            continue;
        }
        if (fault->after > 0) {
            fault->after--;
            continue;
        }
        if (fault->times > 0) {
            fault->times--;
        }
        errno = fault->error;
        return true;
    }
    return false;
}

/**
 * faults_arm() - make a call fail.
 * @faults: where to remember it.
 * @name: the call's name, of @length bytes.
 * @length: see @name.
 * @error: errno to fail with.
 * @after: calls to let through first.
 * @times: how often to fail; -1 for ever.
 *
 * Return: 0, or -1 where it makes no sense or there is no room.
 */
int
faults_arm(struct faults *faults, const char *name, size_t length, int error, long after,
           long times)
{
    if (faults->armed >= FAULTS || length == 0 || length >= FAULT_NAME || error <= 0 ||
        after < 0 || times < -1) {
        return -1;
    }
    struct fault *fault = &faults->each[faults->armed];
    memcpy(fault->name, name, length);
    fault->name[length] = '\0';
    fault->error = error;
    fault->after = after;
    fault->times = times;
    faults->armed++;
    return 0;
}
