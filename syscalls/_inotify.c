/* Watching directories: inotify(7). What was seen is read with read(2). */
#include "_linux.h"

PyDoc_STRVAR(inotify_init1_doc, "inotify_init1(2): a close-on-exec descriptor");

static PyObject *
do_inotify_init1(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"flags", NULL};
    int flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|i:inotify_init1", names, &flags)) {
        return NULL;
    }
    return int_or_errno(tripped(module, "inotify_init1") ? -1 : inotify_init1(flags | IN_CLOEXEC));
}

PyDoc_STRVAR(inotify_add_watch_doc, "inotify_add_watch(2): the watch descriptor");

static PyObject *
do_inotify_add_watch(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", "path", "mask", NULL};
    int fd = -1;
    PyObject *path = NULL;
    unsigned long long mask = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iO&O&:inotify_add_watch", names, &fd,
                                     PyUnicode_FSConverter, &path, mask64, &mask)) {
        Py_XDECREF(path);
        return NULL;
    }
    long result = -1;
    if (!tripped(module, "inotify_add_watch")) {
        result = inotify_add_watch(fd, PyBytes_AS_STRING(path), (uint32_t)mask);
    }
    PyObject *outcome = result < 0 ? raise_errno(false, path, NULL) : int_or_errno(result);
    Py_DECREF(path);
    return outcome;
}

PyDoc_STRVAR(inotify_rm_watch_doc, "inotify_rm_watch(2)");

static PyObject *
do_inotify_rm_watch(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", "wd", NULL};
    int fd = -1;
    int wd = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ii:inotify_rm_watch", names, &fd, &wd)) {
        return NULL;
    }
    return none_or_errno(tripped(module, "inotify_rm_watch") ? -1 : inotify_rm_watch(fd, wd));
}

PyMethodDef inotify_methods[] = {
    KEYWORDS(inotify_init1),
    KEYWORDS(inotify_add_watch),
    KEYWORDS(inotify_rm_watch),
    {NULL, NULL, 0, NULL},
};
