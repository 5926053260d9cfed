/* set_cmdline(): see cmdline.c. */
#include "_linux.h"

PyDoc_STRVAR(set_cmdline_doc,
             "Show ARGS, a sequence of bytes, in /proc/PID/cmdline (PR_SET_MM_MAP of prctl(2))");

/* Join the bytes objects of ARGS, each ended by a NUL. Return bytes, or NULL with an exception. */
static PyObject *
join(PyObject *args)
{
    PyObject *words = PyBytes_FromString("");
    for (Py_ssize_t i = 0; words != NULL && i < PySequence_Fast_GET_SIZE(args); i++) {
        char *text = NULL;
        if (PyBytes_AsStringAndSize(PySequence_Fast_GET_ITEM(args, i), &text, NULL) < 0) {
            Py_CLEAR(words);
            break;
        }
        PyBytes_ConcatAndDel(&words,
                             PyBytes_FromStringAndSize(text, (Py_ssize_t)strlen(text) + 1));
    }
    return words;
}

static PyObject *
do_set_cmdline(PyObject *module, PyObject *arg)
{
    PyObject *args = PySequence_Fast(arg, "set_cmdline: a sequence of bytes");
    PyObject *words = args == NULL ? NULL : join(args);
    PyObject *outcome = NULL;
    if (words != NULL) {
        size_t size = (size_t)PyBytes_GET_SIZE(words);
        int result = -1;
        if (size == 0) {
            errno = EINVAL;
        } else if (!tripped(module, "set_cmdline")) {
            result = cmdline_show(&state_of(module)->cmdline, PyBytes_AS_STRING(words), size);
        }
        outcome = none_or_errno(result);
    }
    Py_XDECREF(words);
    Py_XDECREF(args);
    return outcome;
}

PyMethodDef cmdline_methods[] = {
    ONE(set_cmdline),
    {NULL, NULL, 0, NULL},
};
