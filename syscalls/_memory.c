/* Merging equal pages of memory: madvise(2), PR_SET_MEMORY_MERGE of prctl(2), ksm.rst. */
#include "_linux.h"

#include <sys/prctl.h>

PyDoc_STRVAR(madvise_doc,
             "madvise(2) of this process's memory: MADV_MERGEABLE and MADV_UNMERGEABLE only");

static PyObject *
do_madvise(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"address", "length", "advice", NULL};
    unsigned long long address = 0;
    unsigned long long length = 0;
    int advice = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&i:madvise", names, mask64, &address,
                                     mask64, &length, &advice)) {
        return NULL;
    }
    /* Others throw memory away, and a number from Python is no pointer of ours. */
    if (advice != MADV_MERGEABLE && advice != MADV_UNMERGEABLE) {
        PyErr_SetString(PyExc_ValueError, "madvise: only MADV_MERGEABLE and MADV_UNMERGEABLE");
        return NULL;
    }
    return none_or_errno(tripped(module, "madvise") ? -1
                                                    : syscall(SYS_madvise, (unsigned long)address,
                                                              (unsigned long)length, advice));
}

PyDoc_STRVAR(set_memory_merge_doc,
             "PR_SET_MEMORY_MERGE of prctl(2): all memory of this process and its children");

static PyObject *
do_set_memory_merge(PyObject *module, PyObject *arg)
{
    int on = PyObject_IsTrue(arg);
    if (on < 0 || !PyBool_Check(arg)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "set_memory_merge: not a bool");
        }
        return NULL;
    }
    return none_or_errno(tripped(module, "set_memory_merge")
                             ? -1
                             : prctl(PR_SET_MEMORY_MERGE, (unsigned long)on, 0UL, 0UL, 0UL));
}

PyMethodDef memory_methods[] = {
    KEYWORDS(madvise),
    ONE(set_memory_merge),
    {NULL, NULL, 0, NULL},
};
