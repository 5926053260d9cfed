/* donjon.syscalls._linux: one function a system call, named and ordered as its manual page.
 *
 * A call here parses its arguments, lets go of the GIL where the kernel may block, tries again after a
 * signal (PEP 475) and raises OSError(errno, reason, path). It decides nothing. Descriptors it returns are
 * close-on-exec.
 *
 * Divisions: faults (the seam for tests), helpers, processes, mounts, files, capabilities, prctl, names, module.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "kernel.h"

#include "constants.h"

/* ---- faults ---------------------------------------------------------------------------------------- */

enum { FAULTS = 16, FAULT_NAME = 40 };

struct fault {
    char name[FAULT_NAME];
    int error; /* errno to fail with */
    long after; /* calls still let through */
    long times; /* failures left; -1 for ever */
};

struct state {
    int armed; /* faults in use; 0 is all that a call looks at in production */
    struct fault faults[FAULTS];
};

static struct state *
state_of(PyObject *module)
{
    return (struct state *)PyModule_GetState(module);
}

/* Whether the call NAME is to fail now; errno is then set. */
static bool
tripped(struct state *state, const char *name)
{
    if (state->armed == 0) {
        return false;
    }
    for (int i = 0; i < state->armed; i++) {
        struct fault *fault = &state->faults[i];
        if (fault->times == 0 || strcmp(fault->name, name) != 0) {
            continue;
        }
        if (fault->after > 0) {
            fault->after--;
            continue;
        }
        if (fault->times > 0) {
            fault->times--;
        }
        errno = fault->error;
        return true;
    }
    return false;
}

/* Remember that call NAME (LENGTH bytes) fails with ERROR. Return 0, or -1 where it does not fit. */
static int
arm(struct state *state, const char *name, size_t length, int error, long after, long times)
{
    if (state->armed >= FAULTS || length == 0 || length >= FAULT_NAME || error <= 0 || after < 0 || times < -1) {
        return -1;
    }
    struct fault *fault = &state->faults[state->armed];
    memcpy(fault->name, name, length);
    fault->name[length] = '\0';
    fault->error = error;
    fault->after = after;
    fault->times = times;
    state->armed++;
    return 0;
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
    return arm(state, word, (size_t)(colon - word), number, after, times);
}

/* Take the faults of DONJON_INJECT, a list separated by commas. A privileged program started by another
 * user (AT_SECURE) never reads it. Return 0, or -1 with an exception set. */
static int
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

PyDoc_STRVAR(inject_doc, "Make call NAME fail with ERRNO after AFTER successes, TIMES times (-1: for ever). For tests.");

