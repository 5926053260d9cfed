/* Files: openat2(2) and close_range(2). */
#include "_linux.h"

#include <limits.h>

PyDoc_STRVAR(
    openat2_doc,
    "openat2(2): a close-on-exec descriptor; EAGAIN (a rename raced with us) is tried again");

static PyObject *
do_openat2(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"dirfd", "path", "flags", "mode", "resolve", NULL};
    enum { ATTEMPTS = 64 }; /* whoever renames without end must not hold us without end */
    int dirfd = -1;
    PyObject *path = NULL;
    unsigned long long flags = 0;
    unsigned long long mode = 0;
    unsigned long long resolve = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iO&O&|O&O&:openat2", names, &dirfd,
                                     PyUnicode_FSConverter, &path, mask64, &flags, mask64, &mode,
                                     mask64, &resolve)) {
        Py_XDECREF(path);
        return NULL;
    }
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve};
    long result = -1;
    bool stop = false;
    if (!tripped(module, "openat2")) {
        const char *name = text_or_null(path);
        int attempts = (resolve & RESOLVE_CACHED) != 0 ? 1 : ATTEMPTS;
        do {
            BLOCKING(result, stop, syscall(SYS_openat2, dirfd, name, &how, sizeof how));
        } while (result < 0 && errno == EAGAIN && !stop && --attempts > 0);
    }
    PyObject *outcome = result < 0 ? raise_errno(stop, path, NULL) : int_or_errno(result);
    Py_DECREF(path);
    return outcome;
}

PyDoc_STRVAR(close_range_doc, "close_range(2); last is included");

static PyObject *
do_close_range(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"first", "last", "flags", NULL};
    unsigned long long first = 0;
    unsigned long long last = 0;
    int flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&|i:close_range", names, mask64, &first,
                                     mask64, &last, &flags)) {
        return NULL;
    }
    if (first > UINT_MAX || last > UINT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "close_range: a descriptor is an unsigned int");
        return NULL;
    }
    return none_or_errno(
        tripped(module, "close_range")
            ? -1
            : syscall(SYS_close_range, (unsigned int)first, (unsigned int)last, flags));
}

PyMethodDef file_methods[] = {
    KEYWORDS(openat2),
    KEYWORDS(close_range),
    {NULL, NULL, 0, NULL},
};
