/* cmdline.c - the command line that /proc/PID/cmdline shows (proc(5)), moved to memory of our own.
 *
 * The kernel reads it from the memory between arg_start and arg_end. PR_SET_MM_MAP
 * (prctl(2), 3.18, with CONFIG_CHECKPOINT_RESTORE) moves these, and needs every other boundary of
 * the process beside them: they are read from /proc/self/stat the first time and kept, for a jail
 * may have no /proc later. The boundaries of a process do not move, and a forked child has those
 * of its parent; brk alone is asked each time.
 */
#include "cmdline.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

/* The fields of proc_pid_stat(5) that are wanted, and where they go. */
enum {
    START_CODE = 26,
    END_CODE = 27,
    START_STACK = 28,
    START_DATA = 45,
    END_DATA = 46,
    START_BRK = 47
};
enum { ENV_START = 50, ENV_END = 51, COMM = 2, LAST = 52 };

/* Read the fields of /proc/self/stat into FIELDS[0..LAST]. Return 0, or -1 with errno. */
static int
read_stat(unsigned long long fields[LAST + 1])
{
    char text[1024];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    ssize_t length = read(fd, text, sizeof text - 1);
    int error = errno;
    close(fd);
    if (length <= 0) {
        errno = length < 0 ? error : EIO;
        return -1;
    }
    text[length] = '\0';
    char *at = strrchr(text, ')'); /* the name of the program may hold anything */
    for (int field = COMM + 1; at != NULL && field <= LAST; field++) {
        at = strchr(at, ' ');
        if (at != NULL) {
            fields[field] = strtoull(++at, NULL, 10);
        }
    }
    if (at == NULL) {
        errno = EIO;
        return -1;
    }
    return 0;
}

/**
 * cmdline_know() - learn the boundaries of this process's memory, once.
 * @cmdline: zeroed, or what an earlier call filled.
 *
 * Return: 0, or -1 with errno.
 */
int
cmdline_know(struct cmdline *cmdline)
{
    if (cmdline->boundaries.start_code != 0) {
        return 0;
    }
    unsigned long long fields[LAST + 1] = {0};
    if (read_stat(fields) < 0) {
        return -1;
    }
    cmdline->boundaries = (struct prctl_mm_map){
        .start_code = fields[START_CODE],
        .end_code = fields[END_CODE],
        .start_data = fields[START_DATA],
        .end_data = fields[END_DATA],
        .start_brk = fields[START_BRK],
        .start_stack = fields[START_STACK],
        .env_start = fields[ENV_START],
        .env_end = fields[ENV_END],
        .exe_fd = UINT32_MAX, /* as it is */
    };
    return 0;
}

/* Show the SIZE bytes at PAGE. Return 0, or -1 with errno. */
static int
point_at(struct cmdline *cmdline, void *page, size_t size)
{
    if (cmdline_know(cmdline) < 0) {
        return -1;
    }
    struct prctl_mm_map map = cmdline->boundaries;
    map.arg_start = (uint64_t)(uintptr_t)page;
    map.arg_end = map.arg_start + size;
    map.brk = (uint64_t)(uintptr_t)sbrk(0);
    return prctl(PR_SET_MM, PR_SET_MM_MAP, (unsigned long)(uintptr_t)&map, sizeof map, 0UL);
}

/**
 * cmdline_show() - show other words from now on.
 * @cmdline: what is known, and what is shown now; it is freed.
 * @words: the words, each ended by a NUL; copied.
 * @size: their bytes, NULs included.
 *
 * Return: 0, or -1 with errno.
 */
int
cmdline_show(struct cmdline *cmdline, const char *words, size_t size)
{
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return -1;
    }
    memcpy(page, words, size);
    if (point_at(cmdline, page, size) < 0) {
        int error = errno;
        munmap(page, size);
        errno = error;
        return -1;
    }
    if (cmdline->page != NULL) {
        munmap(cmdline->page, cmdline->size);
    }
    cmdline->page = page;
    cmdline->size = size;
    return 0;
}