static PyObject *
do_inject(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name", "errno", "after", "times", NULL};
    const char *name = NULL;
    Py_ssize_t length = 0;
    int error = 0;
    long after = 0;
    long times = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s#i|ll:inject", names, &name, &length, &error, &after, &times)) {
        return NULL;
    }
    if (arm(state_of(module), name, (size_t)length, error, after, times) < 0) {
        PyErr_SetString(PyExc_ValueError, "bad fault, or too many of them");
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(inject_clear_doc, "Forget every injected fault.");

static PyObject *
do_inject_clear(PyObject *module, PyObject *Py_UNUSED(unused))
{
    state_of(module)->armed = 0;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(fault_doc, "Raise the injected fault of NAME, if any: the seam for steps that call os.* instead.");

static PyObject *
do_fault(PyObject *module, PyObject *arg)
{
    struct state *state = state_of(module);
    if (state->armed == 0) {
        Py_RETURN_NONE;
    }
    const char *name = PyUnicode_AsUTF8(arg);
    if (name == NULL) {
        return NULL;
    }
    if (tripped(state, name)) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

/* ---- helpers --------------------------------------------------------------------------------------- */

/* Run CALL until no signal interrupts it. RESULT is long; STOP is set when a Python handler raised. */
#define BLOCKING(result, stop, call)                                                                                   \
    do {                                                                                                               \
        Py_BEGIN_ALLOW_THREADS errno = 0;                                                                              \
        (result) = (call);                                                                                             \
        Py_END_ALLOW_THREADS                                                                                           \
    } while ((result) < 0 && errno == EINTR && !((stop) = (PyErr_CheckSignals() < 0)))

/* OSError from errno, with the bytes paths A and B where they are not NULL; nothing if STOP (already raised). */
static PyObject *
raise_errno(bool stop, PyObject *a, PyObject *b)
{
    if (stop) {
        return NULL;
    }
    int error = errno;
    PyObject *first = a == NULL ? NULL : PyUnicode_DecodeFSDefaultAndSize(PyBytes_AS_STRING(a), PyBytes_GET_SIZE(a));
    PyObject *second = b == NULL ? NULL : PyUnicode_DecodeFSDefaultAndSize(PyBytes_AS_STRING(b), PyBytes_GET_SIZE(b));
    if (!PyErr_Occurred()) {
        errno = error;
        PyErr_SetFromErrnoWithFilenameObjects(PyExc_OSError, first, second);
    }
    Py_XDECREF(first);
    Py_XDECREF(second);
    return NULL;
}

static PyObject *
none_or_errno(long result)
{
    if (result < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *
int_or_errno(long result)
{
    if (result < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromLong(result);
}

/* Argument converter: a path as PyUnicode_FSConverter, or None as NULL. */
static int
optional_path(PyObject *value, void *result)
{
    if (value == Py_None) {
        *(PyObject **)result = NULL;
        return 1;
    }
    return PyUnicode_FSConverter(value, result);
}

/* Argument converter: an unsigned 64-bit mask; more, or less than 0, is OverflowError. */
static int
mask64(PyObject *value, void *result)
{
    unsigned long long mask = PyLong_AsUnsignedLongLong(value);
    if (PyErr_Occurred()) {
        return 0;
    }
    *(unsigned long long *)result = mask;
    return 1;
}

static const char *
text_or_null(PyObject *bytes)
{
    return bytes == NULL ? NULL : PyBytes_AS_STRING(bytes);
}

/* ---- processes ------------------------------------------------------------------------------------- */

/* Flags that leave the child a process of its own, with a copied stack, so that Python can go on in it. */
#define FORK_LIKE                                                                                                      \
    ((unsigned long long)CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |   \
     CLONE_NEWNET | CLONE_NEWTIME | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | (unsigned long long)CLONE_IO |            \
     CLONE_PARENT | CLONE_PIDFD | CLONE_UNTRACED | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP)

/* Where glibc keeps this thread's tid, or 0 (PR_GET_TID_ADDRESS: 3.5 with CONFIG_CHECKPOINT_RESTORE).
 *
 * The raw call goes behind glibc's back; having the kernel write the child's tid there, as glibc's own
 * fork does, keeps what depends on it (recursive mutexes, robust lists) right in the child.
 */
static unsigned long long
tid_address(void)
{
    int *address = NULL;
    if (prctl(PR_GET_TID_ADDRESS, &address, 0, 0, 0) < 0 || address == NULL) {
        return 0;
    }
    return *address == (int)syscall(SYS_gettid) ? (unsigned long long)(uintptr_t)address : 0;
}

PyDoc_STRVAR(clone3_doc, "clone3(2) as fork(2): (pid, pidfd) in the parent, (0, -1) in the child. One thread only.");

static PyObject *
do_clone3(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"flags", "exit_signal", "cgroup", NULL};
    unsigned long long flags = 0;
    int exit_signal = -1;
    int cgroup = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|$ii:clone3", names, mask64, &flags, &exit_signal, &cgroup)) {
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
    if (tripped(state_of(module), "clone3")) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    int pidfd = -1;
    struct clone_args request = {
        .flags = flags | CLONE_PIDFD | (cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
        .pidfd = (unsigned long long)(uintptr_t)&pidfd,
        .child_tid = tid_address(),
        .cgroup = cgroup >= 0 ? (unsigned long long)cgroup : 0,
    };
    if (request.child_tid != 0) {
        request.flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    }
    /* With CLONE_PARENT the signal is the one of the caller's own birth, and another is EINVAL. */
    if (exit_signal < 0) {
        exit_signal = (flags & CLONE_PARENT) != 0 ? 0 : SIGCHLD;
    }
    request.exit_signal = (unsigned long long)exit_signal;

    PyOS_BeforeFork();
    long pid = syscall(SYS_clone3, &request, sizeof request);
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
    if (!tripped(state_of(module), "unshare")) {
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
    return none_or_errno(tripped(state_of(module), "setns") ? -1 : syscall(SYS_setns, fd, nstype));
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
    return int_or_errno(tripped(state_of(module), "pidfd_open") ? -1 : syscall(SYS_pidfd_open, pid, flags));
}

PyDoc_STRVAR(pidfd_send_signal_doc, "pidfd_send_signal(2), with no siginfo");

static PyObject *
do_pidfd_send_signal(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pidfd", "sig", "flags", NULL};
    int pidfd = -1;
    int sig = 0;
    unsigned int flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ii|I:pidfd_send_signal", names, &pidfd, &sig, &flags)) {
        return NULL;
    }
    if (tripped(state_of(module), "pidfd_send_signal")) {
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
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ii|I:pidfd_getfd", names, &pidfd, &targetfd, &flags)) {
        return NULL;
    }
    return int_or_errno(
        tripped(state_of(module), "pidfd_getfd") ? -1 : syscall(SYS_pidfd_getfd, pidfd, targetfd, flags));
}

/* ---- mounts ---------------------------------------------------------------------------------------- */

PyDoc_STRVAR(mount_doc, "mount(2): source, target, filesystemtype, mountflags, data; None is NULL");

static PyObject *
do_mount(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"source", "target", "filesystemtype", "mountflags", "data", NULL};
    PyObject *source = NULL;
    PyObject *target = NULL;
    PyObject *type = NULL;
    PyObject *data = NULL;
    unsigned long long flags = 0;
    PyObject *outcome = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&|O&O&O&:mount", names, optional_path, &source,
                                     PyUnicode_FSConverter, &target, optional_path, &type, mask64, &flags,
                                     optional_path, &data)) {
        goto done;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(state_of(module), "mount")) {
        const char *from = text_or_null(source);
        const char *to = text_or_null(target);
        const char *kind = text_or_null(type);
        const char *options = text_or_null(data);
        BLOCKING(result, stop, syscall(SYS_mount, from, to, kind, (unsigned long)flags, options));
    }
    outcome = result < 0 ? (source == NULL ? raise_errno(stop, target, NULL) : raise_errno(stop, source, target))
                         : none_or_errno(result);
done:
    Py_XDECREF(source);
    Py_XDECREF(target);
    Py_XDECREF(type);
    Py_XDECREF(data);
    return outcome;
}

PyDoc_STRVAR(umount2_doc, "umount2(2)");

static PyObject *
do_umount2(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"target", "flags", NULL};
    PyObject *target = NULL;
    int flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|i:umount2", names, PyUnicode_FSConverter, &target, &flags)) {
        return NULL;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(state_of(module), "umount2")) {
        const char *path = text_or_null(target);
        BLOCKING(result, stop, syscall(SYS_umount2, path, flags));
    }
    PyObject *outcome = result < 0 ? raise_errno(stop, target, NULL) : none_or_errno(result);
    Py_DECREF(target);
    return outcome;
}

PyDoc_STRVAR(pivot_root_doc, "pivot_root(2)");

static PyObject *
do_pivot_root(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"new_root", "put_old", NULL};
    PyObject *new_root = NULL;
    PyObject *put_old = NULL;
    PyObject *outcome = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&:pivot_root", names, PyUnicode_FSConverter, &new_root,
                                     PyUnicode_FSConverter, &put_old)) {
        goto done;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(state_of(module), "pivot_root")) {
        const char *new_path = text_or_null(new_root);
        const char *old_path = text_or_null(put_old);
        BLOCKING(result, stop, syscall(SYS_pivot_root, new_path, old_path));
    }
    outcome = result < 0 ? raise_errno(stop, new_root, put_old) : none_or_errno(result);
