/* Processes: clone3(2), unshare(2), setns(2) and process descriptors; the host's names. */
#include "_linux.h"

#include "fork.h"

/* Flags that leave the child a process of its own, with a copied stack, so that Python can go on
 * in it. */
#define FORK_LIKE                                                                                 \
    ((unsigned long long)CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |            \
     CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWTIME | CLONE_FS | CLONE_FILES |       \
     CLONE_SYSVSEM | (unsigned long long)CLONE_IO | CLONE_PARENT | CLONE_PIDFD | CLONE_UNTRACED | \
     CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP)

PyDoc_STRVAR(
    clone3_doc,
    "clone3(2) as fork(2): (pid, pidfd) in the parent, (0, -1) in the child. One thread only.");

static PyObject *
do_clone3(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"flags", "exit_signal", "cgroup", NULL};
    unsigned long long flags = 0;
    int exit_signal = -1;
    int cgroup = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|$ii:clone3", names, mask64, &flags,
                                     &exit_signal, &cgroup)) {
        return NULL;
    }
    if ((flags & ~FORK_LIKE) != 0) {
        PyErr_SetString(PyExc_ValueError, "clone3: a flag that shares memory or needs a stack");
        return NULL;
    }
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_RuntimeError, "clone3: only in the main interpreter");
        return NULL;
    }
    if (PySys_Audit("os.fork", NULL) < 0) {
        return NULL;
    }
    if (tripped(module, "clone3")) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    int pidfd = -1;
    PyOS_BeforeFork();
    long pid = fork_with(flags, exit_signal, cgroup, &pidfd);
    if (pid == 0) {
        PyOS_AfterFork_Child();
        return Py_BuildValue("ii", 0, -1);
    }
    int error = errno;
    PyOS_AfterFork_Parent();
    if (pid < 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyObject *result = Py_BuildValue("li", pid, pidfd);
    if (result == NULL) {
        close(pidfd);
    }
    return result;
}

PyDoc_STRVAR(unshare_doc, "unshare(2)");

static PyObject *
do_unshare(PyObject *module, PyObject *arg)
{
    unsigned long long flags = 0;
    if (!mask64(arg, &flags)) {
        return NULL;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(module, "unshare")) {
        BLOCKING(result, stop, syscall(SYS_unshare, (unsigned long)flags));
    }
    return result < 0 ? raise_errno(stop, NULL, NULL) : none_or_errno(result);
}

PyDoc_STRVAR(setns_doc, "setns(2): fd is a namespace or a pidfd");

static PyObject *
do_setns(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", "nstype", NULL};
    int fd = -1;
    int nstype = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|i:setns", names, &fd, &nstype)) {
        return NULL;
    }
    return none_or_errno(tripped(module, "setns") ? -1 : syscall(SYS_setns, fd, nstype));
}

PyDoc_STRVAR(pidfd_open_doc, "pidfd_open(2)");

static PyObject *
do_pidfd_open(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pid", "flags", NULL};
    int pid = -1;
    unsigned int flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|I:pidfd_open", names, &pid, &flags)) {
        return NULL;
    }
    return int_or_errno(tripped(module, "pidfd_open") ? -1 : syscall(SYS_pidfd_open, pid, flags));
}

PyDoc_STRVAR(pidfd_send_signal_doc, "pidfd_send_signal(2), with no siginfo");

static PyObject *
do_pidfd_send_signal(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pidfd", "sig", "flags", NULL};
    int pidfd = -1;
    int sig = 0;
    unsigned int flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ii|I:pidfd_send_signal", names, &pidfd, &sig,
                                     &flags)) {
        return NULL;
    }
    if (tripped(module, "pidfd_send_signal")) {
        return none_or_errno(-1);
    }
    return none_or_errno(syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, flags));
}

PyDoc_STRVAR(pidfd_getfd_doc, "pidfd_getfd(2)");

static PyObject *
do_pidfd_getfd(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pidfd", "targetfd", "flags", NULL};
    int pidfd = -1;
    int targetfd = -1;
    unsigned int flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ii|I:pidfd_getfd", names, &pidfd, &targetfd,
                                     &flags)) {
        return NULL;
    }
    return int_or_errno(
        tripped(module, "pidfd_getfd") ? -1 : syscall(SYS_pidfd_getfd, pidfd, targetfd, flags));
}

static PyObject *
set_uts(PyObject *module, PyObject *arg, const char *call, long number)
{
    PyObject *name = NULL;
    if (!PyUnicode_FSConverter(arg, &name)) {
        return NULL;
    }
    long result = tripped(module, call)
                      ? -1
                      : syscall(number, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name));
    PyObject *outcome = none_or_errno(result);
    Py_DECREF(name);
    return outcome;
}

PyDoc_STRVAR(sethostname_doc, "sethostname(2)");

static PyObject *
do_sethostname(PyObject *module, PyObject *arg)
{
    return set_uts(module, arg, "sethostname", SYS_sethostname);
}

PyDoc_STRVAR(setdomainname_doc, "setdomainname(2)");

static PyObject *
do_setdomainname(PyObject *module, PyObject *arg)
{
    return set_uts(module, arg, "setdomainname", SYS_setdomainname);
}

PyMethodDef process_methods[] = {
    KEYWORDS(clone3),
    ONE(unshare),
    KEYWORDS(setns),
    KEYWORDS(pidfd_open),
    KEYWORDS(pidfd_send_signal),
    KEYWORDS(pidfd_getfd),
    ONE(sethostname),
    ONE(setdomainname),
    {NULL, NULL, 0, NULL},
};
