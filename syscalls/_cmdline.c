/* The command line that /proc/PID/cmdline shows (proc(5)), moved to memory of our own.
 *
 * The kernel reads it from the memory between arg_start and arg_end. PR_SET_MM_MAP
 * (prctl(2), 3.18, with CONFIG_CHECKPOINT_RESTORE) moves these, and needs every other boundary of
 * the process beside them: they are read from /proc/self/stat the first time and kept, for a jail
 * may have no /proc later. The boundaries of a process do not move, and a forked child has those
 * of its parent; brk alone is asked each time.
 */
#include "_linux.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>

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

/* Fill the boundaries of STATE once. Return 0, or -1 with errno. */
static int
know_boundaries(struct state *state)
{
    if (state->boundaries.start_code != 0) {
        return 0;
    }
    unsigned long long fields[LAST + 1] = {0};
    if (read_stat(fields) < 0) {
        return -1;
    }
    state->boundaries = (struct prctl_mm_map){
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

/* Show the SIZE bytes at PAGE as the command line. Return 0, or -1 with errno. */
static int
show(PyObject *module, void *page, size_t size)
{
    struct state *state = state_of(module);
    if (know_boundaries(state) < 0) {
        return -1;
    }
    struct prctl_mm_map map = state->boundaries;
    map.arg_start = (uint64_t)(uintptr_t)page;
    map.arg_end = map.arg_start + size;
    map.brk = (uint64_t)(uintptr_t)sbrk(0);
    return prctl(PR_SET_MM, PR_SET_MM_MAP, (unsigned long)(uintptr_t)&map, sizeof map, 0UL);
}

/* Join the bytes objects of ARGS, each ended by a NUL, at TO; with TO NULL only measure.
 * Return the size, or -1 with an exception set. */
static Py_ssize_t
join(PyObject *args, char *to)
{
    Py_ssize_t size = 0;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(args); i++) {
        char *text = NULL;
        Py_ssize_t length = 0;
        if (PyBytes_AsStringAndSize(PySequence_Fast_GET_ITEM(args, i), &text, &length) < 0) {
            return -1;
        }
        if (to != NULL) {
            memcpy(to + size, text, (size_t)length);
            to[size + length] = '\0';
        }
        size += length + 1;
    }
    return size;
}

PyDoc_STRVAR(set_cmdline_doc,
             "Show ARGS, a sequence of bytes, in /proc/PID/cmdline (PR_SET_MM_MAP of prctl(2))");

static PyObject *
do_set_cmdline(PyObject *module, PyObject *arg)
{
    PyObject *args = PySequence_Fast(arg, "set_cmdline: a sequence of bytes");
    if (args == NULL) {
        return NULL;
    }
    PyObject *outcome = NULL;
    struct state *state = state_of(module);
    Py_ssize_t size = join(args, NULL);
    if (size < 0) {
        goto done;
    }
    if (size == 0 || tripped(module, "set_cmdline")) {
        errno = size == 0 ? EINVAL : errno;
        outcome = PyErr_SetFromErrno(PyExc_OSError);
        goto done;
    }
    void *page =
        mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        outcome = PyErr_SetFromErrno(PyExc_OSError);
        goto done;
    }
    (void)join(args, page);
    if (show(module, page, (size_t)size) < 0) {
        outcome = PyErr_SetFromErrno(PyExc_OSError);
        munmap(page, (size_t)size);
        goto done;
    }
    if (state->cmdline != NULL) {
        munmap(state->cmdline, state->cmdline_size);
    }
    state->cmdline = page;
    state->cmdline_size = (size_t)size;
    outcome = Py_NewRef(Py_None);
done:
    Py_DECREF(args);
    return outcome;
}

PyMethodDef cmdline_methods[] = {
    ONE(set_cmdline),
    {NULL, NULL, 0, NULL},
};