done:
    Py_XDECREF(new_root);
    Py_XDECREF(put_old);
    return outcome;
}

PyDoc_STRVAR(open_tree_doc, "open_tree(2): a close-on-exec descriptor of a mount, or of a detached copy of it");

static PyObject *
do_open_tree(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"dirfd", "path", "flags", NULL};
    int dirfd = -1;
    PyObject *path = NULL;
    unsigned int flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iO&|I:open_tree", names, &dirfd, PyUnicode_FSConverter, &path,
                                     &flags)) {
        return NULL;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(state_of(module), "open_tree")) {
        const char *name = text_or_null(path);
        BLOCKING(result, stop, syscall(SYS_open_tree, dirfd, name, flags | (unsigned int)OPEN_TREE_CLOEXEC));
    }
    PyObject *outcome = result < 0 ? raise_errno(stop, path, NULL) : int_or_errno(result);
    Py_DECREF(path);
    return outcome;
}

PyDoc_STRVAR(move_mount_doc, "move_mount(2)");

static PyObject *
do_move_mount(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"from_dirfd", "from_path", "to_dirfd", "to_path", "flags", NULL};
    int from_dirfd = -1;
    int to_dirfd = -1;
    PyObject *from_path = NULL;
    PyObject *to_path = NULL;
    unsigned int flags = 0;
    PyObject *outcome = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iO&iO&|I:move_mount", names, &from_dirfd, PyUnicode_FSConverter,
                                     &from_path, &to_dirfd, PyUnicode_FSConverter, &to_path, &flags)) {
        goto done;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(state_of(module), "move_mount")) {
        const char *from = text_or_null(from_path);
        const char *to = text_or_null(to_path);
        BLOCKING(result, stop, syscall(SYS_move_mount, from_dirfd, from, to_dirfd, to, flags));
    }
    outcome = result < 0 ? raise_errno(stop, from_path, to_path) : none_or_errno(result);
