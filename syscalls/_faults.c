/* The seam for tests, for Python: see faults.c. */
#include "_linux.h"

#include <stdlib.h>
#include <sys/auxv.h>

/**
 * state_of() - the state of this module, one for each interpreter.
 * @module: the module object a function was called with.
 *
 * Return: the state, never NULL once the module is made.
 */
struct state *
state_of(PyObject *module)
{
    return (struct state *)PyModule_GetState(module);
}

/**
 * tripped() - whether a call is to fail now.
 * @module: the module.
 * @name: the call's name.
 *
 * Return: true with errno set where a fault was injected and its turn has come.
 */
bool
tripped(PyObject *module, const char *name)
{
    return faults_trip(&state_of(module)->faults, name);
}

static int
errno_named(PyObject *errno_module, const char *name, size_t length)
{
    PyObject *key = PyUnicode_FromStringAndSize(name, (Py_ssize_t)length);
    if (key == NULL) {
        return -1;
    }
    PyObject *value = PyObject_GetAttr(errno_module, key);
    Py_DECREF(key);
    if (value == NULL) {
        return -1;
    }
    int number = (int)PyLong_AsLong(value);
    Py_DECREF(value);
    return number;
}

/* Read one "mount:EPERM[:after[:times]]" of LENGTH bytes. Return 0, or -1. */
static int
arm_text(struct state *state, PyObject *errno_module, const char *text, size_t length)
{
    char word[80];
    if (length >= sizeof word) {
        return -1;
    }
    memcpy(word, text, length);
    word[length] = '\0';
    char *colon = strchr(word, ':');
    if (colon == NULL) {
        return -1;
    }
    char *error = colon + 1;
    size_t error_length = strcspn(error, ":");
    char *rest = error + error_length;
    long after = *rest == ':' ? strtol(rest + 1, &rest, 10) : 0;
    long times = *rest == ':' ? strtol(rest + 1, &rest, 10) : 1;
    int number = errno_named(errno_module, error, error_length);
    if (number < 0 || *rest != '\0') {
        return -1;
    }
    return faults_arm(&state->faults, word, (size_t)(colon - word), number, after, times);
}

/**
 * arm_from_environment() - take the faults of DONJON_INJECT, a list separated by commas.
 * @state: where they are kept.
 *
 * A privileged program started by another user (AT_SECURE) never reads it.
 *
 * Return: 0, or -1 with an exception set.
 */
int
arm_from_environment(struct state *state)
{
    const char *text = secure_getenv("DONJON_INJECT");
    if (text == NULL || *text == '\0' || getauxval(AT_SECURE) != 0) {
        return 0;
    }
    PyObject *errno_module = PyImport_ImportModule("errno");
    if (errno_module == NULL) {
        return -1;
    }
    int result = 0;
    while (result == 0 && *text != '\0') {
        size_t length = strcspn(text, ",");
        result = arm_text(state, errno_module, text, length);
        text += length;
        text += *text == ',';
    }
    Py_DECREF(errno_module);
    if (result < 0) {
        PyErr_Clear();
        PyErr_SetString(PyExc_ValueError, "DONJON_INJECT is not CALL:ERRNO[:AFTER[:TIMES]],...");
    }
    return result;
}

PyDoc_STRVAR(inject_doc, "Make call NAME fail with ERRNO after AFTER successes, TIMES times (-1: "
                         "for ever). For tests.");

static PyObject *
do_inject(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", "errno", "after", "times", NULL};
    const char *name = NULL;
    Py_ssize_t length = 0;
    int error = 0;
    long after = 0;
    long times = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s#i|ll:inject", names, &name, &length, &error,
                                     &after, &times)) {
        return NULL;
    }
    if (faults_arm(&state_of(module)->faults, name, (size_t)length, error, after, times) < 0) {
        PyErr_SetString(PyExc_ValueError, "bad fault, or too many of them");
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(inject_clear_doc, "Forget every injected fault.");

static PyObject *
do_inject_clear(PyObject *module, PyObject *Py_UNUSED(unused))
{
    state_of(module)->faults.armed = 0;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    fault_doc,
    "Raise the injected fault of NAME, if any: the seam for steps that call os.* instead.");

static PyObject *
do_fault(PyObject *module, PyObject *arg)
{
    if (state_of(module)->faults.armed == 0) {
        Py_RETURN_NONE;
    }
    const char *name = PyUnicode_AsUTF8(arg);
    if (name == NULL) {
        return NULL;
    }
    if (tripped(module, name)) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

PyMethodDef fault_methods[] = {
    KEYWORDS(inject),
    NONE(inject_clear),
    ONE(fault),
    {NULL, NULL, 0, NULL},
};
