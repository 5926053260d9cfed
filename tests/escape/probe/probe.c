/* main(), and how facts are gathered: in memory that children share, printed once at the end. */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROOM = 1 << 20 };

struct sheet {
    size_t used;
    char text[ROOM];
};

static struct sheet *sheet;

static void
put(char letter)
{
    if (sheet->used < ROOM) {
        sheet->text[sheet->used++] = letter;
    }
}

static void
put_string(const char *text)
{
    put('"');
    for (const char *at = text; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte == '"' || byte == '\\') {
            put('\\');
        }
        put(byte == '\t' ? ' ' : byte < ' ' || byte > '~' ? '?' : *at);
    }
    put('"');
}

void
fact(const char *name, const char *value)
{
    if (sheet->used + 6 * (strlen(name) + strlen(value)) > ROOM) {
        return;
    }
    if (sheet->used > 0) {
        put(',');
    }
    put_string(name);
    put(':');
    put_string(value);
}

void
fact_number(const char *name, long long value)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", value);
    fact(name, text);
}

void
fact_result(const char *name, long result)
{
    const char *error = strerrorname_np(errno);
    fact(name, result >= 0 ? "done" : error != NULL ? error : "?");
}

void
fact_file(const char *name, const char *path)
{
    char text[65] = "";
    int number = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ssize_t got = number < 0 ? -1 : read(number, text, sizeof text - 1);
    if (got < 0) {
        fact_result(name, -1);
    } else {
        fact(name, text);
    }
    if (number >= 0) {
        close(number);
    }
}

int
in_child(attempt_fn act)
{
    pid_t pid = fork();
    if (pid == 0) {
        act();
        _exit(0);
    }
    int status = -1;
    if (pid > 0) {
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
    }
    return status;
}

void
guarded(const char *name, attempt_fn attempt)
{
    size_t before = sheet->used;
    int status = in_child(attempt);
    if (sheet->used != before) {
        return;
    }
    if (status >= 0 && WIFSIGNALED(status)) {
        char text[16];
        snprintf(text, sizeof text, "SIG%s", sigabbrev_np(WTERMSIG(status)));
        fact(name, text);
    } else {
        fact(name, status < 0 ? "no process" : "silent");
    }
}

static int
write_file(const char *path, const char *text)
{
    int number = open(path, O_WRONLY | O_CLOEXEC);
    if (number < 0) {
        return -1;
    }
    ssize_t done = write(number, text, strlen(text));
    close(number);
    return done < 0 ? -1 : 0;
}

int
nested(int more)
{
    char map[64];
    uid_t uid = getuid();
    gid_t gid = getgid();
    if (unshare(CLONE_NEWUSER | more) != 0) {
        return -1;
    }
    snprintf(map, sizeof map, "0 %u 1", uid);
    if (write_file("/proc/self/setgroups", "deny") != 0 ||
        write_file("/proc/self/uid_map", map) != 0) {
        return 0; /* it has all capabilities all the same */
    }
    snprintf(map, sizeof map, "0 %u 1", gid);
    write_file("/proc/self/gid_map", map);
    return 0;
}

bool
word_after(const char *path, const char *field, char *value, size_t size)
{
    char line[512];
    bool found = false;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    while (!found && fgets(line, sizeof line, file) != NULL) {
        size_t length = strlen(field);
        if (strncmp(line, field, length) == 0 && line[length] == ':') {
            char *at = line + length + 1;
            at += strspn(at, " \t");
            at[strcspn(at, "\n")] = '\0';
            snprintf(value, size, "%s", at);
            found = true;
        }
    }
    fclose(file);
    return found;
}

static const struct verb *
find(const char *name)
{
    const struct verb *themes[] = {files_verbs, identity_verbs, kernel_verbs, resource_verbs};
    for (size_t theme = 0; theme < sizeof themes / sizeof *themes; theme++) {
        for (const struct verb *one = themes[theme]; one->name != NULL; one++) {
            if (strcmp(one->name, name) == 0) {
                return one;
            }
        }
    }
    return NULL;
}

int
main(int argc, char **argv)
{
    const struct verb *verb = argc > 1 ? find(argv[1]) : NULL;
    if (verb == NULL) {
        fputs("usage: probe VERB [WORD...]\n", stderr);
        return 2;
    }
    sheet = mmap(NULL, sizeof *sheet, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sheet == MAP_FAILED) {
        perror("probe");
        return 1;
    }
    verb->run(argc - 2, argv + 2);
    printf("{\"verb\":\"%s\",\"facts\":{%.*s}}\n", verb->name, (int)sheet->used, sheet->text);
    return 0;
}