done:
    Py_XDECREF(from_path);
    Py_XDECREF(to_path);
    return outcome;
}

PyDoc_STRVAR(mount_setattr_doc, "mount_setattr(2)");

static PyObject *
do_mount_setattr(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"dirfd", "path", "flags", "attr_set", "attr_clr", "propagation", "userns_fd", NULL};
    int dirfd = -1;
    PyObject *path = NULL;
    unsigned int flags = 0;
    unsigned long long set = 0;
    unsigned long long clear = 0;
    unsigned long long propagation = 0;
    unsigned long long userns_fd = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iO&|I$O&O&O&O&:mount_setattr", names, &dirfd,
                                     PyUnicode_FSConverter, &path, &flags, mask64, &set, mask64, &clear, mask64,
                                     &propagation, mask64, &userns_fd)) {
        Py_XDECREF(path);
        return NULL;
    }
    struct mount_attr attr = {.attr_set = set, .attr_clr = clear, .propagation = propagation, .userns_fd = userns_fd};
    long result = -1;
    bool stop = false;
    if (!tripped(state_of(module), "mount_setattr")) {
        const char *name = text_or_null(path);
        BLOCKING(result, stop, syscall(SYS_mount_setattr, dirfd, name, flags, &attr, sizeof attr));
    }
    PyObject *outcome = result < 0 ? raise_errno(stop, path, NULL) : none_or_errno(result);
    Py_DECREF(path);
    return outcome;
}

PyDoc_STRVAR(fsopen_doc, "fsopen(2): a close-on-exec descriptor of a file system being configured");

static PyObject *
do_fsopen(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fsname", "flags", NULL};
    const char *fsname = NULL;
    unsigned int flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|I:fsopen", names, &fsname, &flags)) {
        return NULL;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(state_of(module), "fsopen")) {
        BLOCKING(result, stop, syscall(SYS_fsopen, fsname, flags | (unsigned int)FSOPEN_CLOEXEC));
    }
    return result < 0 ? raise_errno(stop, NULL, NULL) : int_or_errno(result);
}

PyDoc_STRVAR(fsconfig_doc, "fsconfig(2): read(2) on fd gives the kernel's own words after a failure");

static PyObject *
do_fsconfig(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", "cmd", "key", "value", "aux", NULL};
    int fd = -1;
    unsigned int cmd = 0;
    const char *key = NULL;
    PyObject *value = NULL;
    int aux = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iI|zO&i:fsconfig", names, &fd, &cmd, &key, optional_path, &value,
                                     &aux)) {
        Py_XDECREF(value);
        return NULL;
    }
    if (cmd == FSCONFIG_SET_BINARY) {
        aux = value == NULL ? 0 : (int)PyBytes_GET_SIZE(value); /* never more than there is */
    }
    long result = -1;
    bool stop = false;
    if (!tripped(state_of(module), "fsconfig")) {
        const char *text = text_or_null(value);
        BLOCKING(result, stop, syscall(SYS_fsconfig, fd, cmd, key, text, aux));
    }
    PyObject *outcome = result < 0 ? raise_errno(stop, NULL, NULL) : none_or_errno(result);
    Py_XDECREF(value);
    return outcome;
}

PyDoc_STRVAR(fsmount_doc, "fsmount(2): a close-on-exec descriptor of a detached mount");

