/* cmdline.h - the command line that /proc/PID/cmdline shows (proc(5)). Knows no Python. */
#ifndef DONJON_SYSCALLS_CMDLINE_H
#define DONJON_SYSCALLS_CMDLINE_H

#include <stddef.h>
#include <linux/prctl.h>

struct cmdline {
    struct prctl_mm_map boundaries; /* start_code is 0 until they are known */
    void *page;                     /* what is shown, once it was set */
    size_t size;
};

int cmdline_know(struct cmdline *cmdline);
int cmdline_show(struct cmdline *cmdline, const char *words, size_t size);

#endif
