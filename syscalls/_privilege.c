/* What a process may do: capabilities(7), prctl(2), and what the kernel offers to restrict it. */
#include "_linux.h"

#include <stdint.h>
#include <sys/prctl.h>

static uint64_t
wide(uint32_t low, uint32_t high)
{
    return (uint64_t)high << 32 | low;
}

PyDoc_STRVAR(capget_doc, "capget(2): (effective, permitted, inheritable), masks of 64 bits");

static PyObject *
do_capget(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pid", NULL};
    int pid = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|i:capget", names, &pid)) {
        return NULL;
    }
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = pid};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (tripped(module, "capget") || syscall(SYS_capget, &header, data) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("KKK", (unsigned long long)wide(data[0].effective, data[1].effective),
                         (unsigned long long)wide(data[0].permitted, data[1].permitted),
                         (unsigned long long)wide(data[0].inheritable, data[1].inheritable));
}

PyDoc_STRVAR(capset_doc, "capset(2) for this thread, masks of 64 bits");

static PyObject *
do_capset(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"effective", "permitted", "inheritable", NULL};
    unsigned long long effective = 0;
    unsigned long long permitted = 0;
    unsigned long long inheritable = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&O&:capset", names, mask64, &effective,
                                     mask64, &permitted, mask64, &inheritable)) {
        return NULL;
    }
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
        {(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
        {(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)},
    };
    return none_or_errno(tripped(module, "capset") ? -1 : syscall(SYS_capset, &header, data));
}

PyDoc_STRVAR(prctl_doc, "prctl(2) with numbers; what takes a pointer has a function of its own");

static PyObject *
do_prctl(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"option", "arg2", "arg3", "arg4", "arg5", NULL};
    int option = 0;
    unsigned long a = 0;
    unsigned long b = 0;
    unsigned long c = 0;
    unsigned long d = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|kkkk:prctl", names, &option, &a, &b, &c,
                                     &d)) {
        return NULL;
    }
    /* These write through or read from a pointer: a number from Python must never become one. */
    switch (option) {
    case PR_SET_NAME:
    case PR_GET_NAME:
    case PR_SET_MM:
    case PR_GET_TID_ADDRESS:
    case PR_GET_TSC:
    case PR_GET_UNALIGN:
    case PR_GET_ENDIAN:
    case PR_GET_FPEMU:
    case PR_GET_FPEXC:
    case PR_SET_VMA:
    case PR_SCHED_CORE:
    case PR_GET_AUXV:
        PyErr_SetString(PyExc_ValueError, "prctl: this option takes a pointer");
        return NULL;
    case PR_GET_PDEATHSIG:
    case PR_GET_CHILD_SUBREAPER: {
        int value = 0;
        if (tripped(module, "prctl") || prctl(option, &value, 0, 0, 0) < 0) {
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        return PyLong_FromLong(value);
    }
    case PR_SET_SECCOMP:
        if (a != SECCOMP_MODE_STRICT) {
            PyErr_SetString(PyExc_ValueError, "prctl: this option takes a pointer");
            return NULL;
        }
        break;
    default:
        break;
    }
    return int_or_errno(tripped(module, "prctl") ? -1 : prctl(option, a, b, c, d));
}

/* One prctl with its own name, so that each step can be made to fail by name. */
static PyObject *
named_prctl(PyObject *module, const char *name, int option, unsigned long a, unsigned long b)
{
    return none_or_errno(tripped(module, name) ? -1 : prctl(option, a, b, 0UL, 0UL));
}

static int
unsigned_of(PyObject *arg, unsigned long *result)
{
    *result = PyLong_AsUnsignedLong(arg);
    return PyErr_Occurred() ? -1 : 0;
}

PyDoc_STRVAR(capbset_drop_doc, "PR_CAPBSET_DROP of prctl(2)");

static PyObject *
do_capbset_drop(PyObject *module, PyObject *arg)
{
    unsigned long cap = 0;
    return unsigned_of(arg, &cap) < 0
               ? NULL
               : named_prctl(module, "capbset_drop", PR_CAPBSET_DROP, cap, 0);
}

PyDoc_STRVAR(cap_ambient_raise_doc, "PR_CAP_AMBIENT_RAISE of prctl(2)");

static PyObject *
do_cap_ambient_raise(PyObject *module, PyObject *arg)
{
    unsigned long cap = 0;
    return unsigned_of(arg, &cap) < 0 ? NULL
                                      : named_prctl(module, "cap_ambient_raise", PR_CAP_AMBIENT,
                                                    PR_CAP_AMBIENT_RAISE, cap);
}

PyDoc_STRVAR(cap_ambient_lower_doc, "PR_CAP_AMBIENT_LOWER of prctl(2)");