static PyObject *
do_fsmount(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fsfd", "flags", "attr_flags", NULL};
    int fsfd = -1;
    unsigned int flags = 0;
    unsigned int attr_flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|II:fsmount", names, &fsfd, &flags, &attr_flags)) {
        return NULL;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(state_of(module), "fsmount")) {
        BLOCKING(result, stop, syscall(SYS_fsmount, fsfd, flags | FSMOUNT_CLOEXEC, attr_flags));
    }
    return result < 0 ? raise_errno(stop, NULL, NULL) : int_or_errno(result);
}

/* ---- files ----------------------------------------------------------------------------------------- */

PyDoc_STRVAR(openat2_doc, "openat2(2): a close-on-exec descriptor; EAGAIN (a rename raced with us) is tried again");

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
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iO&O&|O&O&:openat2", names, &dirfd, PyUnicode_FSConverter, &path,
                                     mask64, &flags, mask64, &mode, mask64, &resolve)) {
        Py_XDECREF(path);
        return NULL;
    }
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve};
    long result = -1;
    bool stop = false;
    if (!tripped(state_of(module), "openat2")) {
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
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&|i:close_range", names, mask64, &first, mask64, &last,
                                     &flags)) {
        return NULL;
    }
    if (first > UINT_MAX || last > UINT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "close_range: a descriptor is an unsigned int");
        return NULL;
    }
    return none_or_errno(tripped(state_of(module), "close_range")
                             ? -1
                             : syscall(SYS_close_range, (unsigned int)first, (unsigned int)last, flags));
}

/* ---- capabilities ---------------------------------------------------------------------------------- */

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
    if (tripped(state_of(module), "capget") || syscall(SYS_capget, &header, data) < 0) {
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
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&O&:capset", names, mask64, &effective, mask64, &permitted,
                                     mask64, &inheritable)) {
        return NULL;
    }
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
        {(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
        {(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)},
    };
    return none_or_errno(tripped(state_of(module), "capset") ? -1 : syscall(SYS_capset, &header, data));
}

/* ---- prctl ----------------------------------------------------------------------------------------- */

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
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|kkkk:prctl", names, &option, &a, &b, &c, &d)) {
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
        PyErr_SetString(PyExc_ValueError, "prctl: this option takes a pointer");
        return NULL;
    case PR_GET_PDEATHSIG:
    case PR_GET_CHILD_SUBREAPER: {
        int value = 0;
        if (tripped(state_of(module), "prctl") || prctl(option, &value, 0, 0, 0) < 0) {
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
    return int_or_errno(tripped(state_of(module), "prctl") ? -1 : prctl(option, a, b, c, d));
}

/* One prctl with its own name, so that each step can be made to fail by name. */
static PyObject *
named_prctl(PyObject *module, const char *name, int option, unsigned long a, unsigned long b)
{
    return none_or_errno(tripped(state_of(module), name) ? -1 : prctl(option, a, b, 0UL, 0UL));
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
    return unsigned_of(arg, &cap) < 0 ? NULL : named_prctl(module, "capbset_drop", PR_CAPBSET_DROP, cap, 0);
}

PyDoc_STRVAR(cap_ambient_raise_doc, "PR_CAP_AMBIENT_RAISE of prctl(2)");

static PyObject *
do_cap_ambient_raise(PyObject *module, PyObject *arg)
{
    unsigned long cap = 0;
    return unsigned_of(arg, &cap) < 0
               ? NULL
               : named_prctl(module, "cap_ambient_raise", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap);
}

PyDoc_STRVAR(cap_ambient_lower_doc, "PR_CAP_AMBIENT_LOWER of prctl(2)");

static PyObject *
do_cap_ambient_lower(PyObject *module, PyObject *arg)
{
    unsigned long cap = 0;
    return unsigned_of(arg, &cap) < 0
               ? NULL
               : named_prctl(module, "cap_ambient_lower", PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER, cap);
}

PyDoc_STRVAR(cap_ambient_clear_all_doc, "PR_CAP_AMBIENT_CLEAR_ALL of prctl(2)");

static PyObject *
do_cap_ambient_clear_all(PyObject *module, PyObject *Py_UNUSED(unused))
{
    return named_prctl(module, "cap_ambient_clear_all", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0);
}

PyDoc_STRVAR(set_no_new_privs_doc, "PR_SET_NO_NEW_PRIVS of prctl(2); there is no way back");

static PyObject *
do_set_no_new_privs(PyObject *module, PyObject *Py_UNUSED(unused))
{
    return named_prctl(module, "set_no_new_privs", PR_SET_NO_NEW_PRIVS, 1, 0);
}

PyDoc_STRVAR(set_pdeathsig_doc, "PR_SET_PDEATHSIG of prctl(2); 0 is none; a change of uid clears it");

static PyObject *
do_set_pdeathsig(PyObject *module, PyObject *arg)
{
    unsigned long sig = 0;
    return unsigned_of(arg, &sig) < 0 ? NULL : named_prctl(module, "set_pdeathsig", PR_SET_PDEATHSIG, sig, 0);
}

PyDoc_STRVAR(set_child_subreaper_doc, "PR_SET_CHILD_SUBREAPER of prctl(2)");

static PyObject *
do_set_child_subreaper(PyObject *module, PyObject *arg)
{
    int on = PyObject_IsTrue(arg);
    return on < 0 ? NULL
                  : named_prctl(module, "set_child_subreaper", PR_SET_CHILD_SUBREAPER, (unsigned long)on, 0);
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
        tripped(state_of(module), "set_name") ? -1 : prctl(PR_SET_NAME, PyBytes_AS_STRING(name), 0, 0, 0));
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

PyDoc_STRVAR(landlock_abi_doc, "The ABI of landlock_create_ruleset(2), from 1; OSError where there is none");

static PyObject *
do_landlock_abi(PyObject *module, PyObject *Py_UNUSED(unused))
{
    if (tripped(state_of(module), "landlock_abi")) {
        return int_or_errno(-1);
    }
    return int_or_errno(syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION));
}

