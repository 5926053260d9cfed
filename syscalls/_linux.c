/* donjon.syscalls._linux: one function a system call, named and ordered as its manual page.
 *
 * A call here parses its arguments, lets go of the GIL where the kernel may block, tries again
 * after a signal (PEP 475) and raises OSError(errno, reason, path). It decides nothing.
 * Descriptors it returns are close-on-exec. This file makes the module; _process.c, _mount.c,
 * _file.c and _privilege.c hold the calls, _faults.c the seam that makes them fail in tests.
 */
#include "_linux.h"

#include "constants.h"

/**
 * raise_errno() - raise OSError from errno.
 * @stop: an exception is set already (a signal's handler raised); nothing is done.
 * @a: a path as bytes, or NULL.
 * @b: a second path as bytes, or NULL.
 *
 * Return: NULL.
 */
PyObject *
raise_errno(bool stop, PyObject *a, PyObject *b)
{
    if (stop) {
        return NULL;
    }
    int error = errno;
    PyObject *first =
        a == NULL ? NULL
                  : PyUnicode_DecodeFSDefaultAndSize(PyBytes_AS_STRING(a), PyBytes_GET_SIZE(a));
    PyObject *second =
        b == NULL ? NULL
                  : PyUnicode_DecodeFSDefaultAndSize(PyBytes_AS_STRING(b), PyBytes_GET_SIZE(b));
    if (!PyErr_Occurred()) {
        errno = error;
        PyErr_SetFromErrnoWithFilenameObjects(PyExc_OSError, first, second);
    }
    Py_XDECREF(first);
    Py_XDECREF(second);
    return NULL;
}

/**
 * none_or_errno() - turn the result of a call that gives nothing into an object.
 * @result: what the call returned; below 0, errno says why.
 *
 * Return: None, or NULL with OSError set.
 */
PyObject *
none_or_errno(long result)
{
    if (result < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

/**
 * int_or_errno() - turn the result of a call that gives a number into an object.
 * @result: what the call returned; below 0, errno says why.
 *
 * Return: the number, or NULL with OSError set.
 */
PyObject *
int_or_errno(long result)
{
    if (result < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromLong(result);
}

/**
 * optional_path() - argument converter: a path as PyUnicode_FSConverter() has it, or None.
 * @value: the argument.
 * @result: a PyObject *, to a new bytes object, or NULL for None.
 *
 * Return: 1, or 0 with an exception set.
 */
int
optional_path(PyObject *value, void *result)
{
    if (value == Py_None) {
        *(PyObject **)result = NULL;
        return 1;
    }
    return PyUnicode_FSConverter(value, result);
}

/**
 * mask64() - argument converter: an unsigned number of 64 bits.
 * @value: the argument; more, or less than 0, is OverflowError.
 * @result: an unsigned long long.
 *
 * Return: 1, or 0 with an exception set.
 */
int
mask64(PyObject *value, void *result)
{
    unsigned long long mask = PyLong_AsUnsignedLongLong(value);
    if (PyErr_Occurred()) {
        return 0;
    }
    *(unsigned long long *)result = mask;
    return 1;
}

/**
 * text_or_null() - lend the text of a bytes object.
 * @bytes: the object, or NULL.
 *
 * Return: the text, or NULL.
 */
const char *
text_or_null(PyObject *bytes)
{
    return bytes == NULL ? NULL : PyBytes_AS_STRING(bytes);
}

/* Give the module its numbers. Return 0, or -1 with an exception set. */
static int
add_constants(PyObject *module)
{
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        PyObject *value = PyLong_FromLongLong(constants[i].value);
        int failed = PyModule_AddObjectRef(module, constants[i].name, value);
        Py_XDECREF(value);
        if (failed < 0) {
            return -1;
        }
    }
    return 0;
}

/* Give the module capability_names and CAP_*. Return 0, or -1 with an exception set. */
static int
add_capabilities(PyObject *module)
{
    PyObject *table = PyDict_New();
    int failed = table == NULL ? -1 : 0;
    for (size_t cap = 0; failed == 0 && cap < sizeof capabilities / sizeof capabilities[0];
         cap++) {
        char constant[48] = "CAP_";
        for (size_t i = 0; capabilities[cap][i] != '\0'; i++) {
            char letter = capabilities[cap][i];
            constant[4 + i] = (char)(letter >= 'a' && letter <= 'z' ? letter - 'a' + 'A' : letter);
        }
        PyObject *number = PyLong_FromSize_t(cap);
        failed = number == NULL ? -1 : PyDict_SetItemString(table, capabilities[cap], number);
        if (failed == 0) {
            failed = PyModule_AddObjectRef(module, constant, number);
        }
        Py_XDECREF(number);
    }
    if (failed == 0) {
        failed = PyModule_AddObjectRef(module, "capability_names", table);
    }
    Py_XDECREF(table);
    return failed;
}

static int
module_exec(PyObject *module)
{
    PyMethodDef *tables[] = {fault_methods,     process_methods, mount_methods,   file_methods,
                             privilege_methods, cmdline_methods, inotify_methods, confine_methods,
                             memory_methods,    loop_methods,    tape_methods,    tun_methods};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        if (PyModule_AddFunctions(module, tables[i]) < 0) {
            return -1;
        }
    }
    if (add_constants(module) < 0 || add_capabilities(module) < 0) {
        return -1;
    }
    PyObject *faults = PyCapsule_New(&state_of(module)->faults, FAULTS_CAPSULE, NULL);
    int failed = PyModule_AddObjectRef(module, "faults", faults);
    Py_XDECREF(faults);
    return failed < 0 ? -1 : arm_from_environment(state_of(module));
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)module_exec},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "donjon.syscalls._linux",
    .m_doc = "Raw Linux calls, named as their manual pages.",
    .m_size = sizeof(struct state),
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__linux(void)
{
    return PyModuleDef_Init(&definition);
}
