/* What the files of this extension share: its state, the seam for faults, and turning results into
 * objects. */
#ifndef DONJON_SYSCALLS_LINUX_H
#define DONJON_SYSCALLS_LINUX_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "cmdline.h"
#include "faults.h"
#include "kernel.h"

struct state {
    struct faults faults;
    struct cmdline cmdline; /* what /proc/PID/cmdline shows, once it was set */
};

struct state *state_of(PyObject *module);
bool tripped(PyObject *module, const char *name);
int arm_from_environment(struct state *state);

PyObject *raise_errno(bool stop, PyObject *a, PyObject *b);
PyObject *none_or_errno(long result);
PyObject *int_or_errno(long result);
int optional_path(PyObject *value, void *result);
int mask64(PyObject *value, void *result);
const char *text_or_null(PyObject *bytes);

/* Run CALL until no signal interrupts it. RESULT is long; STOP is set when a Python handler
 * raised. */
#define BLOCKING(result, stop, call)                                                              \
    do {                                                                                          \
        Py_BEGIN_ALLOW_THREADS errno = 0;                                                         \
        (result) = (call);                                                                        \
        Py_END_ALLOW_THREADS                                                                      \
    } while ((result) < 0 && errno == EINTR && !((stop) = (PyErr_CheckSignals() < 0)))

/* Rows of a method table, from do_NAME and NAME_doc. */
#define KEYWORDS(name)                                                                            \
    {                                                                                             \
#name, (PyCFunction)(void (*)(void))do_##name, METH_VARARGS | METH_KEYWORDS, name##_doc   \
    }
#define ONE(name)                                                                                 \
    {                                                                                             \
#name, do_##name, METH_O, name##_doc                                                      \
    }
#define NONE(name)                                                                                \
    {                                                                                             \
#name, do_##name, METH_NOARGS, name##_doc                                                 \
    }

extern PyMethodDef fault_methods[];
extern PyMethodDef process_methods[];
extern PyMethodDef mount_methods[];
extern PyMethodDef file_methods[];
extern PyMethodDef privilege_methods[];
extern PyMethodDef cmdline_methods[];
extern PyMethodDef inotify_methods[];
extern PyMethodDef confine_methods[];
extern PyMethodDef memory_methods[];
extern PyMethodDef loop_methods[];
extern PyMethodDef tape_methods[];
extern PyMethodDef tun_methods[];

#endif