PyDoc_STRVAR(seccomp_action_avail_doc, "SECCOMP_GET_ACTION_AVAIL of seccomp(2); OSError where it is not");

static PyObject *
do_seccomp_action_avail(PyObject *module, PyObject *arg)
{
    unsigned long action = 0;
    if (unsigned_of(arg, &action) < 0) {
        return NULL;
    }
    uint32_t word = (uint32_t)action;
    return none_or_errno(tripped(state_of(module), "seccomp_action_avail")
                             ? -1
                             : syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &word));
}

/* ---- names of the host ----------------------------------------------------------------------------- */

static PyObject *
set_uts(PyObject *module, PyObject *arg, const char *call, long number)
{
    PyObject *name = NULL;
    if (!PyUnicode_FSConverter(arg, &name)) {
        return NULL;
    }
    long result =
        tripped(state_of(module), call) ? -1 : syscall(number, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name));
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

/* ---- module ---------------------------------------------------------------------------------------- */

#define KEYWORDS(name) {#name, (PyCFunction)(void (*)(void))do_##name, METH_VARARGS | METH_KEYWORDS, name##_doc}
#define ONE(name) {#name, do_##name, METH_O, name##_doc}
#define NONE(name) {#name, do_##name, METH_NOARGS, name##_doc}

static PyMethodDef methods[] = {
    KEYWORDS(inject),
    NONE(inject_clear),
    ONE(fault),
    KEYWORDS(clone3),
    ONE(unshare),
    KEYWORDS(setns),
    KEYWORDS(pidfd_open),
    KEYWORDS(pidfd_send_signal),
    KEYWORDS(pidfd_getfd),
    KEYWORDS(mount),
    KEYWORDS(umount2),
    KEYWORDS(pivot_root),
    KEYWORDS(open_tree),
    KEYWORDS(move_mount),
    KEYWORDS(mount_setattr),
    KEYWORDS(fsopen),
    KEYWORDS(fsconfig),
    KEYWORDS(fsmount),
    KEYWORDS(openat2),
    KEYWORDS(close_range),
    KEYWORDS(capget),
    KEYWORDS(capset),
    KEYWORDS(prctl),
    ONE(capbset_drop),
    ONE(cap_ambient_raise),
    ONE(cap_ambient_lower),
    NONE(cap_ambient_clear_all),
    NONE(set_no_new_privs),
    ONE(set_pdeathsig),
    ONE(set_child_subreaper),
    ONE(set_name),
    NONE(last_cap),
    NONE(landlock_abi),
    ONE(seccomp_action_avail),
    ONE(sethostname),
    ONE(setdomainname),
    {NULL, NULL, 0, NULL},
};

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
    for (size_t cap = 0; failed == 0 && cap < sizeof capabilities / sizeof capabilities[0]; cap++) {
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
    if (add_constants(module) < 0 || add_capabilities(module) < 0) {
        return -1;
    }
    return arm_from_environment(state_of(module));
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
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__linux(void)
{
    return PyModuleDef_Init(&definition);
}
