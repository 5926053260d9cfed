/* The program that is run in jails: one verb a fact or an attack, and one line of JSON about it.
 */
#ifndef PROBE_H
#define PROBE_H

#include <stdbool.h>
#include <stddef.h>

typedef void (*attempt_fn)(void);

/** A verb of the command line. @run takes what follows it. */
struct verb {
    const char *name;
    void (*run)(int argc, char **argv);
};

/** Each theme's verbs, ended by a verb without a name. */
extern const struct verb files_verbs[];
extern const struct verb identity_verbs[];
extern const struct verb kernel_verbs[];
extern const struct verb resource_verbs[];

/** fact() - tell something. @name: of what. @value: any text. */
void fact(const char *name, const char *value);
/** fact_number() - tell a number. @name: of what. @value: in decimal. */
void fact_number(const char *name, long long value);
/** fact_result() - tell how a call ended: "done", or the name of errno. @result: of the call. */
void fact_result(const char *name, long result);
/** fact_file() - tell the first bytes of a file, or the name of errno. @path: of the file. */
void fact_file(const char *name, const char *path);

/** guarded() - make one attempt in a process of its own, so that a filter may kill it.
 * @name: of the fact, unless the attempt told it by itself; a death is told as "SIG...".
 */
void guarded(const char *name, attempt_fn attempt);
/** nested() - go on as root of a user namespace below, if the kernel lets us.
 * @more: other namespaces. Return: 0, or -1 with errno.
 */
int nested(int more);
/** in_child() - run something that spoils a process. Return: its wait status. */
int in_child(attempt_fn act);
/** word_after() - the value of a field. Return: false where there is none. */
bool word_after(const char *path, const char *field, char *value, size_t size);

#endif