static PyObject *
do_cap_ambient_lower(PyObject *module, PyObject *arg)
{
    unsigned long cap = 0;
    return unsigned_of(arg, &cap) < 0 ? NULL
                                      : named_prctl(module, "cap_ambient_lower", PR_CAP_AMBIENT,
                                                    PR_CAP_AMBIENT_LOWER, cap);
}

PyDoc_STRVAR(cap_ambient_clear_all_doc, "PR_CAP_AMBIENT_CLEAR_ALL of prctl(2)");

static PyObject *
do_cap_ambient_clear_all(PyObject *module, PyObject *Py_UNUSED(unused))
{
    return named_prctl(module, "cap_ambient_clear_all", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL,
                       0);
}

PyDoc_STRVAR(set_no_new_privs_doc, "PR_SET_NO_NEW_PRIVS of prctl(2); there is no way back");

static PyObject *
do_set_no_new_privs(PyObject *module, PyObject *Py_UNUSED(unused))
{
    return named_prctl(module, "set_no_new_privs", PR_SET_NO_NEW_PRIVS, 1, 0);
}

PyDoc_STRVAR(set_pdeathsig_doc,
             "PR_SET_PDEATHSIG of prctl(2); 0 is none; a change of uid clears it");

static PyObject *
do_set_pdeathsig(PyObject *module, PyObject *arg)
{
    unsigned long sig = 0;
    return unsigned_of(arg, &sig) < 0
               ? NULL
               : named_prctl(module, "set_pdeathsig", PR_SET_PDEATHSIG, sig, 0);
}

PyDoc_STRVAR(get_pdeathsig_doc, "PR_GET_PDEATHSIG of prctl(2); 0 is none");

static PyObject *
do_get_pdeathsig(PyObject *module, PyObject *Py_UNUSED(unused))
{
    int sig = 0;
    return int_or_errno(
        tripped(module, "get_pdeathsig") || prctl(PR_GET_PDEATHSIG, &sig, 0, 0, 0) < 0 ? -1 : sig);
}

PyDoc_STRVAR(set_child_subreaper_doc, "PR_SET_CHILD_SUBREAPER of prctl(2)");

static PyObject *
do_set_child_subreaper(PyObject *module, PyObject *arg)
{
    int on = PyObject_IsTrue(arg);
    return on < 0 ? NULL
                  : named_prctl(module, "set_child_subreaper", PR_SET_CHILD_SUBREAPER,
                                (unsigned long)on, 0);
}

PyDoc_STRVAR(set_name_doc, "PR_SET_NAME of prctl(2): the kernel keeps 15 bytes");

static PyObject *
do_set_name(PyObject *module, PyObject *arg)
{
    PyObject *name = NULL;
    if (!PyUnicode_FSConverter(arg, &name)) {
        return NULL;
    }
    PyObject *outcome = none_or_errno(
        tripped(module, "set_name") ? -1 : prctl(PR_SET_NAME, PyBytes_AS_STRING(name), 0, 0, 0));
    Py_DECREF(name);
    return outcome;
}

PyDoc_STRVAR(last_cap_doc, "The highest capability of the running kernel");

static PyObject *
do_last_cap(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    unsigned long cap = 0;
    while (cap < 63 && prctl(PR_CAPBSET_READ, cap + 1, 0UL, 0UL, 0UL) >= 0) {
        cap++;
    }
    return PyLong_FromUnsignedLong(cap);
}

PyDoc_STRVAR(landlock_abi_doc,
             "The ABI of landlock_create_ruleset(2), from 1; OSError where there is none");

static PyObject *
do_landlock_abi(PyObject *module, PyObject *Py_UNUSED(unused))
{
    if (tripped(module, "landlock_abi")) {
        return int_or_errno(-1);
    }
    return int_or_errno(
        syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION));
}

PyDoc_STRVAR(seccomp_action_avail_doc,
             "SECCOMP_GET_ACTION_AVAIL of seccomp(2); OSError where it is not");

static PyObject *
do_seccomp_action_avail(PyObject *module, PyObject *arg)
{
    unsigned long action = 0;
    if (unsigned_of(arg, &action) < 0) {
        return NULL;
    }
    uint32_t word = (uint32_t)action;
    return none_or_errno(tripped(module, "seccomp_action_avail")
                             ? -1
                             : syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &word));
}

PyMethodDef privilege_methods[] = {
    KEYWORDS(capget),
    KEYWORDS(capset),
    KEYWORDS(prctl),
    ONE(capbset_drop),
    ONE(cap_ambient_raise),
    ONE(cap_ambient_lower),
    NONE(cap_ambient_clear_all),
    NONE(set_no_new_privs),
    ONE(set_pdeathsig),
    NONE(get_pdeathsig),
    ONE(set_child_subreaper),
    ONE(set_name),
    NONE(last_cap),
    NONE(landlock_abi),
    ONE(seccomp_action_avail),
    {NULL, NULL, 0, NULL},
};
